//! What users do to the simulated cluster.

use serde_json::{Value, json};

use super::json;
use super::story::{Actor, Line};
use super::world::World;
use crate::cluster::port::{ObjectId, Resource};

impl World {
    /// A user applies a TrainingJob; answers its UID.
    ///
    /// # Panics
    /// When the name is taken.
    pub(crate) fn create_job(&self, manifest: Value) -> String {
        let id = job_id(&manifest);
        let mut state = self.state();
        assert!(!state.objects.contains_key(&id), "{id} exists already");
        state.insert(Actor::Person, &id, manifest)
    }

    /// A user edits the spec; a change makes a new generation.
    pub(crate) fn update_spec(&self, job: &ObjectId, edit: impl FnOnce(&mut Value)) {
        self.change(Actor::Person, job, |object| edit(&mut object["spec"]));
    }

    /// A user deletes the job; it goes at once, its children later.
    pub(crate) fn delete_job(&self, job: &ObjectId) {
        self.delete_as(Actor::Person, job);
    }

    /// A user deletes the job with `--cascade=foreground`: it stays, with a deletionTimestamp, while its children go.
    pub(crate) fn delete_job_in_foreground(&self, job: &ObjectId) {
        let mut state = self.state();
        let now = json::seconds(state.now);
        state.change(Actor::Person, job, |object| {
            object["metadata"]["deletionTimestamp"] = now.into();
            object["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
        });
        state.condemn_family(job);
    }

    /// A user deletes the job and applies it again at once, while the children of its past life still stand.
    pub(crate) fn recreate(&self, job: &ObjectId) {
        let Some(old) = self.get(job) else { return };
        self.delete_job(job);
        let metadata = json!({ "name": job.name, "namespace": job.namespace });
        self.create_job(json!({ "metadata": metadata, "spec": old["spec"] }));
    }

    /// A user deletes a pod.
    pub(crate) fn delete_pod(&self, pod: &ObjectId) {
        self.delete_as(Actor::Person, pod);
    }

    /// No more pods fit the quota, or they do again.
    pub(crate) fn set_quota_exceeded(&self, exceeded: bool) {
        let mut state = self.state();
        state.quota_exceeded = exceeded;
        state.moods += 1;
    }

    /// The apiserver refuses to create pods, or no longer does.
    pub(crate) fn set_pods_refused(&self, refused: bool) {
        let mut state = self.state();
        state.pods_refused = refused;
        state.moods += 1;
    }

    /// Somebody else's object takes a name that belongs to a job's child. With the job's labels it looks like one to a
    /// watch; it never has its ownerReference. Answers whether the name was free.
    pub(crate) fn plant(&self, id: &ObjectId, job: &ObjectId, with_labels: bool) -> bool {
        let mut state = self.state();
        if state.objects.contains_key(id) {
            return false;
        }
        let mut object = json!({ "metadata": { "labels": { "app": "somebody-else" } } });
        if with_labels {
            object["metadata"]["labels"][crate::names::LABEL_JOB] = job.name.as_str().into();
        }
        match id.resource {
            Resource::Pod => object["spec"] = json!({ "containers": [{ "name": "main", "image": "example/other:1" }] }),
            Resource::EndpointSlice => object["endpoints"] = json!([]),
            _ => object["spec"] = json!({ "selector": { "app": "else" } }),
        }
        state.insert(Actor::Person, id, object);
        state.planted.insert(id.clone(), job.clone());
        true
    }

    /// Somebody else's objects are removed by those whose they are.
    pub(crate) fn remove_planted(&self) {
        for id in self.planted().keys() {
            self.remove(Actor::Person, id);
        }
    }

    /// Adds a line of explanation to the run's story.
    pub(crate) fn note(&self, text: impl Into<String>) {
        self.tell(Line::Note(text.into()));
    }
}

/// The name of the job in a manifest.
pub(crate) fn job_id(manifest: &Value) -> ObjectId {
    let field = |pointer| json::text(manifest, pointer).expect("a manifest names its namespace and name");
    ObjectId::new(Resource::TrainingJob, field("/metadata/namespace"), field("/metadata/name"))
}
