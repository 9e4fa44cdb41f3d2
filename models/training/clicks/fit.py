"""Fits the click score to what examples/click_features.rs wrote and writes src/realtime/declick/weights.rs.

usage: fit.py FEATURES [WEIGHTS.rs]    (numpy, scikit-learn), from the repository's root

Every fifth song is held back. Negatives that no rule would mistake are thinned to one in eight. Everything is seeded.
"""
import sys
from pathlib import Path

import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from rust import row, text  # noqa: E402

FEATURES, FACTS, HIDDEN, SPREAD = 20, 4, 16, 4.0
TARGET = sys.argv[2] if len(sys.argv) > 2 else 'src/realtime/declick/weights.rs'

rows = np.fromfile(sys.argv[1], np.float32).reshape(-1, FEATURES + FACTS)
left, per_second = rows[:, FEATURES], rows[:, FEATURES + 1]
# Stands out at all, and the filling explains at least half.
likely = (rows[:, 0] > 2.5) & (rows[:, 3] > 0.7)
rows = rows[(left < .5) | likely | (np.random.default_rng(0).random(len(rows)) < .125)]
X, (left, per_second, song, place) = rows[:, :FEATURES], rows[:, FEATURES:].T
click, fit = left < .5, (left < .5) | (left >= 1)
held = song % 5 == 0

scaler = StandardScaler().fit(X[fit & ~held])
Z = np.clip(scaler.transform(X), -SPREAD, SPREAD)
net = MLPClassifier((HIDDEN,), alpha=1e-2, max_iter=60, random_state=0, batch_size=1024, learning_rate_init=3e-3)
net.fit(Z[fit & ~held], click[fit & ~held])
p = np.clip(net.predict_proba(Z)[:, 1].astype(float), 1e-12, 1 - 1e-12)
odds = np.log(p / (1 - p))


def places(which):
    """Places at which one of several candidates is among `which`: 2.5 ms each."""
    return len(np.unique(np.stack([song[which], per_second[which], place[which] // 110]), axis=1).T)


minutes = len(np.unique(song[held])) * (14 + 14 + 7) / 60
clean = per_second == 0
for limit in np.arange(0, 10, .5):
    over = odds > limit
    print(f'log odds {limit:4.1f}: found of clicks that can be mended, held back {places(held & click & over) / places(held & click):.3f}, '
          f'false {places(held & clean & over)} in {minutes:.1f} clean minutes, in all {places(clean & over)}, '
          f'beside clicks {places(held & ~clean & (left >= 1) & over)}')

with open(TARGET, 'w') as f:
    f.write('// [any] Weights of the click score. Written by models/training/clicks/fit.py: do not edit.\n'
            '#![allow(clippy::approx_constant)]\n\nuse super::score::FEATURES;\n\n'
            '/// Hidden units.\n'
            f'pub(super) const HIDDEN: usize = {HIDDEN};\n'
            '/// Standardised features are bounded by this on either side.\n'
            f'pub(super) const SPREAD: f32 = {SPREAD};\n'
            '/// Mean of each feature, and one over its standard deviation.\n'
            f'pub(super) const MEAN: [f32; FEATURES] = {row(scaler.mean_)};\n'
            f'pub(super) const SCALE: [f32; FEATURES] = {row(1 / scaler.scale_)};\n'
            '/// Weights of each hidden unit, by standardised feature.\n'
            'pub(super) const INPUT: [[f32; FEATURES]; HIDDEN] = [\n')
    for r in net.coefs_[0].T:
        f.write('    ' + row(r) + ',\n')
    f.write('];\n/// Offset of each hidden unit.\n'
            f'pub(super) const INPUT_OFFSET: [f32; HIDDEN] = {row(net.intercepts_[0])};\n'
            '/// Weight of each hidden unit, after rectification.\n'
            f'pub(super) const OUTPUT: [f32; HIDDEN] = {row(net.coefs_[1][:, 0])};\n'
            '/// Offset of the log odds.\n'
            f'pub(super) const OUTPUT_OFFSET: f32 = {text(net.intercepts_[1][0])};\n')
