// [worker] Plays the learned voices onto the damaged stem: which voice, when, how loud.

use super::{
    super::{
        Random, Scene, Span, check,
        filter::{Energy, add_delayed, match_lag},
        overdrive::Overdrive,
        spectra::Spectra,
    },
    Hit, Voice, band_of, hits, length_seconds,
};
use crate::{profile::DrumClass, regeneration::RegenerationError, worker::progress::Progress};

/// A hit with its voice.
pub(super) struct Played {
    hit: Hit,
    voice: usize,
    /// Where the voice's first sample goes, absolute, fractional.
    at: f64,
    gain: f32,
    /// The gain that clean hits of its velocity have.
    usual: f32,
    /// How well the voice's waveform fits, −1..=1.
    fit: f32,
    severity: f32,
    /// Absolute sample at which a hat's sound is stopped by the next hat.
    choke: f64,
}

/// A span with everything that sounds in it.
pub(super) struct Stage<'a> {
    /// Absolute sample of `damaged[0]`.
    pub start: i64,
    pub damaged: Vec<f32>,
    /// Which of its samples are damaged.
    hurt: Vec<bool>,
    pub played: Vec<Played>,
    voices: &'a [Vec<Voice>; DrumClass::COUNT],
    rate: f64,
}

/// Rounds of fitting the gains through the overload.
const ROUNDS: usize = 6;
/// Seconds of a hit that its level is fitted on.
const HEAD: f64 = 0.06;
/// How far a gain may leave the usual one, either way: a drummer's accents and ghost notes in a clean
/// stretch; under an overload, which hides the level, what its clean hits make likely.
/// How exact a measured level is, and how far a drummer's hits of one velocity spread, dB.
const LEVEL_DB: f32 = 1.0;
const USUAL_DB: f32 = 3.0;
const CLEAN_RANGE: f32 = 8.0;
const DAMAGED_RANGE: f32 = 3.0;

impl<'a> Stage<'a> {
    pub fn new(
        scene: &Scene,
        span: Span,
        all: &[Hit],
        voices: &'a [Vec<Voice>; DrumClass::COUNT],
    ) -> Self {
        let pad = Spectra::new(scene.rate).n as i64;
        let (start, end) = (span.start as i64 - pad, span.end as i64 + pad);
        let mut played: Vec<Played> = all
            .iter()
            .filter(|h| {
                let tail = length_seconds(h.class) * scene.rate;
                h.at + tail > start as f64
                    && h.at < end as f64
                    && !voices[h.class as usize].is_empty()
            })
            .map(|&hit| Played {
                hit,
                voice: 0,
                at: hit.at,
                gain: 1.0,
                usual: 1.0,
                fit: 0.0,
                severity: scene.severity_over(hit.at, hit.at + HEAD * scene.rate),
                choke: f64::INFINITY,
            })
            .collect();
        let hat = |c: DrumClass| matches!(c, DrumClass::HihatClosed | DrumClass::HihatOpen);
        let mut next = f64::INFINITY;
        for p in played.iter_mut().rev() {
            if hat(p.hit.class) {
                p.choke = next;
                next = p.hit.at;
            }
        }
        Self {
            start,
            damaged: scene.cut(start, end),
            hurt: (start..end).map(|n| scene.hurt(n)).collect(),
            played,
            voices,
            rate: scene.rate,
        }
    }

    fn head(&self, voice: &Voice) -> usize {
        (voice.pre + (HEAD * self.rate) as usize).min(voice.audio.len())
    }

    /// Chooses voices, times and gains.
    pub fn fit(
        mut self,
        scene: &Scene,
        drive: Overdrive,
        random: &mut Random,
        progress: &Progress,
    ) -> Result<Self, RegenerationError> {
        let mut last = [usize::MAX; DrumClass::COUNT];
        let mut played = std::mem::take(&mut self.played);
        for p in &mut played {
            check(progress)?;
            self.choose(scene, p, random, &mut last);
        }
        self.played = played;
        let rate = self.rate;
        let own = [0, 1, 2].map(|band| Energy::new(hits::split(&self.damaged, rate, band)));
        for _ in 0..ROUNDS {
            check(progress)?;
            let rebuilt = self.render(false);
            // Only what was overdriven may be compared through the overload.
            let driven: Vec<f32> = rebuilt
                .iter()
                .zip(&self.hurt)
                .map(|(&v, &hurt)| if hurt { drive.apply(v) } else { v })
                .collect();
            let mut played = std::mem::take(&mut self.played);
            // One band after the other: each is as long as the span.
            for (band, own) in own.iter().enumerate() {
                let now = Energy::new(hits::split(&driven, rate, band));
                for p in played.iter_mut().filter(|p| band_of(p.hit.class) == band) {
                    self.level(p, &rebuilt, &driven, drive, [own, &now]);
                }
            }
            self.played = played;
        }
        Ok(self)
    }

