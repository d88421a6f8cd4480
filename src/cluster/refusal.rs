//! Creations that the apiserver answered with no, or not at all.

use jiff::{SignedDuration, Timestamp};

use super::port::{ApiError, ObjectId};

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
    /// It needs another object that is not there, such as a ServiceAccount: one that may be about to come.
    Missing,
    /// No quota: wait until some is freed.
    Quota,
    /// Somebody else's object has the name.
    Foreign,
    /// An object of the owner's past self has the name, and is about to be collected.
    Leftover,
    /// No answer, or that it cannot do it now: a failing webhook, too many requests.
    Unanswered,
}

impl RefusalKind {
    /// How long to wait before asking again.
    pub fn pause(self) -> SignedDuration {
        match self {
            RefusalKind::Content => SignedDuration::from_mins(5),
            RefusalKind::Quota | RefusalKind::Missing => SignedDuration::from_secs(15),
            RefusalKind::Foreign => SignedDuration::from_mins(1),
            RefusalKind::Leftover | RefusalKind::Unanswered => SignedDuration::from_secs(2),
        }
    }
}

impl Refusal {
    /// The apiserver would not create a child.
    pub fn answered(id: &ObjectId, error: &ApiError, generation: Option<i64>, now: Timestamp) -> Self {
        let kind = match error {
            ApiError::QuotaExceeded(_) => RefusalKind::Quota,
            ApiError::Unavailable(_) => RefusalKind::Unanswered,
            ApiError::Refused(message) if needs_another(message) => RefusalKind::Missing,
            _ => RefusalKind::Content,
        };
        Refusal { kind, id: id.clone(), message: format!("{id}: {error}"), until: now + kind.pause(), generation }
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
            RefusalKind::Missing => format!("waiting for what it needs, asked again every 15 seconds: {message}"),
            RefusalKind::Quota => format!("waiting for quota: {message}"),
            RefusalKind::Foreign | RefusalKind::Leftover => message.clone(),
            RefusalKind::Unanswered => format!("asking again: {message}"),
        }
    }

    /// Whether it still holds for an owner of this generation.
    pub fn holds_for(&self, generation: Option<i64>) -> bool {
        self.generation == generation
    }
}

/// Whether Kubernetes' admission refuses a pod for want of an object that it names. What is applied together comes in any order.
/// The words are of the plugins ServiceAccount (plugin/pkg/admission/serviceaccount/admission.go), Priority
/// (plugin/pkg/admission/priority/admission.go) and RuntimeClass (plugin/pkg/admission/runtimeclass/admission.go).
fn needs_another(message: &str) -> bool {
    let account = message.contains("error looking up service account");
    let priority = message.contains("no PriorityClass with name");
    let runtime = message.contains("pod rejected: RuntimeClass") || message.contains("failed to get RuntimeClass");
    (account || priority || runtime) && (message.contains("not found") || message.contains("was found"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::port::Resource;

    #[test]
    fn what_may_come_later_is_waited_for() {
        let kind = |message: &str| {
            let id = ObjectId::new(Resource::Pod, "ns", "p");
            Refusal::answered(&id, &ApiError::Refused(message.to_owned()), None, Timestamp::UNIX_EPOCH).kind
        };
        let later = [
            r#"pods "p" is forbidden: error looking up service account ns/trainer: serviceaccount "trainer" not found"#,
            r#"pods "p" is forbidden: no PriorityClass with name research was found"#,
            r#"pods "p" is forbidden: pod rejected: RuntimeClass "gvisor" not found"#,
        ];
        for message in later {
            assert_eq!(kind(message), RefusalKind::Missing, "{message}");
        }
        let never = [
            r#"pods "p" is forbidden: violates PodSecurity "restricted:latest""#,
            r#"Pod "p" is invalid: spec.containers: Required value"#,
            r#"namespaces "ns" not found"#,
        ];
        for message in never {
            assert_eq!(kind(message), RefusalKind::Content, "{message}");
        }
    }
}
