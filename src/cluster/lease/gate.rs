//! Whether this process may write now.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::LeaseTimes;
use crate::cluster::watch::locked;

/// Tells whether we may write now. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct LeaseGate(Option<Arc<Term>>);

#[derive(Debug)]
struct Term {
    /// Counted from here, because atomics hold numbers and not instants.
    start: Instant,
    /// Microseconds from `start` until the last renewal that counts was sent, plus one; 0 while we do not lead.
    renewed: AtomicU64,
    times: LeaseTimes,
    renewals: Mutex<Renewals>,
}

impl LeaseGate {
    /// Open for ever, for tests of what stands behind it.
    #[cfg(test)]
    pub(crate) fn always() -> Self {
        LeaseGate(None)
    }

    pub(super) fn closed(times: LeaseTimes) -> Self {
        let (start, renewed) = (Instant::now(), AtomicU64::new(0));
        LeaseGate(Some(Arc::new(Term { start, renewed, times, renewals: Mutex::default() })))
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
        left_to_write(&term.times, term.start.elapsed().saturating_sub(renewed), limit)
    }

    /// A renewal that was sent at `sent` made the Lease's resourceVersion `version`.
    pub(super) fn open(&self, sent: Instant, version: &str) {
        if let Some(term) = &self.0 {
            let counts = locked(&term.renewals).sent(version, sent);
            term.count_from(counts);
        }
    }

    /// From now on a renewal counts only once a watch has shown it, see [`Renewals`].
    pub(super) fn count_what_is_shown(&self) {
        if let Some(term) = &self.0 {
            locked(&term.renewals).counted = Counted::Shown;
        }
    }

    /// Stays shut until [`LeaseGate::end_wait`]: the lease is a new claim, see [`super::claims`].
    pub(super) fn begin_wait(&self) {
        if let Some(term) = &self.0 {
            locked(&term.renewals).counted = Counted::Nothing;
        }
    }

    /// Whether it is shut for that reason.
    pub(super) fn waits(&self) -> bool {
        self.0.as_ref().is_some_and(|term| locked(&term.renewals).counted == Counted::Nothing)
    }

    /// The wait of a new claim is over. Without one, nothing changes.
    pub fn end_wait(&self) {
        if let Some(term) = &self.0 {
            let counts = locked(&term.renewals).end_wait();
            term.count_from(counts);
        }
    }

    /// The watch has shown our Lease at that resourceVersion, and all that happened to other Leases before.
    pub(super) fn shown(&self, version: &str) {
        if let Some(term) = &self.0 {
            let counts = locked(&term.renewals).shown(version);
            term.count_from(counts);
        }
    }

    pub(super) fn close(&self) {
        if let Some(term) = &self.0 {
            locked(&term.renewals).closed = true;
            term.renewed.store(0, Ordering::Release);
        }
    }
}

impl Term {
    fn count_from(&self, sent: Option<Instant>) {
        let Some(sent) = sent else { return };
        let micros = sent.saturating_duration_since(self.start).as_micros();
        // 64 bits of microseconds are half a million years. Two threads may come here in either order.
        self.renewed.fetch_max(u64::try_from(micros).unwrap_or(u64::MAX - 1) + 1, Ordering::AcqRel);
    }
}

/// How long a write may take that begins so long after the last renewal that counts was sent.
fn left_to_write(times: &LeaseTimes, age: Duration, limit: Duration) -> Option<Duration> {
    (age < times.renew_deadline).then(|| limit.min(times.duration - age))
}

/// Which renewals count.
///
/// The operator of a whole cluster must know of every claim that another has laid to a namespace (see
/// [`super::claims`]) before it writes there. Its watch of Leases shows claims and its own renewals in the order in
/// which etcd took them. So a renewal that the watch has shown vouches for all claims before it; one that it has not
/// shown vouches for nothing, and does not count: a watch that hangs closes the gate like a renewal that fails.
#[derive(Debug, Default)]
struct Renewals {
    counted: Counted,
    closed: bool,
    /// The last ones that were sent, oldest first: resourceVersion and when.
    sent: VecDeque<(String, Instant)>,
    /// What the watch has shown last. It may be faster than the answer to the renewal.
    shown: String,
}

/// When a renewal counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Counted {
    /// Once it was answered.
    #[default]
    Answered,
    /// Once a watch has shown it.
    Shown,
    /// Not yet.
    Nothing,
}

/// More renewals than fit into a lease's duration: older ones are of no use.
const RENEWALS_KEPT: usize = 8;

impl Renewals {
    /// Answers from when the gate counts now, if that changes.
    fn sent(&mut self, version: &str, at: Instant) -> Option<Instant> {
        self.sent.push_back((version.to_owned(), at));
        if self.sent.len() > RENEWALS_KEPT {
            self.sent.pop_front();
        }
        let counts = match self.counted {
            Counted::Answered => true,
            Counted::Shown => self.shown == version,
            Counted::Nothing => false,
        };
        (counts && !self.closed).then_some(at)
    }

