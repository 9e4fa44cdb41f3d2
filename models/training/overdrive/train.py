"""Trains the networks that hear overdriven drums and bass (src/profile/quality/overdrive.rs).

    train.py train TAKES FEATURES OUT SEED [STEPS]     OUT/SEED.pt from generate.py's takes and quality_features' rows: a network
                                                       that hears frames; of the songs it leaves out a third, by SEED % 3
    train.py judge TAKES FEATURES OUT STEPS SEED...    OUT/judge.pt: the network that judges a take by what the others make of
                                                       its frames; each song by those that left it out
    train.py check TAKES FEATURES OUT SEED...          scores of the nets' mean and the judge on the songs held back (every
                                                       sixth) or, with ALL=1, on all of them (other folders)
    train.py export OUT WEIGHTS GOLDEN SEED...         the weights for Rust, and what PyTorch makes of them

TAKES and FEATURES: folders, joined by commas. `.s` rows (separated stems) and `.t` rows (true stems) count as takes of their
own. PyPI: numpy torch.
"""
import glob, os, struct, sys
import numpy as np
import torch
from torch import nn

SIGNALS, FEATURES, BANDS = 4, 28, 19
HEARD = FEATURES + BANDS
INPUTS, OUTPUTS = 2 * SIGNALS * HEARD, 2
WIDTH, DILATIONS = 24, [1, 2, 4, 8, 16, 32]
CROP, BATCH, FOLDS = 500, 12, 3
SHORT, LONG, QUANTILES = 31, 101, (.1, .5, .9, .98)
JUDGED, JUDGE_WIDTH, JUDGE_DILATIONS = 17, 12, [1, 4, 16, 64]


class Net(nn.Module):
    def __init__(self, inputs=INPUTS, width=WIDTH, outputs=OUTPUTS, dilations=DILATIONS, drop=.2):
        super().__init__()
        self.register_buffer('mean', torch.zeros(inputs))
        self.register_buffer('scale', torch.ones(inputs))
        self.first = nn.Linear(inputs, width)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in dilations)
        self.last = nn.Linear(width, outputs)
        self.drop = drop

    def forward(self, x):  # [batch][frame][input]
        x = ((x - self.mean) * self.scale).clamp(-6, 6) if self.training else (x - self.mean) * self.scale
        x = nn.functional.dropout(x, self.drop, self.training)
        x = torch.relu(self.first(x)).transpose(1, 2)
        for conv in self.convs:
            x = x + nn.functional.dropout(torch.relu(conv(x)), .1, self.training)
        return self.last(x.transpose(1, 2))


def new_judge():
    return Net(JUDGED, JUDGE_WIDTH, 1, JUDGE_DILATIONS, .1)


def load(takes, features, keep):
    out = []
    for takes, features in zip(takes.split(','), features.split(',')):
        for path in sorted(glob.glob(features + '/*.[st]')):
            name, ending = os.path.basename(path).rsplit('.', 1)
            if not os.path.exists(f'{takes}/{name}.npz'): continue
            z = np.load(f'{takes}/{name}.npz')
            song = int(z['song']) if 'song' in z else int(name)
            if not keep(song): continue
            x = np.fromfile(path, np.float32).reshape(-1, INPUTS)
            n = min(len(x), len(z['y']))
            x = x[:n]
            # The mix's level over its loud frames, from its bands.
            level = (np.log10(np.sum(10 ** (2 * x[:, FEATURES:HEARD]), 1) + 1e-8) / 2).astype(np.float32)
            out.append(dict(name=name, ending=ending, song=song, x=torch.from_numpy(x).half(), y=torch.from_numpy(z['y'][:n].astype(np.float32)),
                            w=torch.from_numpy(z['w'][:n].astype(np.float32)), style=str(z['style']), kind=str(z['kind']), level=level))
    return out


def held_back(song):
    return song % 6 == 0


def fold(song):
    return song // 6 % FOLDS


