//! Sets of ranks as short text: `0-3,7`, the form in which Kubernetes' Jobs keep completed indexes.

use std::collections::BTreeSet;

/// Writes ranks as ranges.
pub fn write(ranks: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &rank in ranks {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(rank) => *last = rank,
            _ => ranges.push((rank, rank)),
        }
    }
    let range = |(first, last): (u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(",")
}

/// Reads ranks below `nodes`; what cannot be read counts for none, since a rank that is taken for done by mistake would
/// end the job too early.
pub fn read(text: &str, nodes: u32) -> BTreeSet<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?.min(nodes.checked_sub(1)?))
    };
    text.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn is_short_and_forgiving() {
        assert_eq!(write(&[0, 1, 2, 7, 9, 10].into()), "0-2,7,9-10");
        assert_eq!(write(&BTreeSet::new()), "");
        assert_eq!(read("0-4000000000,x,-,9", 3), [0, 1, 2].into());
        assert_eq!(read("", 3), BTreeSet::new());
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(ranks in prop::collection::btree_set(0u32..1_000, 0..50)) {
            prop_assert_eq!(read(&write(&ranks), 1_000), ranks);
        }
    }
}
