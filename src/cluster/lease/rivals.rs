//! Other operators of the whole cluster, whose Leases are in other namespaces: may we lead beside them?
//!
//! We may not. An operator first makes itself the holder of its own Lease and then lists the others'. Of two that do so,
//! at least one sees the other: the apiserver answers a list with everything that was written before it, and whoever
//! wrote second lists after both writes. One that sees another gives its own Lease back; if both do, they come again after
//! random pauses.
//!
//! Whether another lives is judged like the lease of our own namespace: it does until its Lease was seen unchanged for its
//! whole duration, on our monotonic clock. By then its gate is closed, because it counts from when a renewal was sent,
//! which is before we saw it. It never renews again (`decision.rs` gives up at the deadline): its next life begins with a
//! look at ours.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::decision::{Record, Seen};

/// Another operator of the whole cluster that may be at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Namespace of its Lease.
    pub namespace: String,
    /// Who holds that.
    pub holder: String,
}

/// The others' Leases, as we saw them change.
#[derive(Debug, Default)]
pub(super) struct Rivals(BTreeMap<String, Seen>);

impl Rivals {
    /// Takes in a complete list of the others' Leases, by namespace, that was answered at `now`; tells of one that counts.
    pub(super) fn judge(&mut self, found: &BTreeMap<String, Record>, now: Instant) -> Option<Rival> {
        self.0.retain(|namespace, _| found.contains_key(namespace));
        let mut rivals = found.iter().filter_map(|(namespace, record)| {
            let seen = self.0.entry(namespace.clone()).or_insert_with(|| Seen::new(record, now));
            seen.again(record, now);
            let holder = record.holder.clone()?;
            (seen.left(now) > Duration::ZERO).then(|| Rival { namespace: namespace.clone(), holder })
        });
        // All of them are looked at, for the sake of when they changed.
        let first = rivals.next();
        rivals.for_each(drop);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn lease(holder: &str, version: u32) -> Record {
        let holder = Some(holder.to_owned()).filter(|holder| !holder.is_empty());
        Record { holder, version: version.to_string(), duration: seconds(15) }
    }

    #[test]
    fn another_counts_while_its_lease_changes() {
        type Leases = &'static [(&'static str, &'static str, u32)];
        let rows: [(u64, Leases, Option<&str>); 11] = [
            (0, &[], None),
            (1, &[("a", "", 1)], None),
            (2, &[("a", "x", 2)], Some("a")),
            (16, &[("a", "x", 3)], Some("a")),
            (30, &[("a", "x", 3), ("b", "y", 7)], Some("a")),
            (31, &[("a", "x", 3), ("b", "y", 7)], Some("b")),
            (44, &[("a", "x", 3), ("b", "y", 7)], Some("b")),
            (45, &[("a", "x", 3), ("b", "y", 7)], None),
            (46, &[("a", "", 4), ("b", "z", 8)], Some("b")),
            (47, &[("a", "", 4)], None),
            // Deleted and there again: nothing is known of it any more.
            (99, &[("a", "", 4), ("b", "z", 8)], Some("b")),
        ];
        let (start, mut rivals) = (Instant::now(), Rivals::default());
        for (second, leases, expected) in rows {
            let found =
                leases.iter().map(|(namespace, holder, version)| ((*namespace).to_owned(), lease(holder, *version)));
            let rival = rivals.judge(&found.collect(), start + seconds(second));
            assert_eq!(rival.as_ref().map(|rival| rival.namespace.as_str()), expected, "at {second} s");
        }
    }

    proptest! {
        /// Operators that start from nothing take two steps each, in any order: write their own Lease, then look at all.
        #[test]
        fn of_operators_that_write_and_then_look_at_most_one_leads(steps in prop::collection::vec(0_usize..4, 8..24)) {
            let now = Instant::now();
            let mut leases: BTreeMap<String, Record> = BTreeMap::new();
            let (mut wrote, mut leads) = ([false; 4], [false; 4]);
            for operator in steps {
                let own = operator.to_string();
                if !wrote[operator] {
                    leases.insert(own.clone(), lease(&own, 1));
                    wrote[operator] = true;
                } else if !leads[operator] {
                    let others = leases.iter().filter(|(namespace, _)| **namespace != own);
                    let others = others.map(|(namespace, record)| (namespace.clone(), record.clone())).collect();
                    leads[operator] = Rivals::default().judge(&others, now).is_none();
                    wrote[operator] = leads[operator];
                    if !leads[operator] {
                        leases.insert(own, lease("", 2));
                    }
                }
                prop_assert!(leads.iter().filter(|leads| **leads).count() <= 1);
            }
        }
    }
}
