// [cli] Scores of rebuilt stems and of detectors.

use uncook::{metrics::spectrum::Stft, profile::Note};

/// Fundamental in Hz every 10 ms of `seconds`, 0 where no note sounds.
pub fn pitch_track(notes: &[Note], seconds: f64) -> Vec<f32> {
    (0..(100.0 * seconds) as usize)
        .map(|i| {
            let t = (i as f64 + 0.5) / 100.0;
            let note = notes.iter().rev().find(|n| t >= n.t && t < n.t + n.dur);
            note.map_or(0.0, |n| 440.0 * ((n.midi - 69.0) / 12.0).exp2())
        })
        .collect()
}

/// Area under the ROC curve: how often one of `hits` is above one of `rest`.
pub fn auc(hits: &[f32], rest: &[f32]) -> Option<f64> {
    if hits.is_empty() || rest.is_empty() {
        return None;
    }
    let mut sorted = rest.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let wins: f64 = hits
        .iter()
        .map(|h| {
            let below = sorted.partition_point(|r| r < h);
            let equal = sorted.partition_point(|r| r <= h) - below;
            below as f64 + 0.5 * equal as f64
        })
        .sum();
    Some(wins / (hits.len() * rest.len()) as f64)
}

/// Correlation of two signals' onset strengths: rise of the magnitudes from frame to frame, frames of 1024
/// every 256 samples.
pub fn onset_correlation(a: &[f32], b: &[f32]) -> Option<f64> {
    let strength = |x: &[f32]| -> Vec<f64> {
        let frames = Stft::new(1024, 256).power(x);
        let rise = |w: &[Vec<f32>]| {
            let bins = w[1].iter().zip(&w[0]);
            bins.map(|(now, last)| f64::from((now.sqrt() - last.sqrt()).max(0.0)))
                .sum()
        };
        frames.windows(2).map(rise).collect()
    };
    let (a, b) = (strength(a), strength(b));
    let n = a.len().min(b.len()) as f64;
    if n < 2.0 {
        return None;
    }
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(&b) {
        ab += (a - mean_a) * (b - mean_b);
        aa += (a - mean_a).powi(2);
        bb += (b - mean_b).powi(2);
    }
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

/// Mean difference in dB of the third octaves from 31.5 to 160 Hz; those 50 dB below the loudest don't count.
pub fn low_bands_db(clean: &[f32], x: &[f32], rate: f64) -> f64 {
    const SIZE: usize = 16_384;
    let bands = |x: &[f32]| -> Vec<f64> {
        let mut x = x.to_vec();
        x.resize(x.len().max(SIZE), 0.0);
        let frames = Stft::new(SIZE, SIZE / 4).power(&x);
        (0..8)
            .map(|band| {
                let centre = 31.5 * (f64::from(band) / 3.0).exp2();
                let bin = |octaves: f64| centre * octaves.exp2() / rate * SIZE as f64;
                let range = bin(-1.0 / 6.0).ceil() as usize..bin(1.0 / 6.0).ceil() as usize;
                let power =
                    |f: &Vec<f32>| f[range.clone()].iter().map(|&p| f64::from(p)).sum::<f64>();
                frames.iter().map(power).sum::<f64>()
            })
            .collect()
    };
    let (clean, x) = (bands(clean), bands(x));
    let loudest = clean.iter().copied().fold(0.0, f64::max);
    let differences: Vec<f64> = clean
        .iter()
        .zip(&x)
        .filter(|(c, _)| **c > 1e-5 * loudest)
        .map(|(c, x)| (10.0 * ((x + 1e-5 * loudest) / (c + 1e-5 * loudest)).log10()).abs())
        .collect();
    differences.iter().sum::<f64>() / differences.len().max(1) as f64
}
