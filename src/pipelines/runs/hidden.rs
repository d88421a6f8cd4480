//! Children that are there although no watch shows them.
//!
//! Watches select by label, and whoever may edit a pod can take its labels off. What the cluster itself says is there is read by
//! its name until a watch shows it or it is gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use serde_json::value::to_raw_value;

use super::facts::JobFacts;
use super::observe::{Observed, named};
use crate::api::TrainingJob;
use crate::cluster::guard::Guarded;
use crate::cluster::index::{Child, ChildMeta};
use crate::cluster::plan::earliest;
use crate::cluster::pod::{PodFacts, WatchedPod};
use crate::cluster::port::{ApiError, ApiServer, ObjectId, Resource};
use crate::cluster::workload::{RevisionFacts, WatchedRevision};

/// How often one is read.
const INTERVAL: SignedDuration = SignedDuration::from_secs(5);

/// The children of one run that have to be read by their names.
#[derive(Debug, Default)]
pub struct Hidden(BTreeMap<ObjectId, Look>);

/// What was found when one was looked at last.
#[derive(Debug, Default)]
struct Look {
    read_at: Option<Timestamp>,
    found: Option<Found>,
}

#[derive(Clone, Debug)]
enum Found {
    Pod(Arc<PodFacts>),
    Job(Arc<JobFacts>),
    Record(Arc<RevisionFacts>),
}

impl Found {
    /// The child as a watch would show it, if it belongs to the run.
    fn read(resource: Resource, object: &Value, run_uid: &str) -> Option<Self> {
        let text = to_raw_value(object).unwrap_or_default();
        let found = match resource {
            Resource::Pod => Found::Pod(Arc::new(Guarded::<WatchedPod>::of(&text).or_bare().into())),
            Resource::ControllerRevision => {
                Found::Record(Arc::new(Guarded::<WatchedRevision>::of(&text).or_bare().into()))
            }
            _ => Found::Job(Arc::new(Guarded::<TrainingJob>::of(&text).into())),
        };
        found.meta().owner.as_ref().is_some_and(|owner| owner.uid == run_uid).then_some(found)
    }

    fn meta(&self) -> &ChildMeta {
        match self {
            Found::Pod(pod) => &pod.meta,
            Found::Job(job) => &job.meta,
            Found::Record(record) => &record.meta,
        }
    }
}

impl Hidden {
    /// The cluster says that this child is there.
    pub fn note(&mut self, id: &ObjectId) {
        if matches!(id.resource, Resource::Pod | Resource::TrainingJob | Resource::ControllerRevision) {
            self.0.entry(id.clone()).or_default();
        }
    }

    /// Reads those whose time has come, and answers what there is of the run together with them; nothing if there are none.
    ///
    /// # Errors
    /// What the apiserver answered to a read.
    pub async fn look<A: ApiServer>(
        &mut self,
        api: &A,
        run_uid: &str,
        observed: &Observed,
        now: Timestamp,
    ) -> Result<Option<Observed>, ApiError> {
        self.0.retain(|id, _| match id.resource {
            Resource::Pod => named(&observed.pods, &id.name).is_none(),
            Resource::ControllerRevision => observed.record.is_none(),
            _ => named(&observed.jobs, &id.name).is_none(),
        });
        let mut gone = Vec::new();
        for (id, look) in &mut self.0 {
            // A clock that was set back must not hold anything up.
            if look.read_at.is_some_and(|read_at| read_at <= now && now < read_at + INTERVAL) {
                continue;
            }
            look.found = api.read(id).await?.and_then(|object| Found::read(id.resource, &object, run_uid));
            look.read_at = Some(now);
            if look.found.is_none() {
                gone.push(id.clone());
            }
        }
        self.0.retain(|id, _| !gone.contains(id));
        Ok((!self.0.is_empty()).then(|| self.with(observed)))
    }

    fn with(&self, observed: &Observed) -> Observed {
        let mut all = observed.clone();
        for found in self.0.values().filter_map(|look| look.found.clone()) {
            match found {
                Found::Pod(pod) => insert(&mut all.pods, pod),
                Found::Job(job) => insert(&mut all.jobs, job),
                Found::Record(record) => all.record = Some(record),
            }
        }
        all
    }

    /// When to look again.
    pub fn due_at(&self) -> Option<Timestamp> {
        self.0.values().map(|look| look.read_at.map(|read_at| read_at + INTERVAL)).fold(None, earliest)
    }
}

/// Adds a child in order of its name.
fn insert<T: Child>(children: &mut Vec<Arc<T>>, child: Arc<T>) {
    let at = children.partition_point(|other| other.meta().name < child.meta().name);
    children.insert(at, child);
}
