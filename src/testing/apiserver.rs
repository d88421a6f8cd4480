//! The door that the operator under test goes through: [`ApiServer`] upon the simulated cluster.
//!
//! The methods do nothing until they are awaited, as real requests do.

use std::future::poll_fn;
use std::task::Poll;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::faults::{CrashPoint, Fate};
use super::json;
use super::story::{Actor, Line, Verb, Write};
use super::world::{State, World};
use crate::cluster::port::{ApiError, ApiServer, EventDraft, ObjectId, Resource};

impl ApiServer for World {
    async fn read(&self, id: &ObjectId) -> Result<Option<Value>, ApiError> {
        self.arrive().await;
        let mut state = self.state();
        state.read_goes_through(id)?;
        Ok(state.objects.get(id).map(|object| Value::clone(object)))
    }

    async fn list<T: Send>(
        &self,
        resource: Resource,
        namespace: &str,
        label: &str,
        value: &str,
        read: fn(&RawValue) -> T,
    ) -> Result<Vec<T>, ApiError> {
        self.arrive().await;
        let mut state = self.state();
        state.read_goes_through(&ObjectId::new(resource, namespace, "*"))?;
        let wanted = |id: &ObjectId, object: &Value| {
            (id.resource, id.namespace.as_str(), json::label(object, label)) == (resource, namespace, Some(value))
        };
        let found = state.objects.iter().filter(|(id, object)| wanted(id, object));
        let text = |object: &Value| to_raw_value(object).expect("a tree is JSON");
        Ok(found.map(|(_, object)| read(&text(object))).collect())
    }

    async fn create(&self, id: &ObjectId, object: String) -> Result<String, ApiError> {
        self.arrive().await;
        let object: Value = serde_json::from_str(&object).expect("the operator sends JSON");
        self.write(Verb::Create, id, |state| state.create(id, &object))
    }

    /// Knows every field whose name ends with OfTomorrow, and takes any other that is null for a mistake.
    async fn dry_run_create(&self, resource: Resource, namespace: &str, object: &Value) -> Result<(), ApiError> {
        self.arrive().await;
        self.state().read_goes_through(&ObjectId::new(resource, namespace, "dry run"))?;
        let mut unknown = Vec::new();
        null_fields(object, "", &mut unknown);
        unknown.retain(|path| !path.ends_with("OfTomorrow"));
        if unknown.is_empty() {
            return Err(ApiError::Refused("spec.containers: Required value".to_owned()));
        }
        let unknown: Vec<String> = unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
        Err(ApiError::Refused(format!("strict decoding error: {}", unknown.join(", "))))
    }

    async fn apply(&self, resource: Resource, namespace: &str, object: &Value) -> Result<(), ApiError> {
        let id = ObjectId::new(resource, namespace, json::text(object, "/metadata/name").unwrap_or_default());
        self.arrive().await;
        self.write(Verb::Apply, &id, |state| state.apply(&id, object))
    }

    async fn apply_giving_way(&self, resource: Resource, namespace: &str, object: &Value) -> Result<(), ApiError> {
        let id = ObjectId::new(resource, namespace, json::text(object, "/metadata/name").unwrap_or_default());
        self.arrive().await;
        self.write(Verb::Apply, &id, |state| state.apply_giving_way(&id, object))
    }

    async fn scale(&self, id: &ObjectId, uid: &str, version: &str, replicas: i32) -> Result<(), ApiError> {
        let wanted = json!({
            "metadata": { "name": &id.name, "uid": uid, "resourceVersion": version }, "spec": { "replicas": replicas },
        });
        self.arrive().await;
        self.write(Verb::Apply, id, |state| state.apply(id, &wanted))
    }

    async fn patch_status(&self, id: &ObjectId, patch: &Value) -> Result<String, ApiError> {
        self.arrive().await;
        self.write(Verb::PatchStatus, id, |state| {
            state.patch_status(id, patch)?;
            let object = state.objects.get(id).ok_or_else(|| ApiError::NotFound(id.clone()))?;
            Ok(json::text(object, "/metadata/resourceVersion").unwrap_or_default().to_owned())
        })
    }

    async fn delete(&self, id: &ObjectId, uid: &str, version: Option<&str>) -> Result<(), ApiError> {
        self.arrive().await;
        self.write(Verb::Delete, id, |state| {
            // The port's contract: an object that is gone, or another of the same name, counts as done.
            let Some(object) = state.objects.get(id).filter(|object| json::uid(object) == uid) else { return Ok(()) };
            let current = json::text(object, "/metadata/resourceVersion");
            if version.is_some() && version != current {
                return Err(ApiError::Conflict(format!("{id} is at {current:?}, not {version:?}")));
            }
            state.delete(Actor::Operator, id);
            Ok(())
        })
    }

