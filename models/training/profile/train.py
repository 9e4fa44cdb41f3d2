"""Trains the ears of the musical profile (src/profile/ears) on what generate.py made.

    train.py sound SONGS FEATURES OUT         pitch and hits, OUT.p and OUT.h; FEATURES/NAME.p and .h from the Rust side
    train.py pulse SONGS FEATURES OUT         beats and bars; FEATURES/NAME.b, heard through the two above
    train.py strokes SONGS FEATURES OUT       drums from mix and drum stem; songs of generate.py --drums, features of
                                              profile_features --strokes; begins from WEIGHTS=weights.bin if given
    train.py phrases SONGS FEATURES OUT       the same with five seconds of context instead of 0.6
    train.py export SOUND PULSE STROKES PHRASES WEIGHTS.bin      half precision, the layout that ears/net.rs reads;
                                              a name that ends in .bin: take that part from this file of weights

Features come from the Rust side (`cargo run --release --example profile_features`) so that training hears what the
profile hears. Every eighth song is held back from training and reported on. MINUTES (STEPS for strokes and phrases) and THREADS
bound the work, NETS=p or h trains one, RESUME=OUT goes on from there at RATE. PyPI: numpy torch.
"""
import glob, json, os, struct, sys, time
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

BASS0, NB, LEAD0, NL = 23, 41, 45, 48
BINS, LOW = 252, 108
CLASS = dict(kick=0, snare=1, rim=1, clap=1, hat_closed=2, hat_pedal=2, hat_open=3, tom_lo=4, tom_mid=4, tom_hi=4, crash=5, ride=6)
# A stroke of the shaker is written as one of the closed hat.
STROKE = dict(CLASS, shaker=2)
SHAPES = dict(d=(None, 64, 7, [1, 2, 4, 8, 16]), w=(None, 64, 7, [1, 2, 4, 8, 16, 32, 64, 128]), p=(BINS + LOW, 128, NB + 1 + NL + 1 + 13 + 12 + 2, [1, 2, 4, 8]), h=(None, 64, 9, [1, 2, 4, 8, 16]),
              b=(None, 32, 3, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]))


class Net(nn.Module):
    def __init__(self, inputs, width, outputs, dilations, drop=.1):
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=d, padding=d) for d in dilations)
        self.last = nn.Linear(width, outputs)
        self.dilations, self.drop = dilations, nn.Dropout(drop)

    def forward(self, x):  # [batch, time, inputs]
        x = F.relu(self.first(x)).transpose(1, 2)
        for c in self.convs:
            x = x + self.drop(F.relu(c(x)))
        return self.last(x.transpose(1, 2))


def load(songs, feats, ext):
    out = []
    for f in sorted(glob.glob(feats + '/*.' + ext)):
        name = os.path.basename(f)[:-2]
        truth = json.load(open(f'{songs}/{name}.json'))
        out.append((name, np.fromfile(f, np.float32), truth))
    return out


def frames_of(notes, n, fps, low, count):
    y = np.full(n, count, np.int64)
    for k in notes:
        a, b = int(np.ceil(k['t'] * fps)), int(np.ceil((k['t'] + k['dur']) * fps))
        m = k['midi'] - low
        y[a:b] = m if 0 <= m < count else -100
    return y


def events(times, n, fps, wide=1):
    y = np.zeros(n, np.float32)
    for t in times:
        i = int(round(t * fps))
        for d in range(-wide, wide + 1):
            if 0 <= i + d < n: y[i + d] = max(y[i + d], [1., .5, .25][abs(d)])
    return y


def pitch_truth(t, n):
    bass, lead = frames_of(t['bass_notes'], n, 50, BASS0, NB), frames_of(t['melody_notes'], n, 50, LEAD0, NL)
    root, tones = np.full(n, 12, np.int64), np.zeros((n, 12), np.float32)
    for c in t['chords']:
        a, b = int(round(c['start'] * 50)), int(round(c['end'] * 50))
        root[a:b] = c['root']; tones[a:b, c['pcs']] = 1
    on = np.stack([events([k['t'] for k in t[w]], n, 50) for w in ('bass_notes', 'melody_notes')], 1)
    return bass, lead, root, tones, on


