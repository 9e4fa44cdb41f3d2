"""Stems for training and checking the learned separator: drums, bass, other and vocals of songs that fit together.

    generate.py OUT FIRST COUNT [--held]      writes OUT/NNNNN.wav: 44.1 kHz, 16 bit, four channels in stem order

Compositions, soundfonts, kits and synthesisers are those of ../profile/generate.py; the singers are synthesised here
from a glottal source and moving formants, with consonants, breaths, vibrato and portamento. Training mixes the stems anew
(train.py), so nothing is mixed here. `--held` uses sounds that training never hears: FluidR3, the Colombo kit, and
for vocals espeak-ng's speech, bent onto the melody; it writes OUT/NNNNN/drums|bass|other|vocals.wav at the levels of a mix.

Debian: those of ../profile/generate.py and espeak-ng; PyPI: numpy scipy soundfile.
"""
import os, subprocess, sys, tempfile
import numpy as np
import soundfile as sf
from scipy import signal

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'profile'))
import generate as songs
from generate import SR, compose, fluid, livelier, play_drums, play_oneshots, load_kit, room, synth_notes, tone, GM

COMPING = [0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 16, 17, 18, 19, 21, 24, 25, 26, 27, 28, 29, 30, 48, 49, 50, 51, 61, 62, 80, 81, 88, 89, 90, 104]
LEADS = [40, 41, 42, 56, 57, 58, 59, 60, 64, 65, 66, 67, 68, 71, 73, 74, 75, 78, 79, 80, 81, 82, 22, 21, 26, 27, 29, 30, 4, 0, 11, 13]
BASSES = [32, 33, 33, 34, 35, 36, 37, 38, 39]
HOP = 256
# First three formants of vowels of an average voice (Peterson & Barney, 1952), Hz.
VOWELS = [(730, 1090, 2440), (570, 840, 2410), (300, 870, 2240), (440, 1020, 2240), (640, 1190, 2390), (490, 1350, 1690),
          (660, 1720, 2410), (530, 1840, 2480), (390, 1990, 2550), (270, 2290, 3010)]


