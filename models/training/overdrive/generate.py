"""Takes with and without overdriven drums and bass, for training and checking the stem assessment.

    generate.py OUT FIRST COUNT [--held] [--clean] [--style=NAME] [--variants=N] [--stems=FOLDER]
                                                        OUT/NNNNN.wav (mono, 44.1 kHz, 16 bit) and OUT/NNNNN.npz; where
                                                        the mix is all there is, NNNNN_drums.wav and NNNNN_bass.wav too
    generate.py OUT FIRST COUNT --songs                 OUT/NNNNN/drums|bass|other|vocals.flac and truth.json: clean
                                                        songs of held-back sounds, for `cargo xtask rebuild OUT`

Everything is drawn from the song's number. Compositions and sounds are those of ../separation/generate.py; here they are
mixed, with what a clean record does to drums and bass too (bus compressors, limiters, basses ducked by the kick,
basses that are distorted on purpose), and in half of the takes drums, bass or both hit a ceiling: hard, soft, one-sided,
2 to 9 dB of signal to distortion, in spans or throughout, each by itself or as one bus. Then nothing, a microphone, AAC,
both, or a room with noise. `--held` uses sounds that training never hears, `--clean` leaves the overdrive out, `--style`
leaves out songs of other styles.

The npz: `y` and `w`, [frame of 10 ms][drums, bass]: whether it is overdriven, and whether that counts (not where the stem
is silent, nor where its overdrive changes next to nothing); `style`, `kind`, `song`. With `--variants` take k is song k // N, mixed and
driven anew each time, and ducked more often: the same music with and
without. `--stems` takes the songs that ../separation/generate.py has already written there, 20 s of each.

Debian and PyPI: those of ../separation/generate.py.
"""
import functools, json, os, subprocess, sys, tempfile
import numpy as np
import soundfile as sf
from scipy import signal

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'separation'))
import importlib.util
spec = importlib.util.spec_from_file_location('separation_generate', os.path.join(HERE, '..', 'separation', 'generate.py'))
separation = importlib.util.module_from_spec(spec)
spec.loader.exec_module(separation)
SR, room = separation.songs.SR, separation.songs.room

SECONDS = 15.
KITS = separation.songs.TRAIN_KITS
HOP = SR // 100
NAMES = ('drums', 'bass', 'other', 'vocals')


def follower(x, attack, release):
    """Peak envelope every 32 samples, in amplitude."""
    step = 32
    p = np.maximum.reduceat(np.abs(x), np.arange(0, len(x), step))
    up, down = np.exp(-step / SR / attack), np.exp(-step / SR / release)
    e, out = 0., np.empty(len(p))
    for i, v in enumerate(p):
        k = up if v > e else down
        e = k * e + (1 - k) * v
        out[i] = e
    return np.interp(np.arange(len(x)), np.arange(len(p)) * step, out)


def compressed(r, x, limiter):
    """A bus compressor, or a limiter that looks ahead: gain that moves with the envelope, no bent waveform."""
    loud = np.quantile(np.abs(x), .99) + 1e-9
    threshold = loud * 10 ** (-r.uniform(4, 16) / 20)
    attack, release = (.0007, r.uniform(.03, .15)) if limiter else (10 ** r.uniform(-3.2, -1.5), r.uniform(.04, .4))
    ratio = 50. if limiter else r.uniform(2.5, 10)
    e = follower(x, attack, release)
    if limiter: e = np.maximum(e, np.roll(e, -int(.0015 * SR)))
    gain = np.minimum(1, (threshold / np.maximum(e, 1e-9))) ** (1 - 1 / ratio)
    return x * gain / max(1e-3, np.quantile(gain, .3))


def ducked(r, x, kick):
    """Turned down by the drums' lows, as dance music does it."""
    low = signal.sosfilt(signal.butter(2, 110, fs=SR, output='sos'), kick)
    e = follower(low, .003, r.uniform(.08, .25))
    return x * (1 - r.uniform(.4, .95) * np.minimum(1, e / (np.quantile(e, .98) + 1e-9)))


def fuzz(r, x):
    """A bass that is distorted on purpose: an amplifier with its loudspeaker, or a synthesiser's, beside the clean sound."""
    s = np.std(x[np.abs(x) > 1e-4]) + 1e-9 if np.any(np.abs(x) > 1e-4) else 1.
    y = np.tanh((x / s + r.uniform(-.4, .4)) * r.uniform(.6, 5)) * s
    y = signal.sosfilt(signal.butter(2, 35, 'high', fs=SR, output='sos'), y)
    y = signal.sosfilt(signal.butter(int(r.integers(1, 4)), r.uniform(900, 6000), fs=SR, output='sos'), y)
    wet = r.uniform(.4, 1)
    return wet * y + (1 - wet) * x


