//! The requests, as data. kube's own parameters do not know `fieldValidation`, and we send JSON, not types.

use http::{Method, Request, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::port::{ApiError, EventDraft, EventType, ObjectId, Resource};
use crate::names::OPERATOR;
use crate::text::shorten;

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
/// JSON is YAML, and every apiserver since 1.22 knows apply under this media type only.
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// Longest note that events.k8s.io takes, in bytes.
const EVENT_NOTE: usize = 1_024;
/// Objects in one answer to a list. One may be 1.5 MB in etcd, and several times that as JSON.
const PAGE: u32 = 16;

type Built = Result<Request<Vec<u8>>, ApiError>;

pub(super) fn read(id: &ObjectId) -> Built {
    build(Method::GET, &id.path(), JSON, None)
}

/// One page of the objects with a label; `from` is the last page's continue token, or empty. Without a resourceVersion
/// in it, the apiserver answers from etcd and not from its cache.
pub(super) fn list(resource: Resource, namespace: &str, label: &str, value: &str, from: &str) -> Built {
    let selector = encoded(&format!("{label}={value}"));
    let mut target = format!("{}?labelSelector={selector}&limit={PAGE}", resource.collection_path(namespace));
    if !from.is_empty() {
        target = format!("{target}&continue={}", encoded(from));
    }
    build(Method::GET, &target, JSON, None)
}

pub(super) fn create(resource: Resource, namespace: &str, object: &Value) -> Built {
    let path = resource.collection_path(namespace);
    build(Method::POST, &format!("{path}?fieldValidation=Strict&fieldManager={OPERATOR}"), JSON, Some(object))
}

/// `force` takes fields from other managers.
pub(super) fn apply(id: &ObjectId, object: &Value, force: bool) -> Built {
    let query = format!("fieldManager={OPERATOR}&force={force}&fieldValidation=Strict");
    build(Method::PATCH, &format!("{}?{query}", id.path()), APPLY_PATCH, Some(object))
}

/// The apiserver compares UID and resourceVersion of a Scale with those of the object that is scaled.
pub(super) fn scale(id: &ObjectId, uid: &str, version: &str, replicas: i32) -> Built {
    let patch = json!({"metadata": {"uid": uid, "resourceVersion": version}, "spec": {"replicas": replicas}});
    build(Method::PATCH, &format!("{}/scale?fieldManager={OPERATOR}", id.path()), MERGE_PATCH, Some(&patch))
}

pub(super) fn patch_status(id: &ObjectId, patch: &Value) -> Built {
    build(Method::PATCH, &format!("{}/status?fieldManager={OPERATOR}", id.path()), MERGE_PATCH, Some(patch))
}

pub(super) fn delete(id: &ObjectId, uid: &str, version: Option<&str>) -> Built {
    let mut options = json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": uid},
        "propagationPolicy": "Background",
    });
    if let Some(version) = version {
        options["preconditions"]["resourceVersion"] = version.into();
    }
    build(Method::DELETE, &id.path(), JSON, Some(&options))
}

/// An Event of its own. Ours are turning points, a handful for each object, each with words of its own; so none is
/// folded into a series with an earlier one, which would keep the earlier one's words.
pub(super) fn event(about: &ObjectId, uid: &str, event: &EventDraft, instance: &str, now: Timestamp) -> Built {
    let object = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{}.{:x}", about.name, now.as_nanosecond()),
            "namespace": about.namespace,
        },
        "eventTime": format!("{now:.6}"),
        "reportingController": OPERATOR,
        "reportingInstance": instance,
        "type": match event.event_type {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        },
        "reason": event.reason,
        "action": event.action,
        "note": shorten(&event.note, EVENT_NOTE),
        "regarding": {
            "apiVersion": about.resource.api_version(),
            "kind": about.resource.kind(),
            "namespace": about.namespace,
            "name": about.name,
            "uid": uid,
        },
    });
    let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", about.namespace);
    build(Method::POST, &path, JSON, Some(&object))
}

/// The id of an object that is about to be sent; its name is what the apiserver will check anyway.
pub(super) fn id_of(resource: Resource, namespace: &str, object: &Value) -> ObjectId {
    ObjectId::new(resource, namespace, object["metadata"]["name"].as_str().unwrap_or_default())
}

/// Percent-encodes a query parameter's value.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn build(method: Method, target: &str, content_type: &str, body: Option<&Value>) -> Built {
    let body = body.map(Value::to_string).unwrap_or_default().into_bytes();
    let request = Request::builder().method(method).uri(target).header(header::ACCEPT, JSON);
    let request = request.header(header::CONTENT_TYPE, content_type);
    // Fails only for a name that no URL can hold, and the apiserver would refuse that name too.
    request.body(body).map_err(|error| ApiError::Refused(format!("no request can be made for {target}: {error}")))
}
