//! What a decision is made from, besides the deployment itself: its children as the caches have them, and what this
//! process remembers of its own recent writes and reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::caches::ServingPod;
use crate::api::ModelDeploymentStatus;
use crate::cluster::index::ChildMeta;
use crate::cluster::managed::Remembers;
use crate::cluster::port::{ObjectId, Resource};
use crate::cluster::refusal::Refusal;
use crate::cluster::workload::{BudgetFacts, DeploymentFacts, RevisionFacts, RouteFacts};
use crate::cluster::writes::Writes;

/// The children of a deployment, as the caches have them; each cache may lag behind the cluster, and behind the others.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Records of its revisions.
    pub revisions: Vec<Arc<RevisionFacts>>,
    /// Their Deployments.
    pub deployments: Vec<Arc<DeploymentFacts>>,
    /// Its Service.
    pub route: Option<Arc<RouteFacts>>,
    /// Its PodDisruptionBudget.
    pub budget: Option<Arc<BudgetFacts>>,
    /// Pods of all its revisions.
    pub pods: Vec<Arc<ServingPod>>,
}

impl Observed {
    /// All that we make ourselves.
    fn children(&self) -> impl Iterator<Item = (Resource, &ChildMeta)> {
        let revisions = self.revisions.iter().map(|child| (Resource::ControllerRevision, &child.meta));
        let deployments = self.deployments.iter().map(|child| (Resource::Deployment, &child.meta));
        let routes = self.route.iter().map(|child| (Resource::Service, &child.meta));
        let budgets = self.budget.iter().map(|child| (Resource::PodDisruptionBudget, &child.meta));
        revisions.chain(deployments).chain(routes).chain(budgets)
    }
}

/// A claim that is missing, or that may explain why pods do not start, is looked at again after this long.
const CLAIM_INTERVAL: SignedDuration = SignedDuration::from_secs(15);

/// What the process remembers of one deployment between reconciles. Losing it costs a few requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Our own recent writes.
    pub writes: Writes,
    /// The claim of the model, as it was last read.
    pub claim: Option<ClaimFacts>,
    /// What the apiserver would not create or change, until it is asked again.
    pub refused: BTreeMap<ObjectId, Refusal>,
}

/// A PersistentVolumeClaim, read and not watched: they cannot be told apart from everybody's others by a label.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimFacts {
    /// Its name.
    pub name: String,
    /// Whether there is one.
    pub exists: bool,
    /// `spec.accessModes`.
    pub access_modes: Vec<String>,
    /// When it was read.
    pub read_at: Timestamp,
}

impl ClaimFacts {
    /// What an answer to a read says.
    pub fn new(name: &str, claim: Option<&Value>, read_at: Timestamp) -> Self {
        let modes = claim.and_then(|claim| claim["spec"]["accessModes"].as_array()).into_iter().flatten();
        let access_modes = modes.filter_map(Value::as_str).map(str::to_owned).collect();
        ClaimFacts { name: name.to_owned(), exists: claim.is_some(), access_modes, read_at }
    }
}

impl Memory {
    /// Takes in what the caches show.
    pub fn catch_up(&mut self, observed: &Observed, now: Timestamp) {
        self.writes.catch_up(observed.children(), now);
        // A clock that was set back must not hold anything up.
        self.refused.retain(|_, refusal| now < refusal.until && refusal.until <= now + refusal.kind.pause());
        if let Some(claim) = &mut self.claim {
            // A clock that was set back must not hold anything up.
            claim.read_at = claim.read_at.min(now);
        }
    }

    /// What was refused lately.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        let last = self.writes.refusal.as_ref().filter(|refusal| !self.refused.contains_key(&refusal.id));
        self.refused.values().chain(last)
    }

    /// Whether a claim should be read. `settled` says that the deployment serves, so that it must be fine.
    pub fn is_claim_due(&self, name: &str, settled: bool, now: Timestamp) -> bool {
        let known = self.claim.as_ref().filter(|claim| claim.name == name);
        known.is_none_or(|claim| (!claim.exists || !settled) && claim.read_at + CLAIM_INTERVAL <= now)
    }

    /// When a claim that is missing is looked at again.
    pub fn claim_due_at(&self) -> Option<Timestamp> {
        self.claim.as_ref().filter(|claim| !claim.exists).map(|claim| claim.read_at + CLAIM_INTERVAL)
    }
}

impl Remembers<ModelDeploymentStatus> for Memory {
    fn writes(&mut self) -> &mut Writes {
        &mut self.writes
    }

    fn refused(&mut self, refusal: &Refusal) -> bool {
        self.refused.insert(refusal.id.clone(), refusal.clone());
        true
    }
}
