// [worker] Sinusoidal embeddings of time and of place.

/// `[sin(t·f), cos(t·f)]` with frequencies falling from 1 to 1/10000, `dim` even and at least 4.
pub fn time(t: f32, dim: usize) -> Vec<f32> {
    let half = dim / 2;
    let fall = -(10_000.0f32.ln()) / (half - 1) as f32;
    let angles: Vec<f32> = (0..half).map(|i| t * (i as f32 * fall).exp()).collect();
    let sines = angles.iter().map(|a| a.sin());
    sines.chain(angles.iter().map(|a| a.cos())).collect()
}

/// `[frames][dim]`: cosines, then sines, of `place / 10000^(i / (dim/2 − 1))`.
pub fn place(frames: usize, dim: usize) -> Vec<f32> {
    let half = dim / 2;
    let mut out = Vec::with_capacity(frames * dim);
    for p in 0..frames {
        let angle = |i: usize| {
            p as f32 / 10_000.0f32.powf(i as f32 / (half.saturating_sub(1)).max(1) as f32)
        };
        out.extend((0..half).map(|i| angle(i).cos()));
        out.extend((0..half).map(|i| angle(i).sin()));
    }
    out
}