def suspicious(o):
    """How far a clean take's most suspicious second lies above zero: [batch][frame][output]."""
    second = nn.functional.avg_pool1d(o.transpose(1, 2), 100, 25)
    return nn.functional.softplus(second.amax((1, 2)) + 1)


def varied(x, g):
    """Other colours, other takes' medians, signals that say nothing: [batch][frame][input]."""
    b = x.shape[0]
    x = x.clone().view(b, x.shape[1], 2, SIGNALS, HEARD)
    f = torch.linspace(-1, 1, BANDS)
    rand = lambda *s: torch.randn(*s, generator=g)
    bump = torch.exp(-((f[None] - 2 * torch.rand(b, 1, generator=g) + 1) / .3) ** 2)
    colour = .12 * rand(b, 1) * f[None] + .12 * rand(b, 1) * bump
    x[:, :, 0, :, FEATURES:] += colour[:, None, None, :]
    x[:, :, 0, :, FEATURES:] += .06 * rand(b, 1, SIGNALS, 1)
    x = x + .05 * rand(b, 1, 2, SIGNALS, HEARD)
    x = x * (torch.rand(b, 1, 1, SIGNALS, 1, generator=g) > .12)
    return x.view(b, -1, INPUTS)


def train(takes, features, out, seed, steps=1500):
    seed, steps = int(seed), int(steps)
    torch.manual_seed(seed)
    torch.set_num_threads(int(os.environ.get('THREADS', 1)))
    g = torch.Generator().manual_seed(seed)
    data = load(takes, features, lambda k: not held_back(k) and fold(k) != seed % FOLDS)
    print(len(data), 'takes', sum(len(d['y']) for d in data) / 6000, 'minutes; driven', float(torch.cat([d['y'] for d in data]).mean()), flush=True)
    net = Net()
    every = torch.cat([d['x'][::5].float() for d in data])
    net.mean.copy_(every.mean(0))
    net.scale.copy_(1 / every.std(0).clamp(min=.02))
    del every
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=.05)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, pct_start=.15)
    total = 0.
    for step in range(steps):
        x, y, w, clean = [], [], [], []
        for _ in range(BATCH):
            d = data[int(torch.randint(len(data), (1,), generator=g))]
            n = len(d['y'])
            a = int(torch.randint(max(1, n - CROP + 1), (1,), generator=g))
            pad = max(0, CROP - (n - a))
            take = lambda v: nn.functional.pad(v[a:a + CROP].float(), (0, 0, 0, pad))
            x.append(take(d['x'])); y.append(take(d['y'])); w.append(take(d['w'])); clean.append(float(not d['y'].any()))
        x, y, w = torch.stack(x), torch.stack(y), torch.stack(w)
        net.train()
        o = net(varied(x, g))
        loss = nn.functional.binary_cross_entropy_with_logits(o, y * .98 + .01, weight=w) + .1 * (suspicious(o) * torch.tensor(clean)).mean()
        optimizer.zero_grad(); loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.)
        optimizer.step(); plan.step()
        total += float(loss.detach())
        if step % 100 == 99: print(step + 1, round(total / 100, 4), flush=True); total = 0.
    os.makedirs(out, exist_ok=True)
    torch.save(net.state_dict(), f'{out}/{seed}.pt')


def near(x, frames):
    """Means over the frames around, as many as there are."""
    half, n = frames // 2, len(x)
    sums = np.concatenate([np.zeros((1, *x.shape[1:])), np.cumsum(x.astype(np.float64), 0)])
    a, b = np.maximum(np.arange(n) - half, 0), np.minimum(np.arange(n) + half + 1, n)
    return (sums[b] - sums[a]) / (b - a).reshape(-1, *[1] * (x.ndim - 1))


