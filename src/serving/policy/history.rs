//! Which revisions are forgotten.

/// The revisions to forget: of those that nobody uses, all but the newest `limit`.
pub fn outdated(unused: impl IntoIterator<Item = i64>, limit: usize) -> Vec<i64> {
    let mut unused: Vec<i64> = unused.into_iter().collect();
    unused.sort_unstable();
    unused.truncate(unused.len().saturating_sub(limit));
    unused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        assert_eq!(outdated([4, 1, 3], 1), [1, 3]);
        assert_eq!(outdated([4, 1, 3], 0), [1, 3, 4]);
        assert!(outdated([1], 10).is_empty());
    }
}