    fn shown(&mut self, version: &str) -> Option<Instant> {
        version.clone_into(&mut self.shown);
        let (_, at) = self.sent.iter().find(|(sent, _)| sent == version)?;
        (!self.closed).then_some(*at)
    }

    fn end_wait(&mut self) -> Option<Instant> {
        if self.counted != Counted::Nothing {
            return None;
        }
        self.counted = Counted::Answered;
        let (_, last) = self.sent.back()?;
        (!self.closed).then_some(*last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

        gate.open(Instant::now(), "1");
        assert_eq!(gate.permit(limit), Some(limit), "a fresh lease leaves all the time");

        // Seconds since the renewal -> what is left for a write.
        for (age, expected) in [(4, Some(10)), (6, Some(9)), (9, Some(6)), (10, None), (14, None), (99, None)] {
            let left = left_to_write(&times, Duration::from_secs(age), limit);
            assert_eq!(left, expected.map(Duration::from_secs), "{age} s after the renewal");
        }

        gate.close();
        assert!(!gate.holds());
        gate.shown("1");
        assert!(!gate.holds(), "a term that is over stays so, whatever a watch shows late");
    }

    #[test]
    fn a_renewal_counts_when_the_watch_has_shown_it() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut renewals = Renewals::default();
        assert_eq!(renewals.sent("1", at(0)), Some(at(0)), "no watch yet");
        renewals.counted = Counted::Shown;
        assert_eq!(renewals.sent("2", at(5)), None);
        assert_eq!(renewals.shown("1"), Some(at(0)));
        assert_eq!(renewals.shown("2"), Some(at(5)));
        assert_eq!(renewals.shown("3"), None, "faster than the answer");
        assert_eq!(renewals.sent("3", at(10)), Some(at(10)));
        assert_eq!(renewals.shown("4"), None, "not a renewal: somebody set a label");
        assert_eq!(renewals.sent("5", at(15)), None);
        assert_eq!(renewals.end_wait(), None, "no wait, nothing to end");
        assert_eq!(renewals.sent("6", at(20)), None);
    }

    #[test]
    fn nothing_counts_while_a_new_claim_waits() {
        let gate = LeaseGate::closed(LeaseTimes::default());
        gate.begin_wait();
        gate.open(Instant::now(), "1");
        assert!(gate.waits() && !gate.holds());
        gate.end_wait();
        assert!(!gate.waits() && gate.holds(), "the last renewal counts at once");

        let over = LeaseGate::closed(LeaseTimes::default());
        over.begin_wait();
        over.open(Instant::now(), "1");
        over.close();
        assert!(over.waits(), "a term that ended before had not waited");
        over.end_wait();
        assert!(!over.holds());
    }

    proptest! {
        /// Two operators, one clock in milliseconds: ours renews every 5 s, and its watch shows what happened up to `lag`
        /// ago; another lays a claim at `claimed` and writes one lease's duration later. None of our writes, each begun
        /// when the gate and the claims known so far allow it, is then still under way.
        #[test]
        fn no_write_is_under_way_when_another_begins(
            claimed in 0_u64..60_000,
            lags in prop::collection::vec(prop_oneof![0_u64..50, 0_u64..40_000], 30),
            answers in prop::collection::vec(0_u64..3_000, 30),
        ) {
            let times = LeaseTimes::default();
            let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
            let start = Instant::now();
            let at = |ms| start + Duration::from_millis(ms);
            // What etcd took, in its order: our renewals, somewhere between being sent and answered, and the claim.
            let mut log: Vec<(u64, Option<u64>)> = Vec::new();
            let mut renewals = vec![(0, 0, 0)];
            for answer in &answers {
                let sent = renewals.last().map_or(0, |(_, _, answered)| *answered) + millis(times.renew_every);
                renewals.push((sent, sent + answer / 2, sent + answer));
            }
            log.extend(renewals.iter().map(|(sent, taken, _)| (*taken, Some(*sent))));
            log.push((claimed, None));
            log.sort();
            let mut known = Renewals { counted: Counted::Shown, ..Renewals::default() };
            let (mut shown, mut counts, mut claim_known, mut answered) = (0, None, false, 0);
            for now in (0..120_000_u64).step_by(250) {
                while answered < renewals.len() && renewals[answered].2 <= now {
                    let (sent, ..) = renewals[answered];
                    counts = known.sent(&sent.to_string(), at(sent)).max(counts);
                    answered += 1;
                }
                let lag = lags[usize::try_from(now / 4_000).unwrap() % lags.len()];
                while shown < log.len() && log[shown].0 + lag <= now {
                    match log[shown].1 {
                        Some(sent) => counts = known.shown(&sent.to_string()).max(counts),
                        None => claim_known = true,
                    }
                    shown += 1;
                }
                let age = counts.map(|counts| at(now).saturating_duration_since(counts));
                let left = age.and_then(|age| left_to_write(&times, age, Duration::from_secs(10)));
                if let (Some(left), false) = (left, claim_known) {
                    let other_writes = claimed + millis(times.duration);
                    prop_assert!(now + millis(left) <= other_writes, "a write from {now} ms on ends after {other_writes} ms");
                }
            }
        }
    }
}
