//! What the apiserver's refusals mean: a pure table from its answer to an [`ApiError`].

use kube::core::Status;

use crate::cluster::port::{ApiError, ObjectId};
use crate::server::metrics::Verb;
use crate::text::{parse_failure, shorten};

/// Longest message kept: it ends up in a status and in logs, and a webhook may answer with a book.
const LONGEST_MESSAGE: usize = 2_048;

/// What the client's error means for a request of that kind about that object.
pub(super) fn map_error(verb: Verb, id: &ObjectId, error: kube::Error) -> ApiError {
    match error {
        kube::Error::Api(status) => map_status(verb, id, &status),
        // Connections, TLS, credentials, half an answer: all may pass, and the request may have been carried out.
        error => ApiError::Unavailable(described(&error)),
    }
}

/// The error of a client in words that may be logged.
pub fn described(error: &kube::Error) -> String {
    match error {
        kube::Error::SerdeError(error) => format!("an answer cannot be read: {}", parse_failure(error)),
        error => shorten(&chain(error), LONGEST_MESSAGE).to_owned(),
    }
}

/// What a refusal means for a request of that kind about that object.
pub(super) fn map_status(verb: Verb, id: &ObjectId, status: &Status) -> ApiError {
    let words = if status.message.is_empty() { &status.reason } else { &status.message };
    let words = if words.is_empty() { format!("HTTP status {}", status.code) } else { words.clone() };
    let message = shorten(&words, LONGEST_MESSAGE).to_owned();
    match status.code {
        409 if status.reason == "AlreadyExists" => ApiError::AlreadyExists(id.clone()),
        // Other field managers have set fields otherwise; that does not pass.
        409 if verb == Verb::Apply && message.starts_with("Apply failed with") => ApiError::Refused(message),
        409 => ApiError::Conflict(message),
        // The namespace is gone: there is nothing to wait for.
        404 if verb == Verb::Create => ApiError::Refused(message),
        // Only the apiserver's own word counts. A load balancer or an API that is not served yet answers 404 as well,
        // and taking that for an absent object would make us start over.
        404 if status.reason == "NotFound" && verb != Verb::List => ApiError::NotFound(id.clone()),
        404 => ApiError::Unavailable(message),
        403 if waits_for_quota(&message) => ApiError::QuotaExceeded(message),
        403 if waits_for_service_account(&message) => ApiError::Unavailable(message),
        // 410: the apiserver has forgotten the state that a list's next page belongs to.
        401 | 408 | 410 | 429 => ApiError::Unavailable(message),
        400..500 => ApiError::Refused(message),
        500 if verb == Verb::Apply && is_unknown_to_schema(&message) => ApiError::Refused(message),
        _ => ApiError::Unavailable(message),
    }
}

/// `exceeded quota` is the quota plugin's finding; `status unknown for quota` means that a new quota was not counted
/// yet. `failed quota`, a pod without the requests that a quota demands, is the template's fault and not waited for.
fn waits_for_quota(message: &str) -> bool {
    message.contains("exceeded quota") || message.contains("status unknown for quota")
}

