//! Who wrote how much on behalf of our objects: counting the audit log.

use std::collections::BTreeMap;

use super::audit::Entry;
use crate::operator::OPERATOR_USER;

/// A client whose writes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Writer {
    /// Trainyard.
    Operator,
    /// The controllers of kube-controller-manager.
    Controllers,
    /// This program, which plays the user.
    User,
    /// Anyone else.
    Other,
}

impl Writer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Operator => "trainyard",
            Self::Controllers => "controller manager",
            Self::User => "user",
            Self::Other => "others",
        }
    }

    /// Whose a user name is. None for the scheduler and the nodes, which every pod costs, whoever made it.
    fn of(user: &str) -> Option<Self> {
        match user {
            "system:kube-scheduler" | "kwok" => None,
            OPERATOR_USER => Some(Self::Operator),
            "trainyard-e2e" => Some(Self::User),
            "system:kube-controller-manager" => Some(Self::Controllers),
            _ if user.starts_with("system:node:") => None,
            _ if user.starts_with("system:serviceaccount:kube-system:") => Some(Self::Controllers),
            _ => Some(Self::Other),
        }
    }
}

/// Writes in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Writes that succeeded, without Events.
    pub(super) writes: BTreeMap<Writer, usize>,
    /// Events written.
    pub(super) events: usize,
    /// Writes that were refused or came too late; they cost the apiserver as much.
    pub(super) refused: usize,
    /// Changes of an EndpointSlice after its creation and before the last status: waves of starts.
    pub(super) waves: usize,
    /// Everything above but Events, by client and kind.
    pub(super) kinds: BTreeMap<(Writer, String), usize>,
}

impl Tally {
    /// Counts what was written in a namespace, save what every namespace gets at its start.
    pub(super) fn of(entries: &[Entry], namespace: &str) -> Self {
        let (mut tally, mut changes) = (Self::default(), 0);
        let here = entries.iter().filter(|entry| entry.object.namespace == namespace && entry.is_write());
        for entry in here.filter(|entry| !is_set_up(entry)) {
            let Some(writer) = Writer::of(&entry.user.username) else { continue };
            if !entry.succeeded() {
                tally.refused += 1;
                let what = format!("{} -> {}", entry.what(), entry.response_status.code);
                *tally.kinds.entry((writer, what)).or_default() += 1;
                continue;
            }
            if entry.object.resource == "events" {
                tally.events += 1;
                continue;
            }
            *tally.writes.entry(writer).or_default() += 1;
            *tally.kinds.entry((writer, entry.what())).or_default() += 1;
            // Names go out of the slice when the job has ended; that is no wave of starts.
            match entry.what().as_str() {
                "patch endpointslices" => changes += 1,
                "patch trainingjobs/status" => tally.waves = changes,
                _ => {}
            }
        }
        tally
    }

    /// Writes of one client.
    pub(super) fn by(&self, writer: Writer) -> usize {
        self.writes.get(&writer).copied().unwrap_or_default()
    }

    /// Writes of every client that is counted, but for the user's own.
    pub(super) fn total(&self) -> usize {
        self.writes.iter().filter(|(writer, _)| **writer != Writer::User).map(|(_, count)| count).sum()
    }
}

/// Each kind of write with its mean over so many objects.
pub(super) fn means(tallies: &[Tally], objects: usize) -> String {
    let mut sums: BTreeMap<&(Writer, String), usize> = BTreeMap::new();
    for (kind, count) in tallies.iter().flat_map(|tally| &tally.kinds) {
        *sums.entry(kind).or_default() += count;
    }
    let said = sums.into_iter().map(|((writer, what), sum)| format!("{} {what} {}", writer.name(), mean(sum, objects)));
    said.collect::<Vec<_>>().join(", ")
}

/// So many for each of the objects.
pub(super) fn mean(count: usize, objects: usize) -> String {
    #[allow(clippy::cast_precision_loss, reason = "small counts")]
    let mean = count as f64 / objects as f64;
    format!("{mean:.1}")
}