def hit_truth(t, n):
    y = np.zeros((n, 9), np.float32)
    for c in range(7):
        y[:, c] = events([d['t'] for d in t['drum_onsets'] if CLASS.get(d['name']) == c], n, 100)
    y[:, 7] = events([k['t'] for k in t['bass_notes']], n, 100)
    y[:, 8] = events([k['t'] for k in t['melody_notes']], n, 100)
    return y


def shift(x, y, s):
    """Transposes features and truth by s semitones."""
    def move(v):
        z = np.zeros_like(v)
        k = 3 * s
        if k > 0: z[:, k:] = v[:, :-k]
        elif k < 0: z[:, :k] = v[:, -k:]
        else: z = v
        return z
    x = np.concatenate([move(x[:, :BINS]), move(x[:, BINS:])], 1)
    bass, lead, root, tones, on = y
    def cls(v, n):
        w = np.where((v >= 0) & (v < n), v + s, v)
        return np.where((v >= 0) & (v < n) & ((w < 0) | (w >= n)), -100, w)
    # A low shift leaves the top of the long window's block empty: fill it from the short one.
    if s < 0: x[:, BINS + LOW + 3 * s:] = x[:, LOW + 3 * s:LOW]
    return x, (cls(bass, NB), cls(lead, NL), np.where(root < 12, (root + s) % 12, 12), np.roll(tones, s, 1), on)


def pitch_loss(o, y):
    bass, lead, root, tones, on = y
    i = 0
    ce = lambda n, t, w: F.cross_entropy(o[..., i:i + n].reshape(-1, n), t.reshape(-1), ignore_index=-100, label_smoothing=.02) * w
    loss = ce(NB + 1, bass, 1.); i += NB + 1
    loss = loss + ce(NL + 1, lead, 1.); i += NL + 1
    loss = loss + ce(13, root, .6); i += 13
    loss = loss + F.binary_cross_entropy_with_logits(o[..., i:i + 12], tones) * 2
    loss = loss + F.binary_cross_entropy_with_logits(o[..., i + 12:], on, pos_weight=torch.tensor(3.)) * .7
    return loss


