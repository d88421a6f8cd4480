//! What to do about the lease next: a pure function of what we know, what we saw, and our own monotonic clock.

use std::time::{Duration, Instant};

use super::LeaseTimes;

/// Who holds the lease, as one answer of the apiserver shows it.
///
/// The renewal time that the holder wrote is left out on purpose: it is another machine's clock. Any write changes
/// the resource version, and that we can date ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// `None` once released.
    pub(super) holder: Option<String>,
    /// resourceVersion.
    pub(super) version: String,
    /// How long the holder asks others to wait.
    pub(super) duration: Duration,
}

/// What the last request told us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Observation {
    /// Nothing: none was made yet, or it failed and may or may not have been carried out.
    Unknown,
    /// Our write met a newer version than the one it was made from.
    Outdated,
    /// There is no Lease of that name.
    Absent,
    /// The Lease as it is.
    Found(Record),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Read the Lease after this pause.
    Read(Duration),
    /// Create the Lease, held by us.
    Create,
    /// Write us in as the holder of the Lease that was found.
    Take,
    /// Write a new renewal time after this pause.
    Renew(Duration),
    /// Lead no more.
    GiveUp(Loss),
}

/// Why leadership ended against our will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// No renewal got through in time; someone else may hold the lease soon.
    #[error("the lease could not be renewed in time")]
    Deadline,
    /// Someone took it, which should not happen while we renew it: two processes may share an identity or disagree
    /// about the lease's duration.
    #[error("the lease was taken by {0}")]
    TakenBy(String),
    /// Someone removed the holder from the Lease.
    #[error("the lease's holder was cleared by someone else")]
    Cleared,
}

/// Another's lease and when we saw it change last.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    version: String,
    since: Instant,
    duration: Duration,
}

impl Seen {
    /// A lease that is seen for the first time.
    pub(super) fn new(record: &Record, now: Instant) -> Self {
        Seen { version: record.version.clone(), since: now, duration: record.duration }
    }

    /// The lease is seen again; it counts from now if it has changed.
    pub(super) fn again(&mut self, record: &Record, now: Instant) {
        if self.version != record.version {
            *self = Seen::new(record, now);
        }
    }

    /// How long it still counts.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.duration.saturating_sub(now.saturating_duration_since(self.since))
    }
}

#[derive(Clone, Debug)]
enum Phase {
    Waiting {
        /// The lease when it changed last, or when it was missing first.
        seen: Option<Seen>,
    },
    Leading {
        /// When the last renewal that succeeded was *sent*: the lease counts from some later moment.
        renewed: Instant,
    },
}

/// One process that wants to lead, or does.
#[derive(Clone, Debug)]
pub(super) struct Contender {
    identity: String,
    times: LeaseTimes,
    phase: Phase,
}

impl Contender {
    pub(super) fn new(identity: &str, times: LeaseTimes) -> Self {
        Contender { identity: identity.to_owned(), times, phase: Phase::Waiting { seen: None } }
    }

    pub(super) fn times(&self) -> LeaseTimes {
        self.times
    }

    /// A write that was sent at `sent` made, or left, us the holder.
    pub(super) fn won(&mut self, sent: Instant) {
        self.phase = Phase::Leading { renewed: sent };
    }

    pub(super) fn leads(&self) -> bool {
        matches!(self.phase, Phase::Leading { .. })
    }

    /// How long a request that is sent now may take. A leader learns of its end in time.
    pub(super) fn request_limit(&self, now: Instant) -> Duration {
        match &self.phase {
            Phase::Waiting { .. } => self.times.request_limit,
            Phase::Leading { renewed } => self.times.request_limit.min(self.deadline_left(*renewed, now)),
        }
    }

    /// What to do about `observation`, which was complete at `now`.
    pub(super) fn step(&mut self, observation: &Observation, now: Instant) -> Action {
        match &mut self.phase {
            Phase::Leading { renewed } => {
                let renewed = *renewed;
                self.step_leading(renewed, observation, now)
            }
            Phase::Waiting { seen } => {
                match observation {
                    Observation::Found(record) => {
                        seen.get_or_insert_with(|| Seen::new(record, now)).again(record, now);
                    }
                    // Helm brings the Lease a moment after our Deployment, and must find its place empty.
                    Observation::Absent => {
                        let duration = self.times.retry_every;
                        seen.get_or_insert_with(|| Seen { version: String::new(), since: now, duration });
                    }
                    Observation::Unknown | Observation::Outdated => {}
                }
                let left = seen.as_ref().map_or(Duration::ZERO, |seen| seen.left(now));
                self.step_waiting(left, observation)
            }
        }
    }

