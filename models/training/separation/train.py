"""Trains the learned separator (src/separation/learned) on what generate.py made.

    train.py train STEMS OUT MINUTES [CHECK ...]     OUT.pt; reports on folders of drums|bass|other|vocals.flac or .wav on the way
    train.py measure OUT.pt CHECK ...                SI-SDR of every stem of these folders, dB
    train.py export OUT.pt WEIGHTS.bin CASE.bin      half precision, the layout that learned/net.rs reads, and a small case
                                                     with the network's answer

Every example is mixed anew: stems of one song or of several, at random speeds, levels and colours; two in five
examples go through parts of a phone's chain (room, noise, overload, gain control, band limits). What an overload
takes from a sample it takes from all stems alike; noise counts as `other`. Loss: logarithm of each stem's error over
its energy, in bands, once as it is and once whitened. Everything is seeded but the number of steps, which the time
bounds. PyPI: numpy scipy soundfile torch.
"""
import glob, os, struct, sys, time
import numpy as np
import soundfile as sf
import torch
from scipy import fft, signal
from torch import nn
import torch.nn.functional as F

SR, SIZE, HOP, BANDS = 44100, 4096, 1024, 256
NAMES = ['drums', 'bass', 'other', 'vocals']
WINDOW = np.hanning(SIZE + 1)[:-1].astype(np.float32)


def band_starts():
    """First bin of each band: one bin each up to 600 Hz, then forty to the octave."""
    starts, at = [0], 2.
    while len(starts) < BANDS:
        starts.append(int(round(at)))
        at = max(at + 1, at * (1 + GROWTH))
    return np.array(starts)


GROWTH = .01775
STARTS = band_starts()
assert (np.diff(STARTS) > 0).all() and STARTS[-1] < 2049, STARTS


# ---- the network ------------------------------------------------------------------------------------------
class Layer(nn.Module):
    """3 × 3 convolution over bands and frames, an offset for every channel and band, ReLU."""
    def __init__(self, i, o, bands, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(i, o, 3, stride=(stride, 1), padding=1, bias=False)
        self.norm = nn.BatchNorm2d(o, affine=True)
        self.offset = nn.Parameter(torch.zeros(o, bands, 1))

    def forward(self, x): return F.relu(self.norm(self.conv(x)) + self.offset)


class Block(nn.Module):
    def __init__(self, width, dilation):
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, dilation=dilation, padding=dilation, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x): return x + F.relu(self.norm(self.conv(x)))


C = [24, 40, 64, 96]
WIDTH, DILATIONS = 128, [1, 2, 4, 8, 16, 32]


