//! One deployment's revisions, sorted out of everything that was observed.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::followed::number_of_spec;
use super::judge::Judgement;
use super::numbers::{Given, on_record};
use super::{seen, urgency};
use crate::api::{ModelDeployment, ModelDeploymentStatus};
use crate::cluster::plan::{Check, Plan};
use crate::cluster::pod::PodFacts;
use crate::cluster::port::{ObjectId, Resource};
use crate::cluster::problem::Problem;
use crate::cluster::workload::{DeploymentFacts, RevisionFacts};
use crate::names;
use crate::serving::content::Content;
use crate::serving::observe::{Memory, Observed};
use crate::serving::validate::ValidDeployment;

/// What the steps of a decision look at.
pub(super) struct View<'a> {
    pub(super) deployment: &'a ModelDeployment,
    /// What is followed.
    pub(super) valid: &'a ValidDeployment,
    /// What is wrong with the spec, if it is not all that is followed.
    pub(super) problems: &'a [Problem],
    pub(super) status: &'a ModelDeploymentStatus,
    pub(super) observed: &'a Observed,
    pub(super) memory: &'a Memory,
    pub(super) now: Timestamp,
    /// Everything that is known of each revision, by its number.
    pub(super) revisions: BTreeMap<i64, Revision<'a>>,
    /// The number of what the spec says, whether undone or not; `None` if it has none yet.
    pub(super) of_spec: Option<i64>,
    /// The revision that is to serve.
    pub(super) asked: i64,
    /// The revision that has proven itself, if anything of it is left.
    pub(super) stable: Option<i64>,
}

/// What is known of one revision.
#[derive(Clone, Copy, Default)]
pub(super) struct Revision<'a> {
    pub(super) record: Option<&'a Arc<RevisionFacts>>,
    pub(super) deployment: Option<&'a Arc<DeploymentFacts>>,
}

impl Revision<'_> {
    /// Pods that it should have.
    pub(super) fn wanted(&self) -> i32 {
        self.deployment.map_or(0, |deployment| deployment.wanted)
    }

    /// Pods of it that serve.
    pub(super) fn ready(&self) -> i32 {
        self.deployment.map_or(0, |deployment| deployment.ready)
    }

    /// Pods of it that have served for `minReadySeconds`.
    pub(super) fn available(&self) -> i32 {
        self.deployment.map_or(0, |deployment| deployment.available)
    }

    /// Pods of it that there are and that are not about to go.
    pub(super) fn staying(&self) -> i32 {
        self.replicas().min(self.wanted())
    }

    /// Pods of it that there are.
    pub(super) fn replicas(&self) -> i32 {
        self.deployment.map_or(0, |deployment| deployment.replicas)
    }
}

impl<'a> View<'a> {
    /// Sorts out the revisions, and finds the one that is asked for.
    pub(super) fn new(
        deployment: &'a ModelDeployment,
        valid: &'a ValidDeployment,
        problems: &'a [Problem],
        status: &'a ModelDeploymentStatus,
        given: &'a Given<'a>,
        memory: &'a Memory,
        now: Timestamp,
    ) -> Self {
        let observed = &*given.observed;
        let mut revisions: BTreeMap<i64, Revision> = BTreeMap::new();
        for record in &observed.revisions {
            revisions.entry(record.number).or_default().record = Some(record);
        }
        for child in &observed.deployments {
            revisions.entry(child.revision).or_default().deployment = Some(child);
        }
        let of_spec = number_of_spec(valid, observed);
        let asked = valid.undo_to.or(of_spec).unwrap_or(given.next);
        let stable = status.stable_revision.filter(|number| revisions.contains_key(number));
        View { deployment, valid, problems, status, observed, memory, now, revisions, of_spec, asked, stable }
    }

    /// A revision; one that is not there yet has nothing.
    pub(super) fn revision(&self, number: i64) -> Revision<'a> {
        self.revisions.get(&number).copied().unwrap_or_default()
    }

    /// Whether what is asked for has no number that any cache shows.
    pub(super) fn is_new(&self) -> bool {
        self.of_spec.is_none() && self.valid.undo_to.is_none()
    }

    /// Whether the last number that was given has to be on record before the next one is.
    pub(super) fn is_off_record(&self) -> bool {
        let latest = self.revisions.keys().last().copied();
        self.is_new() && on_record(self.status).is_some_and(|recorded| latest > Some(recorded))
    }

    /// The highest number that was given, that of a record which is made in this reconcile included.
    pub(super) fn latest(&self, judgement: &Judgement) -> Option<i64> {
        let name = self.revision_name(self.asked);
        let is_record = |id: &ObjectId| id.resource == Resource::ControllerRevision && id.name == name;
        let is_held_up = judgement.is_news || self.is_off_record();
        let is_given = self.is_new() && !is_held_up && !self.refusals().any(|refusal| is_record(&refusal.id));
        let known = self.revisions.keys().last().copied().max(on_record(self.status));
        known.max(Some(self.asked).filter(|_| is_given))
    }

    /// What a revision is made from; `None` if its record is gone.
    pub(super) fn content(&self, number: i64) -> Option<Content> {
        match (self.is_new() && self.asked == number) || self.of_spec == Some(number) {
            true => Some(self.valid.content.clone()),
            false => Content::of_revision(&self.revision(number).record?.data),
        }
    }

    /// Pods of a revision.
    pub(super) fn pods(&self, number: i64) -> impl Iterator<Item = &'a PodFacts> {
        self.observed.pods.iter().map(|pod| &pod.0).filter(move |pod| pod.revision == number)
    }

    /// Pods of all revisions that serve.
    pub(super) fn serving(&self) -> i32 {
        self.revisions.values().map(Revision::ready).sum()
    }

    /// Name of a revision's record and Deployment.
    pub(super) fn revision_name(&self, number: i64) -> String {
        names::revision(&self.valid.name, &self.valid.uid, number)
    }

    /// Whether Deployments were written that the cache does not show yet: pods then stay where they are.
    pub(super) fn awaits_deployments(&self) -> bool {
        let changed = |child: &Arc<DeploymentFacts>| self.memory.writes.awaits(Resource::Deployment, &child.meta);
        self.memory.writes.has_created_any(Resource::Deployment) || self.observed.deployments.iter().any(changed)
    }

    /// Identity of the deployment.
    pub(super) fn id(&self) -> ObjectId {
        ObjectId::new(Resource::ModelDeployment, &self.valid.namespace, &self.valid.name)
    }

    /// That the deployment is, past all caches, what was decided upon.
    pub(super) fn is_current(&self) -> Check {
        Check::owner_is_current(self.id(), &self.deployment.metadata)
    }

    /// A plan that says where the deployment stands.
    pub(super) fn say(&self, judgement: &Judgement) -> Plan<ModelDeploymentStatus> {
        let seen = seen(self.deployment, self.now);
        let (new, state) = super::words::status(self, judgement, seen);
        let publish = urgency(self.status, &new, state, self.memory, self.now);
        let claim = self.memory.claim_due_at();
        Plan::status_only(new, publish).waking_at(judgement.deadline).waking_at(claim)
    }
}