fn is_set_up(entry: &Entry) -> bool {
    matches!(
        (entry.object.resource.as_str(), entry.object.name.as_str()),
        ("namespaces", _) | ("serviceaccounts", "default") | ("configmaps", "kube-root-ca.crt")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::audit::parse;
    use serde_json::json;

    const GC: &str = "system:serviceaccount:kube-system:generic-garbage-collector";

    fn entries(lines: &[(&str, &str, &str, &str, &str, u16)]) -> Vec<Entry> {
        let line = |&(user, verb, resource, subresource, name, code): &(&str, &str, &str, &str, &str, u16)| {
            let line = json!({
                "verb": verb, "user": {"username": user}, "responseStatus": {"code": code},
                "objectRef": {"resource": resource, "subresource": subresource, "namespace": "n", "name": name},
                "requestReceivedTimestamp": "2026-01-02T03:04:05Z", "stageTimestamp": "2026-01-02T03:04:05Z",
            });
            format!("{line}\n")
        };
        parse(&lines.iter().map(line).collect::<String>()).unwrap()
    }

    #[test]
    fn counts_what_the_table_says() {
        // (line, [operator, controllers, user, others, Events, refused])
        let cases = [
            ((OPERATOR_USER, "create", "pods", "", "p", 201), [1, 0, 0, 0, 0, 0]),
            ((OPERATOR_USER, "patch", "trainingjobs", "status", "j", 200), [1, 0, 0, 0, 0, 0]),
            ((OPERATOR_USER, "create", "endpointslices", "", "s", 201), [1, 0, 0, 0, 0, 0]),
            ((OPERATOR_USER, "patch", "endpointslices", "", "s", 200), [1, 0, 0, 0, 0, 0]),
            ((OPERATOR_USER, "create", "pods", "", "p", 409), [0, 0, 0, 0, 0, 1]),
            ((OPERATOR_USER, "create", "events", "", "e", 201), [0, 0, 0, 0, 1, 0]),
            ((OPERATOR_USER, "get", "pods", "", "p", 200), [0; 6]),
            ((GC, "delete", "pods", "", "p", 200), [0, 1, 0, 0, 0, 0]),
            (("trainyard-e2e", "patch", "trainingjobs", "", "j", 201), [0, 0, 1, 0, 0, 0]),
            (("someone", "update", "pods", "", "p", 200), [0, 0, 0, 1, 0, 0]),
            (("system:kube-scheduler", "create", "pods", "binding", "p", 201), [0; 6]),
            (("system:kube-scheduler", "create", "events", "", "e", 201), [0; 6]),
            (("kwok", "patch", "pods", "status", "p", 200), [0; 6]),
            (("system:node:a", "patch", "pods", "status", "p", 200), [0; 6]),
            ((GC, "create", "serviceaccounts", "", "default", 201), [0; 6]),
            ((GC, "create", "configmaps", "", "kube-root-ca.crt", 201), [0; 6]),
            (("trainyard-e2e", "create", "namespaces", "", "n", 201), [0; 6]),
        ];
        for (line, [operator, controllers, user, other, events, refused]) in cases {
            let tally = Tally::of(&entries(&[line]), "n");
            let writes = [Writer::Operator, Writer::Controllers, Writer::User, Writer::Other].map(|who| tally.by(who));
            assert_eq!(writes, [operator, controllers, user, other], "{line:?}");
            assert_eq!((tally.events, tally.refused), (events, refused), "{line:?}");
            assert_eq!(tally.total(), operator + controllers + other, "{line:?}");
        }
    }

    #[test]
    fn waves_come_before_the_end() {
        let slice = (OPERATOR_USER, "patch", "endpointslices", "", "s", 200);
        let status = (OPERATOR_USER, "patch", "trainingjobs", "status", "j", 200);
        let cases = [
            (vec![slice, status, slice, status, slice], 2),
            (vec![status, slice], 0),
            (vec![slice, slice, status], 2),
            (vec![], 0),
        ];
        for (lines, waves) in cases {
            assert_eq!(Tally::of(&entries(&lines), "n").waves, waves, "{lines:?}");
        }
    }

    #[test]
    fn other_namespaces_do_not_count() {
        let lines = entries(&[(OPERATOR_USER, "create", "pods", "", "p", 201)]);
        assert_eq!(Tally::of(&lines, "another"), Tally::default());
    }

    #[test]
    fn kinds_add_up() {
        let pod = |name| (OPERATOR_USER, "create", "pods", "", name, 201);
        let lines = entries(&[pod("a"), pod("b"), (OPERATOR_USER, "create", "pods", "", "b", 409)]);
        let tally = Tally::of(&lines, "n");
        let kinds: Vec<_> = tally.kinds.iter().map(|((_, what), count)| (what.as_str(), *count)).collect();
        assert_eq!(kinds, [("create pods", 2), ("create pods -> 409", 1)]);
    }
}