    /// `left`: how long the lease that we saw last still counts.
    fn step_waiting(&self, left: Duration, observation: &Observation) -> Action {
        match observation {
            Observation::Unknown => Action::Read(self.times.retry_every),
            Observation::Outdated => Action::Read(Duration::ZERO),
            // Ours already: the answer to a write of ours was lost, or our past self died without a release.
            Observation::Found(Record { holder, .. }) if holder.as_ref().is_none_or(|it| *it == self.identity) => {
                Action::Take
            }
            _ if left > Duration::ZERO => Action::Read(self.times.retry_every.min(left)),
            Observation::Found(_) => Action::Take,
            // Only now: the holder of a Lease that someone deleted goes on until its deadline.
            Observation::Absent => Action::Create,
        }
    }

    fn step_leading(&self, renewed: Instant, observation: &Observation, now: Instant) -> Action {
        let left = self.deadline_left(renewed, now);
        if left.is_zero() {
            return Action::GiveUp(Loss::Deadline);
        }
        match observation {
            Observation::Unknown => Action::Read(self.times.retry_every.min(left)),
            Observation::Outdated => Action::Read(Duration::ZERO),
            // Whoever uninstalls deletes the Lease a moment before this process is told to stop: one that is made again
            // at once would be left behind. A standby waits for longer than this.
            Observation::Absent if left > self.times.request_limit => {
                Action::Read(self.times.retry_every.min(left - self.times.request_limit))
            }
            Observation::Absent => Action::Create,
            Observation::Found(Record { holder: None, .. }) => Action::GiveUp(Loss::Cleared),
            Observation::Found(Record { holder: Some(holder), .. }) if *holder != self.identity => {
                Action::GiveUp(Loss::TakenBy(holder.clone()))
            }
            Observation::Found(_) => {
                Action::Renew(self.times.renew_every.saturating_sub(now.saturating_duration_since(renewed)))
            }
        }
    }