def shape(r):
    """A ceiling at 1."""
    kind = r.choice(['hard', 'hard', 'hard', 'tanh', 'tanh', 'knee', 'hard_one', 'tanh_one'])
    a = r.uniform(.45, .9)
    if kind == 'hard': return kind, lambda x: np.clip(x, -1, 1)
    if kind == 'tanh': return kind, np.tanh
    if kind == 'knee': return kind, lambda x: np.where(np.abs(x) < 1.5, x - x ** 3 / 6.75, np.sign(x))
    if kind == 'hard_one': return kind, lambda x: np.clip(x, -a, 1)
    return kind, lambda x: np.where(x > 0, np.tanh(x), a * np.tanh(x / a))


def level(x, bend, sdr, where):
    """The ceiling that leaves `sdr` dB inside `where`."""
    x = x[where]
    power = np.sum(x ** 2)
    if power < 1e-9: return None
    lo, hi = -70., 20.
    peak = np.max(np.abs(x))
    for _ in range(24):
        mid = .5 * (lo + hi)
        th = peak * 10 ** (mid / 20)
        e = np.sum((x - th * bend(x / th)) ** 2)
        if 10 * np.log10(power / max(e, 1e-30)) < sdr: lo = mid
        else: hi = mid
    return peak * 10 ** (hi / 20)


def spans(r, n):
    if r.random() < .2: return [(0, n)]
    count = int(r.choice([1, 2, 2]))
    out, at = [], 0
    for k in range(count):
        room_left = n * (k + 1) // count
        length = int(r.uniform(1.2, 4.5 if count == 2 else 7) * SR)
        first = int(r.uniform(at, max(at + 1, room_left - length)))
        out.append((first, min(n, first + length)))
        at = min(n - 1, first + length + int(.6 * SR))
    return out


def smooth(x):
    return np.convolve(x, np.ones(61) / 61, 'same')


def power_frames(x):
    m = len(x) // HOP
    return np.mean(x[:m * HOP].reshape(m, HOP) ** 2, 1)


def overdriven(r, st, n):
    """Bends drums and bass where they are drawn to be. Returns which of them, and the mask of samples."""
    mask = np.zeros(n)
    places = spans(r, n)
    for a, b in places: mask[a:b] = 1
    where = mask > .5
    fade = int(.004 * SR)
    if len(places) > 1 or places[0] != (0, n): mask = np.convolve(mask, np.ones(fade) / fade, 'same')
    who = r.choice(['each', 'each', 'each', 'each', 'bus', 'bus', 'drums', 'bass'])
    kind, bend = shape(r)
    sdr = r.uniform(2, 9)
    makeup = 10 ** (r.uniform(0, 5) / 20) if r.random() < .25 else 1.
    hit = lambda x, s: (lambda th: x if th is None else th * bend(x / th) * makeup)(level(x, bend, s, where))
    before = st[:2].copy()
    if who == 'bus':
        bus = st[0] + st[1]
        th = level(bus, bend, sdr, where)
        if th is None: return who, kind, before, where
        y = th * bend(bus / th) * makeup
        # What is lost is lost from the sum; each gets the share of its own power, for the labels alone.
        e = y - bus
        p = [signal.fftconvolve(x ** 2, np.ones(441) / 441, 'same') + 1e-12 for x in st[:2]]
        share = p[0] / (p[0] + p[1])
        st[0] += mask * e * share
        st[1] += mask * e * (1 - share)
    else:
        for k, name in enumerate(('drums', 'bass')):
            if who in ('each', name):
                st[k] += mask * (hit(st[k], sdr if k == 0 else r.uniform(2, 9)) - st[k])
                if who == 'each' and r.random() < .5: kind, bend = shape(r)
    return who, kind, before, where


def microphone(r, x):
    y = signal.sosfilt(signal.butter(int(r.integers(1, 4)), r.uniform(60, 280), 'high', fs=SR, output='sos'), x)
    y = signal.sosfilt(signal.butter(int(r.integers(1, 4)), r.uniform(7000, 16000), fs=SR, output='sos'), y)
    f = r.uniform(1500, 4500)
    b, a = signal.iirpeak(f / (SR / 2), r.uniform(1, 3))
    return y + (10 ** (r.uniform(1, 7) / 20) - 1) * signal.lfilter(b, a, y)


def aac(r, x):
    with tempfile.TemporaryDirectory() as d:
        sf.write(d + '/a.wav', x, SR, subtype='FLOAT')
        subprocess.run(['ffmpeg', '-v', 'error', '-y', '-i', d + '/a.wav', '-c:a', 'aac', '-b:a', str(r.choice(['64k', '96k', '128k'])), d + '/b.m4a'], check=True)
        subprocess.run(['ffmpeg', '-v', 'error', '-y', '-i', d + '/b.m4a', '-ar', str(SR), '-ac', '1', '-c:a', 'pcm_f32le', d + '/c.wav'], check=True)
        z, _ = sf.read(d + '/c.wav')
    return np.pad(z, (0, max(0, len(x) - len(z))))[: len(x)]


@functools.lru_cache(1)
def played(song, held, stems):
    if stems:
        if held: y = np.stack([sf.read(f'{stems}/{song:05d}/{name}.wav')[0] for name in NAMES])
        else: y = sf.read(f'{stems}/{song:05d}.wav')[0].T
        return y, separation.songs.compose(song, held, 20.)[1]
    return separation.stems_and_truth(song, held, SECONDS)


