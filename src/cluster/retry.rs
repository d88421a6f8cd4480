//! How long to wait before a restart.

use jiff::SignedDuration;

/// The shortest wait, whatever is asked for: a pod that fails at once and is allowed a thousand restarts would otherwise keep
/// the apiserver and the nodes busy with nothing else.
pub const SHORTEST_WAIT: SignedDuration = SignedDuration::from_secs(1);

/// Doubles `initial` with every restart after the first, up to `max`. `restarts` counts the one that is waited for.
pub fn wait_before(restarts: i32, initial: SignedDuration, max: SignedDuration) -> SignedDuration {
    let doublings = restarts.saturating_sub(1).clamp(0, 30);
    initial.checked_mul(1 << doublings).unwrap_or(max).min(max).max(SHORTEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest() {
        let (initial, max) = (SignedDuration::from_secs(2), SignedDuration::from_secs(10));
        for (restarts, seconds) in [(1, 2), (2, 4), (3, 8), (4, 10), (1_000, 10)] {
            assert_eq!(wait_before(restarts, initial, max), SignedDuration::from_secs(seconds), "restart {restarts}");
        }
        assert_eq!(wait_before(1, SignedDuration::ZERO, max), SHORTEST_WAIT, "0s");
        assert_eq!(wait_before(9, initial, SignedDuration::ZERO), SHORTEST_WAIT, "at most 0s");
        assert_eq!(wait_before(1, SignedDuration::from_secs(60), max), max, "initial above max");
    }
}