def smooth(x, frames):
    """A track of one value a frame, without its steps."""
    k = np.hanning(max(3, int(frames) | 1))
    return signal.fftconvolve(np.pad(x, (len(k) // 2, len(k) // 2), mode='edge'), k / k.sum(), 'valid')[: len(x)]


def syllables(r, notes, speech):
    """(start, duration, midi, loudness, whether it begins with a consonant)."""
    out = []
    for t, d, m, v in notes:
        parts = 1 + int(d > .3 and r.random() < .5) + int(d > .6 and r.random() < .5)
        for k in range(parts):
            out.append((t + d * k / parts, d / parts, m + (r.normal(0, 2.5) if speech else 0), v * r.uniform(.7, 1), k == 0 or r.random() < .8))
    return out


def voice(r, notes, n, high, speech):
    """One singer or speaker."""
    u = r.uniform
    frames = n // HOP + 1
    at = lambda t: int(np.clip(t * SR / HOP, 0, frames - 1))
    f0 = np.full(frames, np.nan)
    voiced, breath, hiss = np.zeros(frames), np.zeros(frames), np.zeros(frames)
    hiss_hz, hiss_width = np.full(frames, 5000.), np.full(frames, .5)
    tract = u(1., 1.25) if high else u(.82, 1.02)
    track = np.full((5, frames), np.nan)
    upper = (u(3300, 3900) * tract, u(4200, 5000) * tract)
    breathy, slur, rich, sharp = 10 ** u(-3, -1.4), u(.0, .35), u(.6, 1.5), u(.55, .9)
    end = 0.
    for t, d, m, v, starts in syllables(r, notes, speech):
        a, b = at(t), at(t + d)
        if b <= a + 2: continue
        vowel = np.array(VOWELS[r.integers(len(VOWELS))]) * tract * r.normal(1, .05, 3)
        glide = np.array(VOWELS[r.integers(len(VOWELS))]) * tract
        x = np.linspace(0, 1, b - a) ** 2 * (u(0, .8) if r.random() < .4 else 0)
        for k in range(3): track[k, a:b] = vowel[k] * (1 - x) + glide[k] * x
        track[3, a:b], track[4, a:b] = upper
        scoop = -u(0, 3) * np.exp(-np.arange(b - a) * HOP / SR / u(.02, .08)) if r.random() < .5 else 0
        fall = -np.linspace(0, 1, b - a) * u(0, 5) if speech or r.random() < .1 else 0
        f0[a:b] = m + scoop + fall
        shape = np.minimum(1, np.arange(b - a) / max(1, at(u(.01, .06)))) * np.linspace(1, u(.4, 1), b - a)
        shape[-max(1, (b - a) // 8):] *= np.linspace(1, u(0, .6), max(1, (b - a) // 8))
        voiced[a:b] = v * shape
        breath[a:b] = v * breathy
        if t - end > .35 and r.random() < .6:  # breathes in before a phrase
            c = at(t - u(.15, .4))
            breath[c:a] = np.maximum(breath[c:a], u(.02, .25) * np.hanning(max(1, a - c)))
        end = t + d
        if not starts: continue
        kind = r.choice(['s', 'sh', 'f', 'plosive', 'plosive', 'nasal', 'nasal', 'h', 'liquid', 'none'])
        c = at(t - u(.04, .13))
        if kind in ('s', 'sh', 'f') and a > c:
            hiss[c:a + 1] = {'s': u(.3, 1.2), 'sh': u(.3, 1.2), 'f': u(.05, .3)}[kind] * v
            hiss_hz[c:a + 1] = {'s': u(5000, 8500), 'sh': u(2500, 4000), 'f': 6000}[kind]
            hiss_width[c:a + 1] = {'s': .5, 'sh': .6, 'f': 1.5}[kind]
            voiced[c:a] *= u(0, .5)
        elif kind == 'plosive':
            voiced[c:a] = 0; breath[c:a] = 0
            e = min(frames, a + 1 + at(u(.005, .05)))
            hiss[a:e] = v * u(.2, 1.5) * np.exp(-np.arange(e - a) / u(1, 3))
            hiss_hz[a:e] = 10 ** u(2.9, 3.8); hiss_width[a:e] = u(.6, 1.5)
            voiced[a:e] *= .4 if r.random() < .5 else 1
        elif kind == 'nasal':
            e = min(frames, a + max(2, at(u(.04, .1))))
            track[0, c:e], track[1, c:e] = 260 * tract, u(1000, 1700) * tract
            f0[c:a] = m; voiced[c:e] = v * u(.25, .6)
        elif kind == 'h': breath[c:min(frames, a + 4)] = v * u(.1, .5)
        elif kind == 'liquid':
            track[0, c:a + 2], track[1, c:a + 2], track[2, c:a + 2] = 350 * tract, u(800, 1500) * tract, u(1500, 2700) * tract
            f0[c:a] = m; voiced[c:a] = v * .5
    keep = ~np.isnan(f0)
    if not keep.any(): return np.zeros(n)
    fill = lambda x: np.interp(np.arange(frames), np.where(~np.isnan(x))[0], x[~np.isnan(x)])
    fps = SR / HOP
    pitch = smooth(fill(f0), fps * (.02 + slur * .2))
    depth = 0 if speech else u(0, .8)
    held = smooth((np.abs(np.gradient(pitch)) < .1).astype(float), fps * .3)
    pitch = pitch + depth * held ** 3 * np.sin(2 * np.pi * np.cumsum(u(4.5, 6.5) + smooth(r.normal(0, 2, frames), fps * .3)) / fps)
    pitch += smooth(r.normal(0, 1, frames), fps * .06) * u(.05, .3) + smooth(r.normal(0, 1, frames), fps * .5) * u(.05, .5)
    track = np.stack([smooth(fill(x), fps * u(.02, .06)) for x in track])
    voiced, breath, hiss = (smooth(x, 4) for x in (voiced, breath, hiss))
    voiced *= 1 + smooth(r.normal(0, .3, frames), 4)
    hz = np.interp(np.arange(n), np.arange(frames) * HOP, 440 * 2 ** ((pitch - 69) / 12)).astype(np.float32)
    z = np.exp(1j * 2 * np.pi * np.cumsum(hz / SR, dtype=np.float64)).astype(np.complex64)
    zh, source = z.copy(), np.zeros(n, np.float32)
    top = min(14000, SR / 2.1)
    for h in range(1, int(top / max(60, hz.min())) + 1):
        source += (zh.imag * (hz * h < top)) * np.float32(h ** -rich)
        zh *= z
    if r.random() < .2: source = np.tanh(source * u(1, 4))  # a rough voice
    f, _, S = signal.stft(source, SR, nperseg=1024, noverlap=1024 - HOP)
    _, _, N = signal.stft(r.standard_normal(n), SR, nperseg=1024, noverlap=1024 - HOP)
    m = min(S.shape[1], frames)
    f = f[:, None]
    widths = np.array([u(60, 110), u(80, 140), u(120, 220), u(150, 300), u(200, 400)])
    gains = np.array([1, u(.4, 1), u(.2, .7), u(.1, .5), u(.05, .3)])
    env = .002 + sum(g / (1 + ((f - c[None, :m]) / w) ** 2) ** sharp for g, w, c in zip(gains, widths, track))
    rub = np.exp(-(np.log2(np.maximum(f, 20) / hiss_hz[None, :m]) / hiss_width[None, :m]) ** 2)
    bright = np.sqrt(np.maximum(f, 50) / 500) * env
    Y = S[:, :m] * env * voiced[:m] + N[:, :m] * (bright * breath[:m] * 3 + rub * hiss[:m] * 1.5)
    _, y = signal.istft(Y, SR, nperseg=1024, noverlap=1024 - HOP)
    return np.pad(y, (0, max(0, n - len(y))))[:n]


def sung(r, truth, mel, n):
    """Melody for a voice: that of the song, or one syllable after the other on the beats."""
    speech = not mel or r.random() < .25
    if not speech: return list(mel), False
    beats, out, on = truth['beats'], [], True
    split = int(r.choice([1, 2, 2, 3, 4]))
    centre = r.uniform(42, 62)
    for a, b in zip(beats, beats[1:]):
        if r.random() < .12: on = not on
        for k in range(split):
            if on and r.random() < .8: out.append((a + (b - a) * k / split, (b - a) / split * r.uniform(.5, 1), centre + r.normal(0, 2), r.uniform(.5, 1)))
    return out, True


def singers(r, truth, mel, n):
    notes, speech = sung(r, truth, mel, n)
    if not notes: return np.zeros(n)
    high = np.median([k[2] for k in notes]) > 60
    if high and not speech and r.random() < .45:
        notes, high = [(t, d, m - 12, v) for t, d, m, v in notes], False
    y = voice(r, notes, n, high, speech)
    if r.random() < .3:  # doubled, in unison or a third, a fifth, an octave away
        step = r.choice([0, 0, 3, 4, 7, 12, -12])
        more = [(max(0, t + r.normal(0, .015)), d, m + step, v) for t, d, m, v in notes]
        y = y + r.uniform(.3, 1) * voice(r, more, n, high or step > 6, speech)
    if r.random() < .15:
        d = int(r.uniform(.1, .45) * SR)
        e = np.zeros(n); e[d:] = y[:-d]
        y = y + r.uniform(.1, .5) * e
    if r.random() < .5: y = room(r, y, r.uniform(.2, 1.8), r.uniform(.03, .35))
    if r.random() < .3:
        s = np.std(y) + 1e-9
        y = np.tanh(y / (s * r.uniform(1.5, 6))) * s
    return y


TEXTS = ['oh baby take me home tonight', 'la la la', 'when the rain comes down again', 'I can see the river running', 'hey hey now', 'nobody knows where the summer goes',
         'turn around and say my name', 'we were young and burning bright', 'sing it loud', 'the morning finds me on the road']


def spoken(r, truth, mel, n):
    """espeak-ng's words, each stretched and bent onto a note or a beat: for the songs that are held back."""
    notes, speech = sung(r, truth, mel, n)
    lang, kind, out, k = r.choice(['en-us', 'en-gb', 'de', 'fr', 'it']), r.choice(['', '+f2', '+f4', '+m3', '+m7']), np.zeros(n), 0
    words = ' '.join(r.permutation(TEXTS)).split()
    for t, d, m, v in notes:
        base = int(np.clip(15 + 2.0 * (m - 45), 0, 99))
        with tempfile.TemporaryDirectory() as tmp:
            subprocess.run(['espeak-ng', '-v', lang + kind, '-p', str(base), '-s', str(int(r.uniform(110, 170))), '-w', tmp + '/a.wav', words[k % len(words)]], check=True, stderr=subprocess.DEVNULL)
            y, rate = sf.read(tmp + '/a.wav')
        k += 1
        y = signal.resample_poly(y, SR, rate)
        loud = np.where(np.abs(y) > .02)[0]
        if len(loud) < 2000: continue
        y = y[loud[0]:loud[-1]]
        speed = np.clip(len(y) / SR / max(d, .12), .7, 1.6) if speech else np.clip(2 ** ((m - 12 * (m > 58) - 50) / 12), .75, 1.4)
        y = np.interp(np.arange(0, len(y) - 1, speed), np.arange(len(y)), y)[: int((d + .1) * SR)]
        a = int(t * SR); b = min(n, a + len(y))
        if b > a: out[a:b] += v * y[: b - a] * np.clip((b - a - np.arange(b - a)) / 400, 0, 1)
    if r.random() < .5: out = room(r, out, r.uniform(.2, 1.2), r.uniform(.03, .3))
    return out


def stems(seed, held, seconds=20.):
    """[4][samples], each at the loudness of a tenth of full scale."""
    return stems_and_truth(seed, held, seconds)[0]


def stems_and_truth(seed, held, seconds=20.):
    """The same, and what is played. Livelier drums aren't in the truth: they are for training alone."""
    r, truth, hits, bass, comp, mel, end = compose(seed, held, seconds)
    n = int((end + .6) * SR)
    fonts, drum_fonts, kits = (songs.HELD_FONTS, songs.HELD_DRUM_FONTS, songs.HELD_KITS) if held else (songs.TRAIN_FONTS, songs.TRAIN_DRUM_FONTS, songs.TRAIN_KITS)
    cents = float(r.uniform(-45, 45)) if r.random() < .3 else 0.
    out = np.zeros((4, n))
    norm = lambda y: y / (np.sqrt(np.mean(y[np.abs(y) > 1e-4] ** 2)) + 1e-6) * .1 if np.max(np.abs(y)) > 1e-4 else y
    if hits:
        if held: out[0] = fluid(r.choice(drum_fonts), [(t, .1, GM[k], .35 + .65 * v) for t, k, v in hits], n, drums=True) if r.random() < .4 else play_oneshots(r, hits, load_kit(r.choice(kits)), n)
        else: out[0] = play_drums(r, livelier(r, truth, hits) if r.random() < .5 else hits, n, drum_fonts, kits)
    if bass:
        y = fluid(r.choice(fonts), bass, n, program=int(r.choice(BASSES)), cents=cents) if held or r.random() < .65 else synth_notes(r, bass, n, 'bass', cents)
        out[1] = np.tanh(y / (np.std(y) + 1e-6) * r.uniform(.5, 3)) if r.random() < .2 else y
    for _ in range(1 + (r.random() < .35) if comp else 0):
        y = fluid(r.choice(fonts), comp, n, program=int(r.choice(COMPING)), cents=cents) if held or r.random() < .75 else synth_notes(r, comp, n, r.choice(['pad', 'pluck']), cents)
        if r.random() < .12: y = np.tanh(y / (np.std(y) + 1e-6) * r.uniform(.5, 2))
        out[2] += tone(r, norm(y)) * r.uniform(.4, 1)
    if mel and r.random() < .4:  # an instrument that plays a melody isn't a voice
        lead = [(t, d, m + 12 * int(r.integers(0, 2)), v) for t, d, m, v in mel[int(r.integers(2))::int(r.integers(1, 3))]]
        vibrato = (r.uniform(4.5, 6.5), r.uniform(5, 45)) if r.random() < .5 else None
        y = fluid(r.choice(fonts), lead, n, program=int(r.choice(LEADS)), cents=cents, vibrato=vibrato) if held or r.random() < .8 else synth_notes(r, lead, n, 'lead', cents)
        out[2] += tone(r, norm(y)) * r.uniform(.5, 1.2)
    if mel or r.random() < .4:
        u = r.random()
        if held: out[3] = spoken(r, truth, mel, n)
        else: out[3] = singers(r, truth, mel, n) if u < .85 or not mel else synth_notes(r, mel, n, 'voice', cents)
    return np.stack([tone(r, norm(y)) if np.max(np.abs(y)) > 1e-4 else y for y in out]), truth


if __name__ == '__main__':
    out, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.makedirs(out, exist_ok=True)
    for seed in range(first, first + count):
        held = '--held' in sys.argv
        y = stems(seed, held)
        if held: y *= 10 ** (np.random.default_rng([seed, 3]).uniform(-6, 4, (4, 1)) / 20)
        y = (y / max(1., np.max(np.abs(y)) / .99)).T
        if held:
            os.makedirs(f'{out}/{seed:05d}', exist_ok=True)
            for name, x in zip(('drums', 'bass', 'other', 'vocals'), y.T): sf.write(f'{out}/{seed:05d}/{name}.wav', x, SR, subtype='PCM_16')
        else: sf.write(f'{out}/{seed:05d}.wav', y, SR, subtype='PCM_16')
