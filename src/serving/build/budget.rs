//! The PodDisruptionBudget: how many pods a drain of nodes may take at a time.

use serde_json::{Value, json};

use super::{change, metadata, selector};
use crate::api::Amount;
use crate::cluster::index::ChildMeta;
use crate::cluster::port::Resource;
use crate::names;
use crate::serving::validate::ValidDeployment;

/// Builds the budget. Pods that do not serve anyway may always be evicted: a deployment that is down must not hold up the
/// drain of a node.
pub fn build_budget(deployment: &ValidDeployment, max_unavailable: Amount) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(deployment, &names::family(&deployment.name, &deployment.uid)),
        "spec": {
            "maxUnavailable": max_unavailable,
            "selector": {"matchLabels": selector(&deployment.name, &deployment.uid)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    })
}

/// Builds a change of a budget that is not as it should be.
pub fn build_budget_change(present: &ChildMeta, max_unavailable: Amount) -> Value {
    change(Resource::PodDisruptionBudget, present, json!({"maxUnavailable": max_unavailable}))
}
