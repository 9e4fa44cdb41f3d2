"""Songs with their truth for training and checking the ears of the musical profile.

    generate.py OUT FIRST COUNT [--held] [--drums]      writes OUT/NNNNN.wav (mono, 44.1 kHz) and OUT/NNNNN.json

Everything is drawn from the song's number. Grooves, chords, bass lines and leads are composed by rules,
played through `fluidsynth` with free soundfonts, one-shots of free Hydrogen kits and the synthesisers below,
mixed, and for half of the songs sent through a phone's chain (overload, microphone, room, noise, gain
control, codec). `--held` uses sounds that training never hears (FluidR3, the Colombo kit) and writes the
clean mix and the damaged one: NNNNN.wav and NNNNN_gig.wav. `--drums` plays the same compositions with livelier
drums (ghost notes, dynamics, soft snares, brushes, kits put together from several, layered percussion, overdriven spans)
at more levels, lets a synthetic singer (../separation/generate.py) take half of the leads, and writes the drums beside
as NNNNN_drums.wav.

Debian: fluidsynth timgm6mb-soundfont csound-soundfont avldrums.lv2-soundfont
hydrogen-drumkits fluid-soundfont-gm ffmpeg; PyPI: numpy scipy soundfile.
"""
import glob, importlib.util, json, os, re, subprocess, sys, tempfile
import numpy as np
import soundfile as sf
from scipy import fft, signal

SR = 44100
FONTS = '/usr/share/sounds/sf2/'
KITS = '/usr/share/hydrogen/data/drumkits/'
TRAIN_FONTS = ['TimGM6mb.sf2', 'sf_GMbank.sf2']
TRAIN_DRUM_FONTS = ['TimGM6mb.sf2', 'sf_GMbank.sf2', 'Black_Pearl_4_LV2.sf2', 'Red_Zeppelin_4_LV2.sf2']
TRAIN_KITS = ['Millo-Drums_v.1', 'Millo_MultiLayered2', 'Millo_MultiLayered3', 'The Black Pearl 1.0',
              'ForzeeStereo', 'BJA_Pacific', 'ElectricEmpireKit', 'HardElectro1', 'VariBreaks', 'Audiophob']
HELD_FONTS = HELD_DRUM_FONTS = ['FluidR3_GM.sf2']
HELD_KITS = ['ColomboAcousticDrumkit']
# name: GM note
GM = dict(kick=36, snare=38, rim=37, clap=39, hat_closed=42, hat_pedal=44, hat_open=46, tom_lo=43, tom_mid=47,
          tom_hi=50, crash=49, ride=51, shaker=70, tamb=54, cowbell=56)
CLASS = dict(kick=0, snare=1, rim=1, clap=1, hat_closed=2, hat_pedal=2, hat_open=3, tom_lo=4, tom_mid=4,
             tom_hi=4, crash=5, ride=6)
QUAL = {'maj': [0, 4, 7], 'min': [0, 3, 7], '7': [0, 4, 7, 10], 'maj7': [0, 4, 7, 11], 'min7': [0, 3, 7, 10],
        '5': [0, 7], 'sus4': [0, 5, 7], 'sus2': [0, 2, 7], 'dim': [0, 3, 6], 'aug': [0, 4, 8], 'maj6': [0, 4, 7, 9],
        'min6': [0, 3, 7, 9], 'hdim7': [0, 3, 6, 10], 'add9': [0, 2, 4, 7]}
HARTE = {'add9': 'maj(9)'}
PC = ['C', 'C#', 'D', 'D#', 'E', 'F', 'F#', 'G', 'G#', 'A', 'A#', 'B']
PROG = {  # (degree in semitones, family) per bar; family: M, m, D(ominant), d(im), p(ower)
    'major': ['0M 7M 9m 5M', '0M 5M 0M 7M', '0M 9m 5M 7M', '0M 5M 7M 5M', '9m 5M 0M 7M', '2m 7D 0M 9m', '0M 4m 5M 7D',
              '0M 10M 5M 0M', '0M 2m 5M 7M', '5M 7M 4m 9m', '0D 5D 0D 7D', '0D 0D 5D 0D 7D 5D 0D 7D', '0M 4D 9m 5M',
              '0M 7M 2m 5M', '2m 7D 0M 0M', '0M 11d 9m 5M', '0M 0M 5M 5m', '0M 8M 10M 0M'],
    'minor': ['0m 8M 3M 10M', '0m 5m 0m 7m', '0m 10M 8M 7D', '0m 5m 10M 3M', '0m 8M 10M 0m', '0m 3M 10M 5M', '0m 10M 0m 10M',
              '0m 0m 5m 5m', '0m 8M 5m 7D', '0m 2d 7D 0m', '0m 5m 8M 7m', '0p 3p 5p 0p', '0p 10p 8p 7p', '0m 5D 0m 5D', '0m 7m 8M 5m'],
}


def quality(r, fam, rich):
    u = r.random()
    if fam == 'p': return '5'
    if fam == 'd': return 'dim' if u > .5 * rich else 'hdim7'
    if fam == 'D': return '7' if u < .75 else ('sus4' if u < .82 else 'maj')
    if fam == 'm': return 'min7' if u < .75 * rich else ('min' if u < .96 else 'min6')
    if u < .45 * rich: return 'maj7'
    if u < .55 * rich: return '7'
    if u < .55 * rich + .03: return 'add9'
    if u < .55 * rich + .06: return 'sus2'
    if u < .55 * rich + .11: return 'sus4'
    if u < .55 * rich + .13: return 'maj6'
    if u < .55 * rich + .135: return 'aug'
    return 'maj'


# ---- drums ------------------------------------------------------------------------------------------------
def pat(s):  # 'x' loud, 'o' middle, '.' none
    return [{'x': 1., 'o': .6, '-': .35, '.': 0.}[c] for c in s]


