//! The caches of a ModelDeployment's children, and what they show of one deployment.

use crate::cluster::index::{Child, ChildMeta, OwnedIndex, Owner};
use crate::cluster::pod::{PodFacts, WatchedPod};
use crate::cluster::port::Resource;
use crate::cluster::workload::{BudgetFacts, DeploymentFacts, RevisionFacts, RouteFacts};
use crate::names;

use super::observe::Observed;

/// One index for each kind of child.
#[derive(Debug, Default)]
pub struct Caches {
    /// Records of revisions.
    pub revisions: OwnedIndex<RevisionFacts>,
    /// Their Deployments.
    pub deployments: OwnedIndex<DeploymentFacts>,
    /// Services.
    pub routes: OwnedIndex<RouteFacts>,
    /// PodDisruptionBudgets.
    pub budgets: OwnedIndex<BudgetFacts>,
    /// Pods, trimmed.
    pub pods: OwnedIndex<ServingPod>,
}

/// A pod that serves. Its controller is a ReplicaSet, whose owner is a Deployment of ours; by its labels it is found
/// under the ModelDeployment itself, with the incarnation in place of the UID. Labels can be edited by whoever may edit
/// pods: what pods show is reported, and nothing is done upon it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServingPod(pub PodFacts);

impl Child for ServingPod {
    fn meta(&self) -> &ChildMeta {
        &self.0.meta
    }
}

impl From<WatchedPod> for ServingPod {
    fn from(pod: WatchedPod) -> Self {
        let labels = kube::Resource::meta(&pod).labels.clone().unwrap_or_default();
        let label = |key| labels.get(key).cloned().unwrap_or_default();
        let owner = Owner {
            kind: Resource::ModelDeployment.kind().to_owned(),
            name: label(names::LABEL_DEPLOYMENT),
            uid: label(names::LABEL_INCARNATION),
        };
        let mut facts = PodFacts::from(pod);
        facts.meta.owner = Some(owner);
        ServingPod(facts)
    }
}

impl Caches {
    /// The children of a deployment, each as its own cache has it. Whatever is not named as its number demands was not
    /// made by us, or is not any more what it was, and counts for nothing.
    pub fn observe(&self, namespace: &str, name: &str, uid: &str) -> Observed {
        let named = |meta: &ChildMeta, number| meta.name == names::revision(name, uid, number);
        let family = names::family(name, uid);
        let mut revisions = self.revisions.of(namespace, uid);
        revisions.retain(|revision| named(&revision.meta, revision.number));
        let mut deployments = self.deployments.of(namespace, uid);
        deployments.retain(|deployment| named(&deployment.meta, deployment.revision));
        Observed {
            revisions,
            deployments,
            route: self.routes.of(namespace, uid).into_iter().find(|route| route.meta.name == name),
            budget: self.budgets.of(namespace, uid).into_iter().find(|budget| budget.meta.name == family),
            pods: self.pods.of(namespace, &names::incarnation(uid)),
        }
    }
}
