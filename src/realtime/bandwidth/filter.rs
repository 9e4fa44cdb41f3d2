// [audio] Which filter a recording went through, told from its long-term spectrum alone.
//!
//! A spectrum that falls short of the average may be a song's own or a filter's doing. Both are given a
//! likelihood and weighed against each other (Bayesian model comparison; D. MacKay, "Information theory,
//! inference, and learning algorithms", 2003, chapter 28): a song strays from the average smoothly, as a Gaussian
//! process over octaves does (C. Rasmussen, C. Williams, "Gaussian processes for machine learning", 2006, eq. 2.30),
//! in level, tilt and wide bends; a Butterworth filter bends in its own way, straight before its corner and straight after.

/// How songs stray from the average spectrum: standard deviations in dB.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// Of the level.
    pub level: f64,
    /// Of the tilt, per octave.
    pub tilt: f64,
    /// Of bends, and how far apart they bend on their own, in octaves.
    pub bend: f64,
    pub octaves: f64,
    /// Of each band alone.
    pub error: f64,
    /// A band that lacks more than this is as good as gone, dB: how much it lacks says nothing.
    pub most: f64,
}

/// A Butterworth filter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Butterworth {
    /// Corner, Hz.
    pub hz: f64,
    /// 0 stands for a cut that leaves nothing.
    pub order: u8,
}

impl Butterworth {
    /// Three hundredths nearer to `to` at most, at the same order: every move of a filter is heard.
    #[must_use]
    pub fn towards(self, to: Self) -> Self {
        Self {
            hz: self.hz * (to.hz / self.hz).clamp(0.97, 1.03),
            order: self.order,
        }
    }
}

/// Frames that count half: the frames of one song resemble each other.
const HALF_FRAMES: f64 = 5.0;

/// Share of the probability from which a cut without a slope (order 0) is believed: a slope can be undone.
const SURE_CUT: f64 = 0.999;

/// Weighs filters from a list, and none, against a spectrum.
pub struct FilterSearch {
    filters: Vec<Butterworth>,
    bands: usize,
    /// Lower triangle by rows: turns what is missing into independent deviations of size 1.
    whitening: Vec<f64>,
    /// Each filter's whitened loss.
    losses: Vec<f64>,
    most: f64,
    /// Scratch: a whitened spectrum, and each filter's share of all filters' probability.
    whitened: Vec<f64>,
    weights: Vec<f64>,
}

impl FilterSearch {
    /// For spectra over `bands_hz`. `loss` gives a filter's loss in dB (positive) at a frequency in Hz.
    pub fn new(
        bands_hz: &[f64],
        spread: &Spread,
        filters: Vec<Butterworth>,
        loss: impl Fn(Butterworth, f64) -> f64,
    ) -> Self {
        let bands = bands_hz.len();
        let octave: Vec<f64> = bands_hz.iter().map(|hz| hz.log2()).collect();
        let middle = octave.iter().sum::<f64>() / bands.max(1) as f64;
        let covariance = |i: usize, j: usize| {
            let (a, b) = (octave[i] - middle, octave[j] - middle);
            let near = (-0.5 * ((a - b) / spread.octaves).powi(2)).exp();
            let own = if i == j { spread.error.powi(2) } else { 0.0 };
            spread.level.powi(2) + spread.tilt.powi(2) * a * b + spread.bend.powi(2) * near + own
        };
        let mut search = Self {
            whitening: inverse_cholesky(bands, covariance),
            losses: Vec::with_capacity(filters.len() * bands),
            most: spread.most,
            whitened: vec![0.0; bands],
            weights: vec![0.0; filters.len()],
            filters,
            bands,
        };
        for i in 0..search.filters.len() {
            let filter = search.filters[i];
            let missing: Vec<f64> = bands_hz.iter().map(|&hz| loss(filter, hz)).collect();
            search.whiten(&missing);
            search.losses.extend_from_slice(&search.whitened);
        }
        search
    }