/// A namespace made a moment ago gets its default ServiceAccount a moment later. Any other name is the user's to make.
fn waits_for_service_account(message: &str) -> bool {
    message.contains("error looking up service account") && message.contains(r#"serviceaccount "default" not found"#)
}

/// Server-side apply answers 500 when what is applied has a field that the schema does not know, or one of another type
/// (k8s.io/apimachinery/pkg/util/managedfields/internal/structuredmerge.go): that does not pass by itself.
fn is_unknown_to_schema(message: &str) -> bool {
    message.starts_with("failed to create typed patch object")
}

/// Whether a Conflict on delete says that the object of that name is another one by now.
pub(super) fn is_uid_mismatch(message: &str) -> bool {
    // "the UID in the precondition (..) does not match the UID in record (..)" when the object is read, and
    // "Precondition failed: UID in precondition: .., UID in object meta: .." when it is written.
    message.contains("UID in the precondition") || message.contains("UID in precondition")
}

/// The error with its causes: transport errors say nothing themselves.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::port::Resource;

    fn pod() -> ObjectId {
        ObjectId::new(Resource::Pod, "train", "digits-0")
    }

    fn answer(code: u16, reason: &str, message: &str) -> Status {
        Status::failure(message, reason).with_code(code)
    }

    #[test]
    fn every_answer_has_its_meaning() {
        use ApiError::{AlreadyExists, Conflict, NotFound, QuotaExceeded, Refused, Unavailable};
        use Verb::{Apply, Create, Delete, List, PatchStatus, Read};
        let quota =
            r#"pods "digits-0" is forbidden: exceeded quota: gpus, requested: pods=1, used: pods=8, limited: pods=8"#;
        let new_quota = r#"pods "digits-0" is forbidden: status unknown for quota: gpus, resources: pods"#;
        let no_requests = r#"pods "digits-0" is forbidden: failed quota: gpus: must specify limits.cpu for: trainer"#;
        let ending = r#"pods "digits-0" is forbidden: unable to create new content in namespace train because it is being terminated"#;
        let no_account = |name| {
            format!(
                r#"pods "digits-0" is forbidden: error looking up service account train/{name}: serviceaccount "{name}" not found"#
            )
        };
        let (default_account, own_account) = (no_account("default"), no_account("trainer"));
        let stale_quota = "Operation cannot be fulfilled on resourcequotas \"gpus\": the object has been modified";
        let managed =
            r#"Apply failed with 1 conflict: conflict with "kubectl" using trainyard.dev/v1alpha1: .spec.replicas"#;
        let untyped = "failed to create typed patch object (ns/m; trainyard.dev/v1alpha1, Kind=ModelDeployment): .spec.replica: field not declared in schema";
        let text = |message: &str| message.to_owned();
        let table = [
            (Create, answer(409, "AlreadyExists", "pods \"digits-0\" already exists"), AlreadyExists(pod())),
            (Create, answer(409, "Conflict", stale_quota), Conflict(text(stale_quota))),
            (Apply, answer(409, "Conflict", "stale"), Conflict(text("stale"))),
            (Apply, answer(409, "Conflict", managed), Refused(text(managed))),
            (PatchStatus, answer(409, "Conflict", "stale"), Conflict(text("stale"))),
            (
                Create,
                answer(404, "NotFound", "namespaces \"train\" not found"),
                Refused(text("namespaces \"train\" not found")),
            ),
            (Read, answer(404, "NotFound", "gone"), NotFound(pod())),
            (Apply, answer(404, "NotFound", "gone"), NotFound(pod())),
            (PatchStatus, answer(404, "NotFound", "gone"), NotFound(pod())),
            (Delete, answer(404, "NotFound", "gone"), NotFound(pod())),
            (
                Read,
                answer(404, "Failed to parse error data", "404 page not found"),
                Unavailable(text("404 page not found")),
            ),
            (Create, answer(403, "Forbidden", quota), QuotaExceeded(text(quota))),
            (Create, answer(403, "Forbidden", new_quota), QuotaExceeded(text(new_quota))),
            (Create, answer(403, "Forbidden", no_requests), Refused(text(no_requests))),
            (Create, answer(403, "Forbidden", ending), Refused(text(ending))),
            (Create, answer(403, "Forbidden", &default_account), Unavailable(default_account.clone())),
            (Create, answer(403, "Forbidden", &own_account), Refused(own_account.clone())),
            (Create, answer(403, "Forbidden", "violates PodSecurity"), Refused(text("violates PodSecurity"))),
            (Create, answer(400, "BadRequest", "unknown field"), Refused(text("unknown field"))),
            (Create, answer(413, "RequestEntityTooLarge", "too large"), Refused(text("too large"))),
            (Create, answer(422, "Invalid", "invalid"), Refused(text("invalid"))),
            (Apply, answer(415, "UnsupportedMediaType", "what"), Refused(text("what"))),
            (Create, answer(401, "Unauthorized", "Unauthorized"), Unavailable(text("Unauthorized"))),
            (Create, answer(429, "TooManyRequests", "slow down"), Unavailable(text("slow down"))),
            (
                Create,
                answer(500, "InternalError", "failed calling webhook"),
                Unavailable(text("failed calling webhook")),
            ),
            (Apply, answer(500, "", untyped), Refused(text(untyped))),
            (Create, answer(500, "", untyped), Unavailable(text(untyped))),
            (Create, answer(503, "", ""), Unavailable(text("HTTP status 503"))),
            (List, answer(404, "NotFound", "no such kind"), Unavailable(text("no such kind"))),
            (List, answer(410, "Expired", "too old"), Unavailable(text("too old"))),
            (Create, answer(504, "Timeout", ""), Unavailable(text("Timeout"))),
            (Create, answer(0, "", "no code"), Unavailable(text("no code"))),
        ];
        for (verb, status, expected) in table {
            assert_eq!(map_status(verb, &pod(), &status), expected, "{verb:?}: {status:?}");
        }
    }

    #[test]
    fn transport_errors_name_their_cause() {
        let cause = std::io::Error::other("connection refused");
        let error = map_error(Verb::Create, &pod(), kube::Error::Service(Box::new(cause)));
        assert_eq!(error, ApiError::Unavailable("ServiceError: connection refused".to_owned()));
    }

    #[test]
    fn both_wordings_of_a_uid_mismatch_are_known() {
        let when_read = "Operation cannot be fulfilled on pods \"a\": the UID in the precondition (1) does not match the UID in record (2). The object might have been deleted and then recreated";
        let when_written = "Operation cannot be fulfilled on Pod \"a\": Precondition failed: UID in precondition: 1, UID in object meta: 2";
        assert!(is_uid_mismatch(when_read) && is_uid_mismatch(when_written));
        assert!(!is_uid_mismatch("Operation cannot be fulfilled on pods \"a\": the object has been modified"));
    }
}