def groove(r, meter, style):
    """dict name -> 16 (12 for 6/8 and 3/4) step strengths a bar."""
    n = 12 if meter in ((6, 8), (3, 4)) else 16
    g = {}
    hatname = r.choice(['hat_closed', 'hat_closed', 'ride', 'hat_closed'])
    if meter == (6, 8):
        g['kick'] = pat(r.choice(['x...........', 'x....o......', 'x.......o...', 'x...o.......', 'x.....o...o.', 'x.........o.']))
        g['snare'] = pat(r.choice(['......x.....', '......x.....', '......x....-', '......x...-.']))
        g[hatname] = pat(r.choice(['x.o.o.x.o.o.', 'x.o.o.x.o.o.', 'x.....x.....', 'xooxooxooxoo', 'x...o.x...o.']))
    elif meter == (3, 4):
        g['kick'] = pat(r.choice(['x...........', 'x.........o.', 'x.....o.....']))
        g['snare'] = pat(r.choice(['....o...o...', '........x...', '....x...x...', '....x.......']))
        g[hatname] = pat(r.choice(['x.o.x.o.x.o.', 'x...o...o...', '....x...x...', 'x.o.o.o.o.o.']))
    else:
        kicks = dict(rock=['x.......x.......', 'x.......x.o.....', 'x.....o.x.......', 'x..o....x.o.....', 'x.......xo......', 'x.o.....x.x...o.', 'x......oo.......', 'x.....x...x.....'],
                     disco=['x...x...x...x...'],
                     reggae=['........x.......', '........x.......', 'x.......x.......', 'x...x...x...x...', '........x.....o.'],
                     funk=['x..o..o...o.....', 'x.o....o..x.....', 'x..x....o.x..o..', 'x.o...x.o..o....', 'x......x.ox.....'],
                     half=['x...............', 'x.........o.....', 'x.....o.........', 'x..o......o...o.'],
                     hiphop=['x......o..x.....', 'x..o......x.....', 'x.o....x..o.....', 'x.....xo.o......'],
                     ballad=['x.......x.......', 'x.......o.......', 'x.....o.x.......'],
                     train=['x...x...x...x...', 'x.......x.......'],
                     latin=['x..ox..ox..ox..o', 'x..o....x..o....', 'x.....o.x.....o.'],
                     punk=['x...x...x...x...', 'x.x...x.x.x...x.', 'x.......x.x.....'])[style]
        g['kick'] = pat(r.choice(kicks))
        sn = dict(rock='....x.......x...', disco='....x.......x...', reggae='........x.......', funk='....x..-.-..x..-', half='........x.......',
                  hiphop='....x.......x...', ballad='....x.......x...', train='oo-xo-oxoo-xo-ox', latin='...o..o....o..o.', punk='....x.......x...')[style]
        if style == 'punk' and r.random() < .5: sn = '..x...x...x...x.'
        snare = pat(sn)
        if style in ('rock', 'funk', 'hiphop') and r.random() < .35:
            for k in r.choice([3, 7, 9, 11, 15], 2): snare[k] = max(snare[k], .3)
        g[r.choice(['snare', 'snare', 'snare', 'rim']) if style in ('reggae', 'ballad', 'latin') else 'snare'] = snare
        if style == 'disco' and r.random() < .7 or (style in ('hiphop', 'half') and r.random() < .3):
            g['clap'] = pat('....x.......x...' if style != 'half' else '........x.......')
        hats = dict(rock=['x.o.x.o.x.o.x.o.'] * 3 + ['x...x...x...x...', 'xoxoxoxoxoxoxoxo'], disco=['xo..xo..xo..xo..', 'xoxoxoxoxoxoxoxo', 'x...x...x...x...'],
                    reggae=['x.o.x.o.x.o.x.o.', 'xo.oxo.oxo.oxo.o', '..x...x...x...x.'], funk=['xoxoxoxoxoxoxoxo', 'x.o.x.o.x.oox.o.'],
                    half=['x.o.x.o.x.o.x.o.', 'x...x...x...x...'], hiphop=['x.o.x.o.x.o.x.o.', 'x.ox.oo.x.o.x.oo'], ballad=['x.o.x.o.x.o.x.o.', 'x...o...x...o...'],
                    train=['................'], latin=['x.ox.ox.x.ox.ox.', 'x.o.x.o.x.o.x.o.'], punk=['x...x...x...x...', 'x.o.x.o.x.o.x.o.'])[style]
        g[hatname] = pat(r.choice(hats))
        if style == 'disco' or r.random() < .12:
            g['hat_open'] = pat(r.choice(['..x...x...x...x.', '..............x.', '......x.......x.']))
        elif r.random() < .2:
            g['hat_open'] = pat(r.choice(['..............x.', '......x.........']))
    if r.random() < .18:
        g['shaker'] = [float(.5 + .3 * (k % 2 == 0)) for k in range(n)]
    if r.random() < .08:
        g['tamb'] = [(.8 if k % 8 == 4 else 0.) for k in range(n)]
    return g, n


SYNTHS = {}


def synth_drum(r, name):
    """One-shot of a drum with random shape; `r` fixed a song so that every hit sounds alike."""
    u = r.uniform
    n = int(SR * (1.6 if name in ('crash', 'ride') else .7 if name in ('hat_open', 'kick', 'tom_lo', 'tom_mid', 'tom_hi') else .4))
    t = np.arange(n) / SR
    w = r.standard_normal(n)
    bp = lambda lo, hi: signal.sosfilt(signal.butter(2, [lo, min(hi, 20000)], 'band', fs=SR, output='sos'), w)
    if name == 'kick':
        f0 = u(40, 68); f = f0 + u(40, 260) * np.exp(-t / u(.008, .04))
        y = np.sin(2 * np.pi * np.cumsum(f) / SR) * np.exp(-t / u(.06, .28)) + u(.05, .5) * bp(1500, u(3000, 9000)) * np.exp(-t / u(.002, .008))
    elif name.startswith('tom'):
        f0 = {'tom_lo': u(70, 110), 'tom_mid': u(110, 150), 'tom_hi': u(150, 220)}[name]
        f = f0 * (1 + u(.1, .6) * np.exp(-t / u(.02, .06)))
        y = np.sin(2 * np.pi * np.cumsum(f) / SR) * np.exp(-t / u(.12, .35)) + u(.05, .3) * bp(400, 5000) * np.exp(-t / u(.01, .04))
    elif name == 'snare':
        f0 = u(150, 260)
        y = u(.3, 1) * (np.sin(2 * np.pi * f0 * t) + .5 * np.sin(2 * np.pi * f0 * u(1.5, 1.8) * t)) * np.exp(-t / u(.03, .12)) + u(.4, 1.2) * bp(u(800, 2000), u(6000, 14000)) * np.exp(-t / u(.05, .18))
    elif name == 'rim':
        y = (np.sin(2 * np.pi * u(400, 900) * t) + np.sin(2 * np.pi * u(1500, 2500) * t)) * np.exp(-t / u(.008, .025)) + .2 * w * np.exp(-t / .004)
    elif name == 'clap':
        e = sum(np.where(t >= d, np.exp(-(t - d).clip(0) / .006), 0) for d in (0, .011, .022)) + np.where(t > .03, np.exp(-(t - .03).clip(0) / u(.05, .12)), 0)
        y = bp(u(700, 1100), u(3000, 8000)) * e
    elif name in ('shaker', 'tamb'):
        y = bp(u(4000, 6000), 14000) * np.minimum(t / .015, 1) * np.exp(-t / u(.02, .06)) * .5
    elif name == 'cowbell':
        y = (np.sign(np.sin(2 * np.pi * 540 * t)) + np.sign(np.sin(2 * np.pi * 800 * t))) * np.exp(-t / .08) * .3
    else:  # metal: square waves at clashing pitches, and noise
        base = u(300, 520)
        m = sum(np.sign(np.sin(2 * np.pi * base * k * t)) for k in (1, 1.342, 1.2312, 1.6532, 1.9523, 2.1523))
        lo = {'hat_closed': u(6000, 8500), 'hat_pedal': 6500, 'hat_open': u(6000, 8500), 'crash': u(2500, 4500), 'ride': u(3500, 6000)}[name]
        m = signal.sosfilt(signal.butter(3, lo, 'high', fs=SR, output='sos'), m * u(0, .3) + w * u(.4, 1))
        tau = {'hat_closed': u(.012, .05), 'hat_pedal': .03, 'hat_open': u(.12, .4), 'crash': u(.4, 1.), 'ride': u(.2, .6)}[name]
        y = m * np.exp(-t / tau)
        if name == 'ride': y = .4 * y + u(.2, .6) * np.sin(2 * np.pi * u(2500, 4200) * t) * np.exp(-t / .08)
    y = y / (np.max(np.abs(y)) + 1e-9)
    lv = dict(kick=1., snare=.8, rim=.5, clap=.6, hat_closed=.25, hat_pedal=.2, hat_open=.28, tom_lo=.7, tom_mid=.65, tom_hi=.6, crash=.45, ride=.3, shaker=.2, tamb=.3, cowbell=.3)
    return y * lv[name]


