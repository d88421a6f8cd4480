//! Which of several failures came first.
//!
//! When one rank dies the others fail a moment later, with errors about their lost peer. Their exit codes are echoes:
//! PyTorch's peers end with 1 within a second, JAX's with 134 (SIGABRT).

use jiff::{SignedDuration, Timestamp};

use crate::api::Cause;
use crate::cluster::pod_state::Failure;

/// Kubelets report ends up to a second late, each on its own: an echo may be seen before its cause.
const SETTLE: SignedDuration = SignedDuration::from_millis(1_500);

/// The failure that explains the others.
pub fn culprit(failures: &[Failure]) -> Option<&Failure> {
    failures.iter().min_by_key(|failure| (failure.time.as_second(), echo_likelihood(failure), failure.rank))
}

/// When the failures seen so far can be judged; `None` when that is now.
///
/// `others_run` tells that ranks are left whose end may be on its way. A failure time that lies in the future or long
/// past is another clock's: nothing is waited for then.
pub fn settles_at(failures: &[Failure], others_run: bool, now: Timestamp) -> Option<Timestamp> {
    let first = failures.iter().map(|failure| failure.time).min()?;
    // A deletion or an eviction is no echo of anything.
    let could_be_echo = culprit(failures).is_some_and(|failure| failure.exit_code.is_some());
    let passed = now.duration_since(first);
    let settling = SignedDuration::ZERO <= passed && passed < SETTLE;
    (others_run && could_be_echo && settling).then(|| now + (SETTLE - passed))
}

/// Within one second (Kubernetes writes no fractions) the likelier cause comes first.
fn echo_likelihood(failure: &Failure) -> u8 {
    match (failure.cause, failure.exit_code) {
        (Cause::OutOfMemory | Cause::Disrupted | Cause::Lost | Cause::NotStarted | Cause::LimitExceeded, _) => 0,
        (Cause::ExitCode, Some(1 | 134)) => 2,
        (Cause::ExitCode, _) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::pod_state::lost;

    fn millis(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn failed(rank: u32, at: i64, exit_code: i32) -> Failure {
        Failure { cause: Cause::ExitCode, exit_code: Some(exit_code), ..lost("p", "p", rank, millis(at)) }
    }

    #[test]
    fn the_first_failure_explains_the_others() {
        let out_of_memory = Failure { cause: Cause::OutOfMemory, ..failed(5, 1_000, 137) };
        let cases = [
            ("earliest", vec![failed(0, 2_000, 1), failed(1, 1_000, 1)], 1),
            ("SIGKILL before its echo in one second", vec![failed(0, 1_000, 1), failed(1, 1_000, 137)], 1),
            ("SIGABRT is JAX's echo", vec![failed(0, 1_000, 134), failed(1, 1_000, 3)], 1),
            ("memory before a kill", vec![failed(2, 1_000, 137), out_of_memory], 5),
            ("lowest rank", vec![failed(3, 1_000, 1), failed(2, 1_000, 1)], 2),
        ];
        for (case, failures, rank) in &cases {
            assert_eq!(culprit(failures).unwrap().rank, *rank, "{case}");
        }
        assert_eq!(culprit(&[]), None);
    }

    #[test]
    fn waits_a_moment_for_the_real_cause() {
        let one = [failed(0, 10_000, 1)];
        assert_eq!(settles_at(&one, true, millis(10_200)), Some(millis(11_500)));
        assert_eq!(settles_at(&one, false, millis(10_200)), None, "nobody is left to wait for");
        assert_eq!(settles_at(&one, true, millis(11_500)), None, "settled");
        assert_eq!(settles_at(&one, true, millis(9_000)), None, "the node's clock is ahead");
        assert_eq!(settles_at(&[lost("p", "p", 0, millis(10_000))], true, millis(10_200)), None, "no echo");
    }
}
