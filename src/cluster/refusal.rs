//! Creations that the apiserver answered with no, or not at all.

use jiff::{SignedDuration, Timestamp};

use super::port::{ApiError, ObjectId};
use super::retry::wait_before;

/// A create that the apiserver answered with no, or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of no.
    pub kind: RefusalKind,
    /// The object that was asked for.
    pub id: ObjectId,
    /// The apiserver's own words, or what stands in the way.
    pub message: String,
    /// When to ask again.
    pub until: Timestamp,
    /// Generation of the owner that was refused; a new one is tried at once.
    pub generation: Option<i64>,
}

/// What kind of no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The content will not be taken: somebody has to change it, or the namespace.
    Content,
    /// No quota: wait until some is freed.
    Quota,
    /// Somebody else's object has the name.
    Foreign,
    /// An object of the owner's past self has the name, and is about to be collected.
    Leftover,
    /// No answer, or that it cannot do it now: a failing webhook, too many requests.
    Unanswered,
    /// Something that it names is not there yet: a ServiceAccount, a PriorityClass, a RuntimeClass. The next object of the
    /// same apply may bring it.
    Awaited,
    /// The same, for so long that a person has to look.
    Overdue,
}

/// How long something that is named may be missing before the owner is stalled.
const LONGEST_AWAITED: SignedDuration = SignedDuration::from_mins(5);
/// Pause after the first time that something named was missing; it doubles.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(2);
/// The longest such pause.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(30);

/// Since when something that a child names is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    since: Timestamp,
    last: Timestamp,
    tries: i32,
}

impl Missing {
    /// Whether nobody has asked for the child for so long that its story is over.
    pub fn is_forgotten(&self, now: Timestamp) -> bool {
        self.last + LONGEST_AWAITED < now
    }
}

/// Whether the apiserver refuses a pod for something that may come later, in the words of its admission plugins
/// (kubernetes/plugin/pkg/admission: serviceaccount, priority, runtimeclass).
fn names_what_is_missing(words: &str) -> bool {
    let class = words.contains("RuntimeClass \"") && words.contains("\" not found");
    class || words.contains("error looking up service account ") || words.contains("no PriorityClass with name ")
}

impl RefusalKind {
    /// How long to wait before asking again.
    pub fn pause(self) -> SignedDuration {
        match self {
            RefusalKind::Content => SignedDuration::from_mins(5),
            RefusalKind::Quota => SignedDuration::from_secs(15),
            RefusalKind::Foreign => SignedDuration::from_mins(1),
            RefusalKind::Leftover | RefusalKind::Unanswered => SignedDuration::from_secs(2),
            RefusalKind::Awaited => FIRST_PAUSE,
            RefusalKind::Overdue => LONGEST_PAUSE,
        }
    }
}

impl Refusal {
    /// The apiserver would not create a child.
    pub fn answered(id: &ObjectId, error: &ApiError, generation: Option<i64>, now: Timestamp) -> Self {
        let kind = match error {
            ApiError::QuotaExceeded(_) => RefusalKind::Quota,
            ApiError::Unavailable(_) => RefusalKind::Unanswered,
            ApiError::Refused(words) if names_what_is_missing(words) => RefusalKind::Awaited,
            _ => RefusalKind::Content,
        };
        Refusal { kind, id: id.clone(), message: format!("{id}: {error}"), until: now + kind.pause(), generation }
    }

    /// The same refusal, if it is for something missing, with a pause that grows from one try to the next; after a while it is
    /// overdue. `missing` is what is remembered of the tries before.
    pub fn again(mut self, missing: &mut Option<Missing>, now: Timestamp) -> Self {
        if self.kind != RefusalKind::Awaited {
            *missing = None;
            return self;
        }
        let known = missing.get_or_insert(Missing { since: now, last: now, tries: 0 });
        // A clock that was set back must not make the wait longer.
        known.since = known.since.min(now);
        known.last = now;
        known.tries = known.tries.saturating_add(1);
        if now.duration_since(known.since) >= LONGEST_AWAITED {
            self.kind = RefusalKind::Overdue;
        }
        self.until = now + wait_before(known.tries, FIRST_PAUSE, LONGEST_PAUSE);
        self
    }

