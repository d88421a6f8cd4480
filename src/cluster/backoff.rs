//! How long to wait before an object that failed is tried again.
//!
//! The runtime's own error policy is not told how often an object has failed, so we count: one second after the first
//! failure in a row, then twice as long each time, up to five minutes. Some jitter goes on top, so that a thousand
//! objects that failed together do not come back together.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Delay after the first failure.
pub const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Longest delay, jitter aside: what a person who repaired something outside is ready to wait.
pub const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// Delay after a first Conflict, which says nothing worse than that our copy was stale.
pub const FIRST_CONFLICT_DELAY: Duration = Duration::from_millis(200);
/// Longest delay after one of several Conflicts in a row, jitter aside. An event that brings our copy up to date ends it.
pub const LONGEST_CONFLICT_DELAY: Duration = Duration::from_secs(30);

/// Up to this part of the delay is added to it.
const JITTER: f64 = 0.25;

/// Failures in a row, by object.
///
/// An entry lives from an object's first failure until [`Backoff::succeeded`] or [`Backoff::forget`], so callers that
/// forget deleted objects keep the map no larger than the number of objects that fail now.
#[derive(Debug)]
pub struct Backoff<K> {
    failures: HashMap<K, u32>,
    jitter: SmallRng,
}

impl<K: Eq + Hash> Backoff<K> {
    /// Nothing has failed yet. The seed fixes the jitter; a process takes a random one.
    pub fn new(seed: u64) -> Self {
        Backoff { failures: HashMap::new(), jitter: SmallRng::seed_from_u64(seed) }
    }

    /// Counts a failure and says how long to wait before the next try.
    pub fn failed(&mut self, key: K) -> Duration {
        self.count(key, FIRST_DELAY, LONGEST_DELAY)
    }

    /// Counts a Conflict likewise: it passes sooner, but an object that always meets one must not be tried all the time.
    pub fn conflicted(&mut self, key: K) -> Duration {
        self.count(key, FIRST_CONFLICT_DELAY, LONGEST_CONFLICT_DELAY)
    }

    fn count(&mut self, key: K, first: Duration, longest: Duration) -> Duration {
        let failures = self.failures.entry(key).or_insert(0);
        *failures = failures.saturating_add(1);
        let delay = delay(*failures, first, longest);
        delay + delay.mul_f64(self.jitter.random_range(0.0..JITTER))
    }

    /// The object was reconciled: its next failure is a first one again.
    pub fn succeeded(&mut self, key: &K) {
        self.failures.remove(key);
    }

    /// The object is gone.
    pub fn forget(&mut self, key: &K) {
        self.failures.remove(key);
    }

    /// Number of objects that failed when last tried.
    #[cfg(test)]
    fn failing(&self) -> usize {
        self.failures.len()
    }
}

/// Delay after so many failures in a row, counted from 1, without jitter.
fn delay(failures: u32, first: Duration, longest: Duration) -> Duration {
    // 2^30 times the first delay is far past the longest already, and the shift cannot overflow.
    let doublings = failures.saturating_sub(1).min(30);
    first.saturating_mul(1 << doublings).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_five_minutes() {
        let cases =
            [(1, 1), (2, 2), (3, 4), (4, 8), (8, 128), (9, 256), (10, 300), (11, 300), (40, 300), (u32::MAX, 300)];
        for (failures, seconds) in cases {
            assert_eq!(
                delay(failures, FIRST_DELAY, LONGEST_DELAY),
                Duration::from_secs(seconds),
                "after {failures} failures"
            );
        }
    }

    #[test]
    fn conflicts_in_a_row_are_tried_again_ever_later() {
        let mut backoff = Backoff::new(7);
        let waits: Vec<Duration> = (0..20).map(|_| backoff.conflicted("a")).collect();
        assert!(waits[0] < FIRST_CONFLICT_DELAY * 2, "one is ordinary: {waits:?}");
        assert!(waits.iter().sum::<Duration>() > Duration::from_secs(300), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= LONGEST_CONFLICT_DELAY.mul_f64(1.0 + JITTER)), "{waits:?}");
        backoff.succeeded(&"a");
        assert!(backoff.conflicted("a") < FIRST_CONFLICT_DELAY * 2);
    }

    #[test]
    fn jitter_only_adds_and_at_most_a_quarter() {
        let mut backoff = Backoff::new(7);
        for failures in 1..=12 {
            let (bare, waited) = (delay(failures, FIRST_DELAY, LONGEST_DELAY), backoff.failed("a"));
            assert!(waited >= bare && waited <= bare.mul_f64(1.0 + JITTER), "{bare:?} became {waited:?}");
        }
    }

    #[test]
    fn objects_that_fail_together_come_back_apart() {
        let mut backoff = Backoff::new(7);
        let delays: std::collections::HashSet<Duration> = (0..100).map(|object| backoff.failed(object)).collect();
        assert!(delays.len() > 90, "only {} distinct delays", delays.len());
    }

    #[test]
    fn one_seed_gives_the_same_delays() {
        let run = |seed| {
            let mut backoff = Backoff::new(seed);
            [backoff.failed("a"), backoff.failed("a"), backoff.failed("b")]
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn success_and_deletion_start_afresh_and_free_the_entry() {
        for clear in [Backoff::succeeded, Backoff::forget] {
            let mut backoff = Backoff::new(7);
            for _ in 0..5 {
                backoff.failed("a");
            }
            backoff.failed("b");
            clear(&mut backoff, &"a");
            assert_eq!(backoff.failing(), 1);
            assert!(backoff.failed("a") < Duration::from_secs(2), "counted from the start again");
            assert!(backoff.failed("b") >= Duration::from_secs(2), "the other object's count stays");
        }
    }
}