class Net(nn.Module):
    """Log band powers [batch, 256, frames] to scores [batch, 4, 256, frames]; a softmax makes them masks."""
    def __init__(self):
        super().__init__()
        b = [BANDS >> k for k in range(1, 5)]
        self.first = Layer(2, C[0], b[0])  # even and odd bands are channels
        self.down = nn.ModuleList(Layer(C[k], C[k + 1], b[k + 1], 2) for k in range(3))
        self.before = nn.ModuleList(Layer(C[k], C[k], b[k]) for k in range(3))
        self.squeeze = nn.Conv1d(C[3] * b[3], WIDTH, 1)
        self.blocks = nn.ModuleList(Block(WIDTH, d) for d in DILATIONS)
        self.spread = nn.Conv1d(WIDTH, C[3] * b[3], 1)
        self.up = nn.ModuleList(nn.Conv2d(C[k + 1], C[k], 1) for k in range(3))
        self.after = nn.ModuleList(Layer(C[k], C[k], b[k]) for k in range(3))
        self.last = nn.Conv2d(C[0], 8, 3, padding=1)

    def forward(self, x):
        n, _, t = x.shape
        x = self.first(x.reshape(n, BANDS // 2, 2, t).transpose(1, 2))
        kept = []
        for before, down in zip(self.before, self.down):
            x = x + before(x)
            kept.append(x)
            x = down(x)
        flat = x.reshape(n, -1, t)
        y = F.relu(self.squeeze(flat))
        for block in self.blocks: y = block(y)
        x = F.relu(flat + self.spread(y)).reshape(x.shape)
        for up, after, k in reversed(list(zip(self.up, self.after, kept))):
            x = k + up(x).repeat_interleave(2, 2)
            x = x + after(x)
        return self.last(x).reshape(n, 2, 4, BANDS // 2, t).permute(0, 2, 3, 1, 4).reshape(n, 4, BANDS, t)


# ---- spectra ----------------------------------------------------------------------------------------------
def stft(y):
    """[..., samples] to [..., frames, bins]; frame t is centred on sample t · HOP."""
    y = np.pad(y.astype(np.float32), [(0, 0)] * (y.ndim - 1) + [(SIZE // 2, SIZE + HOP)])
    frames = (y.shape[-1] - SIZE - SIZE // 2 - HOP) // HOP + 2
    return fft.rfft(np.lib.stride_tricks.sliding_window_view(y, SIZE, -1)[..., ::HOP, :][..., :frames, :] * WINDOW)


def istft(Y, n):
    y = np.zeros(n + 3 * SIZE, np.float32)
    for t, frame in enumerate(fft.irfft(Y, SIZE) * WINDOW / 1.5):
        y[t * HOP:t * HOP + SIZE] += frame
    return y[SIZE // 2:SIZE // 2 + n]


def bands(x): return np.add.reduceat(x, STARTS, axis=-1)


def features(power, gain=0.):
    """Band powers [..., frames, bands]: their logarithm relative to the mean frame's power."""
    ref = power.sum(-1).mean(-1) + 1e-20
    return (np.log10(power / ref[..., None, None] + 1e-8) + 4 + gain) * .5


def separate(net, channels):
    """[channels][samples] to [4][channels][samples]."""
    X = stft(channels)
    with torch.no_grad():
        x = features(bands((np.abs(X) ** 2).mean(0))).T
        m = torch.softmax(net(torch.from_numpy(x[None].astype(np.float32)))[0], 0).numpy()
    wide = np.repeat(m, np.diff(np.append(STARTS, SIZE // 2 + 1)), axis=1).transpose(0, 2, 1)
    return np.stack([[istft(c * w, channels.shape[1]) for c in X] for w in wide])


def si_sdr(truth, heard):
    a = np.dot(truth, heard) / (np.dot(truth, truth) + 1e-12)
    return 10 * np.log10(np.sum((a * truth) ** 2) / (np.sum((heard - a * truth) ** 2) + 1e-12) + 1e-12)


def songs_in(folder):
    for d in sorted(glob.glob(folder + '/*/')):
        found = [glob.glob(f'{d}{n}.*') for n in NAMES]
        if all(found): yield os.path.basename(d[:-1]), np.stack([sf.read(f[0], always_2d=True)[0].T for f in found])


def measure(net, folder):
    net.eval()
    rows = []
    for name, truth in songs_in(folder):
        out = separate(net, truth.sum(0).astype(np.float32)).mean(1)
        rows.append([si_sdr(t, o) if np.sum(t ** 2) > 1e-3 else np.nan for t, o in zip(truth.mean(1), out)])
        print('   ', name, ' '.join(f'{v:6.2f}' for v in rows[-1]), flush=True)
    if rows: print('  mean', folder, ' '.join(f'{v:6.2f}' for v in np.nanmean(rows, 0)), flush=True)
    net.train()


# ---- examples ---------------------------------------------------------------------------------------------
FRAMES = 200
LENGTH = (FRAMES - 1) * HOP
LEVELS = [(-6, 8), (-8, 6), (-10, 5), (-8, 6)]
ABSENT = [.08, .08, .06, .15]


def curve(r, db):
    """Gains over the bins, drawn at seven places of the logarithmic frequency."""
    f = np.log2(np.maximum(np.arange(SIZE // 2 + 1) * SR / SIZE, 30))
    return 10 ** (np.interp(f, np.linspace(5, 14.3, 7), r.normal(0, db, 7)) / 20)


def crop(r, song, stem, speed, start):
    n = int(LENGTH * speed) + 2
    a = int(start * max(0, song.shape[0] - n))
    y = song[a:a + n, stem].astype(np.float32) / 32768
    if len(y) < n: y = np.pad(y, (0, n - len(y)))
    if speed == 1: return y[:LENGTH]
    at = (np.arange(LENGTH, dtype=np.float32) * np.float32(speed))
    i = at.astype(np.int32); w = at - i
    return y[i] * (1 - w) + y[i + 1] * w


def mixture(r, data):
    """Spectra of stems as they are in a mix [4][frames][bins]."""
    u = r.uniform
    pick = lambda: data[int(r.integers(len(data)))]
    song, start, speed = pick(), u(), 2 ** u(-.33, .33) if r.random() < .5 else 1
    together = r.random() < .45
    y = np.zeros((4, LENGTH), np.float32)
    for s in range(4):
        if r.random() < ABSENT[s]: continue
        for k in range(1 + (s >= 2 and r.random() < (.3 if s == 2 else .1))):
            if not together or k: song, start, speed = pick(), u(), 2 ** u(-.33, .33) if r.random() < .5 else 1
            x = crop(r, song, s, speed, start)
            if r.random() < .12: x = np.tanh(x * u(3, 20)) / 10
            y[s] += x * 10 ** (u(*LEVELS[s]) / 20) * (1 if k == 0 else u(.3, 1))
    tones = np.stack([curve(r, 2.5) for _ in range(4)])
    if r.random() < .4:  # a phone, or parts of one
        if r.random() < .5:
            n = int(u(.15, 1.2) * SR)
            ir = r.standard_normal(n).astype(np.float32) * np.exp(-6.9 * np.arange(n, dtype=np.float32) / n)
            ir = signal.sosfilt(signal.butter(1, u(2500, 9000), fs=SR, output='sos'), ir)
            ir *= 10 ** (-u(2, 18) / 20) / np.sqrt(np.sum(ir ** 2)); ir[0] = 1
            y = signal.oaconvolve(y, ir[None].astype(np.float32), axes=1)[:, :LENGTH].astype(np.float32)
        if r.random() < .6:
            n = r.standard_normal(LENGTH).astype(np.float32)
            if r.random() < .5: n = signal.sosfilt(signal.butter(1, [u(100, 400), u(2000, 8000)], 'band', fs=SR, output='sos'), n).astype(np.float32)
            y[2] += n / np.std(n) * np.std(y.sum(0)) * 10 ** (-u(14, 45) / 20)
        mix = y.sum(0)
        if r.random() < .6:
            top = np.quantile(np.abs(mix[::7]), u(.85, .998)) + 1e-9
            cut = np.clip(mix, -top, top * u(.7, 1)) if r.random() < .6 else top * np.tanh(mix / top)
            y *= (cut / np.where(np.abs(mix) < 1e-7, 1e-7 * np.where(mix < 0, -1, 1), mix)).clip(0, 1)
        if r.random() < .4:
            e = np.sqrt(np.convolve(np.add.reduceat(y.sum(0) ** 2, np.arange(0, LENGTH, 441)), np.exp(-np.arange(60) / u(5, 30)), 'full')[: LENGTH // 441 + 1]) + 1e-3
            y *= np.interp(np.arange(LENGTH), np.arange(len(e)) * 441, (e / e.mean()) ** -u(.2, .6)).astype(np.float32)
        f = np.arange(SIZE // 2 + 1) * SR / SIZE
        tones *= curve(r, 3) / np.sqrt(1 + (u(40, 300) / np.maximum(f, 1)) ** (2 * r.integers(1, 4))) / np.sqrt(1 + (f / u(4000, 18000)) ** (2 * r.integers(1, 5)))
    return stft(y)[:, :FRAMES] * tones[:, None].astype(np.float32)


def example(r, data):
    S = mixture(r, data)
    X = S.sum(0)
    power = bands(X.real ** 2 + X.imag ** 2)
    cross = bands(S.real * X.real + S.imag * X.imag)
    energy = bands(S.real ** 2 + S.imag ** 2).sum(1)
    if not power.sum() > 1e-3: return example(r, data)  # silence
    scale = 1 / power.sum()
    return features(power, r.uniform(-.6, .6)).T.astype(np.float32), (power.T * scale).astype(np.float32), (cross * scale).transpose(0, 2, 1).astype(np.float32), (energy * scale).astype(np.float32)


FLOOR = .02


def loss_of(scores, power, cross, energy):
    m = torch.softmax(scores, 1)
    # |m X − S|² summed over a band's bins; per band and stem.
    err = (m * (m * power[:, None] - 2 * cross)).sum(3) + energy
    # The floor keeps silent stems from outweighing the others.
    def ratio(w): return torch.log10(((err * w).sum(2).clamp_min(0) + FLOOR) / ((energy * w).sum(2) + FLOOR)).mean()
    level = power.sum(2)
    white = 1 / (level + 1e-4) ** .6
    white = white / (white * level).sum(1, keepdim=True).clamp_min(1e-6)
    return 10 * ratio(torch.ones(1, 1, 1)) + 4 * ratio(white[:, None]), (err.sum(2).detach(), energy.sum(2))


def train(stems, out, minutes, checks):
    torch.set_num_threads(1); torch.manual_seed(1)
    r = np.random.default_rng(1)
    seen, data = set(), []
    net, batch, fresh, pool, step = Net(), 6, 2, [], 0
    print(sum(p.numel() for p in net.parameters()), 'parameters', flush=True)
    if os.environ.get('RESUME'): net.load_state_dict(torch.load(os.environ['RESUME']))
    opt = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-3)
    start, told, run, cost, heard = time.time(), time.time(), [], [0., 0.], [[], [], [], []]
    while True:
        x = (time.time() - start) / 60 / minutes
        if x >= 1: break
        if step % 100 == 0:
            for f in sorted(glob.glob(stems + '/*.wav')):
                if f in seen or time.time() - os.path.getmtime(f) < 2: continue
                seen.add(f); data.append(sf.read(f, dtype='int16')[0])
        for g in opt.param_groups: g['lr'] = 2e-3 * min(1, (step + 1) / 100) * (.5 + .5 * np.cos(np.pi * x)) + 1e-5
        t = time.time()
        for _ in range(fresh if len(pool) > 60 else 60):
            pool.append(example(r, data))
        pool = pool[-500:]
        cost[0] += time.time() - t; t = time.time()
        ids = list(range(len(pool) - fresh, len(pool))) + [int(i) for i in r.integers(0, len(pool), batch - fresh)]
        b = [torch.from_numpy(np.stack([pool[i][k] for i in ids])) for k in range(4)]
        with torch.autocast('cpu', torch.bfloat16): scores = net(b[0])
        loss, (err, energy) = loss_of(scores.float(), *b[1:])
        for k in range(4): heard[k] += (-10 * torch.log10(err / energy)[:, k][energy[:, k] > .05]).tolist()
        opt.zero_grad(); loss.backward()
        assert torch.isfinite(nn.utils.clip_grad_norm_(net.parameters(), 5.)), 'the gradient is not finite'
        opt.step()
        cost[1] += time.time() - t
        run.append(float(loss)); step += 1
        if step % 50 == 0:
            print(f'{(time.time() - start) / 60:5.1f} min  step {step}  songs {len(data)}  loss {np.mean(run[-50:]):.3f}  snr {np.round([np.mean(h[-200:]) for h in heard], 2)}  data {cost[0] / step:.2f} s  net {cost[1] / step:.2f} s', flush=True)
        if time.time() - told > 480:
            torch.save(net.state_dict(), out)
            for c in checks: measure(net, c)
            told = time.time()
    torch.save(net.state_dict(), out)
    for c in checks: measure(net, c)


def load(path):
    net = Net(); net.load_state_dict(torch.load(path)); net.eval()
    return net


def folded(net):
    """The same network with its norms folded into weights and offsets, in half precision."""
    half = lambda x: x.half().float()
    for m in net.modules():
        if isinstance(m, (Layer, Block)):
            n = m.norm
            g = n.weight / torch.sqrt(n.running_var + n.eps)
            shift = n.bias - n.running_mean * g
            m.conv.weight.data = half(m.conv.weight * g.reshape(-1, *[1] * (m.conv.weight.dim() - 1)))
            if isinstance(m, Layer): m.offset.data = half(m.offset + shift[:, None, None])
            else: m.conv.bias = nn.Parameter(half(shift))
            m.norm = nn.Identity()
        elif isinstance(m, (nn.Conv1d, nn.Conv2d)) and m.bias is not None:
            m.weight.data, m.bias.data = half(m.weight), half(m.bias)
    return net


def export(path, weights, case):
    net = folded(load(path))
    with open(weights, 'wb') as f:
        numbers = lambda *x: f.write(struct.pack(f'<{len(x)}I', *(int(v) for v in x)))
        def values(x): f.write(x.detach().numpy().astype('<f2').tobytes())
        def conv(c, offset):  # [frame tap][band tap][input][output], [band][output]
            values(c.weight.permute(3, 2, 1, 0)); values(offset)
        def layer(m): conv(m.conv, m.offset[..., 0].T)
        low, bands = C[-1], BANDS >> len(C)
        f.write(b'UNSEPA01')
        numbers(len(C) - 1, *C, WIDTH, len(DILATIONS), *DILATIONS, *STARTS)
        layer(net.first)
        for before, down, up, after in zip(net.before, net.down, net.up, net.after):
            layer(before); layer(down)
            values(up.weight[:, :, 0, 0].T); values(up.bias)
            layer(after)
        # Torch flattens channels before bands, the reader bands before channels.
        values(net.squeeze.weight[:, :, 0].reshape(WIDTH, low, bands).permute(2, 1, 0)); values(net.squeeze.bias)
        for b in net.blocks: values(b.conv.weight.permute(2, 1, 0)); values(b.conv.bias)
        values(net.spread.weight[:, :, 0].reshape(low, bands, WIDTH).permute(2, 1, 0)); values(net.spread.bias.reshape(low, bands).T)
        conv(net.last, net.last.bias)
    r = np.random.default_rng(3)
    n = 8192
    t = np.arange(n) / SR
    mix = sum(np.sin(2 * np.pi * hz * t) / k for k, hz in enumerate((55, 110, 330, 495, 660, 1320), 1)) + r.standard_normal(n) * np.exp(-(t % .12) / .02)
    mix = (mix * .1).astype(np.float32)
    np.concatenate([mix[None], separate(net, mix[None])[:, 0]]).astype('<f4').tofile(case)  # the mix, then its stems


if __name__ == '__main__':
    if sys.argv[1] == 'train': train(sys.argv[2], sys.argv[3], float(sys.argv[4]), sys.argv[5:])
    elif sys.argv[1] == 'measure':
        torch.set_num_threads(1)
        for c in sys.argv[3:]: measure(load(sys.argv[2]), c)
    else: export(*sys.argv[2:5])
