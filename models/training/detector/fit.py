"""Fits the saturation model to generate.py's pieces and writes src/realtime/detect/weights.rs.

usage: fit.py OUT [WEIGHTS.rs]    (numpy, scikit-learn), from the repository's root
"""
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from rust import row, text  # noqa: E402

FEATURES, KINDS, PIECES = 28, 8, 560
OUT = sys.argv[1]
TARGET = sys.argv[2] if len(sys.argv) > 2 else 'src/realtime/detect/weights.rs'

X, Y, piece, clean, chain = [], [], [], [], []
for i in range(PIECES):
    truth = np.load(f'{OUT}/{i}.npz')
    rows = np.fromfile(f'{OUT}/features/{i}.bin', np.float32).reshape(-1, FEATURES + KINDS)
    n = min(len(rows), len(truth['lab']))
    keep = np.arange(0, n, 2)
    X.append(rows[keep, :FEATURES])
    Y.append(truth['lab'][keep])
    piece += [i] * len(keep)
    clean += [str(truth['mode']) == 'clean'] * len(keep)
    chain += [str(truth['chain'])] * len(keep)
X, Y = np.concatenate(X), np.concatenate(Y)
piece, clean, chain = np.array(piece), np.array(clean), np.array(chain)
held = piece % 5 == 0

model = make_pipeline(StandardScaler(), MLPClassifier(
    (16,), alpha=1.0, max_iter=40, random_state=0, batch_size=512, learning_rate_init=2e-3))
model.fit(X[~held], Y[~held])
p = np.clip(model.predict_proba(X)[:, 1], 1e-6, 1 - 1e-6)
logit = np.log(p / (1 - p))
print('held-out ROC AUC', round(roc_auc_score(Y[held], logit[held]), 3))
# At most 3 % of the clean frames of any chain may reach 0.5; rounded up to a tenth, and one more.
worst = max(np.quantile(logit[held & clean & (chain == c)], 0.97) for c in np.unique(chain))
shift = np.ceil(worst * 10) / 10 + 0.1
print('offset lowered by', shift)

scaler, net = model.steps[0][1], model.steps[1][1]
w1 = (net.coefs_[0] / scaler.scale_[:, None]).T
b1 = net.intercepts_[0] - w1 @ scaler.mean_
w2, b2 = net.coefs_[1][:, 0], net.intercepts_[1][0] - shift

with open(TARGET, 'w') as f:
    f.write('// [any] Weights of the saturation model. Written by models/training/detector/fit.py: do not edit.\n'
            '#![allow(clippy::approx_constant)]\n\nuse super::model::FEATURES;\n\n/// Hidden units.\n'
            f'pub(super) const HIDDEN: usize = {len(w2)};\n'
            '/// Weights of each hidden unit, by feature, on raw features (the scaling is folded in).\n'
            'pub(super) const INPUT: [[f32; FEATURES]; HIDDEN] = [\n')
    for r in w1:
        f.write('    ' + row(r) + ',\n')
    f.write('];\n/// Offset of each hidden unit.\n'
            f'pub(super) const INPUT_OFFSET: [f32; HIDDEN] = {row(b1)};\n'
            '/// Weight of each hidden unit, after rectification.\n'
            f'pub(super) const OUTPUT: [f32; HIDDEN] = {row(w2)};\n'
            '/// Offset of the logit, lowered so that at most 3 % of the frames of clean generated songs reach 0.\n'
            f'pub(super) const OUTPUT_OFFSET: f32 = {text(b2)};\n')