KEYS = [('kick', r'kick|bass ?drum|\bbd'), ('clap', r'clap'), ('rim', r'rim|stick|side'), ('snare', r'snare|\bsd|sn[_-]'), ('hat_pedal', r'pedal|foot|hhp'),
        ('hat_open', r'open|ohh|hat.*op\b|op[_-]'), ('hat_closed', r'hat|hh|closed|chh'), ('tom_lo', r'floor|low ?tom|tom ?(low|3|4)|ft'), ('tom_hi', r'(hi|high) ?tom|tom ?(hi|1)'),
        ('tom_mid', r'tom'), ('crash', r'crash|cc_'), ('ride', r'ride'), ('cowbell', r'cowbell'), ('tamb', r'tamb'), ('shaker', r'shaker|maraca')]


def load_kit(name):
    if name in SYNTHS: return SYNTHS[name]
    kit = {}
    try:
        x = open(KITS + name + '/drumkit.xml', encoding='utf8', errors='ignore').read()
    except OSError:
        x = ''
    for block in re.findall(r'<instrument>(.*?)</instrument>', x, re.S):
        m = re.search(r'<name>(.*?)</name>', block)
        files = re.findall(r'<filename>(.*?)</filename>', block)
        label = (m.group(1) if m else '').lower()
        for cls, rx in KEYS:
            if re.search(rx, label):
                if cls in kit: break
                got = []
                for f in files:
                    try:
                        y, sr = sf.read(KITS + name + '/' + f)
                        y = y.mean(1) if y.ndim > 1 else y
                        if sr != SR: y = signal.resample_poly(y, SR, sr)
                        y = y[: 2 * SR]
                        if np.max(np.abs(y)) > 1e-3:
                            start = np.argmax(np.abs(y) > .02 * np.max(np.abs(y)))
                            got.append(y[max(0, start - 44):])
                    except Exception:
                        pass
                if got: kit[cls] = got
                break
    SYNTHS[name] = kit
    return kit


def play_oneshots(r, hits, kit, n):
    fallback = np.random.default_rng(r.integers(1 << 31))
    bank = {}
    out = np.zeros(n)
    alias = {'hat_pedal': 'hat_closed', 'tom_lo': 'tom_mid', 'tom_hi': 'tom_mid', 'rim': 'snare'}
    for t, name, v in hits:
        if name not in bank:
            src = kit.get(name) or kit.get(alias.get(name, ''))
            if src is None:
                bank[name] = ([synth_drum(fallback, name)], 1.)
            else:
                lv = dict(kick=1., snare=.8, rim=.5, clap=.6, hat_closed=.3, hat_pedal=.22, hat_open=.3, crash=.5, ride=.32, shaker=.2, tamb=.3, cowbell=.3).get(name, .65)
                bank[name] = (src, lv / max(np.max(np.abs(s)) for s in src))
        src, g = bank[name]
        y = src[min(len(src) - 1, int((1 - v) * len(src)))] if r.random() < .5 else src[r.integers(len(src))]
        a = int(t * SR)
        b = min(n, a + len(y))
        if b > a: out[a:b] += y[: b - a] * g * v ** 1.3
    return out


def livelier(q, truth, hits):
    """Ghost notes, layers, tom grooves and dynamics that the plain grooves lack. `q`: the drums' own dice."""
    beats, sixth = truth['beats'], truth['meter'] == [6, 8]
    places = [(a + (b - a) * k / (6 if sixth else 4), k) for a, b in zip(beats, beats[1:]) for k in range(6 if sixth else 4)]
    out = [list(h) for h in hits]
    near = lambda t, names: any(abs(t - h[0]) < .07 and h[1] in names for h in hits)
    if q.random() < .45:
        share = q.uniform(.05, .35)
        out += [[t + q.normal(0, .004), 'snare', q.uniform(.12, .45)] for t, k in places if k and q.random() < share and not near(t, ('snare', 'rim', 'clap'))]
    if q.random() < .3:
        name, every = q.choice(['shaker', 'shaker', 'tamb', 'cowbell']), q.choice([1, 2, 2])
        out += [[t + q.normal(0, .005), name, q.uniform(.5, .75) + .25 * (k == 0)] for t, k in places if k % every == 0]
    if q.random() < .12:
        toms = {k: q.choice(['tom_lo', 'tom_lo', 'tom_mid', 'tom_hi']) for k in range(6)}
        for h in out:
            if h[1] in ('hat_closed', 'ride'): h[1] = toms[int(q.integers(6))] if q.random() < .2 else toms[0]
    if q.random() < .25:
        out += [[t, 'crash', q.uniform(.5, 1)] for t in truth['downbeats'] if q.random() < .3]
    if q.random() < .15:
        for h in out:
            if h[1] == 'hat_closed' and q.random() < .3: h[1] = 'hat_open'
    swap = {'snare': q.choice(['snare'] * 8 + ['rim', 'clap'])} if q.random() < .5 else {}
    soft = q.uniform(.3, 1.)
    out = [(max(0., h[0]), str(swap.get(h[1], h[1])), float(np.clip(h[2] * q.uniform(soft, 1.1), .1, 1))) for h in out]
    return sorted(out)


