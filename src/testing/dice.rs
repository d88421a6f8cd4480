//! Reproducible chance.

use jiff::SignedDuration;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};

/// A random generator that answers the same on every platform; `SmallRng` does not.
pub(crate) type Dice = Xoshiro256PlusPlus;

/// Dice of their own for one purpose, so that drawing more for one thing does not change every other.
pub(crate) fn dice(seed: u64, purpose: &str) -> Dice {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(purpose.as_bytes()).finalize();
    let mut bytes = [0; 32];
    bytes.copy_from_slice(&digest);
    Dice::from_seed(bytes)
}

/// A duration of up to so many milliseconds.
pub(crate) fn up_to_millis(dice: &mut Dice, most: i64) -> SignedDuration {
    SignedDuration::from_millis(dice.random_range(0..=most))
}

/// Index of one of the weights, each as likely as it is heavy.
///
/// # Panics
/// When all weights are zero.
pub(crate) fn weighted(dice: &mut Dice, weights: &[u32]) -> usize {
    let mut rest = dice.random_range(0..weights.iter().sum::<u32>());
    for (index, weight) in weights.iter().enumerate() {
        if rest < *weight {
            return index;
        }
        rest -= weight;
    }
    unreachable!("the rest is below the sum")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_purpose_draw_the_same() {
        let draw = |seed, purpose: &str| dice(seed, purpose).random_range(0..u64::MAX);
        assert_eq!(draw(7, "pods"), draw(7, "pods"));
        assert_ne!(draw(7, "pods"), draw(8, "pods"));
        assert_ne!(draw(7, "pods"), draw(7, "api"));
    }
}
