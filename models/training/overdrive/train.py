"""Trains the networks that hear overdriven drums and bass (src/profile/quality/overdrive.rs).

    train.py train TAKES FEATURES OUT SEED [STEPS]     OUT/SEED.pt from generate.py's takes and quality_features' rows
    train.py check TAKES FEATURES OUT SEED...          scores of the nets' mean on the takes held back (every sixth) or,
                                                       with ALL=1, on all of them (other folders)
    train.py export OUT WEIGHTS GOLDEN SEED...         the weights for Rust, and what PyTorch makes of them

`.s` rows (separated stems) and `.t` rows (true stems) count as takes of their own. PyPI: numpy torch.
"""
import glob, os, struct, sys
import numpy as np
import torch
from torch import nn

SIGNALS, FEATURES, BANDS = 4, 28, 19
HEARD = FEATURES + BANDS
INPUTS, OUTPUTS = 2 * SIGNALS * HEARD, 2
WIDTH, DILATIONS = 24, [1, 2, 4, 8, 16, 32]
CROP, BATCH = 500, 12
TURN, EVIDENCE = 1 / 300, float(os.environ.get('EVIDENCE', .15))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer('mean', torch.zeros(INPUTS))
        self.register_buffer('scale', torch.ones(INPUTS))
        self.first = nn.Linear(INPUTS, WIDTH)
        self.convs = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 3, padding=d, dilation=d) for d in DILATIONS)
        self.last = nn.Linear(WIDTH, OUTPUTS)
        self.drop = .2

    def forward(self, x):  # [batch][frame][input]
        x = ((x - self.mean) * self.scale).clamp(-6, 6) if self.training else (x - self.mean) * self.scale
        x = nn.functional.dropout(x, self.drop, self.training)
        x = torch.relu(self.first(x)).transpose(1, 2)
        for conv in self.convs:
            x = x + nn.functional.dropout(torch.relu(conv(x)), .1, self.training)
        return self.last(x.transpose(1, 2))


def load(takes, features, keep):
    out = []
    for path in sorted(glob.glob(features + '/*.[st]')):
        name, ending = os.path.basename(path).rsplit('.', 1)
        if not keep(int(name)): continue
        x = np.fromfile(path, np.float32).reshape(-1, INPUTS)
        z = np.load(f'{takes}/{name}.npz')
        n = min(len(x), len(z['y']))
        out.append(dict(name=name, ending=ending, x=torch.from_numpy(x[:n]).half(), y=torch.from_numpy(z['y'][:n].astype(np.float32)),
                        w=torch.from_numpy(z['w'][:n].astype(np.float32)), style=str(z['style']), kind=str(z['kind'])))
    return out


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
    data = load(takes, features, lambda k: k % 6 != 0 or os.environ.get('ALL'))
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
        x, y, w = [], [], []
        for _ in range(BATCH):
            d = data[int(torch.randint(len(data), (1,), generator=g))]
            n = len(d['y'])
            a = int(torch.randint(max(1, n - CROP + 1), (1,), generator=g))
            pad = max(0, CROP - (n - a))
            take = lambda v: nn.functional.pad(v[a:a + CROP].float(), (0, 0, 0, pad))
            x.append(take(d['x'])); y.append(take(d['y'])); w.append(take(d['w']))
        x, y, w = torch.stack(x), torch.stack(y), torch.stack(w)
        net.train()
        loss = nn.functional.binary_cross_entropy_with_logits(net(varied(x, g)), y * .98 + .01, weight=w)
        optimizer.zero_grad(); loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.)
        optimizer.step(); plan.step()
        total += float(loss)
        if step % 100 == 99: print(step + 1, round(total / 100, 4), flush=True); total = 0.
    os.makedirs(out, exist_ok=True)
    torch.save(net.state_dict(), f'{out}/{seed}.pt')


def in_spans(odds):
    """As `in_spans` in Rust."""
    def step(v):
        p = 1 / (1 + np.exp(-v)); p = p * (1 - TURN) + (1 - p) * TURN
        return np.log(p / (1 - p))
    e, out = EVIDENCE * odds.astype(np.float64), np.empty(odds.shape)
    past = np.zeros(odds.shape[1])
    for i in range(len(e)):
        out[i] = past + e[i]; past = step(out[i])
    future = np.zeros(odds.shape[1])
    for i in range(len(e) - 1, -1, -1):
        out[i] += future; future = step(future + e[i])
    return out


def auc(hits, rest):
    if not len(hits) or not len(rest): return float('nan')
    rest = np.sort(rest)
    return float(np.mean((np.searchsorted(rest, hits, 'left') + np.searchsorted(rest, hits, 'right')) / 2) / len(rest))


def odds_of(nets, d):
    with torch.no_grad():
        return in_spans(np.mean([net(d['x'].float()[None])[0].numpy() for net in nets], 0))


def opened(out, seeds):
    nets = []
    for seed in seeds:
        net = Net(); net.load_state_dict(torch.load(f'{out}/{seed}.pt')); net.eval(); nets.append(net)
    return nets


def check(takes, features, out, *seeds):
    nets = opened(out, seeds)
    everything = os.environ.get('ALL')
    data = load(takes, features, lambda k: everything or k % 6 == 0)
    for ending in 'st':
        within, hits, rest, clean = [], [[], []], [[], []], []
        for d in (d for d in data if d['ending'] == ending):
            o, y, w = odds_of(nets, d), d['y'].numpy(), d['w'].numpy()
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
    with open(path + '.new', 'wb') as f:
        f.write(b'UNEARS01')
        half = lambda v: f.write(v.detach().contiguous().numpy().astype('<f2').tobytes())
        for net in opened(out, seeds):
            f.write(struct.pack('<4I', INPUTS, WIDTH, OUTPUTS, len(DILATIONS)))
            first = net.first.weight * net.scale[None]
            half(first.T); half(net.first.bias - first @ net.mean)
            for d, conv in zip(DILATIONS, net.convs):
                f.write(struct.pack('<I', d))
                for tap in range(3): half(conv.weight[:, :, tap].T)
                half(conv.bias)
            half(net.last.weight.T); half(net.last.bias)
    os.replace(path + '.new', path)
    rows = torch.sin(.37 * torch.arange(40, dtype=torch.float64)[:, None] + .1 * torch.arange(INPUTS, dtype=torch.float64)).float()
    with torch.no_grad():
        outputs = []
        for net in opened(out, seeds):
            first = net.first.weight * net.scale[None]
            net.first.bias.copy_((net.first.bias - first @ net.mean).half().float())
            net.first.weight.copy_(first.half().float())
            net.mean.zero_(); net.scale.fill_(1.)
            for layer in [*net.convs, net.last]:
                layer.weight.copy_(layer.weight.half().float()); layer.bias.copy_(layer.bias.half().float())
            outputs.append(net(rows[None])[0].numpy())
    np.mean(outputs, 0).astype('<f4').tofile(golden)


if __name__ == '__main__':
    dict(train=train, check=check, export=export)[sys.argv[1]](*sys.argv[2:])
