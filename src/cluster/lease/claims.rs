//! Namespaces that belong to other operators, which the operator of the whole cluster leaves alone.
//!
//! A Lease of scope namespace is a claim to its namespace, by its mere existence: whether its holder is at work changes with
//! every restart, and two operators that take turns would undo each other's work. When the Lease is deleted, the namespace
//! comes back; if somebody held it last, only after the lease's duration, since that one may not know yet.
//!
//! Why nobody writes beside another when a claim is new: the claimant makes itself the Lease's holder and then waits for one
//! lease's duration before its first write. The operator of the whole cluster counts a renewal of its own Lease only after
//! its watch of Leases has shown it ([`super::gate`]), and with it every claim before it. So at each of its writes either
//! the claim is known, or the last renewal that counts is older than the claim, and a write that it admits ends within the
//! lease's duration of it: before the claimant's first. A restart of the claimant need not wait, as the claim stood all the
//! time.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::decision::Record;

#[derive(Clone, Debug)]
struct Claim {
    /// How long whoever held it last may go on when the Lease is deleted; zero if nobody did.
    farewell: Duration,
    /// When we saw that the Lease is gone.
    gone: Option<Instant>,
}

impl Claim {
    fn ends(&self) -> Option<Instant> {
        self.gone.map(|gone| gone + self.farewell)
    }
}

/// The claims that stand, by namespace.
#[derive(Debug, Default)]
pub(crate) struct Claims(BTreeMap<String, Claim>);

impl Claims {
    /// There is such a Lease.
    pub(crate) fn seen(&mut self, namespace: &str, record: &Record) {
        let farewell = if record.holder.is_some() { record.duration } else { Duration::ZERO };
        self.0.insert(namespace.to_owned(), Claim { farewell, gone: None });
    }

    /// There is none any more.
    pub(crate) fn gone(&mut self, namespace: &str, now: Instant) {
        if let Some(claim) = self.0.get_mut(namespace) {
            claim.gone.get_or_insert(now);
        }
    }

    /// A list is complete: there is none in any other namespace.
    pub(crate) fn only(&mut self, listed: &BTreeSet<String>, now: Instant) {
        for (_, claim) in self.0.iter_mut().filter(|(namespace, _)| !listed.contains(*namespace)) {
            claim.gone.get_or_insert(now);
        }
    }

    /// Forgets the claims that have ended by now; answers the namespaces that are left alone.
    pub(crate) fn standing(&mut self, now: Instant) -> BTreeSet<String> {
        self.0.retain(|_, claim| claim.ends().is_none_or(|ends| ends > now));
        self.0.keys().cloned().collect()
    }

    /// When the next claim ends whose Lease is gone.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.0.values().filter_map(Claim::ends).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_stands_until_its_holder_must_have_stopped() {
        enum Event {
            Seen(&'static str, &'static str),
            Gone(&'static str),
            Only(&'static [&'static str]),
            Nothing,
        }
        use Event::{Gone, Nothing, Only, Seen};
        let rows: [(u64, Event, &[&str], Option<u64>); 13] = [
            (0, Nothing, &[], None),
            (1, Seen("a", ""), &["a"], None),
            (2, Gone("a"), &[], None),
            (3, Gone("never-there"), &[], None),
            (4, Seen("a", "x"), &["a"], None),
            (5, Gone("a"), &["a"], Some(20)),
            (6, Gone("a"), &["a"], Some(20)),
            (19, Seen("b", "y"), &["a", "b"], Some(20)),
            (20, Nothing, &["b"], None),
            (21, Only(&["b"]), &["b"], None),
            (22, Only(&[]), &["b"], Some(37)),
            // Its holder made it again.
            (23, Seen("b", "y"), &["b"], None),
            (99, Nothing, &["b"], None),
        ];
        let (start, mut claims) = (Instant::now(), Claims::default());
        for (second, event, left_alone, next_end) in rows {
            let now = start + Duration::from_secs(second);
            match event {
                Seen(namespace, holder) => {
                    let holder = Some(holder.to_owned()).filter(|holder| !holder.is_empty());
                    let record = Record { holder, version: "1".to_owned(), duration: Duration::from_secs(15) };
                    claims.seen(namespace, &record);
                }
                Gone(namespace) => claims.gone(namespace, now),
                Only(listed) => claims.only(&listed.iter().map(|it| (*it).to_owned()).collect(), now),
                Nothing => {}
            }
            assert_eq!(claims.standing(now).into_iter().collect::<Vec<_>>(), left_alone, "at {second} s");
            assert_eq!(claims.next_end(), next_end.map(|end| start + Duration::from_secs(end)), "at {second} s");
        }
    }
}