def judged(odds, level):
    """What the judge hears: [stem][frame][JUDGED], from the frames' log odds [frame][stem] and the mix's level."""
    odds = np.clip(odds, -12, 12)
    short, long = near(odds, SHORT), near(odds, LONG)
    n, out = len(odds), []
    rank = lambda v, q: np.sort(v)[int((len(v) - 1) * q + .5)]
    for k in range(2):
        s, l = short[:, k], long[:, k]
        low, middle, high, top = (rank(s, q) for q in QUANTILES)
        spread = max(top - low, .5)
        v = level - level.mean()
        along = np.mean(v * s) / (np.sqrt(np.mean(v * v) * np.var(s)) + 1e-6)
        steady = np.std(l) / (np.std(s) + 1e-6)
        whole = [low, middle, high, top, rank(short[:, 1 - k], .9), (s.mean() - low) / spread, along, steady]
        out.append(np.stack([s, l, short[:, 1 - k], odds[:, k], s - low, s - middle, s - top, (s - low) / spread, level, *(np.full(n, c) for c in whole)], 1))
    return np.stack(out).astype(np.float32)


def raw_odds(nets, d):
    with torch.no_grad():
        return np.mean([net(d['x'].float()[None])[0].numpy() for net in nets], 0)


def judge(takes, features, out, steps, *seeds):
    torch.manual_seed(1)
    torch.set_num_threads(int(os.environ.get('THREADS', 1)))
    r = np.random.default_rng(1)
    nets = {int(seed) % FOLDS: net for seed, net in zip(seeds, opened(out, seeds))}
    data = load(takes, features, lambda k: not held_back(k))
    for d in data: d['odds'] = raw_odds([nets[fold(d['song'])]], d); del d['x']
    net, steps = new_judge(), int(steps)
    every = np.concatenate([judged(d['odds'], d['level']).reshape(-1, JUDGED)[::7] for d in data])
    net.mean.copy_(torch.from_numpy(every.mean(0))); net.scale.copy_(torch.from_numpy(1 / np.maximum(every.std(0), .05)))
    optimizer = torch.optim.AdamW(net.parameters(), 4e-3, weight_decay=.05)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps, pct_start=.15)
    total, crop = 0., 700
    for step in range(steps):
        x, y, w, clean = [], [], [], []
        for _ in range(8):
            d = data[r.integers(len(data))]
            n = len(d['y'])
            # Other lengths, and nets that are surer or more suspicious.
            length = int(r.integers(min(n, crop), n + 1)); a = int(r.integers(n - length + 1))
            odds = d['odds'][a:a + length] * 10 ** r.normal(0, .05) + r.normal(0, .2)
            rows = judged(odds, d['level'][a:a + length])
            b = int(r.integers(length - min(length, crop) + 1))
            for k in range(2):
                cut = lambda v: nn.functional.pad(v[b:b + crop], (0,) * (2 * v.ndim - 1) + (max(0, crop - length),))
                x.append(cut(torch.from_numpy(rows[k]))); y.append(cut(d['y'][a:a + length, k])); w.append(cut(d['w'][a:a + length, k]))
                clean.append(float(not d['y'].any()))
        x, y, w = torch.stack(x), torch.stack(y), torch.stack(w)
        net.train()
        o = net(x)
        loss = nn.functional.binary_cross_entropy_with_logits(o[..., 0], y * .98 + .01, weight=w) + .1 * (suspicious(o) * torch.tensor(clean)).mean()
        optimizer.zero_grad(); loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.)
        optimizer.step(); plan.step()
        total += float(loss.detach())
        if step % 100 == 99: print(step + 1, round(total / 100, 4), flush=True); total = 0.
    torch.save(net.state_dict(), f'{out}/judge.pt')


def auc(hits, rest):
    if not len(hits) or not len(rest): return float('nan')
    rest = np.sort(rest)
    return float(np.mean((np.searchsorted(rest, hits, 'left') + np.searchsorted(rest, hits, 'right')) / 2) / len(rest))


def odds_of(nets, judge, d):
    with torch.no_grad():
        return judge(torch.from_numpy(judged(raw_odds(nets, d), d['level'])))[..., 0].numpy().T


def opened(out, seeds):
    nets = []
    for seed in seeds:
        net = new_judge() if seed == 'judge' else Net()
        net.load_state_dict(torch.load(f'{out}/{seed}.pt')); net.eval(); nets.append(net)
    return nets


