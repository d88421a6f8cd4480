//! Numbers from samples, as pure functions.

use std::fmt;

/// The value below which `percent` of the samples lie, by the nearest-rank method: always one of the samples. 0 when
/// there are none.
pub(super) fn percentile(samples: &[f64], percent: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 and the number of samples")]
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0.0)
}

/// Least, middle and greatest of some counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spread {
    pub(super) min: usize,
    pub(super) median: usize,
    pub(super) max: usize,
}

impl Spread {
    pub(super) fn of(counts: impl IntoIterator<Item = usize>) -> Self {
        let mut sorted: Vec<usize> = counts.into_iter().collect();
        sorted.sort_unstable();
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        let last = sorted.len().saturating_sub(1);
        Self { min: at(0), median: at(last / 2), max: at(last) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{} / {} / {}", self.min, self.median, self.max)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let cases: [(&[f64], f64, f64); 8] = [
            (&hundred, 50.0, 50.0),
            (&hundred, 99.0, 99.0),
            (&hundred, 100.0, 100.0),
            (&hundred, 0.0, 1.0),
            (&[3.0, 1.0, 2.0], 50.0, 2.0),
            (&[3.0, -1.0], 50.0, -1.0),
            (&[7.0], 99.0, 7.0),
            (&[], 50.0, 0.0),
        ];
        for (samples, percent, expected) in cases {
            assert!((percentile(samples, percent) - expected).abs() < f64::EPSILON, "p{percent} of {samples:?}");
        }
    }

    #[test]
    fn a_spread_names_the_middle_and_both_ends() {
        assert_eq!(Spread::of([5, 3, 4]).to_string(), "3 / 4 / 5");
        assert_eq!(Spread::of([4, 4]).to_string(), "4");
        assert_eq!(Spread::of([]), Spread::default());
    }
}
