use uncook::audio::*;
fn main() {
    for rate in [44100, 48000] {
        let r = AudioBuffer::read(format!("/tmp/h3_s{rate}.wav").as_ref()).unwrap();
        for e in [
            "wav",
            "aiff",
            "flac",
            "mp3",
            "ogg",
            ".m4a",
            "m4a",
            "aac",
            "_alac.m4a",
        ] {
            let p = if e.starts_with('_') {
                format!("/tmp/h3_s{rate}{e}")
            } else {
                format!("/tmp/h3_s{rate}.{}", e.trim_start_matches('.'))
            };
            match AudioBuffer::read_with_report(p.as_ref()) {
                Err(e) => println!("{e}"),
                Ok((a, rep)) => {
                    // best lag by residual
                    let mut best = (0i64, f64::MAX);
                    for lag in -3000i64..3000 {
                        let mut s = 0.0;
                        for n in (10000..20000).step_by(7) {
                            let k = n as i64 + lag;
                            let d = (a.channels[0][k as usize] - r.channels[0][n]) as f64;
                            s += d * d;
                        }
                        if s < best.1 {
                            best = (lag, s);
                        }
                    }
                    println!(
                        "{p} frames {} (ref {}) lag {:?} {:?} ",
                        a.frames(),
                        r.frames(),
                        best,
                        rep
                    );
                }
            }
        }
    }
}
