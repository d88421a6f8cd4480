//! When a revision that was given up for want of room is tried again.
//!
//! Room is the cluster's: quota, free nodes, a claim or an account that is missing. Nothing of the revision itself has
//! to change for it to succeed. Whether there is room only its pods can find out, so they are made again now and then.

use jiff::{SignedDuration, Timestamp};

use super::progress::deadline;
use crate::api::RolloutStatus;

/// Longest pause between two tries.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// After so long it is not tried again: somebody has to do something about it.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// When a revision that was given up is tried again; `None` if it is not, since its pods failed by themselves.
///
/// The pause is as long as it has been tried and waited for so far, so each is twice as long as the one before.
pub fn retry_at(rollout: &RolloutStatus, patience: SignedDuration) -> Option<Timestamp> {
    let found_no_room = rollout.failed.is_some() && rollout.counting.is_none();
    let given_up_at = deadline(rollout, patience);
    let tried = given_up_at.duration_since(rollout.start_time.0);
    (found_no_room && tried < LONGEST).then(|| {
        let pause = tried.clamp(SignedDuration::from_secs(1), LONGEST_PAUSE);
        given_up_at.checked_add(pause).unwrap_or(Timestamp::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    /// A rollout that began at minute 0 and last came further then, of pods that found no room, or that failed.
    fn given_up(progress: i64, counting: Option<i64>) -> RolloutStatus {
        let failed = Some("why".to_owned());
        RolloutStatus {
            revision: 2,
            start_time: Time(at(0)),
            progress_time: Time(at(progress)),
            progress: 1,
            counting,
            failed,
        }
    }

    #[test]
    fn pauses_double_up_to_an_hour_and_end_after_a_day() {
        let patience = SignedDuration::from_mins(10);
        let cases = [(0, Some(20)), (20, Some(60)), (60, Some(130)), (500, Some(570)), (1_440, None)];
        for (progress, expected) in cases {
            assert_eq!(retry_at(&given_up(progress, None), patience), expected.map(at), "{progress}");
        }
        assert_eq!(retry_at(&given_up(0, Some(2)), patience), None, "its pods failed by themselves");
        let on_its_way = RolloutStatus { failed: None, ..given_up(0, None) };
        assert_eq!(retry_at(&on_its_way, patience), None);
    }
}
