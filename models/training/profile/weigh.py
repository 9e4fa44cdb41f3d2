"""Trains what weighs the ears' opinions by the whole song (src/profile/ears/groove.rs and lead.rs).

    weigh.py groove SONGS FEATURES WEIGHTS.bin GOLDEN     hits, by bars, repeats and likeness
    weigh.py lead SONGS FEATURES WEIGHTS.bin GOLDEN       the lead's pitch, by its partials, and whether one sounds
    weigh.py golden WEIGHTS.bin GOLDEN                    only writes GOLDEN anew

SONGS of generate.py --drums, FEATURES of profile_features --strokes, both lists of folders with commas between. The networks
before are read from WEIGHTS.bin, the trained ones written into it. GOLDEN (tests/golden/weigh.f32): what this script makes
of made-up numbers with the networks of WEIGHTS.bin, for a test of the Rust side. Every eighth song is held back and
reported on. Seeded. PyPI: numpy torch.
"""
import glob, json, os, struct, sys
import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
import train

BANDS, CLASSES = 38, 7
GROUPS = [(0, 4), (4, 8), (8, 12), (12, 17), (17, 22), (22, 27), (27, 32), (32, 38)]
# Heights that make a moment: strokes.rs, WEIGHED times THRESHOLD.
LEAST = .25 * np.array([.38, .42, .25, .40, .18, .20, .22], np.float32)
PARTIALS = [-24, -19, -12, -7, -5, -1, 0, 1, 5, 7, 12, 16, 19, 22, 24, 28, 31, 34, 36]
RIVALS = [-19, -12, 0, 12, 19]
STEM, VOICE_SHARE, LEANING = .6, .7, 1.
PLACES = dict(pitch=0, hits=1, strokes=3, phrases=4, groove=5, lead=6, voice=7)
sigmoid = lambda x: 1 / (1 + np.exp(-np.clip(x, -30, 30)))
logit = lambda p: np.log(p / (1 - p))


# ---- files ------------------------------------------------------------------------------------------------
def nets_of(path):
    nets = []
    for state in train.read_nets(path):
        blocks = sum(k.startswith('convs') and k.endswith('weight') for k in state)
        net = train.Net(state['first.weight'].shape[1], state['first.weight'].shape[0], len(state['last.bias']), [2 ** i for i in range(blocks)])
        net.load_state_dict(state); net.eval(); nets.append(net)
    return nets


def hear(net, x):
    with torch.no_grad(): return net(torch.from_numpy(np.ascontiguousarray(x, np.float32))[None])[0].numpy()


def packed(a, a_bias, b, b_bias, mean, scale):
    """A network without blocks as ears/net.rs reads it; the inputs' mean and scale go into its first layer."""
    a = a / scale
    a_bias = a_bias - a @ mean
    half = lambda v: np.ascontiguousarray(v).astype('<f2').tobytes()
    return struct.pack('<4I', a.shape[1], a.shape[0], b.shape[0], 0) + half(a.T) + half(a_bias) + half(b.T) + half(b_bias)


def replace(path, place, net):
    """Writes a network into a file of weights; missing ones before it are made of zeros."""
    head, spans = open(path, 'rb').read()[:8], train.spans(path)
    while len(spans) <= place:
        inputs, outputs = {5: (128, CLASSES), 6: (56, 1), 7: (32, 1)}[len(spans)]
        spans.append(packed(np.zeros((1, inputs)), np.zeros(1), np.zeros((outputs, 1)), np.zeros(outputs), np.zeros(inputs), np.ones(inputs)))
    spans[place] = net
    open(path + '.new', 'wb').write(head + b''.join(spans)); os.replace(path + '.new', path)


def find(folders, name):
    return next((f'{d}/{name}' for d in folders.split(',') if os.path.exists(f'{d}/{name}')), None)


class Weigher(torch.nn.Module):
    def __init__(self, inputs, width, outputs, drop):
        super().__init__()
        self.a, self.b, self.drop = torch.nn.Linear(inputs, width), torch.nn.Linear(width, outputs), torch.nn.Dropout(drop)

    def forward(self, x): return self.b(self.drop(F.relu(self.a(x))))

    def numbers(self): return [p.detach().numpy().astype(np.float64) for p in (self.a.weight, self.a.bias, self.b.weight, self.b.bias)]


# ---- hits -------------------------------------------------------------------------------------------------
def largest_around(x, reach):
    return sliding_window_view(np.pad(x, ((reach, reach), (0, 0))), 2 * reach + 1, axis=0).max(-1)


