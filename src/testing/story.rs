//! What is kept of a run: who changed what, and what the operator asked for.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::json;
use super::watch::Source;
use crate::cluster::port::ObjectId;

/// Who did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// The operator under test.
    Operator,
    /// A user.
    Person,
    /// The scheduler or the kubelet.
    Node,
    /// Kubernetes' own controllers.
    Controllers,
    /// The garbage collector.
    Garbage,
}

/// One change of one object, as a watch tells of it.
#[derive(Debug)]
pub(crate) struct Change {
    /// Who made it.
    pub(crate) by: Actor,
    /// When.
    pub(crate) at: Timestamp,
    /// In which step of the simulation; one reconcile is one step.
    pub(crate) step: u64,
    /// The object's name.
    pub(crate) id: ObjectId,
    /// Whether this is the first of this object's changes.
    pub(crate) created: bool,
    /// Whether the object is gone with it; [`Change::object`] is its last state then.
    pub(crate) removed: bool,
    /// The object as it is now.
    pub(crate) object: Arc<Value>,
}

/// What a write asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// POST.
    Create,
    /// Server-side apply.
    Apply,
    /// Merge patch of the status.
    PatchStatus,
    /// DELETE.
    Delete,
}

/// A write that the operator sent.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// The simulation's step.
    pub(crate) step: u64,
    /// Which of the run's writes it is, from 1.
    pub(crate) number: u64,
    /// What was asked for.
    pub(crate) verb: Verb,
    /// Of which object.
    pub(crate) id: ObjectId,
    /// Whether the operator was told yes.
    pub(crate) ok: bool,
    /// What became of it.
    pub(crate) answer: String,
}

/// A line of the run's story.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// The operator wrote.
    Write(Write),
    /// An object changed.
    Change(Arc<Change>),
    /// A key was reconciled.
    Reconcile(ObjectId),
    /// So many changes of a kind reached the operator's cache.
    Deliver(Source, usize),
    /// Anything else.
    Note(String),
}

/// The few fields of an object that tell its story.
pub(super) fn summary(object: &Value) -> String {
    let field = |pointer: &str| json::text(object, pointer).unwrap_or("-").to_owned();
    let mut text = format!(
        "uid …{} rv {}",
        field("/metadata/uid").trim_start_matches("00000000-0000-4000-8000-"),
        field("/metadata/resourceVersion")
    );
    if let Some(owner) = json::controller_uid(object) {
        text += &format!(" of …{}", owner.trim_start_matches("00000000-0000-4000-8000-"));
    }
    if json::is_terminating(object) {
        text += &format!(" deleted by {}", field("/metadata/deletionTimestamp"));
    }
    match object["kind"].as_str() {
        Some("Pod") => {
            text += &format!(" phase {} ip {}", field("/status/phase"), field("/status/podIP"));
            text += &format!(" ready {}", json::condition_is_true(object, "Ready"));
            let states = json::at(object, "/status/containerStatuses").and_then(Value::as_array);
            for state in states.into_iter().flatten().filter_map(|status| status["state"].get("terminated")) {
                text += &format!(" exit {} at {}", state["exitCode"], state["finishedAt"]);
            }
        }
        Some("EndpointSlice") => text += &format!(" endpoints {}", object["endpoints"]),
        Some("TrainingJob") => {
            let generation = &object["metadata"]["generation"];
            text +=
                &format!(" generation {generation} suspend {} status {}", object["spec"]["suspend"], object["status"]);
        }
        Some("PipelineRun") => {
            text += &format!(" cancel {} status {}", object["spec"]["cancel"], object["status"]);
        }
        Some("ModelDeployment") => {
            let (generation, image) = (&object["metadata"]["generation"], json::image(&object["spec"]["template"]));
            let mut spec = object["spec"].clone();
            spec["template"] = Value::Null;
            text += &format!(" generation {generation} image {image:?} spec {spec} status {}", object["status"]);
        }
        Some("Deployment") => {
            let image = json::image(&object["spec"]["template"]);
            text += &format!(" image {image:?} replicas {} status {}", object["spec"]["replicas"], object["status"]);
        }
        Some("ControllerRevision") => text += &format!(" revision {}", object["revision"]),
        _ => {}
    }
    text
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Write(write) => {
                write!(f, "step {} write {}: {:?} {}: {}", write.step, write.number, write.verb, write.id, write.answer)
            }
            Line::Change(change) => {
                let what = match (change.created, change.removed) {
                    (true, _) => "made",
                    (_, true) => "gone",
                    _ => "now",
                };
                write!(f, "    {} {what} (by {:?}) {}", change.id, change.by, summary(&change.object))
            }
            Line::Reconcile(key) => write!(f, "reconcile {key}"),
            Line::Deliver(source, count) => write!(f, "deliver {count} changes of {source}"),
            Line::Note(text) => f.write_str(text),
        }
    }
}