    /// The voice that fits the damaged stem best at the hit; among equals another one than last time.
    fn choose(
        &self,
        scene: &Scene,
        p: &mut Played,
        random: &mut Random,
        last: &mut [usize; DrumClass::COUNT],
    ) {
        let class = p.hit.class as usize;
        let voices = &self.voices[class];
        let reach = (0.004 * self.rate) as i64;
        let fits: Vec<(f64, f32)> = voices
            .iter()
            .map(|v| {
                let at = p.hit.at - v.pre as f64;
                match_lag(
                    &scene.x,
                    &v.audio[..self.head(v)],
                    at.round() as i64,
                    reach,
                    false,
                )
                .unwrap_or((at, 0.0))
            })
            .collect();
        let best = fits.iter().map(|f| f.1).fold(f32::NEG_INFINITY, f32::max);
        let mut equal: Vec<usize> = (0..fits.len())
            .filter(|&i| fits[i].1 >= best - 0.02)
            .collect();
        if equal.len() > 1 {
            equal.retain(|&i| i != last[class]);
        }
        p.voice = equal[(random.next_u64() % equal.len() as u64) as usize];
        last[class] = p.voice;
        let (at, fit) = fits[p.voice];
        let voice = &voices[p.voice];
        p.fit = fit;
        p.at = if fit > 0.25 {
            at
        } else {
            p.hit.at - voice.pre as f64
        };
        let level = |v: &Voice| -> f32 {
            v.audio[..self.head(v)]
                .iter()
                .map(|s| s * s)
                .sum::<f32>()
                .sqrt()
                .max(1e-9)
        };
        // Clean hits of a similar velocity say how loud this one should be.
        let (mut sum, mut weight) = (0.0f32, 0.0f32);
        for v in voices {
            let apart = (v.velocity - p.hit.velocity) / 0.15;
            let w = (-apart * apart).exp() + 1e-3;
            sum += w * level(v).ln();
            weight += w;
        }
        p.usual = (sum / weight).exp() / level(voice);
        p.gain = p.usual;
    }

    /// One step of a hit's gain towards the level at which the overload would leave what is there: `own` and `now` are
    /// the energies of the damaged stem and of what would be left, in the hit's band.
    fn level(
        &self,
        p: &mut Played,
        rebuilt: &[f32],
        driven: &[f32],
        drive: Overdrive,
        [own, now]: [&Energy<'_>; 2],
    ) {
        let voice = &self.voices[p.hit.class as usize][p.voice];
        let at = p.at.round() as i64 - self.start;
        let (mut s, mut t) = (0.0f64, 0.0f64);
        for (i, v) in voice.audio[..self.head(voice)].iter().enumerate() {
            let Ok(n) = usize::try_from(at + i as i64) else {
                continue;
            };
            if n >= self.damaged.len() {
                break;
            }
            let v = f64::from(*v);
            s += f64::from(driven[n]) * v;
            let slope = if self.hurt[n] {
                drive.slope(rebuilt[n])
            } else {
                1.0
            };
            t += f64::from(rebuilt[n] * slope) * v;
        }
        // Energies, not projections: a projection is also small where the voice isn't quite the hit.
        let onset = at + voice.pre as i64;
        let end = onset + (0.04 * self.rate) as i64;
        let floor = 1e-12;
        let ratio = ((own.over(onset, end) + floor) / (now.over(onset, end) + floor)).sqrt();
        // Behind the ceiling a change of gain barely shows: step further there, trust it less.
        let slope = if s > 1e-12 {
            (t / s).clamp(0.05, 1.0)
        } else {
            1.0
        };
        let step = ratio.powf(1.0 / slope.max(0.25)).clamp(0.5, 2.0) as f32;
        let wanted = p.gain * step;
        // What the level says against what is usual, by their variances.
        let blur = (LEVEL_DB / slope as f32).powi(2);
        let pull = p.severity * blur / (blur + USUAL_DB * USUAL_DB);
        p.gain = wanted.powf(1.0 - pull) * p.usual.powf(pull);
        let range = CLEAN_RANGE + (DAMAGED_RANGE - CLEAN_RANGE) * p.severity;
        p.gain = p.gain.clamp(p.usual / range, p.usual * range);
    }

    /// The sum of all hits, or of their doubts.
    pub fn render(&self, doubt: bool) -> Vec<f32> {
        let mut out = vec![0.0; self.damaged.len()];
        let fade = (0.010 * self.rate).max(1.0);
        let mut short: Vec<f32> = Vec::new();
        for p in &self.played {
            let voice = &self.voices[p.hit.class as usize][p.voice];
            let source = if doubt { &voice.doubt } else { &voice.audio };
            let at = p.at - self.start as f64;
            let until = p.choke - p.at;
            if until >= source.len() as f64 {
                add_delayed(source, at, p.gain, &mut out);
                continue;
            }
            short.clear();
            let stop = until.max(1.0);
            for (i, v) in source.iter().enumerate() {
                let past = (i as f64 - stop) / fade;
                if past >= 1.0 {
                    break;
                }
                short.push(if past > 0.0 {
                    v * (1.0 - past as f32)
                } else {
                    *v
                });
            }
            add_delayed(&short, at, p.gain, &mut out);
        }
        out
    }
}