def opinions(nets, mix, drums):
    """[3, frame, class]: by the networks for strokes, phrases and hits."""
    both = np.concatenate([mix, drums], 1)
    hits = .5 * (sigmoid(hear(nets[1], mix)) + sigmoid(hear(nets[1], drums)))
    return np.stack([sigmoid(hear(nets[3], both)), sigmoid(hear(nets[4], both)), hits[:, :CLASSES]])


def places(beats, downbeats, length):
    """Place of each beat in its bar."""
    downs = [int(np.abs(beats - d).argmin()) for d in downbeats] if len(beats) else []
    return np.array([(i - max([d for d in downs if d <= i], default=downs[0] if downs else 0)) % length for i in range(len(beats))], int)


class Song:
    """The same as in groove.rs, all moments at once."""
    def __init__(self, opinions, mix, drums, beats, places, length):
        n = min(opinions.shape[1], len(mix), len(drums))
        self.n, self.beats, self.places, self.length = n, beats, places, length
        self.mean = opinions.mean(0)[:n]
        self.heights = largest_around(opinions.mean(0), 3)[:n]
        self.opinions = [largest_around(o, 3)[:n] for o in opinions]
        self.rises = [largest_around(x[:, BANDS:], 2)[:n] for x in (mix, drums)]
        def loud(p):
            p = np.sort(p[p >= .3])
            return p[int(np.floor((len(p) - 1) * .75 + .5))] if len(p) >= 2 else .3
        self.loud = np.array([loud(opinions.mean(0)[:, k]) for k in range(CLASSES)])

    def moments(self, k):
        top = largest_around(self.mean[:, k:k + 1], 2)[:, 0]
        return np.flatnonzero((self.mean[:, k] >= LEAST[k]) & (self.mean[:, k] >= top))

    def mean_odds(self, at, k):
        return logit(np.clip(np.mean([np.clip(o[at, k], .003, .997) for o in self.opinions], 0), .02, .98))

    def describe(self, at):
        out = [logit(np.clip(o[at], .003, .997)) * .3 for o in self.opinions]
        out += [np.stack([r[at, a:b].mean(1) for a, b in GROUPS], 1) for r in self.rises]
        rise, weight = self.rises[1][at], self.heights[at] ** 2 + 1e-6
        model = (weight.T @ rise) / weight.sum(0)[:, None]
        unit = lambda x: x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-6)
        out += [unit(rise) @ unit(model).T, np.repeat(self.loud[None], len(at), 0)]
        beats, count, length = self.beats, len(self.beats), self.length
        following = np.searchsorted(beats, at / 100 + 1e-9, side='right')
        known = (following > 0) & (following < count) & (count >= 3)
        beat = np.clip(following - 1, 0, max(0, count - 2))
        part = np.where(known, (at / 100 - beats[beat]) / (beats[beat + 1] - beats[beat] + 1e-9), 0) if count >= 3 else np.zeros(len(at))

        def at_place(away, parts=0.):
            p = part + parts
            i = beat + away + np.floor(p).astype(int)
            p = p - np.floor(p)
            good = known & (i >= 0) & (i + 1 < count)
            j = np.clip(i, 0, max(0, count - 2))
            frame = np.clip(np.floor((beats[j] + p * (beats[j + 1] - beats[j])) * 100 + .5).astype(int), 0, self.n - 1) if count >= 3 else np.zeros(len(at), int)
            return self.heights[frame] * good[:, None], good

        def habit(offsets):
            all_ = [at_place(o) for o in offsets]
            number = sum(g.astype(int) for _, g in all_)
            return sum(h for h, _ in all_) / np.maximum(number, 1)[:, None], number > 0

        bars = lambda n: [k * length for k in range(-n, n + 1) if k]
        near, repeats = habit(bars(4))
        out += [near, habit(bars(16))[0]]
        for away in (1, length - 1, length // 2 if length % 2 == 0 else None):
            out.append(np.zeros_like(near) if away is None else habit([k * length + away for k in range(-4, 5)])[0])
        out += [at_place(0, p)[0][:, :4] for p in (.5, -.5, 1 / 3, -1 / 3)]
        place = self.places[beat] if count >= 3 else np.zeros(len(at), int)
        turn = 2 * np.pi * (place + part) / length
        out.append(np.stack([f(h * turn) * known for h in (1, 2, 3, 4, 6, 8) for f in (np.cos, np.sin)], 1))
        out.append(np.stack([np.full(len(at), float(length == q)) for q in (2, 3, 4)] + [known, repeats], 1))
        which = np.stack([(place == q) & known for q in range(4)], 1)
        on = (np.exp(-(np.minimum(part, 1 - part) / .06) ** 2) * known)[:, None]
        return np.concatenate(out + [which, which * on, on], 1).astype(np.float32)


def misread(r, beats, where, length):
    """Now and then the bars as a profile gets them wrong."""
    u = r.random()
    if u < .08: where = (where + r.integers(1, length)) % length
    elif u < .12:
        length = int(r.choice([q for q in (2, 3, 4) if q != length]))
        where = (np.arange(len(beats)) + int(r.integers(length))) % length
    elif u < .20:  # beats twice or three times as fast
        k = 3 if length == 2 else 2
        n = np.arange((len(beats) - 1) * k + 1)
        beats, length = np.interp(n / k, np.arange(len(beats)), beats), 3 if k == 3 else 4
        where = (n + int(r.integers(length)) * (r.random() < .3)) % length
    elif u < .23:
        beats, length = beats[::2], int(r.choice([2, 4])) if length == 4 else length
        where = (np.arange(len(beats)) + int(r.integers(length)) * (r.random() < .3)) % length
    elif u < .25: beats, where = beats[:0], where[:0]
    return beats, where, length


def truth_at(truth, k, at):
    """Whether a moment of class k is one, and what it counts: tambourines neither way."""
    y, w = np.zeros(len(at), np.float32), np.ones(len(at), np.float32)
    if len(at):
        for t in (d['t'] for d in truth['drum_onsets'] if train.STROKE.get(d['name']) == k):
            i = np.abs(at / 100 - t).argmin()
            if abs(at[i] / 100 - t) <= .045: y[i] = 1
        tambourine = np.array([d['t'] for d in truth['drum_onsets'] if d['name'] == 'tamb'])
        if k == 2 and len(tambourine): w[(np.abs(at[:, None] / 100 - tambourine[None]).min(1) < .04) & (y == 0)] = 0
    return y, w


def train_groove(songs, feats, weights):
    r, nets = np.random.default_rng(5), nets_of(weights)
    xs, ys, ws, zs, names = [], [], [], [], []
    files = sorted({os.path.basename(f)[:-2] for d in feats.split(',') for f in glob.glob(d + '/*.m')})
    for name in files:
        truth = json.load(open(find(songs, name + '.json')))
        for pair in ['ml', 'mu'] + ['mm'] * (int(name) % 2):
            if not all(find(feats, f'{name}.{k}') for k in pair): continue
            mix, drums = (np.fromfile(find(feats, f'{name}.{k}'), np.float32).reshape(-1, 2 * BANDS) for k in pair)
            n = min(len(mix), len(drums)); mix, drums = mix[:n], drums[:n]
            length = {6: 2, 3: 3, 4: 4}[truth['meter'][0]]
            beats = np.array(truth['beats'])
            where = places(beats, truth['downbeats'], length)
            beats = beats + r.normal(0, .008, len(beats))
            song = Song(opinions(nets, mix, drums), mix, drums, *misread(r, beats, where, length))
            for k in range(CLASSES):
                at = song.moments(k)
                if not len(at): continue
                y, w = np.zeros((2, len(at), CLASSES), np.float32)
                z = np.zeros((len(at), CLASSES), np.float32)
                y[:, k], w[:, k] = truth_at(truth, k, at)
                z[:, k] = song.mean_odds(at, k)
                xs.append(song.describe(at)); ys.append(y); ws.append(w); zs.append(z); names += [(int(name), pair == 'ml')] * len(at)
    x, y, w, z = (np.concatenate(v) for v in (xs, ys, ws, zs))
    names = np.array(names); held = names[:, 0] % 8 == 7; shown = held & (names[:, 1] == 1)
    mean, scale = x.mean(0), np.maximum(x.std(0), .05)
    x, y, w, z = (torch.from_numpy(v.astype(np.float32)) for v in ((x - mean) / scale, y, w, z))
    print(len(files), 'songs,', len(x), 'moments', flush=True)
    said = lambda o: [round(float(F.binary_cross_entropy_with_logits(o[:, k], y[shown][:, k], w[shown][:, k]) / w[shown][:, k].mean()), 3) for k in range(CLASSES)]
    print('mean opinion', said(z[shown]), flush=True)
    trained, steps = [], int(os.environ.get('STEPS', 4000))
    for seed in (1, 2, 3):
        torch.manual_seed(seed); g = np.random.default_rng(seed)
        net = Weigher(x.shape[1], 96, CLASSES, .5); net.b.weight.data *= .1; net.b.bias.data *= 0
        opt = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=.3)
        for step in range(steps):
            for p in opt.param_groups: p['lr'] = 1e-3 * (1 + np.cos(np.pi * step / steps)) + 1e-5
            i = torch.from_numpy(g.choice(np.flatnonzero(~held), 512))
            rough = (x[i] + .4 * torch.randn(512, x.shape[1])) * (torch.rand(512, x.shape[1]) > .1)
            loss = F.binary_cross_entropy_with_logits(net(rough) + z[i], y[i], w[i]) * CLASSES
            opt.zero_grad(); loss.backward(); opt.step()
        net.eval()
        with torch.no_grad(): print('groove', seed, round(loss.item(), 3), said(net(x[shown]) + z[shown]), flush=True)
        trained.append(net.numbers())
    # Three side by side are one network that says their mean.
    a, ab, b, bb = zip(*trained)
    replace(weights, PLACES['groove'], packed(np.concatenate(a), np.concatenate(ab), np.concatenate(b, 1) / 3, np.mean(bb, 0), mean, scale))


