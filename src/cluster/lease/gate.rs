//! Whether this process may write now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::LeaseTimes;

/// Tells whether we may write now. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct LeaseGate(Option<Arc<Term>>);

#[derive(Debug)]
struct Term {
    /// Counted from here, because atomics hold numbers and not instants.
    start: Instant,
    /// Microseconds from `start` until the last successful renewal was sent, plus one; 0 while we do not lead.
    renewed: AtomicU64,
    times: LeaseTimes,
}

impl LeaseGate {
    /// Open for ever, for tests of what stands behind it.
    #[cfg(test)]
    pub(crate) fn always() -> Self {
        LeaseGate(None)
    }

    pub(super) fn closed(times: LeaseTimes) -> Self {
        LeaseGate(Some(Arc::new(Term { start: Instant::now(), renewed: AtomicU64::new(0), times })))
    }

    /// Whether the lease is ours now and long enough for a write to begin.
    #[cfg(test)]
    pub(crate) fn holds(&self) -> bool {
        self.permit(Duration::MAX).is_some()
    }

    /// How long a write that begins now may take: `limit`, or less if the lease ends sooner. `None`: do not begin.
    pub fn permit(&self, limit: Duration) -> Option<Duration> {
        let Some(term) = &self.0 else { return Some(limit) };
        let renewed = Duration::from_micros(term.renewed.load(Ordering::Acquire).checked_sub(1)?);
        let age = term.start.elapsed().saturating_sub(renewed);
        (age < term.times.renew_deadline).then(|| limit.min(term.times.duration - age))
    }

    pub(super) fn open(&self, sent: Instant) {
        if let Some(term) = &self.0 {
            let micros = sent.saturating_duration_since(term.start).as_micros();
            // 64 bits of microseconds are half a million years.
            term.renewed.store(u64::try_from(micros).unwrap_or(u64::MAX - 1) + 1, Ordering::Release);
        }
    }

    pub(super) fn close(&self) {
        if let Some(term) = &self.0 {
            term.renewed.store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_election_every_write_may_go_and_take_its_time() {
        assert_eq!(LeaseGate::always().permit(Duration::from_secs(7)), Some(Duration::from_secs(7)));
        assert!(LeaseGate::always().holds());
    }

    #[test]
    fn a_write_begins_before_the_deadline_and_ends_before_the_lease() {
        let times = LeaseTimes::default();
        let limit = Duration::from_secs(10);
        let gate = LeaseGate::closed(times);
        assert!(!gate.holds(), "nothing was won yet");

        let start = Instant::now();
        gate.open(start);
        assert_eq!(gate.permit(limit), Some(limit), "a fresh lease leaves all the time");

        // Seconds since the renewal -> what is left for a write; we cannot turn the clock on, so the start goes back.
        for (age, expected) in [(4, Some(10)), (6, Some(9)), (9, Some(6)), (10, None), (14, None), (99, None)] {
            let Some(start) = Instant::now().checked_sub(Duration::from_secs(age)) else { continue };
            let gate = LeaseGate(Some(Arc::new(Term { start, renewed: AtomicU64::new(1), times })));
            // What the test itself takes is rounded away.
            let left = gate.permit(limit).map(|left| left.as_secs_f64().ceil());
            assert_eq!(left, expected.map(f64::from), "{age} s after the renewal");
        }

        gate.close();
        assert!(!gate.holds());
    }
}
