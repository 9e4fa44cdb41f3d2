use uncook::audio::*;
fn main() {
    for amp in [0.01f32, 0.5, 1.1] {
        for n in [100, 4096, 5000, 9000] {
            for d in [BitDepth::Int16, BitDepth::Int24] {
                let mut s = 1u64;
                let ch: Vec<Vec<f32>> = (0..2)
                    .map(|_| {
                        (0..n)
                            .map(|_| {
                                s = s
                                    .wrapping_mul(6364136223846793005)
                                    .wrapping_add(1442695040888963407);
                                ((s >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * amp
                            })
                            .collect()
                    })
                    .collect();
                let p = std::path::PathBuf::from(format!("/tmp/h3_{amp}_{n}_{d:?}.flac"));
                let a = AudioBuffer::new(ch, 48000);
                a.write(&p, d).unwrap();
                println!(
                    "{amp} {n} {d:?} {:?}",
                    AudioBuffer::read(&p)
                        .map(|b| b.frames())
                        .map_err(|e| e.to_string())
                );
            }
        }
    }
}