def brush(q):
    """A snare struck or swept with brushes: wires without a crack."""
    n = int(.5 * SR)
    t = np.arange(n) / SR
    y = signal.sosfilt(signal.butter(1, [q.uniform(500, 1500), q.uniform(4000, 12000)], 'band', fs=SR, output='sos'), q.standard_normal(n))
    y *= np.minimum(t / q.uniform(.001, .03), 1) * np.exp(-t / q.uniform(.03, .16))
    y += q.uniform(0, .3) * np.sin(2 * np.pi * q.uniform(150, 260) * t) * np.exp(-t / q.uniform(.02, .08))
    return y / np.max(np.abs(y)) * .5


def kit_of_kits(q, kits):
    """A kit whose drums come from several, each at its own speed and loudness."""
    kit, whole = {}, load_kit(q.choice(kits))
    for name in GM:
        donors = [k for k in kits if name in load_kit(k)]
        u = q.random()
        if u < .5 and name in whole: src = whole[name]
        elif u < .8 and donors: src = load_kit(q.choice(donors))[name]
        else: continue
        speed, gain = 2 ** q.uniform(-.25, .25), 10 ** (q.uniform(-6, 5) / 20)
        short = q.uniform(.05, .5) if q.random() < .25 else None
        made = []
        for y in src[:6]:
            y = np.interp(np.arange(0, len(y) - 1, speed), np.arange(len(y)), y)
            if short: y = y * np.exp(-np.arange(len(y)) / SR / short)
            made.append(y)
        kit[name] = (made, gain)
    if q.random() < .12: kit['snare'] = ([brush(q) for _ in range(4)], 10 ** (q.uniform(-6, 3) / 20))
    # Snares that the rest of the kit covers, kicks and hats that a microphone hardly hears.
    for names, odds in ((('snare', 'rim', 'clap'), .35), (('kick',), .2), (('hat_closed', 'hat_open', 'hat_pedal'), .2)):
        less = 10 ** (-q.uniform(2, 12) / 20) if q.random() < odds else 1.
        for name in names:
            if name in kit: kit[name] = (kit[name][0], kit[name][1] * less)
    return kit


def play_drums(q, hits, n, fonts, kits):
    """The whole drum stem, as its microphones and its bus hear it."""
    if q.random() < .3:
        program = int(q.choice([0, 0, 8, 16, 24, 25, 40]))
        loud = {k: q.uniform(.6, 1.2) for k in GM}
        y = fluid(q.choice(fonts), [(t, .1, GM[k], np.clip((.25 + .75 * v) * loud[k], .08, 1)) for t, k, v in hits], n, program=program, drums=True)
    else:
        kit = kit_of_kits(q, kits)
        y = np.zeros(n)
        for name in sorted({h[1] for h in hits}):
            src, gain = kit.get(name, ([], 10 ** (q.uniform(-6, 5) / 20)))
            y += gain * play_oneshots(q, [h for h in hits if h[1] == name], {name: src} if src else {}, n)
    if q.random() < .3: y = room(q, y, q.uniform(.1, .6), q.uniform(.05, .5))
    s = np.std(y) + 1e-9
    if q.random() < .3: y = np.tanh(y / (s * q.uniform(2, 8))) * s
    if q.random() < .35:  # overdriven, here and there or throughout
        th = np.quantile(np.abs(y), q.uniform(.8, .99)) + 1e-9
        z = np.clip(y, -th, th) if q.random() < .5 else th * np.tanh(y / th)
        if q.random() < .75:
            for _ in range(2):
                a = int(q.uniform(0, .8) * n); b = a + int(q.uniform(.1, .3) * n)
                y[a:b] = z[a:b]
        else: y = z
    return y


# ---- pitched sounds ---------------------------------------------------------------------------------------
def vlq(x):
    b = [x & 127]
    x >>= 7
    while x:
        b.append(128 | (x & 127)); x >>= 7
    return bytes(reversed(b))


def fluid(font, notes, n, program=0, drums=False, cents=0., vibrato=None):
    """notes: (t, dur, midi, vel 0..1)."""
    ch = 9 if drums else 0
    ev = [(0, 0, bytes([0xC0 | ch, program]))]
    if not drums and abs(cents) > .5:
        bend = int(8192 + 8192 * cents / 200)
        ev.append((0, 1, bytes([0xE0, bend & 127, bend >> 7])))
    for t, d, m, v in notes:
        vel = int(np.clip(v * 127, 10, 127))
        ev.append((t, 3, bytes([0x90 | ch, int(m), vel])))
        ev.append((t + max(d, .03), 2, bytes([0x80 | ch, int(m), 0])))
        if vibrato and d > .25:
            for k in np.arange(.15, d, .02):
                c = cents + vibrato[1] * np.sin(2 * np.pi * vibrato[0] * k) * min(1, (k - .15) / .3)
                b = int(8192 + 8192 * c / 200)
                ev.append((t + k, 1, bytes([0xE0, b & 127, b >> 7])))
    ev.sort(key=lambda e: (e[0], e[1]))
    body, last = b'', 0
    for t, _, data in ev:
        tick = int(round(t * 960))
        body += vlq(tick - last) + data
        last = tick
    body += vlq(960) + b'\xff\x2f\x00'
    mid = b'MThd' + (6).to_bytes(4, 'big') + b'\0\0\0\1' + (480).to_bytes(2, 'big') + b'MTrk' + len(body).to_bytes(4, 'big') + body
    with tempfile.TemporaryDirectory() as d:
        open(d + '/a.mid', 'wb').write(mid)
        subprocess.run(['fluidsynth', '-ni', '-q', '-R', '0', '-C', '0', '-g', '0.5', '-r', str(SR), '-O', 's16', '-F', d + '/a.wav', FONTS + font, d + '/a.mid'],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        y, _ = sf.read(d + '/a.wav')
    y = y.mean(1) if y.ndim > 1 else y
    return np.pad(y, (0, max(0, n - len(y))))[:n]


def synth_notes(r, notes, n, kind, cents):
    """Additive and subtractive voices: bass, pad, pluck, lead, voice."""
    out = np.zeros(n)
    u = r.uniform
    tilt, odd, tau = u(.35, .9), r.random() < .3, u(.2, 3.)
    att = u(.002, .02) if kind != 'pad' else u(.01, .15)
    vib = (u(4.5, 6.5), u(0, 45) if kind in ('lead', 'voice') else 0)
    saw = r.random() < .4
    formants = [(u(300, 800), 90), (u(900, 2200), 130), (u(2400, 3000), 180)]
    for t0, d, m, v in notes:
        rel = .05 if kind == 'bass' else .12
        a = int(t0 * SR); L = int((d + rel) * SR)
        L = min(L, n - a)
        if L < 64: continue
        t = np.arange(L) / SR
        f0 = 440 * 2 ** ((m + cents / 100 - 69) / 12)
        c = vib[1] * np.sin(2 * np.pi * vib[0] * t) * np.clip((t - .12) / .25, 0, 1)
        if kind == 'voice': c = c + 60 * (-1 if r.random() < .7 else 1) * np.exp(-t / .035) * r.random()
        ph = 2 * np.pi * np.cumsum(f0 * 2 ** (c / 1200)) / SR
        y = np.zeros(L)
        if kind == 'voice': formants = [(np.clip(f * u(.7, 1.4), 250, 3200), b) for f, b in formants]
        for h in range(1, int(min(40, 9000 / f0)) + 1):
            if odd and h % 2 == 0: continue
            g = 1 / h if saw else tilt ** (h - 1)
            if kind == 'voice':
                g = 1 / h * (.08 + sum(1 / (1 + ((h * f0 - f) / b) ** 2) for f, b in formants))
            dec = np.exp(-t * (1 + .25 * h) / tau) if kind in ('bass', 'pluck') else 1
            y += g * np.sin(h * ph) * dec
        y *= np.minimum(t / att, 1) * np.clip((d + rel - t) / rel, 0, 1)
        if kind == 'voice': y += .02 * r.standard_normal(L) * np.minimum(t / .02, 1)
        out[a:a + L] += y * v
    m = np.max(np.abs(out))
    return out / m * .5 if m > 0 else out


def sing(q, mel, n, cents):
    """The lead sung by the singer of the learned separator's generator, and the notes that it sings."""
    spec = importlib.util.spec_from_file_location('stems', os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'separation', 'generate.py'))
    stems = importlib.util.module_from_spec(spec); spec.loader.exec_module(stems)
    high = np.median([m for _, _, m, _ in mel]) > 60
    if high and q.random() < .4: mel, high = [(t, d, m - 12, v) for t, d, m, v in mel], False
    sharp = lambda notes: [(t, d, m + cents / 100, v) for t, d, m, v in notes]
    y = stems.voice(q, sharp(mel), n, high, False)
    y = y / (np.std(y) + 1e-9)
    for _ in range(int(q.choice([0, 0, 0, 1, 1, 2]))):  # backing voices, quieter, some on a chord of their own
        step = int(q.choice([0, 3, 4, 7, 12, -12, -5]))
        more = [(max(0, t + q.normal(0, .02)), d, m + step, v) for t, d, m, v in mel if q.random() < .8]
        if not more: continue
        z = stems.voice(q, sharp(more), n, high or step > 6, False)
        y = y + q.uniform(.12, .45) * z / (np.std(z) + 1e-9)
    return y, mel