    async fn publish_event(&self, about: &ObjectId, _uid: &str, event: &EventDraft) {
        let mut state = self.state();
        if !state.operator_dead {
            state.tell(Line::Note(format!("event about {about}: {}: {}", event.reason, event.note)));
            state.events.entry(about.clone()).or_default().push(event.clone());
        }
    }
}

/// Paths of the fields that are null.
fn null_fields(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Null => found.push(path.trim_start_matches('.').to_owned()),
        Value::Object(object) => {
            object.iter().for_each(|(name, value)| null_fields(value, &format!("{path}.{name}"), found));
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, item)| null_fields(item, &format!("{path}[{index}]"), found));
        }
        _ => {}
    }
}

impl World {
    /// Now and then lets the simulation do something else first, as happens while a request is under way.
    async fn arrive(&self) {
        let mut overtaken = {
            let State { faults, dice, .. } = &mut *self.state();
            faults.draw_overtaken(dice)
        };
        poll_fn(|context| {
            if !std::mem::take(&mut overtaken) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Passes one write through the faults and the crash point, and keeps account of it.
    fn write<T>(
        &self,
        verb: Verb,
        id: &ObjectId,
        carry_out: impl FnOnce(&mut State) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let mut state = self.state();
        if state.operator_dead {
            return Err(ApiError::NotLeader);
        }
        let number = state.journal.len() as u64 + 1;
        let crash = state.crash_point.filter(|point| point.write() == number);
        let State { faults, dice, .. } = &mut *state;
        let fate = faults.draw(Some(verb), dice);
        let answer = if crash == Some(CrashPoint::BeforeWrite(number)) {
            Err(ApiError::NotLeader)
        } else {
            match fate {
                Fate::Served => carry_out(&mut state),
                Fate::Refused => Err(ApiError::Unavailable("429 too many requests".to_owned())),
                Fate::Conflict => Err(ApiError::Conflict(format!("{id} was changed by somebody"))),
                Fate::AnswerLost => {
                    let lost = carry_out(&mut state);
                    Err(ApiError::Unavailable(format!("connection reset; carried out: {}", lost.is_ok())))
                }
            }
        };
        state.operator_dead = crash.is_some();
        let told = answer.as_ref().map_or_else(ToString::to_string, |_| "ok".to_owned());
        let write = Write { step: state.step, number, verb, id: id.clone(), ok: answer.is_ok(), answer: told };
        state.tell(Line::Write(write.clone()));
        state.journal.push(write);
        let outside = state.after_write.take_if(|(after, _)| *after == number);
        drop(state);
        if let Some((_, deed)) = outside {
            deed.perform(self);
        }
        answer
    }
}

impl State {
    /// Passes one read through the faults, and keeps account of it.
    fn read_goes_through(&mut self, id: &ObjectId) -> Result<(), ApiError> {
        if self.operator_dead {
            return Err(ApiError::NotLeader);
        }
        self.reads.push((self.step, id.clone()));
        let State { faults, dice, .. } = self;
        if faults.draw(None, dice) != Fate::Served {
            return Err(ApiError::Unavailable(format!("reading {id}: connection reset")));
        }
        Ok(())
    }

    fn create(&mut self, id: &ObjectId, object: &Value) -> Result<String, ApiError> {
        check_new(id, object)?;
        if self.objects.contains_key(id) {
            return Err(ApiError::AlreadyExists(id.clone()));
        }
        if id.resource == Resource::Pod {
            if self.quota_exceeded {
                let words = format!(
                    "pods \"{}\" is forbidden: exceeded quota: team, requested: pods=1, used: pods=4, limited: pods=4",
                    id.name
                );
                return Err(ApiError::QuotaExceeded(words));
            }
            if self.pods_refused {
                let words = format!("pods \"{}\" is forbidden: violates PodSecurity \"restricted:latest\"", id.name);
                return Err(ApiError::Refused(words));
            }
        }
        self.insert(Actor::Operator, id, object.clone());
        Ok(self.objects.get(id).map(|created| json::uid(created).to_owned()).unwrap_or_default())
    }

    fn apply(&mut self, id: &ObjectId, object: &Value) -> Result<(), ApiError> {
        if json::text(object, "/metadata/resourceVersion").is_none() || json::uid(object).is_empty() {
            return Err(ApiError::Refused(format!("{id}: the port wants uid and resourceVersion in what is applied")));
        }
        self.check_precondition(id, object).map_err(|error| match error {
            // To apply to an object that is gone would create it; its UID is what prevents that, with a conflict.
            ApiError::NotFound(id) => ApiError::Conflict(format!("{id} is gone")),
            other => other,
        })?;
        let current = self.objects.get(id).ok_or_else(|| ApiError::NotFound(id.clone()))?;
        let mut wanted = Value::clone(current);
        merge(&mut wanted, object);
        for path in immutable(id.resource) {
            if json::at(&wanted, path) != json::at(current, path) {
                return Err(ApiError::Refused(format!("{id} is invalid: {path}: field is immutable")));
            }
        }
        self.change(Actor::Operator, id, |current| *current = wanted);
        Ok(())
    }

    /// Nobody else manages fields here; what is not there is made, unless a UID says that it must be there.
    fn apply_giving_way(&mut self, id: &ObjectId, object: &Value) -> Result<(), ApiError> {
        if self.objects.contains_key(id) || !json::uid(object).is_empty() {
            return self.apply(id, object);
        }
        self.insert(Actor::Operator, id, object.clone());
        Ok(())
    }

    fn patch_status(&mut self, id: &ObjectId, patch: &Value) -> Result<(), ApiError> {
        if json::text(patch, "/metadata/resourceVersion").is_none() && json::uid(patch).is_empty() {
            return Err(ApiError::Refused(format!("{id}: the port wants a resourceVersion or UID in a status patch")));
        }
        self.check_precondition(id, patch)?;
        // Of a patch to the status subresource, only the status counts.
        let Some(status) = patch.get("status") else { return Ok(()) };
        self.change(Actor::Operator, id, |object| json_patch::merge(&mut object["status"], status));
        Ok(())
    }

    /// Whether the object still is what the operator thinks it is.
    fn check_precondition(&self, id: &ObjectId, wanted: &Value) -> Result<(), ApiError> {
        let current = self.objects.get(id).ok_or_else(|| ApiError::NotFound(id.clone()))?;
        for pointer in ["/metadata/uid", "/metadata/resourceVersion"] {
            let (wanted, current) = (json::text(wanted, pointer), json::text(current, pointer));
            if wanted.is_some() && wanted != current {
                return Err(ApiError::Conflict(format!("{id}: {pointer} is {current:?}, not {wanted:?}")));
            }
        }
        Ok(())
    }
}

/// What cannot be changed once it is there.
fn immutable(resource: Resource) -> &'static [&'static str] {
    match resource {
        Resource::ControllerRevision => &["/data"],
        Resource::Deployment => &["/spec/selector"],
        _ => &[],
    }
}

/// The few rules of admission that a controller could break.
fn check_new(id: &ObjectId, object: &Value) -> Result<(), ApiError> {
    let refuse = |why: &str| Err(ApiError::Refused(format!("{id} is invalid: {why}")));
    let is_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if id.name.is_empty() || id.name.len() > 63 || !id.name.chars().all(is_label) {
        return refuse("metadata.name is no DNS label");
    }
    if json::text(object, "/metadata/name") != Some(&id.name) {
        return refuse("metadata.name is not the request's");
    }
    if json::text(object, "/metadata/namespace").is_some_and(|namespace| namespace != id.namespace) {
        return refuse("metadata.namespace is not the request's");
    }
    if json::text(object, "/metadata/resourceVersion").is_some() {
        return refuse("metadata.resourceVersion must not be set on what is created");
    }
    if json::text(object, "/kind") != Some(id.resource.kind())
        || json::text(object, "/apiVersion") != Some(id.resource.api_version())
    {
        return refuse("kind or apiVersion do not fit the request");
    }
    if id.resource == Resource::Pod && json::text(object, "/spec/containers/0/name").is_none() {
        return refuse("spec.containers: required value");
    }
    if id.resource == Resource::ControllerRevision && json::number(object, "/revision").is_none() {
        return refuse("revision: required value");
    }
    if id.resource == Resource::Deployment {
        let selected = json::at(object, "/spec/selector/matchLabels").and_then(Value::as_object);
        let labels = json::at(object, "/spec/template/metadata/labels");
        let of_template = |(key, value): (&String, &Value)| labels.and_then(|labels| labels.get(key)) == Some(value);
        if !selected.is_some_and(|selected| !selected.is_empty() && selected.iter().all(of_template)) {
            return refuse("spec.selector does not match the template's labels");
        }
    }
    Ok(())
}

/// Server-side apply, as far as this operator needs it: maps merge, everything else is replaced.
fn merge(current: &mut Value, wanted: &Value) {
    match (current, wanted) {
        (Value::Object(current), Value::Object(wanted)) => {
            for (key, value) in wanted {
                merge(current.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (current, wanted) => *current = wanted.clone(),
    }
}
