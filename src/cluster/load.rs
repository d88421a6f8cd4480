//! How busy a controller is, and how much longer a status that can wait should wait for that reason.
//!
//! Of a thousand jobs that are created at once the apiserver has to carry every status that says "starting" or "running",
//! and every Event about it, while it could create the next pods. Most of them are out of date a moment later. So a busy
//! controller writes them later, and a job that ends meanwhile is written once.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use jiff::SignedDuration;

/// Over this time distinct objects are counted.
const WINDOW: Duration = Duration::from_secs(5);
/// With this many active objects a controller is not busy.
const CALM: usize = 50;
/// For each of these many objects more, statuses wait a second longer.
const OBJECTS_A_SECOND: usize = 10;
/// Longest additional wait: people watch what runs.
pub const LONGEST_EXTRA_WAIT: SignedDuration = SignedDuration::from_secs(20);

/// The objects of one controller that something happened to in the last 5 to 10 seconds.
#[derive(Debug)]
pub struct Activity {
    hasher: RandomState,
    since: Instant,
    /// Hashes of the objects that were active since then.
    current: HashSet<u64>,
    /// Number of objects in the window before.
    previous: usize,
}

impl Activity {
    /// Nothing has happened yet.
    pub fn new(now: Instant) -> Self {
        Activity { hasher: RandomState::new(), since: now, current: HashSet::new(), previous: 0 }
    }

    /// Something happened to an object; answers how many objects are active, this one included.
    pub fn note(&mut self, object: &impl Hash, now: Instant) -> usize {
        let age = now.saturating_duration_since(self.since);
        if age >= WINDOW {
            let ended = std::mem::take(&mut self.current);
            self.previous = if age < 2 * WINDOW { ended.len() } else { 0 };
            self.since = now;
        }
        self.current.insert(self.hasher.hash_one(object));
        self.current.len().max(self.previous)
    }
}

/// How much longer than usual a status that can wait should wait while this many objects are active.
pub fn extra_wait(active: usize) -> SignedDuration {
    let seconds = active.saturating_sub(CALM).div_ceil(OBJECTS_A_SECOND);
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)).min(LONGEST_EXTRA_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_controller_lets_statuses_wait_longer_up_to_a_limit() {
        for (active, seconds) in
            [(0, 0), (1, 0), (50, 0), (51, 1), (60, 1), (61, 2), (150, 10), (249, 20), (1_000, 20), (usize::MAX, 20)]
        {
            assert_eq!(extra_wait(active), SignedDuration::from_secs(seconds), "{active}");
        }
    }

    #[test]
    fn objects_are_counted_once_and_forgotten_after_two_windows() {
        let start = Instant::now();
        let mut activity = Activity::new(start);
        for (millisecond, object, active) in [
            (0, "a", 1),
            (10, "a", 1),
            (20, "b", 2),
            (4_999, "c", 3),
            (5_000, "a", 3),
            (9_000, "d", 3),
            (10_000, "e", 2),
            (60_000, "e", 1),
        ] {
            let now = start + Duration::from_millis(millisecond);
            assert_eq!(activity.note(&object, now), active, "{object} at {millisecond} ms");
        }
    }
}
