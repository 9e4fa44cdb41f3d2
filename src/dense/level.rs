// [worker] Which vector instructions this processor has.

use std::sync::OnceLock;

/// Vector instructions, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Avx512,
    Avx2,
    Neon,
    Scalar,
}

static BEST: OnceLock<Level> = OnceLock::new();

impl Level {
    /// The best level of this processor, found once.
    pub fn best() -> Self {
        *BEST.get_or_init(detect)
    }

    /// Makes this the best level, to measure what a lesser processor would do. Returns whether it could: this
    /// processor has it, and nobody has asked for the best one yet.
    pub fn settle_for(self) -> bool {
        let has = match (self, detect()) {
            (Self::Scalar, _) | (Self::Avx2, Self::Avx512) => true,
            (asked, best) => asked == best,
        };
        has && BEST.set(self).is_ok()
    }

    /// Every level that this processor can run, best first: for tests that compare them.
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Self::best()];
        #[cfg(target_arch = "x86_64")]
        if levels[0] == Self::Avx512 {
            levels.push(Self::Avx2);
        }
        if levels[0] != Self::Scalar {
            levels.push(Self::Scalar);
        }
        levels
    }

    /// Floats in a vector register.
    pub const fn lanes(self) -> usize {
        match self {
            Self::Avx512 => 16,
            Self::Avx2 => 8,
            Self::Neon | Self::Scalar => 4,
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    if avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
    {
        Level::Avx512
    } else if avx2 {
        Level::Avx2
    } else {
        Level::Scalar
    }
}

#[cfg(target_arch = "aarch64")]
fn detect() -> Level {
    // Part of every AArch64 processor.
    Level::Neon
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> Level {
    Level::Scalar
}