def train_sound(songs, feats, out, minutes):
    r = np.random.default_rng(1); torch.manual_seed(1); torch.set_num_threads(int(os.environ.get('THREADS', 1)))
    P = [(n, x.reshape(-1, BINS + LOW), pitch_truth(t, len(x) // (BINS + LOW))) for n, x, t in load(songs, feats, 'p')]
    hw = 2 * int(os.environ.get('BANDS', '0'))
    raw = load(songs, feats, 'h')
    if not hw:
        # frames at 100 fps are twice those at 50
        hw = int(round(len(raw[0][1]) / (2 * len(P[0][1]) - 1)))
        hw = min(range(hw - 3, hw + 4), key=lambda w: (len(raw[0][1]) % w != 0, abs(w - hw)))
    H = [(n, x.reshape(-1, hw), hit_truth(t, len(x) // hw)) for n, x, t in raw]
    print(len(P), 'songs, hit features', hw, flush=True)
    held = lambda i: i % 8 == 7
    nets = dict(p=Net(*SHAPES['p'][:3], SHAPES['p'][3]), h=Net(hw, *SHAPES['h'][1:3], SHAPES['h'][3]))
    for key, data, length, batch in (('p', P, 200, 12), ('h', H, 400, 12)):
        if key not in os.environ.get('NETS', 'ph'): continue
        net = nets[key]
        if os.environ.get('RESUME'): net.load_state_dict(torch.load(os.environ['RESUME'] + '.' + key))
        opt = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-3)
        idx = [i for i in range(len(data)) if not held(i)]
        start, step, run = time.time(), 0, []
        def batch_of(ids, aug):
            xs, ys = [], []
            for i in ids:
                _, x, y = data[i]
                a = int(r.integers(0, max(1, len(x) - length)))
                x = x[a:a + length]
                y = tuple(v[a:a + length] for v in y) if key == 'p' else (y[a:a + length],)
                if key == 'p' and aug: x, y = shift(x, y, int(r.integers(-6, 7)))
                if aug:  # the room's and the phone's colour, and how loud the song is
                    if key == 'p':
                        c = np.interp(np.arange(BINS), np.linspace(0, BINS, 7), r.normal(0, .1, 7))
                        c = np.concatenate([c, c[:LOW]]).astype(np.float32)
                        x = np.maximum(0, x + c * np.minimum(1, x / .2) + np.float32(r.normal(0, .06)) * (x > .05))
                    else:
                        x = x * r.uniform(.85, 1.15, (1, x.shape[1])).astype(np.float32)
                if len(x) < length:
                    pad = length - len(x)
                    x = np.pad(x, ((0, pad), (0, 0)))
                    y = tuple(np.pad(v, ((0, pad),) + ((0, 0),) * (v.ndim - 1), constant_values=-100 if v.dtype == np.int64 and j < 2 else 12 if v.dtype == np.int64 else 0) for j, v in enumerate(y))
                xs.append(x); ys.append(y)
            return torch.from_numpy(np.stack(xs)), tuple(torch.from_numpy(np.stack(v)) for v in zip(*ys))
        loss_of = pitch_loss if key == 'p' else lambda o, y: F.binary_cross_entropy_with_logits(o, y[0], pos_weight=torch.tensor(2.)) * 10
        def check():
            net.eval()
            with torch.no_grad():
                tot, acc = 0, np.zeros(4)
                for i in [i for i in range(len(data)) if held(i)]:
                    x = torch.from_numpy(data[i][1])[None]
                    y = data[i][2]; yt = tuple(torch.from_numpy(v)[None] for v in y) if key == 'p' else (torch.from_numpy(y)[None],)
                    o = net(x); tot += float(loss_of(o, yt))
                    if key == 'p':
                        o = o[0].numpy(); b, l, rt = y[0], y[1], y[2]
                        m = (b >= 0) & (b < NB); ob = o[:, :NB].argmax(1)
                        acc += [np.mean(ob[m] == b[m]) if m.any() else 1, 0, 0, 0]
                        m = (l >= 0) & (l < NL); ol = o[:, NB + 1:NB + 1 + NL].argmax(1); ov = o[:, NB + 1:NB + 2 + NL].argmax(1)
                        acc += [0, np.mean(ol[m] == l[m]) if m.any() else 1, np.mean(ov == l), np.mean(o[:, NB + NL + 2:NB + NL + 15].argmax(1) == rt)]
            k = len([i for i in range(len(data)) if held(i)])
            net.train()
            return tot / k, acc / k
        while time.time() - start < (minutes * 60):
            frac = (time.time() - start) / (minutes * 60)
            for g in opt.param_groups: g['lr'] = float(os.environ.get('RATE', 2e-3)) * min(1, (step + 1) / 50) * .5 * (1 + np.cos(np.pi * frac)) + 2e-5
            x, y = batch_of(r.choice(idx, batch), True)
            loss = loss_of(net(x), y)
            opt.zero_grad(); loss.backward(); nn.utils.clip_grad_norm_(net.parameters(), 1.); opt.step()
            run.append(loss.item()); step += 1
            if step % 200 == 0:
                print(key, step, int(time.time() - start), 's', np.mean(run[-200:]).round(3), *check(), flush=True)
                torch.save(net.state_dict(), out + '.' + key)
        print(key, 'end', step, *check(), flush=True)
        torch.save(net.state_dict(), out + '.' + key)


def train_pulse(songs, feats, out, minutes):
    r = np.random.default_rng(2); torch.manual_seed(2); torch.set_num_threads(int(os.environ.get('THREADS', 1)))
    data = []
    for n, x, t in load(songs, feats, 'b'):
        x = x.reshape(-1, 20)
        if len(t['beats']) < 4: continue
        y = np.stack([events(t['beats'], len(x), 50), events(t['downbeats'], len(x), 50), np.full(len(x), float(t['meter'] == [6, 8]))], 1).astype(np.float32)
        data.append((n, x, y))
    print(len(data), 'songs')
    net = Net(20, *SHAPES['b'][1:3], SHAPES['b'][3])
    if os.environ.get('RESUME'): net.load_state_dict(torch.load(os.environ['RESUME']))
    opt = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-3)
    idx = [i for i in range(len(data)) if i % 8 != 7]
    w = torch.tensor([1., 1., .1]); pw = torch.tensor([3., 6., 3.])
    start, step, run, length = time.time(), 0, [], 1000
    def batch_of(ids, aug):
        xs, ys = [], []
        for i in ids:
            _, x, y = data[i]
            if aug:  # another tempo: stretch time by up to 15 %, remake the truth's peaks from the rounded times
                f = r.uniform(.85, 1.18)
                n = int(len(x) * f)
                at = np.clip(np.arange(n) / f, 0, len(x) - 1)
                lo = at.astype(int); hi = np.minimum(lo + 1, len(x) - 1); fr = (at - lo)[:, None].astype(np.float32)
                # peaks stay peaks
                xx = np.maximum(x[lo] * (1 - fr), x[hi] * fr)
                xx[:, 15:18] = x[lo, 15:18]
                yy = np.zeros((n, 3), np.float32); yy[:, 2] = y[0, 2]
                for k in range(2):
                    for i0 in np.flatnonzero(y[:, k] == 1): 
                        j = int(round(i0 * f))
                        for d in (-1, 0, 1):
                            if 0 <= j + d < n: yy[j + d, k] = max(yy[j + d, k], [1, .5][abs(d)])
                x, y = xx, yy
                x = x * r.uniform(.8, 1.2, (1, 20)).astype(np.float32)
                if r.random() < .15: x[:, :7] *= 0.3
                if r.random() < .1: x[:, 15:18] = 0
            a = int(r.integers(0, max(1, len(x) - length)))
            x, y = x[a:a + length], y[a:a + length]
            pad = length - len(x)
            xs.append(np.pad(x, ((0, pad), (0, 0)))); ys.append(np.pad(y, ((0, pad), (0, 0))))
        return torch.from_numpy(np.stack(xs).astype(np.float32)), torch.from_numpy(np.stack(ys))
    def check():
        net.eval(); tot = []
        with torch.no_grad():
            for i in range(7, len(data), 8):
                tot.append(float((F.binary_cross_entropy_with_logits(net(torch.from_numpy(data[i][1])[None]), torch.from_numpy(data[i][2])[None], reduction='none', pos_weight=pw).mean((0, 1)) * w).sum()))
        net.train(); return np.mean(tot)
    while time.time() - start < minutes * 60:
        frac = (time.time() - start) / (minutes * 60)
        for g in opt.param_groups: g['lr'] = 3e-3 * min(1, (step + 1) / 50) * .5 * (1 + np.cos(np.pi * frac)) + 2e-5
        x, y = batch_of(r.choice(idx, 12), True)
        loss = (F.binary_cross_entropy_with_logits(net(x), y, reduction='none', pos_weight=pw).mean((0, 1)) * w).sum()
        opt.zero_grad(); loss.backward(); nn.utils.clip_grad_norm_(net.parameters(), 1.); opt.step()
        run.append(loss.item()); step += 1
        if step % 100 == 0: print('b', step, int(time.time() - start), 's', np.mean(run[-100:]).round(4), check(), flush=True); torch.save(net.state_dict(), out)
    torch.save(net.state_dict(), out)


# Which two of a song's renderings the two ears hear, and how often: m mix, s drums separated without a model,
# l by the learned separator, t the drums' own stem, u that stem with some of the mix in it.
PAIRS = dict(strokes=dict(ms=.5, mm=.14, tt=.12, mu=.1, mt=.05, ss=.04, uu=.05),
             phrases=dict(ml=.4, ms=.14, mm=.14, tt=.1, mu=.1, ll=.06, uu=.06))


def stroke_truth(t, n):
    """Targets and weights [n, 7]: quiet strokes count half, tambourines neither way."""
    y, w = np.zeros((n, 7), np.float32), np.ones((n, 7), np.float32)
    for d in t['drum_onsets']:
        i = int(round(d['t'] * 100))
        if d['name'] == 'tamb': w[max(0, i - 3):i + 4, 2] = 0
        c = STROKE.get(d['name'])
        if c is None: continue
        for k in (-1, 0, 1):
            if 0 <= i + k < n: y[i + k, c] = max(y[i + k, c], [1., .5][abs(k)])
        if d.get('vel', 1) < .3: w[max(0, i - 2):i + 3, c] = .5
    return y, w


def train_strokes(songs, feats, out, _, kind='strokes'):
    r = np.random.default_rng(3); torch.manual_seed(3); torch.set_num_threads(int(os.environ.get('THREADS', 1)))
    width, outputs, dilations = SHAPES[dict(strokes='d', phrases='w')[kind]][1:]
    odds_of = PAIRS[kind]
    data, wide = [], None
    for f in sorted(glob.glob(feats + '/*.m')):
        name = os.path.basename(f)[:-2]
        truth = json.load(open(f'{songs}/{name}.json'))
        views = {k: np.fromfile(f'{feats}/{name}.{k}', np.float32) for k in 'msltu' if os.path.exists(f'{feats}/{name}.{k}')}
        wide = wide or 2 * int(os.environ['BANDS'])
        views = {k: v.reshape(-1, wide).astype(np.float16) for k, v in views.items()}
        data.append((name, views, *stroke_truth(truth, len(views['m']))))
    print(len(data), 'songs,', wide, 'features an ear', flush=True)
    net = Net(2 * wide, width, outputs, dilations)
    if os.environ.get('WEIGHTS'):  # half of what one ear knew to each of two
        old = read_nets(os.environ['WEIGHTS'])[dict(strokes=1, phrases=3)[kind]]
        if kind == 'strokes':
            old['first.weight'] = torch.cat([old['first.weight'] / 2] * 2, 1)
            old['last.weight'], old['last.bias'] = old['last.weight'][:outputs], old['last.bias'][:outputs]
        for i in range(len(dilations)):  # blocks that do nothing yet, but for a bias that lets them be trained
            old.setdefault(f'convs.{i}.weight', torch.zeros(width, width, 3))
            old.setdefault(f'convs.{i}.bias', torch.full((width,), 1e-3))
        net.load_state_dict(old)
    if os.environ.get('RESUME'): net.load_state_dict(torch.load(os.environ['RESUME']))
    opt = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-3)
    rate, steps, length, batch = float(os.environ.get('RATE', 2e-3)), int(os.environ.get('STEPS', 3000)), *dict(strokes=(300, 8), phrases=(600, 6))[kind]
    held = lambda name: int(name) % 8 == 7
    idx, run = [i for i in range(len(data)) if not held(data[i][0])], []
    weigh = torch.tensor(2.)

    def ears(views, pair):
        return np.concatenate([views[pair[0]], views[pair[1]]], 1).astype(np.float32)

    def batch_of(ids):
        xs, ys, ws = [], [], []
        for i in ids:
            _, views, y, w = data[i]
            pairs = [p for p in odds_of if p[0] in views and p[1] in views]
            odds = np.array([odds_of[p] for p in pairs])
            x = ears(views, pairs[r.choice(len(pairs), p=odds / odds.sum())])
            n = min(len(x), len(y))
            a = int(r.integers(0, max(1, n - length)))
            x, y, w = x[a:min(n, a + length)], y[a:min(n, a + length)], w[a:min(n, a + length)]
            x = x * r.uniform(.75, 1.25, (1, x.shape[1])).astype(np.float32) + r.normal(0, .02, x.shape).astype(np.float32) * (x > .02)
            if r.random() < .15:  # a microphone without lows or highs, on both ears
                bands = wide // 2
                cut = np.ones(bands, np.float32); k = int(r.integers(1, bands // 4))
                if r.random() < .6: cut[:k] = r.uniform(0, .5)
                else: cut[-k:] = r.uniform(0, .5)
                x = x * np.tile(cut, 4)
            pad = length - len(x)
            xs.append(np.pad(x, ((0, pad), (0, 0)))); ys.append(np.pad(y, ((0, pad), (0, 0)))); ws.append(np.pad(w, ((0, pad), (0, 0))))
        return [torch.from_numpy(np.stack(v).astype(np.float32)) for v in (xs, ys, ws)]

    def check():
        net.eval(); total = {}
        with torch.no_grad():
            for name, views, y, w in data:
                if not held(name): continue
                for pair in ('ml', 'ms', 'mm', 'tt'):
                    if not all(k in views for k in pair): continue
                    x = torch.from_numpy(ears(views, pair))[None]
                    loss = F.binary_cross_entropy_with_logits(net(x)[0, :len(y)], torch.from_numpy(y[:x.shape[1]]), torch.from_numpy(w[:x.shape[1]]), pos_weight=weigh)
                    total.setdefault(pair, []).append(float(loss) * 10)
        net.train()
        return {k: round(float(np.mean(v)), 4) for k, v in total.items()}

    start = time.time()
    for step in range(1, steps + 1):
        for g in opt.param_groups: g['lr'] = rate * min(1, step / 50) * .5 * (1 + np.cos(np.pi * step / steps)) + 2e-5
        x, y, w = batch_of(r.choice(idx, batch))
        loss = F.binary_cross_entropy_with_logits(net(x), y, w, pos_weight=weigh) * 10
        opt.zero_grad(); loss.backward(); nn.utils.clip_grad_norm_(net.parameters(), 1.); opt.step()
        run.append(loss.item())
        if step % 250 == 0:
            print('d', step, int(time.time() - start), 's', np.mean(run[-250:]).round(4), check(), flush=True)
            torch.save(net.state_dict(), out)


def read_nets(path):
    """The networks of a file of weights, as state dicts."""
    raw, at, nets = open(path, 'rb').read(), 8, []
    def number():
        nonlocal at
        at += 4
        return struct.unpack('<I', raw[at - 4:at])[0]
    def values(*shape):
        nonlocal at
        n = 2 * int(np.prod(shape))
        at += n
        return torch.from_numpy(np.frombuffer(raw[at - n:at], '<f2').astype(np.float32).reshape(shape))
    while at < len(raw):
        inputs, width, outputs, blocks = (number() for _ in range(4))
        net = {'first.weight': values(inputs, width).T, 'first.bias': values(width)}
        for i in range(blocks):
            net[f'dilation.{i}'] = number()
            net[f'convs.{i}.weight'] = torch.stack([values(width, width).T for _ in range(3)], 2)
            net[f'convs.{i}.bias'] = values(width)
        net['last.weight'], net['last.bias'] = values(width, outputs).T, values(outputs)
        nets.append({k: v for k, v in net.items() if not k.startswith('dilation')})
    return nets


def spans(path):
    """The networks of a file of weights, as they stand there."""
    raw, found, at = open(path, 'rb').read(), [], 8
    while at < len(raw):
        inputs, width, outputs, blocks = struct.unpack('<4I', raw[at:at + 16])
        size = 16 + 2 * (inputs * width + width + width * outputs + outputs) + blocks * (4 + 2 * (3 * width * width + width))
        found.append(raw[at:at + size]); at += size
    return found


def train_phrases(*a):
    train_strokes(*a, kind='phrases')


def export(sound, pulse, strokes, phrases, path):
    """Nets in the order pitch, hits, pulse, strokes, phrases; what weigh.py added to the file before stays."""
    weighing = spans(path)[5:] if os.path.exists(path) else []
    def part(key, source, place, own):
        if source.endswith('.bin'): return read_nets(source)[place]
        if os.path.exists(own): return torch.load(own)
        ears = 4 * int(os.environ.get('BANDS', 38))
        inputs = dict(b=20, d=ears, w=ears)[key]  # not trained yet: the nets before it can be heard through
        return Net(inputs, *SHAPES[key][1:3], SHAPES[key][3]).state_dict()
    nets = [('p', part('p', sound, 0, sound + '.p')), ('h', part('h', sound, 1, sound + '.h')), ('b', part('b', pulse, 2, pulse)), ('d', part('d', strokes, 3, strokes)),
            ('w', part('w', phrases, 4, phrases))]
    f = open(path + '.new', 'wb'); f.write(b'UNEARS01')
    half = lambda v: f.write(v.contiguous().numpy().astype('<f2').tobytes())
    for key, sd in nets:
        _, w, o, dil = SHAPES[key]
        f.write(struct.pack('<4I', sd['first.weight'].shape[1], w, o, len(dil)))
        half(sd['first.weight'].T); half(sd['first.bias'])
        for i, d in enumerate(dil):
            f.write(struct.pack('<I', d))
            for tap in range(3): half(sd[f'convs.{i}.weight'][:, :, tap].T)
            half(sd[f'convs.{i}.bias'])
        half(sd['last.weight'].T); half(sd['last.bias'])
    f.write(b''.join(weighing))
    f.close(); os.replace(path + '.new', path)


if __name__ == '__main__':
    verb, a = sys.argv[1], sys.argv[2:]
    if verb == 'export': export(*a)
    else: dict(sound=train_sound, pulse=train_pulse, strokes=train_strokes, phrases=train_phrases)[verb](*a[:3], float(os.environ.get('MINUTES', 20)))
