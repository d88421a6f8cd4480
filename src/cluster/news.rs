//! Saying once what is met again and again.

use std::time::{Duration, Instant};

/// What goes on unchanged is said again after this time, for logs that were rotated away.
const REMINDER: Duration = Duration::from_secs(10 * 60);

/// What was said last about one matter, so that a log is not flooded with it.
#[derive(Debug, Default)]
pub struct News(Option<(String, Instant)>);

impl News {
    /// Whether `text` is to be said now: it differs from what was said last, or that was ten minutes ago.
    pub fn is_new(&mut self, text: &str, now: Instant) -> bool {
        let known = self.0.as_ref();
        if known.is_some_and(|(said, at)| said == text && now.saturating_duration_since(*at) < REMINDER) {
            return false;
        }
        self.0 = Some((text.to_owned(), now));
        true
    }

    /// The matter is settled: what comes next is new. Answers whether anything had been said.
    pub fn settle(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_said_again_only_after_a_while() {
        let start = Instant::now();
        let mut news = News::default();
        for (second, text, new) in [
            (0, "down", true),
            (2, "down", false),
            (599, "down", false),
            (600, "down", true),
            (601, "forbidden", true),
            (602, "down", true),
            (603, "down", false),
        ] {
            assert_eq!(news.is_new(text, start + Duration::from_secs(second)), new, "{text} at {second} s");
        }
        assert!(news.settle());
        assert!(!news.settle(), "nothing was said since");
        assert!(news.is_new("down", start + Duration::from_secs(604)));
    }
}