    /// Somebody else's object has a child's name. `owner` is the noun for the child's owner.
    pub fn foreign(id: &ObjectId, owner: &str, generation: Option<i64>, now: Timestamp) -> Self {
        let kind = RefusalKind::Foreign;
        let message = format!(
            "{id} exists and does not belong to this {owner}; it is left untouched: delete it or rename the {owner}"
        );
        Refusal { kind, id: id.clone(), message, until: now + kind.pause(), generation }
    }

    /// An object of the owner's past self has a child's name.
    pub fn leftover(id: &ObjectId, owner: &str, generation: Option<i64>, now: Timestamp) -> Self {
        let kind = RefusalKind::Leftover;
        let message = format!("{id} belongs to an earlier {owner} of the same name, and is being removed with it");
        Refusal { kind, id: id.clone(), message, until: now + kind.pause(), generation }
    }

    /// What is said of it. `remedy` says what a person may do about content that is refused.
    pub fn told(&self, remedy: &str) -> String {
        let message = &self.message;
        match self.kind {
            RefusalKind::Content => {
                format!(
                    "the apiserver refuses {message}; asked again every 5 minutes, and at once after an edit{remedy}"
                )
            }
            RefusalKind::Quota => format!("waiting for quota: {message}"),
            RefusalKind::Foreign | RefusalKind::Leftover => message.clone(),
            RefusalKind::Unanswered => format!("asking again: {message}"),
            RefusalKind::Awaited | RefusalKind::Overdue => {
                format!("waiting: {message}: create it, or correct the name{remedy}; tried again within 30 seconds")
            }
        }
    }

    /// Whether it still holds for an owner of this generation.
    pub fn holds_for(&self, generation: Option<i64>) -> bool {
        self.generation == generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::port::Resource;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn refused(words: &str, now: i64) -> Refusal {
        let id = ObjectId::new(Resource::Pod, "ns", "early-0");
        Refusal::answered(&id, &ApiError::Refused(words.to_owned()), Some(1), second(now))
    }

    const NO_ACCOUNT: &str = "pods \"early-0\" is forbidden: error looking up service account ns/trainer: serviceaccount \"trainer\" not found";

    #[test]
    fn what_may_come_later_is_told_from_what_is_wrong() {
        let cases = [
            (NO_ACCOUNT, RefusalKind::Awaited),
            ("pods \"a\" is forbidden: no PriorityClass with name research was found", RefusalKind::Awaited),
            ("pods \"a\" is forbidden: pod rejected: RuntimeClass \"gvisor\" not found", RefusalKind::Awaited),
            ("pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\"", RefusalKind::Content),
            ("Pod \"a\" is invalid: spec.containers[0].image: Required value", RefusalKind::Content),
            ("namespaces \"ns\" not found", RefusalKind::Content),
        ];
        for (words, kind) in cases {
            assert_eq!(refused(words, 0).kind, kind, "{words}");
        }
        let told = refused(NO_ACCOUNT, 0).told(" (or edit it)");
        assert!(
            told.starts_with("waiting: ") && told.contains("serviceaccount \"trainer\" not found: create it"),
            "{told}"
        );
    }

    #[test]
    fn what_is_missing_is_asked_for_often_at_first_and_overdue_after_a_while() {
        let (mut missing, mut now, mut pauses) = (None, 0, Vec::new());
        let overdue = loop {
            let refusal = refused(NO_ACCOUNT, now).again(&mut missing, second(now));
            let pause = refusal.until.duration_since(second(now)).as_secs();
            pauses.push(pause);
            if refusal.kind == RefusalKind::Overdue {
                break now;
            }
            assert!(pauses.len() < 100, "never overdue: {refusal:?}");
            now += pause;
        };
        assert_eq!(pauses[..6], [2, 4, 8, 16, 30, 30]);
        assert!(pauses.iter().all(|pause| *pause <= 30), "it is always made within half a minute");
        assert!((300..330).contains(&overdue), "{overdue}");
        assert!(!missing.as_ref().unwrap().is_forgotten(second(overdue + 30)));
        assert!(missing.as_ref().unwrap().is_forgotten(second(overdue + 301)));
        refused("invalid", now).again(&mut missing, second(now));
        assert_eq!(missing, None, "another refusal is another story");
    }
}