# ---- composition ------------------------------------------------------------------------------------------
def compose(seed, held, seconds=20.):
    r = np.random.default_rng(seed + (10_000_019 if held else 0))
    meter = (6, 8) if r.random() < .12 else (3, 4) if r.random() < .09 else (4, 4)
    style = r.choice(['rock', 'rock', 'disco', 'reggae', 'reggae', 'funk', 'half', 'hiphop', 'ballad', 'train', 'latin', 'punk', 'rock'])
    lo, hi = dict(rock=(85, 165), disco=(105, 135), reggae=(62, 98), funk=(85, 120), half=(100, 170), hiphop=(70, 110), ballad=(58, 90), train=(90, 130), latin=(85, 130), punk=(130, 200))[style]
    bpm = r.uniform(lo, hi)
    if meter == (6, 8): bpm = r.uniform(45, 90)
    if meter == (3, 4): bpm = r.uniform(80, 180)
    bpb = {(6, 8): 2, (3, 4): 3, (4, 4): 4}[meter]
    steps = {(6, 8): 6, (3, 4): 4, (4, 4): 4}[meter]  # a beat
    bars = max(5, int(np.ceil(seconds / (60 / bpm * bpb))))
    # tempo: drift as a smooth random walk, beats in seconds
    drift = r.choice([0, .005, .015, .03])
    walk = np.cumsum(r.standard_normal(bars * bpb + 1)); walk -= np.linspace(0, walk[-1], len(walk))
    walk = walk / (np.max(np.abs(walk)) + 1e-9) * drift
    lead_in = r.choice([0., .1, .35, .7, 1.5]) + .03
    beats = lead_in + np.concatenate([[0], np.cumsum(60 / bpm * (1 + walk))])
    swing = r.choice([.5, .5, .5, .56, .6, .666])
    swing16 = swing if style in ('funk', 'hiphop', 'reggae') else .5
    swing8 = swing if style not in ('funk', 'hiphop', 'reggae', 'disco', 'punk') and r.random() < .6 else .5
    jitter = r.choice([0, .003, .007, .012])

    def at(bar, step, human=True):
        """Seconds of a 16th (12th) of a bar, swung."""
        b, k = divmod(step, steps)
        b0 = bar * bpb + int(b)
        f = k / steps
        if steps == 4:
            e, s = divmod(k, 2)
            f = (swing8 if e >= 1 else 0.) + ((s if s < 1 else 1) * (swing16 if s == 1 else s * .5) * (swing8 if e < 1 else 1 - swing8))
        b0 = min(b0, len(beats) - 2)
        t = beats[b0] + f * (beats[b0 + 1] - beats[b0])
        return max(0., t + (r.normal(0, jitter) if human else 0))

    mode = r.choice(['major', 'minor'])
    tonic = int(r.integers(12))
    rich = r.choice([0., .25, .7, 1.])
    sections = []
    for _ in range(2):
        p = [(int(re.match(r'\d+', c)[0]), c[-1]) for c in r.choice(PROG[mode]).split()]
        sections.append([((tonic + d) % 12, quality(r, f, rich)) for d, f in p])
    double = r.random() < .2
    N = 16 if steps == 4 and bpb == 4 else 12
    chords = []  # start step abs, root, quality, bass pc
    form = [0 if (b // 8) % 2 == 0 else 1 for b in range(bars)] if bars > 8 else [0] * bars
    inv_p = r.choice([0, 0, .15])
    for b in range(bars):
        seq = sections[form[b]]
        if double and bpb != 3:
            pair = [seq[(2 * b) % len(seq)], seq[(2 * b + 1) % len(seq)]]
            for h, (root, q) in enumerate(pair):
                chords.append([at(b, h * N // 2, False), root, q, b, h * N // 2])
        else:
            root, q = seq[b % len(seq)]
            chords.append([at(b, 0, False), root, q, b, 0])
            if q == 'sus4' and bpb == 4 and r.random() < .6: chords.append([at(b, 8, False), root, 'maj', b, 8])
    end_t = float(beats[bars * bpb] if bars * bpb < len(beats) else beats[-1])
    starts = [c[0] for c in chords] + [end_t]
    truth_chords, spans = [], []
    for i, c in enumerate(chords):
        tones = [(c[1] + k) % 12 for k in QUAL[c[2]]]
        bass_pc = c[1] if r.random() >= inv_p else int(r.choice(tones))
        spans.append((c[0], starts[i + 1], c[1], c[2], bass_pc, c[3], c[4]))
        lab = f"{PC[c[1]]}:{HARTE.get(c[2], c[2])}"
        if truth_chords and truth_chords[-1]['label'] == lab: truth_chords[-1]['end'] = starts[i + 1]
        else: truth_chords.append(dict(start=c[0], end=starts[i + 1], label=lab, root=int(c[1]), quality=str(c[2]), pcs=sorted(int(x) for x in tones)))

    def chord_at(bar, step):
        best = spans[0]
        for s in spans:
            if (s[5], s[6]) <= (bar, step): best = s
        return best

    # drums
    hits = []
    has_drums = r.random() > .06
    if has_drums:
        g1, n = groove(r, meter, style)
        g2, _ = groove(r, meter, style)
        for k in ('kick', 'snare', 'rim'):
            if k in g1 and r.random() < .6: g2[k] = g1[k]
        period = int(r.choice([4, 8]))
        intro = int(r.random() < .2) * int(r.integers(1, 3))
        for b in range(bars):
            if b < intro: continue
            g = g1 if form[b] == 0 else g2
            fill = (b % period == period - 1) and r.random() < .55
            fill_from = n - int(r.choice([4, 8])) if n == 16 else n - int(r.choice([4, 6]))
            crash = (b % period == 0) and r.random() < .55
            for name, p in g.items():
                for s, v in enumerate(p):
                    if v <= 0 or (fill and s >= fill_from and name != 'kick'): continue
                    if crash and s == 0 and name in ('hat_closed', 'ride', 'hat_open') and r.random() < .7: continue
                    if r.random() < .02: continue
                    hits.append((at(b, s), name, float(np.clip(v * r.uniform(.8, 1.1), .15, 1))))
            if crash: hits.append((at(b, 0), 'crash', float(r.uniform(.7, 1))))
            if crash and style == 'reggae' and r.random() < .5: hits.append((at(b, 0), 'kick', .9))
            if fill:
                seq = r.choice(['snare', 'toms', 'mix'])
                for s in range(fill_from, n):
                    if r.random() < .18: continue
                    x = (s - fill_from) / (n - fill_from)
                    nm = 'snare' if seq == 'snare' or (seq == 'mix' and r.random() < .4) else ('tom_hi', 'tom_mid', 'tom_lo')[min(2, int(x * 3))]
                    hits.append((at(b, s), nm, float(r.uniform(.55, 1))))
        hits.sort()
    # bass
    bass = []
    has_bass = r.random() > .05
    bstyle = r.choice(['eighths', 'root', 'octave', 'fifth', 'walk', 'sync', 'reggae', 'arp', 'kick', 'long'])
    low = int(r.choice([28, 28, 26, 23, 33, 31]))
    kickp = groove(np.random.default_rng(seed + 5), meter, style)[0]['kick'] if not has_drums else g1['kick']
    gate = r.uniform(.5, .98)
    bsync = pat(r.choice(['x..x..x...x.x...', 'x.....x.x..x....', 'x..x....x..x....', 'x.x...x...x..x..', '....x.x.x...x.x.', 'x...x.x...x.x...'])) if N == 16 else pat(r.choice(['x.....x...x.', 'x...x.x.....', 'x.....x.....']))
    breg = pat(r.choice(['x.....x.x...x.x.', 'x.......x.x.x...', '..x.x...x.x.x...', 'x..x..x.......x.'])) if N == 16 else bsync
    ev = []
    for b in range(bars):
        if not has_bass or (b < 2 and bars > 6 and seed % 11 == 0): continue
        half_steps = {'eighths': 2, 'octave': 2, 'walk': steps if steps == 4 else 2, 'fifth': steps if N != 12 or steps == 6 else 4, 'arp': 2, 'root': N // 2 if N == 16 else N, 'long': N}.get(bstyle)
        onset = [s for s in range(N) if half_steps and s % half_steps == 0] if half_steps else [s for s in range(N) if (kickp if bstyle == 'kick' else breg if bstyle == 'reggae' else bsync)[s] > .5]
        onset = sorted(set(onset) | {s[6] for s in spans if s[5] == b and r.random() < .8})
        for j, s in enumerate(onset):
            sp = chord_at(b, s)
            rootpc = sp[4]; tones = [(sp[2] + k) % 12 for k in QUAL[sp[3]]]
            def place(pc): 
                m = low + (pc - low) % 12
                return m
            m = place(rootpc)
            if bstyle == 'octave': m += 12 * (j % 2)
            elif bstyle == 'fifth' and j % 2: m = place((sp[2] + 7) % 12)
            elif bstyle in ('walk', 'arp', 'reggae', 'sync') and s != sp[6]:
                u = r.random()
                if u < .5: m = place(int(r.choice(tones))) + (12 if r.random() < .3 else 0)
                elif u < .65 and bstyle == 'walk': m = place(int(r.integers(12)))
            ev.append([at(b, s), b * N + s, m])
    for i, (t, s, m) in enumerate(ev):
        nxt = ev[i + 1][0] if i + 1 < len(ev) else min(t + 1., end_t)
        full = nxt - t
        if full < .06: continue
        d = max(.07, min(full * gate, 4.)) if bstyle != 'long' else full * .97
        bass.append((float(t), float(d), int(m), float(r.uniform(.65, 1))))
    # comping
    comp = []
    cstyle = r.choice(['pad', 'pad', 'eighths', 'skank', 'arp', 'strum', 'funk', 'quarter', 'stab'])
    if style == 'reggae' and r.random() < .7: cstyle = 'skank'
    if r.random() < .95:
        for (a, e, root, q, bpc, b, s0) in spans:
            base = int(r.integers(45, 54)) if r.random() < .3 else 48
            tones = sorted(base + (root + k - base) % 12 for k in QUAL[q])
            if r.random() < .5: tones = tones + [tones[0] + 12]
            if q in ('5',): tones = [base + (root - base) % 12, base + (root - base) % 12 + 7, base + (root - base) % 12 + 12]
            s1 = min([x[6] for x in spans if x[5] == b and x[6] > s0] + [N])
            def hit(s, d, v, ts):
                for k, m in enumerate(ts): comp.append((at(b, s) + .006 * k * (cstyle == 'strum'), d, m, v * r.uniform(.85, 1)))
            beat_d = 60 / bpm
            if cstyle == 'pad': hit(s0, (e - a) * .97, .7, tones)
            elif cstyle == 'arp':
                st = 1 if bpm < 90 and N == 16 else 2
                for j, s in enumerate(range(s0, s1, st)): comp.append((at(b, s), beat_d * .9, tones[j % len(tones)] + (12 if j % 8 >= 4 else 0), .8))
            else:
                P = dict(eighths=range(s0, s1, 2), quarter=range(s0, s1, steps), skank=[s for s in range(s0, s1) if s % 4 == 2] if (steps == 4 and style != 'reggae') else [s for s in range(s0, s1) if s % steps == steps // 2],
                         strum=[s for s in range(s0, s1) if s % 16 in (0, 4, 6, 8, 10, 12, 14)], funk=[s for s in range(s0, s1) if s % 16 in (0, 3, 6, 7, 10, 13)], stab=[s for s in range(s0, s1) if s % 8 in (0, 6)])[cstyle]
                for s in P: hit(s, beat_d * dict(eighths=.45, quarter=.9, skank=.2, strum=.55, funk=.15, stab=.3)[cstyle], .75, tones)
    # melody
    mel = []
    if r.random() < .82:
        scale = [0, 2, 4, 5, 7, 9, 11] if mode == 'major' else [0, 2, 3, 5, 7, 8, 10]
        if r.random() < .35: scale = [0, 2, 4, 7, 9] if mode == 'major' else [0, 3, 5, 7, 10]
        centre = int(r.choice([57, 60, 64, 67, 72, 74]))
        pool = [m for m in range(centre - 10, centre + 12) if (m - tonic) % 12 in scale]
        motifs = []
        for _ in range(3):
            on = sorted(set(r.choice(np.arange(0, N, 2 if r.random() < .8 else 1), size=int(r.integers(2, 7)))))
            motifs.append([int(x) for x in on])
        i = int(r.integers(len(pool)))
        rest = r.uniform(.05, .5)
        for b in range(1 if r.random() < .5 else 0, bars):
            if r.random() < rest: continue
            mo = motifs[int(r.integers(3))]
            leg = r.uniform(.6, 1.)
            for j, s in enumerate(mo):
                i = int(np.clip(i + r.integers(-2, 3), 0, len(pool) - 1))
                m = pool[i]
                if s % steps == 0 and r.random() < .6:
                    tn = chord_at(b, s); m = min((x for x in range(m - 3, m + 4) if (x - tn[2]) % 12 in QUAL[tn[3]]), key=lambda x: abs(x - m), default=m)
                t = at(b, s)
                e = at(b, mo[j + 1], False) if j + 1 < len(mo) else min(t + 60 / bpm * 1.8, at(b, N - 1, False) + .2)
                if e - t > .09: mel.append((float(t), float((e - t) * leg), int(m), float(r.uniform(.6, 1))))
        mel = [(t, min(d, (mel[k + 1][0] - t) * .99 if k + 1 < len(mel) else d), m, v) for k, (t, d, m, v) in enumerate(mel)]
        mel = [x for x in mel if x[1] > .05]
    truth = dict(meter=list(meter), bpm_mean=float(60 * bars * bpb / (end_t - lead_in)), key=dict(tonic_pc=tonic, majmin=str(mode)),
                 beats=[float(x) for x in beats[: bars * bpb + 1]], downbeats=[float(x) for x in beats[: bars * bpb + 1: bpb]], chords=truth_chords,
                 bass_notes=[dict(t=a, dur=d, midi=m) for a, d, m, _ in bass], melody_notes=[dict(t=a, dur=d, midi=m) for a, d, m, _ in mel],
                 drum_onsets=[dict(t=float(t), name=str(k), vel=v) for t, k, v in hits], style=str(style))
    return r, truth, hits, bass, comp, mel, end_t


# ---- mixing and damage ------------------------------------------------------------------------------------
def spectrum(y):
    m = fft.next_fast_len(len(y), real=True)
    return np.fft.rfft(y, m), np.fft.rfftfreq(m, 1 / SR), m


def tone(r, y):
    """Random tilt and one resonance."""
    Y, f, m = spectrum(y)
    g = (np.maximum(f, 30) / 800) ** r.uniform(-.22, .22)
    c, w, db = 10 ** r.uniform(2, 3.8), r.uniform(.3, 1.2), r.uniform(-6, 6)
    g *= 10 ** (db / 20 * np.exp(-(np.log2(np.maximum(f, 1) / c) / w) ** 2))
    return np.fft.irfft(Y * g, m)[: len(y)]


def room(r, y, rt, wet):
    n = int(rt * SR)
    ir = r.standard_normal(n) * np.exp(-6.9 * np.arange(n) / n)
    ir = signal.sosfilt(signal.butter(1, r.uniform(2500, 8000), fs=SR, output='sos'), ir)
    ir[: int(.003 * SR)] = 0
    w = signal.fftconvolve(y, ir)[: len(y)]
    w *= np.sqrt(np.mean(y ** 2) / (np.mean(w ** 2) + 1e-12))
    return y + wet * w


def gig(r, y):
    """What a phone in the audience makes of the band."""
    y = y / (np.max(np.abs(y)) + 1e-9)
    if r.random() < .85: y = room(r, y, r.uniform(.3, 1.6), 10 ** (-r.uniform(-3, 12) / 20))
    y /= np.sqrt(np.mean(y ** 2)) * 4
    n = r.standard_normal(len(y))
    kind = r.random()
    if kind < .6:  # crowd: speech-shaped, slowly swelling
        n = signal.sosfilt(signal.butter(2, [200, 3500], 'band', fs=SR, output='sos'), n)
        e = np.interp(np.arange(len(y)), np.arange(0, len(y) + SR // 3, SR // 3)[: len(y) // (SR // 3) + 2], r.uniform(.3, 1.2, len(y) // (SR // 3) + 2))
        n *= e
    n *= np.sqrt(np.mean(y ** 2) / np.mean(n ** 2)) * 10 ** (-r.uniform(14, 38) / 20)
    y = y + n
    if r.random() < .85:  # overload: asymmetric clip, hard or soft, that loses 4..20 dB
        th = np.quantile(np.abs(y), r.uniform(.75, .985))
        up, dn = th, th * r.uniform(.6, 1.)
        if r.random() < .3: y = np.where(y > 0, up * np.tanh(y / up), dn * np.tanh(y / dn))
        else: y = np.clip(y, -dn, up)
    y = signal.sosfilt(signal.butter(int(r.integers(1, 4)), r.uniform(70, 320), 'high', fs=SR, output='sos'), y)
    y = signal.sosfilt(signal.butter(int(r.integers(1, 4)), r.uniform(6000, 16000), fs=SR, output='sos'), y)
    f0, db = 10 ** r.uniform(3, 3.7), r.uniform(0, 7)
    Y, f, m = spectrum(y)
    y = np.fft.irfft(Y * 10 ** (db / 20 * np.exp(-(np.log2(np.maximum(f, 1) / f0) / .5) ** 2)), m)[: len(y)]
    if r.random() < .6:  # gain control: fast attack, slow release
        hop = SR // 100
        p = np.sqrt(np.add.reduceat(y ** 2, np.arange(0, len(y), hop)) / hop)
        g, e = [], 1e-3
        for v in p:
            e = max(v, e * .97 + v * .03); g.append((e + 1e-3) ** -r.uniform(.3, .8) if len(g) < 0 else (e + 1e-3) ** -.6)
        y = y * np.interp(np.arange(len(y)), np.arange(len(g)) * hop, g)
    y = y / (np.max(np.abs(y)) + 1e-9) * r.uniform(.3, .98)
    if r.random() < .45:
        with tempfile.TemporaryDirectory() as d:
            sf.write(d + '/a.wav', y, SR)
            codec = ['-c:a', 'aac', '-b:a', '64k', d + '/b.m4a'] if r.random() < .6 else ['-c:a', 'libopus', '-b:a', '24k', d + '/b.ogg']
            subprocess.run(['ffmpeg', '-v', 'quiet', '-y', '-i', d + '/a.wav', *codec], check=True)
            subprocess.run(['ffmpeg', '-v', 'quiet', '-y', '-i', codec[-1], '-ar', str(SR), '-ac', '1', d + '/c.wav'], check=True)
            z, _ = sf.read(d + '/c.wav')
        z = np.pad(z, (0, max(0, len(y) - len(z))))
        c = signal.fftconvolve(z[: SR * 4], y[: SR * 4][::-1])  # the codec's delay
        lag = int(np.argmax(c)) - (min(len(y), SR * 4) - 1)
        z = np.roll(z, -lag)[: len(y)] if abs(lag) < 5000 else z[: len(y)]
        y = np.pad(z, (0, len(y) - len(z)))
    return y


def song(out, seed, held, drums=False):
    r, truth, hits, bass, comp, mel, end_t = compose(seed, held)
    q = np.random.default_rng([seed, held, 7])
    if drums and hits:
        hits = livelier(q, truth, hits)
        truth['drum_onsets'] = [dict(t=float(t), name=str(k), vel=v) for t, k, v in hits]
    fonts, dfonts, kits = (HELD_FONTS, HELD_DRUM_FONTS, HELD_KITS) if held else (TRAIN_FONTS, TRAIN_DRUM_FONTS, TRAIN_KITS)
    n = int((end_t + .8) * SR)
    cents = float(r.uniform(-45, 45)) if r.random() < .3 else 0.
    parts = []
    norm = lambda y: y / (np.sqrt(np.mean(y[np.abs(y) > 1e-4] ** 2)) + 1e-6) * .1 if np.max(np.abs(y)) > 1e-4 else y
    if hits:
        u = r.random()
        if drums: d = play_drums(q, hits, n, dfonts, kits)
        elif u < .35: d = fluid(r.choice(dfonts), [(t, .1, GM[k], .35 + .65 * v) for t, k, v in hits], n, program=int(r.choice([0, 0, 0, 8, 16, 24, 25])), drums=True)
        elif u < .75 or held: d = play_oneshots(r, hits, load_kit(r.choice(kits)), n)
        else: d = play_oneshots(r, hits, {}, n)
        level = r.uniform(.7, 1.5)
        if drums and q.random() < .5: level *= 10 ** (q.uniform(-7, 3) / 20)
        parts.append((norm(d), level))
    if bass:
        y = fluid(r.choice(fonts), bass, n, program=int(r.choice([32, 33, 33, 34, 35, 36, 37, 38, 39])), cents=cents) if r.random() < .65 or held else synth_notes(r, bass, n, 'bass', cents)
        if r.random() < .2: y = np.tanh(y / (np.std(y) + 1e-6) * r.uniform(.5, 3))
        parts.append((norm(y), r.uniform(.6, 1.3)))
    if comp:
        ps = [0, 1, 2, 4, 5, 6, 16, 17, 18, 24, 25, 26, 27, 28, 29, 30, 48, 49, 50, 51, 61, 80, 81, 88, 89, 90]
        k = 1 + (r.random() < .35)
        for _ in range(k):
            y = fluid(r.choice(fonts), comp, n, program=int(r.choice(ps)), cents=cents) if r.random() < .75 or held else synth_notes(r, comp, n, r.choice(['pad', 'pluck']), cents)
            if r.random() < .12: y = np.tanh(y / (np.std(y) + 1e-6) * r.uniform(.5, 2))
            parts.append((norm(y), r.uniform(.35, 1.) / k))
    if mel:
        ps = [40, 41, 52, 53, 54, 56, 57, 60, 64, 65, 66, 68, 71, 73, 74, 75, 78, 79, 80, 81, 82, 85, 22, 26, 29, 30, 4, 0, 11]
        u = r.random()
        vib = (r.uniform(4.5, 6.5), r.uniform(5, 45)) if r.random() < .5 else None
        sings = drums and not held and q.random() < .5
        if sings:
            y, mel = sing(q, mel, n, cents)
            truth['melody_notes'] = [dict(t=a, dur=d, midi=m) for a, d, m, _ in mel]
        else: y = synth_notes(r, mel, n, r.choice(['voice', 'voice', 'lead']), cents) if u < .5 else fluid(r.choice(fonts), mel, n, program=int(r.choice(ps)), cents=cents, vibrato=vib)
        parts.append((norm(y), r.uniform(.7, 1.4)))
    if not parts: parts = [(np.zeros(n), 1.)]
    parts = [g * tone(r, y) for y, g in parts]
    mix = sum(parts)
    if drums and hits:
        own = room(q, parts[0], q.uniform(.2, .8), q.uniform(.03, .2)) if q.random() < .3 else parts[0]
        sf.write(f'{out}/{seed:05d}_drums.wav', own / (np.max(np.abs(own)) + 1e-9) * .9, SR, subtype='PCM_16')
    if r.random() < .6: mix = room(r, mix, r.uniform(.2, 1.2), r.uniform(.03, .35))
    if r.random() < .4: mix = np.tanh(mix / (np.std(mix) * r.uniform(2, 6))) * np.std(mix)
    mix = mix / (np.max(np.abs(mix)) + 1e-9) * r.uniform(.2, .98)
    truth['cents'] = cents
    name = f'{out}/{seed:05d}'
    if held:
        sf.write(name + '.wav', mix, SR, subtype='PCM_16')
        sf.write(name + '_gig.wav', gig(r, mix), SR, subtype='PCM_16')
        json.dump(truth, open(name + '_gig.json', 'w'))
    else:
        if r.random() < .5: mix = gig(r, mix)
        sf.write(name + '.wav', mix, SR, subtype='PCM_16')
    json.dump(truth, open(name + '.json', 'w'))


if __name__ == '__main__':
    out, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.makedirs(out, exist_ok=True)
    for s in range(first, first + count):
        try:
            song(out, s, '--held' in sys.argv, '--drums' in sys.argv)
        except subprocess.CalledProcessError as e:
            print('song', s, e, file=sys.stderr)