def check(takes, features, out, *seeds):
    nets, judge = opened(out, seeds), opened(out, ['judge'])[0]
    everything = os.environ.get('ALL')
    data = load(takes, features, lambda k: everything or held_back(k))
    for ending in 'st':
        within, hits, rest, clean = [], [[], []], [[], []], []
        for d in (d for d in data if d['ending'] == ending):
            o, y, w = odds_of(nets, judge, d), d['y'].numpy(), d['w'].numpy()
            one = []
            for k in range(2):
                h, c = o[(y[:, k] > 0) & (w[:, k] > 0), k], o[(y[:, k] == 0) & (w[:, k] > 0), k]
                hits[k].append(h); rest[k].append(c)
                if len(h) and len(c): one.append(auc(h, c))
            within += one
            if not y.any():
                top = o.max(1)
                clean.append((np.quantile(top, .98), d['name'], d['style'], d['kind'], np.quantile(top, .9)))
            elif os.environ.get('VERBOSE'):
                print(d['name'], d['style'], d['kind'], [round(float(v), 2) for v in one])
        if not clean and not within: continue
        H, R = [np.concatenate(v) for v in hits], [np.concatenate(v) for v in rest]
        clean.sort(reverse=True)
        print(ending, 'AUC within takes %.3f (%d), pooled drums %.3f bass %.3f' % (np.mean(within) if within else np.nan, len(within), auc(H[0], R[0]), auc(H[1], R[1])))
        for c in clean[:6]: print('   clean, 2 %% above %.1f, 10 %% above %.1f: %s %s %s' % (c[0], c[4], *c[1:4]))
        for at in (clean[0][0], clean[len(clean) // 10][0], clean[len(clean) // 5][0], 0.) if clean else (0.,):
            print('   at %.1f: recall drums %.2f bass %.2f, sound frames of driven and clean takes %.3f %.3f' % (at, *(float((h > at).mean()) if len(h) else 0 for h in H), *(float((v > at).mean()) for v in R)))


def export(out, path, golden, *seeds):
    everyone = [*opened(out, seeds), *opened(out, ['judge'])]
    with open(path + '.new', 'wb') as f:
        f.write(b'UNEARS01')
        half = lambda v: f.write(v.detach().contiguous().numpy().astype('<f2').tobytes())
        for net in everyone:
            f.write(struct.pack('<4I', net.first.in_features, net.first.out_features, net.last.out_features, len(net.convs)))
            first = net.first.weight * net.scale[None]
            half(first.T); half(net.first.bias - first @ net.mean)
            for conv in net.convs:
                f.write(struct.pack('<I', conv.dilation[0]))
                for tap in range(3): half(conv.weight[:, :, tap].T)
                half(conv.bias)
            half(net.last.weight.T); half(net.last.bias)
    os.replace(path + '.new', path)
    n = 240
    rows = torch.sin(.37 * torch.arange(n, dtype=torch.float64)[:, None] + .1 * torch.arange(INPUTS, dtype=torch.float64)).float()
    with torch.no_grad():
        for net in everyone:
            first = net.first.weight * net.scale[None]
            net.first.bias.copy_((net.first.bias - first @ net.mean).half().float())
            net.first.weight.copy_(first.half().float())
            net.mean.zero_(); net.scale.fill_(1.)
            for layer in [*net.convs, net.last]:
                layer.weight.copy_(layer.weight.half().float()); layer.bias.copy_(layer.bias.half().float())
        odds = np.mean([net(rows[None])[0].numpy() for net in everyone[:-1]], 0)
        level = np.sin(.05 * np.arange(n))
        judge = everyone[-1](torch.from_numpy(judged(odds, level)))[..., 0].numpy().T
    np.concatenate([np.clip(odds, -12, 12), judge], 1).astype('<f4').tofile(golden)


if __name__ == '__main__':
    dict(train=train, judge=judge, check=check, export=export)[sys.argv[1]](*sys.argv[2:])