    /// Fills `whitened`.
    fn whiten(&mut self, missing: &[f64]) {
        for (i, y) in self.whitened.iter_mut().enumerate() {
            let row = self.whitening.get(i * self.bands..).unwrap_or_default();
            let terms = row.iter().zip(missing).take(i + 1);
            *y = terms.map(|(w, &x)| w * x.min(self.most)).sum();
        }
    }

    /// Natural logarithm of how many times more likely the spectrum is with some filter than with none; every
    /// filter of the list counts alike. `missing` is what each band lacks in dB, `frames` how many frames were
    /// averaged.
    pub fn weigh(&mut self, missing: &[f64], frames: u32) -> f64 {
        self.whiten(missing);
        let share = f64::from(frames) / (f64::from(frames) + HALF_FRAMES);
        let mut best = f64::MIN;
        for (weight, loss) in self
            .weights
            .iter_mut()
            .zip(self.losses.chunks_exact(self.bands.max(1)))
        {
            let squares = self.whitened.iter().zip(loss).map(|(x, l)| (x - l).powi(2));
            *weight = -0.5 * share * squares.sum::<f64>();
            best = best.max(*weight);
        }
        let mut sum = 0.0;
        for weight in &mut self.weights {
            *weight = (*weight - best).exp();
            sum += *weight;
        }
        let mean = sum / self.weights.len().max(1) as f64;
        for weight in &mut self.weights {
            *weight /= sum;
        }
        let none: f64 = self.whitened.iter().map(|x| x * x).sum();
        best + mean.ln() + 0.5 * share * none
    }

    /// The most probable filter after [`FilterSearch::weigh`], of `order` or of any: the mean corner (of the
    /// logarithms) at the most probable order.
    pub fn best(&self, order: Option<u8>) -> Option<Butterworth> {
        let of = |order: u8| {
            let pairs = self.filters.iter().zip(&self.weights);
            pairs.filter(move |(filter, _)| filter.order == order)
        };
        let share = |order| of(order).map(|(_, w)| w).sum::<f64>();
        let order = match order {
            Some(order) => order,
            None if share(0) > SURE_CUT => 0,
            None => {
                let orders = self.filters.iter().map(|filter| filter.order);
                let slopes = orders.filter(|&order| order > 0);
                slopes.max_by(|&a, &b| share(a).total_cmp(&share(b)))?
            }
        };
        let total = share(order);
        let octaves = of(order).map(|(filter, w)| w * filter.hz.log2());
        let hz = 2f64.powf(octaves.sum::<f64>() / total);
        hz.is_normal().then_some(Butterworth { hz, order })
    }
}

/// `count` corners from `from` Hz over `octaves`, each with each of `orders`.
pub fn filters(from: f64, octaves: f64, count: usize, orders: &[u8]) -> Vec<Butterworth> {
    let corner =
        |i: usize| from * 2f64.powf(octaves * i as f64 / count.max(2).saturating_sub(1) as f64);
    let of = |&order| {
        (0..count).map(move |i| Butterworth {
            hz: corner(i),
            order,
        })
    };
    orders.iter().flat_map(of).collect()
}