    fn deadline_left(&self, renewed: Instant, now: Instant) -> Duration {
        self.times.renew_deadline.saturating_sub(now.saturating_duration_since(renewed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;
    const RETRY: Duration = Duration::from_secs(2);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn found(holder: &str, version: u32) -> Observation {
        let holder = Some(holder.to_owned()).filter(|holder| !holder.is_empty());
        Observation::Found(Record { holder, version: version.to_string(), duration: seconds(15) })
    }

    /// Runs a contender called `me` through (second, observation, expected action).
    fn check(name: &str, leads: bool, rows: &[(u64, Observation, Action)]) {
        let start = Instant::now();
        let mut contender = Contender::new("me", LeaseTimes::default());
        if leads {
            contender.won(start);
        }
        for (row, (second, observation, expected)) in rows.iter().enumerate() {
            let action = contender.step(observation, start + seconds(*second));
            assert_eq!(action, *expected, "{name}, row {row}: at {second} s saw {observation:?}");
        }
    }

    #[test]
    fn a_standby_waits_for_what_it_saw_itself() {
        use Action::{Create, Read, Take};
        use Observation::{Absent, Outdated, Unknown};
        check("no lease yet", false, &[(0, Unknown, Read(RETRY)), (2, Absent, Read(RETRY)), (4, Absent, Create)]);
        check("installed a moment later", false, &[(0, Absent, Read(RETRY)), (2, found("", 1), Take)]);
        check("released", false, &[(0, found("", 1), Take)]);
        check("released later", false, &[(0, found("other", 1), Read(RETRY)), (2, found("", 2), Take)]);
        check("ours from before", false, &[(0, found("me", 1), Take)]);
        check(
            "a live holder is never taken from, however long we wait",
            false,
            &[
                (0, found("other", 1), Read(RETRY)),
                (14, found("other", 2), Read(RETRY)),
                (28, found("other", 3), Read(RETRY)),
                (42, found("other", 4), Read(RETRY)),
            ],
        );
        check(
            "a dead holder is taken from after the whole duration, counted from its last change",
            false,
            &[
                (0, found("other", 1), Read(RETRY)),
                (10, found("other", 2), Read(RETRY)),
                (24, found("other", 2), Read(seconds(1))),
                (25, found("other", 2), Take),
            ],
        );
        check(
            "another standby was faster: its lease counts from when we saw it",
            false,
            &[
                (0, found("other", 1), Read(RETRY)),
                (15, found("other", 1), Take),
                (15, Outdated, Read(NOW)),
                (15, found("third", 2), Read(RETRY)),
                (29, found("third", 2), Read(seconds(1))),
                (30, found("third", 2), Take),
            ],
        );
        check(
            "failed reads prove nothing about the holder and stop no clock",
            false,
            &[(0, found("other", 1), Read(RETRY)), (14, Unknown, Read(RETRY)), (16, found("other", 1), Take)],
        );
        check(
            "the holder of a deleted lease is waited for",
            false,
            &[
                (0, found("other", 1), Read(RETRY)),
                (2, Absent, Read(RETRY)),
                (14, Absent, Read(seconds(1))),
                (15, Absent, Create),
            ],
        );
    }

    #[test]
    fn the_holders_own_duration_counts() {
        let start = Instant::now();
        let mut contender = Contender::new("me", LeaseTimes::default());
        let record = Record { holder: Some("other".to_owned()), version: "1".to_owned(), duration: seconds(60) };
        let observation = Observation::Found(record);
        assert_eq!(contender.step(&observation, start), Action::Read(RETRY));
        assert_eq!(contender.step(&observation, start + seconds(59)), Action::Read(seconds(1)));
        assert_eq!(contender.step(&observation, start + seconds(60)), Action::Take);
    }

    #[test]
    fn a_leader_renews_and_stops_in_time() {
        use Action::{Create, GiveUp, Read, Renew};
        use Observation::{Absent, Outdated, Unknown};
        check(
            "renewal is every 5 s from the last one sent",
            true,
            &[
                (0, found("me", 1), Renew(seconds(5))),
                (1, found("me", 1), Renew(seconds(4))),
                (6, found("me", 1), Renew(NOW)),
            ],
        );
        check(
            "a renewal that fails is retried, and lost at 10 s although the lease itself runs to 15 s",
            true,
            &[
                (5, Unknown, Read(RETRY)),
                (7, found("me", 1), Renew(NOW)),
                (9, Unknown, Read(seconds(1))),
                (10, found("me", 1), GiveUp(Loss::Deadline)),
            ],
        );
        check(
            "a renewal whose answer was lost: the next one conflicts, is read, and is ours",
            true,
            &[(5, Unknown, Read(RETRY)), (7, Outdated, Read(NOW)), (7, found("me", 2), Renew(NOW))],
        );
        check(
            "taken",
            true,
            &[(5, Outdated, Read(NOW)), (5, found("other", 2), GiveUp(Loss::TakenBy("other".to_owned())))],
        );
        check("cleared", true, &[(5, Outdated, Read(NOW)), (5, found("", 2), GiveUp(Loss::Cleared))]);
        check(
            "deleted while it counts: made again just in time, unless we are told to stop meanwhile",
            true,
            &[(5, Outdated, Read(NOW)), (5, Absent, Read(RETRY)), (7, Absent, Create)],
        );
        check("deleted, with half a pause left", true, &[(6, Absent, Read(seconds(1)))]);
        check("deleted too late", true, &[(10, Absent, GiveUp(Loss::Deadline))]);
    }

    #[test]
    fn no_request_of_a_leader_outlasts_its_deadline() {
        let start = Instant::now();
        let mut contender = Contender::new("me", LeaseTimes::default());
        assert_eq!(contender.request_limit(start), seconds(3));
        contender.won(start);
        for (second, limit) in [(0, 3), (7, 3), (9, 1), (10, 0), (99, 0)] {
            assert_eq!(contender.request_limit(start + seconds(second)), seconds(limit), "at {second} s");
        }
    }
}