# ---- the lead ---------------------------------------------------------------------------------------------
NL = train.NL
log = lambda p: np.log(np.clip(p, 1e-4, 1 - 1e-4)) * .2


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def lead_of(net, x):
    """[frame, NL + 1]."""
    return softmax(hear(net, x)[:, train.NB + 1:train.NB + 2 + NL])


def semitones(x):
    """The loudest third of each semitone, in 128ths as the Rust side keeps it; 24 more below and 60 above."""
    z = np.concatenate([np.zeros((len(x), 1), np.float32), x[:, :train.BINS]], 1)[:, :train.BINS]
    return np.pad(np.floor(z.reshape(len(x), -1, 3).max(2) * 128) / 128, ((0, 0), (24, 60)))


def describe_pitches(mix, own, p, v):
    n, at, out = len(p), np.arange(NL) + train.LEAD0 - 21 + 24, []
    for s in (semitones(mix), semitones(own)):
        out += [s[:, at + o] for o in PARTIALS]
        out.append(np.repeat(s.max(1)[:, None], NL, 1))
    for q in (p, v):
        wide = np.pad(q[:, :NL], ((0, 0), (24, 24)))
        out += [log(wide[:, 24 + o:24 + o + NL]) for o in RIVALS]
        out.append(np.repeat(log(q[:, NL:]), NL, 1))
    register = ((1 - STEM) * p + STEM * v)[:, :NL].sum(0)
    register = np.convolve(np.pad(register / max(1e-6, register.sum()), 3), np.ones(7) / 3, mode='valid')
    wide = np.pad(register, 24)
    out += [np.repeat(wide[None, 24 + o:24 + o + NL], n, 0) for o in (-12, 0, 12)]
    out.append(np.repeat((np.arange(NL)[None] - 24) / 24, n, 0))
    return np.stack(out, 2).astype(np.float32)