/// Inverse of the Cholesky factor of a symmetric positive definite matrix; both lower triangles by rows (G. Golub,
/// C. Van Loan, "Matrix computations", 1996, algorithm 4.2.2 and 3.1.1).
fn inverse_cholesky(size: usize, matrix: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut factor = vec![0.0; size * size];
    for i in 0..size {
        for j in 0..=i {
            let known: f64 = (0..j)
                .map(|k| factor[i * size + k] * factor[j * size + k])
                .sum();
            let rest = matrix(i, j) - known;
            factor[i * size + j] = if i == j {
                rest.max(f64::MIN_POSITIVE).sqrt()
            } else {
                rest / factor[j * size + j]
            };
        }
    }
    let mut inverse = vec![0.0; size * size];
    for j in 0..size {
        for i in j..size {
            let known: f64 = (j..i)
                .map(|k| factor[i * size + k] * inverse[k * size + j])
                .sum();
            let unit = f64::from(u8::from(i == j));
            inverse[i * size + j] = (unit - known) / factor[i * size + i];
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPREAD: Spread = Spread {
        level: 5.0,
        tilt: 4.0,
        bend: 2.0,
        octaves: 0.5,
        error: 1.5,
        most: 50.0,
    };

    fn loss(filter: Butterworth, hz: f64) -> f64 {
        10.0 * (1.0 + (filter.hz / hz).powi(2 * i32::from(filter.order))).log10()
    }

    fn bands() -> Vec<f64> {
        (0..8)
            .map(|i| 50.0 * 2f64.powf(f64::from(i) / 3.0))
            .collect()
    }

    #[test]
    fn the_whitening_inverts_the_covariance() {
        let matrix = [[4.0, 2.0, 0.6], [2.0, 5.0, 1.0], [0.6, 1.0, 3.0]];
        let w = inverse_cholesky(3, |i, j| matrix[i][j]);
        for i in 0..3 {
            for j in 0..3 {
                // W A Wᵀ is the unit matrix.
                let mut sum = 0.0;
                for (k, row) in matrix.iter().enumerate() {
                    for (l, a) in row.iter().enumerate() {
                        sum += w[i * 3 + k] * a * w[j * 3 + l];
                    }
                }
                assert!(
                    (sum - f64::from(u8::from(i == j))).abs() < 1e-12,
                    "{i} {j}: {sum}"
                );
            }
        }
    }

    #[test]
    fn filters_are_told_from_songs_that_stray() {
        let bands = bands();
        let list = filters(70.0, 2.25, 24, &[2, 3, 4]);
        let mut search = FilterSearch::new(&bands, &SPREAD, list, loss);
        // The song's own level, tilt and bend.
        let song = |level: f64, tilt: f64, bend: f64| -> Vec<f64> {
            let strays = bands.iter().map(|hz| {
                let octave = (hz / 112.0).log2();
                level + tilt * octave + bend * (3.0 * octave).sin()
            });
            strays.collect()
        };
        for (level, tilt, bend) in [(0.0, 0.0, 0.0), (5.0, -3.0, 1.0), (-6.0, 4.0, -1.0)] {
            let own = song(level, tilt, bend);
            assert!(search.weigh(&own, 100) < 0.0, "{level} {tilt} {bend}");
            for (hz, order) in [(140.0, 3), (220.0, 3), (250.0, 4)] {
                let filter = Butterworth { hz, order };
                let missing: Vec<f64> = own
                    .iter()
                    .zip(&bands)
                    .map(|(own, &at)| own + loss(filter, at))
                    .collect();
                let odds = search.weigh(&missing, 100);
                assert!(odds > 0.0, "{hz} {order} {level}: {odds}");
                let found = search.best(Some(order)).expect("odds are for a filter");
                assert!(
                    (found.hz / hz).log2().abs() < 0.6,
                    "{hz} {order}: {found:?}"
                );
                // The same spectrum of fewer frames says less.
                let few = search.weigh(&missing, 3);
                assert!(few.abs() < odds.abs(), "{few} {odds}");
            }
        }
        let flat = song(0.0, 0.0, 0.0);
        let exact: Vec<f64> = flat
            .iter()
            .zip(&bands)
            .map(|(x, &at)| {
                x + loss(
                    Butterworth {
                        hz: 200.0,
                        order: 3,
                    },
                    at,
                )
            })
            .collect();
        search.weigh(&exact, 1000);
        assert_eq!(search.best(None).map(|f| f.order), Some(3));
    }

    #[test]
    fn what_is_no_number_finds_nothing() {
        let list = filters(70.0, 2.25, 24, &[2, 3, 4]);
        let mut search = FilterSearch::new(&bands(), &SPREAD, list, loss);
        for wild in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let odds = search.weigh(&[wild; 8], 10);
            let found = search.best(None).filter(|_| odds > 1.0);
            assert!(
                found.is_none_or(|f| f.hz.is_finite()),
                "{wild}: {odds} {found:?}"
            );
        }
    }
}
