//! Reading Kubernetes objects as JSON.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cluster::port::{ObjectId, Resource};

/// The tree of a text that was made from one.
pub(crate) fn tree(text: &RawValue) -> Value {
    serde_json::from_str(text.get()).expect("the simulated cluster's objects are trees")
}

/// What a path such as `/spec/containers/0/name` leads to.
///
/// Like [`Value::pointer`], which takes most of a run's time for its escapes, of which we need none.
pub(crate) fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('/').skip(1).try_fold(object, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => value.get(step),
    })
}

/// Text at a path.
pub(crate) fn text<'a>(object: &'a Value, path: &str) -> Option<&'a str> {
    at(object, path)?.as_str()
}

/// Number at a path.
pub(crate) fn number(object: &Value, path: &str) -> Option<u64> {
    at(object, path)?.as_u64()
}

/// The name of an object of a kind.
pub(crate) fn id(resource: Resource, object: &Value) -> ObjectId {
    let field = |path| text(object, path).unwrap_or_default();
    ObjectId::new(resource, field("/metadata/namespace"), field("/metadata/name"))
}

/// `metadata.uid`, or nothing at all.
pub(crate) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid").unwrap_or_default()
}

/// A label; its key may contain slashes, which a path would take for steps.
pub(crate) fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    at(object, "/metadata/labels")?.get(key)?.as_str()
}

/// An annotation.
pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    at(object, "/metadata/annotations")?.get(key)?.as_str()
}

/// A label that holds a number.
pub(crate) fn label_number(object: &Value, key: &str) -> Option<u32> {
    label(object, key)?.parse().ok()
}

/// UID of the object that controls this one.
pub(crate) fn controller_uid(object: &Value) -> Option<&str> {
    let owners = at(object, "/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == Value::Bool(true))?;
    owner["uid"].as_str()
}

/// Whether the object is being deleted.
pub(crate) fn is_terminating(object: &Value) -> bool {
    at(object, "/metadata/deletionTimestamp").is_some()
}

/// Whether a pod has ended, by its phase.
pub(crate) fn is_terminal(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), Some("Succeeded" | "Failed"))
}

/// Whether a condition is True, False or Unknown; `None` when it is absent.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = at(object, "/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?.get("status")?.as_str()
}

/// Whether a condition is True.
pub(crate) fn condition_is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind) == Some("True")
}

/// The reason of a condition.
pub(crate) fn reason<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = at(object, "/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?.get("reason")?.as_str()
}

/// Name of a pod's primary container: the annotated one, or the first.
pub(crate) fn primary_container(pod: &Value) -> Option<&str> {
    let annotated =
        at(pod, "/metadata/annotations").and_then(|all| all.get(crate::names::ANNOTATION_DEFAULT_CONTAINER)?.as_str());
    annotated.or_else(|| text(pod, "/spec/containers/0/name"))
}

/// Image of the first container of a pod template.
pub(crate) fn image(template: &Value) -> Option<&str> {
    text(template, "/spec/containers/0/image")
}

/// Names of the claims that a pod, or a pod template, mounts.
pub(crate) fn claims(pod: &Value) -> Vec<&str> {
    let volumes = at(pod, "/spec/volumes").and_then(Value::as_array).into_iter().flatten();
    volumes.filter_map(|volume| text(volume, "/persistentVolumeClaim/claimName")).collect()
}

/// UID of the ReplicaSet of a Deployment. There are no ReplicaSets in the simulated cluster; their UIDs are what pods and
/// the garbage collector go by.
pub(crate) fn replica_set_uid(deployment_uid: &str) -> String {
    format!("{deployment_uid}-rs")
}

/// The time that a path leads to.
pub(crate) fn time(object: &Value, path: &str) -> Option<Timestamp> {
    text(object, path)?.parse().ok()
}

/// A Go duration such as `1h30m` or `250ms`, as a path leads to it.
pub(crate) fn duration(object: &Value, path: &str) -> Option<SignedDuration> {
    let mut rest = text(object, path)?;
    let mut millis = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        millis += count
            * match &rest[..unit] {
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1_000,
                "ms" => 1,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Some(SignedDuration::from_millis(millis))
}

/// A time as the apiserver and the kubelet write it: whole seconds.
pub(crate) fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).expect("the second of a valid time is a valid time").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_are_go_style() {
        let read = |text: &str| duration(&json!({ "d": text }), "/d").map(|d| d.as_millis());
        assert_eq!(read("1h30m"), Some(5_400_000));
        assert_eq!(read("250ms"), Some(250));
        assert_eq!(read("90s"), Some(90_000));
        assert_eq!(read("soon"), None);
    }
}