def describe_frames(own, p, v):
    n = len(p)
    rows = np.stack([log(p[:, NL]), log(1 - p[:, NL]), log(v[:, NL]), log(1 - v[:, NL]), p[:, :NL].max(1), v[:, :NL].max(1),
                     (p[:, :NL] * v[:, :NL]).sum(1) ** .5, own[:, :train.BINS].mean(1)], 1)
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, 0)])
    out = [rows]
    for reach in (4, 15, 50):
        a, b = np.maximum(np.arange(n) - reach, 0), np.minimum(np.arange(n) + reach + 1, n)
        out.append((sums[b] - sums[a]) / (b - a)[:, None])
    return np.concatenate(out, 1).astype(np.float32)


def train_lead(songs, feats, weights):
    r, heard = np.random.default_rng(9), nets_of(weights)[0]
    torch.manual_seed(9)
    jobs = sorted(os.path.basename(f)[:-2] for d in feats.split(',') for f in glob.glob(d + '/*.v'))
    parts = [[], [], [], []]
    for name, alone in [(n, False) for n in jobs] + [(n, True) for n in jobs[::5]]:  # a fifth once more, without its stem
        truth = json.load(open(find(songs, name + '.json')))
        mix, own = (np.fromfile(find(feats, f'{name}.{e}'), np.float32).reshape(-1, train.BINS + train.LOW) for e in 'pv')
        if alone: own = mix
        n = min(len(mix), len(own)); mix, own = mix[:n], own[:n]
        p, v = lead_of(heard, mix), lead_of(heard, own)
        y = train.frames_of(truth['melody_notes'], n, 50, train.LEAD0, NL)
        some, sung = r.choice(n, n // 3, replace=False), np.flatnonzero((y >= 0) & (y < NL))
        sung = r.choice(sung, min(len(sung), 250), replace=False)
        held = int(name) % 8 == 7
        parts[2].append(describe_frames(own, p, v)[some]); parts[3].append(np.stack([(y != NL)[some], np.full(len(some), held)], 1))
        parts[0].append(describe_pitches(mix, own, p, v)[sung].astype(np.float16)); parts[1].append(np.stack([y[sung], np.full(len(sung), held)], 1))
    x, y, vx, vy = (np.concatenate(v) for v in parts)
    steps = int(os.environ.get('STEPS', 700))

    def fit(kind, x, y, held, batch, rate, decay, drop, noise, loss_of, right):
        flat = x.reshape(-1, x.shape[-1]).astype(np.float32)
        mean, scale = flat.mean(0), np.maximum(flat.std(0), .03)
        norm = lambda v: torch.from_numpy((v.astype(np.float32) - mean) / scale)
        net = Weigher(x.shape[-1], 24, 1, drop); opt = torch.optim.AdamW(net.parameters(), rate, weight_decay=decay)
        for step in range(steps):
            for g in opt.param_groups: g['lr'] = rate * .5 * (1 + np.cos(np.pi * step / steps)) + 1e-5
            i = r.choice(np.flatnonzero(~held), batch)
            q = norm(x[i]); loss = loss_of(net(q + noise * torch.randn_like(q))[..., 0], torch.from_numpy(y[i]))
            opt.zero_grad(); loss.backward(); opt.step()
        net.eval()
        with torch.no_grad(): print(kind, len(x), 'frames, loss', round(loss.item(), 3), 'right', round(float(np.mean(right(net(norm(x[held]))[..., 0].numpy(), y[held]))), 3), flush=True)
        replace(weights, PLACES[kind], packed(*net.numbers(), mean, scale))

    fit('lead', x, y[:, 0], y[:, 1] == 1, 96, 3e-3, .05, .1, .1, lambda o, y: F.cross_entropy(o, y, label_smoothing=.02), lambda o, y: o.argmax(1) == y)
    fit('voice', vx, vy[:, 0].astype(np.float32), vy[:, 1] == 1, 512, 2e-3, .3, .1, .3, F.binary_cross_entropy_with_logits, lambda o, y: (o > 0) == (y > .5))


# ---- what the Rust side is checked with -------------------------------------------------------------------
def golden(weights, path):
    """Moments of each class, frame and probability, then the lead, both of made-up numbers."""
    state = 1
    def numbers(*shape):
        nonlocal state
        out = np.empty(int(np.prod(shape)), np.float32)
        for i in range(len(out)):
            state = (state * 1664525 + 1013904223) % 2 ** 32
            out[i] = np.float32(state >> 8) / np.float32(2 ** 24)
        return out.reshape(shape)
    nets, out, n = nets_of(weights), [], 300
    said, mix, drums = numbers(3, n, CLASSES) ** 2, numbers(n, 2 * BANDS), numbers(n, 2 * BANDS)
    beats = np.arange(8) * .375 + .125
    song = Song(said, mix, drums, beats, places(beats, beats[1::4], 4), 4)
    for k in range(CLASSES):
        at = song.moments(k)
        out += [np.float32(len(at))] + [v for t, q in zip(at, sigmoid(hear(nets[PLACES['groove']], song.describe(at))[:, k] + song.mean_odds(at, k))) for v in (t, q)]
    n = 20
    p, v = (softmax(4 * numbers(n, NL + 1)) for _ in 'pv')
    mix, own = numbers(n, train.BINS), numbers(n, train.BINS)
    q = softmax(hear(nets[PLACES['lead']], describe_pitches(mix, own, p, v).reshape(-1, 56)).reshape(n, NL))
    heard = np.clip(1 - (1 - STEM) * p[:, NL] - STEM * v[:, NL], 1e-3, 1 - 1e-3)
    told = np.clip(hear(nets[PLACES['voice']], describe_frames(own, p, v))[:, 0], -6.9, 6.9)
    sounds = sigmoid(VOICE_SHARE * told + (1 - VOICE_SHARE) * logit(heard) + LEANING)[:, None]
    out += list(np.concatenate([q * sounds, 1 - sounds], 1).ravel())
    np.array(out, '<f4').tofile(path)


if __name__ == '__main__':
    verb, a = sys.argv[1], sys.argv[2:]
    torch.set_num_threads(int(os.environ.get('THREADS', 1)))
    if verb != 'golden': dict(groove=train_groove, lead=train_lead)[verb](*a[:3])
    golden(*a[-2:])