def take(seed, held, clean, variants=1, stems=None):
    r = np.random.default_rng([seed, held, 11])
    st, truth = played(seed // variants, held, stems)
    st = st.copy()
    if truth['drum_onsets'] and not st[0].any():  # a soundfont without the drawn kit
        hits = [(h['t'], h['name'], h['vel']) for h in truth['drum_onsets']]
        y = separation.play_oneshots(r, hits, separation.load_kit(r.choice(KITS)), st.shape[1])
        st[0] = .1 * y / (np.std(y[np.abs(y) > 1e-4]) + 1e-6)
    st = st * 10 ** (r.uniform([-5, -5, -9, -9], [5, 5, 2, 3])[:, None] / 20)
    kind = []
    u = r.random()
    if u < .35: st[0] = compressed(r, st[0], u < .15); kind.append('bus limiter' if u < .15 else 'bus compressor')
    u = r.random()
    if u < .2: st[1] = compressed(r, st[1], u < .07); kind.append('bass compressor')
    u = r.random()
    if u < .2: st[1] = fuzz(r, st[1]); kind.append('fuzz')
    if truth['style'] in ('disco', 'punk', 'hiphop') and r.random() < .4 or r.random() < (.06 if variants == 1 else .2):
        for k in (1, 2): st[k] = ducked(r, st[k], st[0])
        kind.append('ducked')
    n = st.shape[1]
    m = n // HOP
    y, w = np.zeros((m, 2), np.uint8), np.ones((m, 2), np.uint8)
    after = st.copy()
    if r.random() < .5 and not clean:
        who, how, before, where = overdriven(r, after, n)
        kind = [who, how, 'throughout' if where.all() else 'spans'] + kind
        inside = power_frames(where.astype(float)) > .5
        for k in range(2):
            p, e = smooth(power_frames(before[k])), smooth(power_frames(after[k] - before[k]))
            bent = e > 10 ** -1.8 * p
            if who in ('each', 'bus', ('drums', 'bass')[k]):
                y[:, k] = inside
                w[inside & ~bent, k] = 0
                w[~inside & (e > 1e-3 * p), k] = 0  # on the border
    for k in range(2):  # where the stem is silent there is nothing to hear
        p = smooth(power_frames(st[k]))
        w[(p < 1e-3 * (np.quantile(p, .95) + 1e-12)) & (y[:, k] > 0), k] = 0
    x = after.sum(0)
    chain = r.choice(['none', 'none', 'none', 'none', 'aac', 'mic', 'mic aac', 'room'])
    if chain == 'room':
        x = room(r, x, r.uniform(.3, 1.2), r.uniform(.1, .7))
        x += r.standard_normal(len(x)) * np.std(x) * 10 ** (-r.uniform(25, 45) / 20)
    if 'mic' in chain: x = microphone(r, x)
    gain = r.uniform(.2, .95) / (np.max(np.abs(x)) + 1e-9)
    x = x * gain
    if 'aac' in chain: x = np.clip(aac(r, x), -1, 1)
    return x, after * gain if chain == 'none' else None, y, w, truth['style'], ' '.join(kind or ['plain']) + ' / ' + chain


def song(out, seed):
    """Clean stems of held-back sounds, as `xtask rebuild` reads them."""
    st, truth = separation.stems_and_truth(seed, True, SECONDS)
    st = st * 10 ** (np.random.default_rng([seed, 3]).uniform(-4, 3, (4, 1)) / 20)
    st /= max(1., np.max(np.abs(st.sum(0))) / .9)
    os.makedirs(f'{out}/{seed:05d}', exist_ok=True)
    for name, x in zip(NAMES, st): sf.write(f'{out}/{seed:05d}/{name}.flac', np.stack([x, x], 1), SR, subtype='PCM_16')
    json.dump(truth, open(f'{out}/{seed:05d}/truth.json', 'w'))


if __name__ == '__main__':
    out, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.makedirs(out, exist_ok=True)
    option = lambda name, default: next((a.split('=')[1] for a in sys.argv if a.startswith(f'--{name}=')), default)
    wanted, variants = option('style', None), int(option('variants', 1))
    for seed in range(first, first + count):
        if wanted and separation.songs.compose(seed // variants, '--held' in sys.argv, SECONDS)[1]['style'] != wanted: continue
        if '--songs' in sys.argv:
            song(out, seed)
            continue
        if os.path.exists(f'{out}/{seed:05d}.npz'): continue
        x, stems, y, w, style, kind = take(seed, '--held' in sys.argv, '--clean' in sys.argv, variants, option('stems', None))
        sf.write(f'{out}/{seed:05d}.wav', x, SR, subtype='PCM_16')
        if stems is not None:
            for name, stem in zip(('drums', 'bass'), stems): sf.write(f'{out}/{seed:05d}_{name}.wav', np.clip(stem, -1, 1), SR, subtype='PCM_16')
        np.savez(f'{out}/{seed:05d}.npz', y=y, w=w, style=style, kind=kind, song=seed // variants)
        print(seed, style, kind, f'{y.mean():.2f} {w.mean():.2f}', flush=True)
