//! Creating what is missing, changing what is not as it should be, and forgetting what nobody will go back to.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::judge::Judgement;
use super::numbers::{most_without_record, on_record};
use super::view::View;
use crate::api::{Amount, ModelDeploymentStatus};
use crate::cluster::index::ChildMeta;
use crate::cluster::plan::{Action, Check, Plan};
use crate::cluster::port::{ObjectId, Resource};
use crate::names;
use crate::serving::build::{budget, revision, selector, service};
use crate::serving::content::Content;
use crate::serving::policy::change::change;
use crate::serving::policy::history::outdated;

/// Adds the record and the Deployments that are missing.
pub(super) fn add_revisions(
    view: &View,
    judgement: &Judgement,
    shares: &BTreeMap<i64, i32>,
    plan: &mut Plan<ModelDeploymentStatus>,
) {
    let mut actions = Vec::new();
    if record(view, &mut actions) {
        plan.checks.push(Check::RevisionIsNew {
            owner: view.id(),
            owner_uid: view.valid.uid.clone(),
            number: view.asked,
            most: on_record(view.status).map_or_else(|| most_without_record(view.deployment), |_| view.asked),
            hashes: view.valid.content.hashes().to_vec(),
        });
    }
    deployments(view, judgement, shares, &mut actions);
    plan.actions.extend(actions);
}

/// Adds the Service and the budget, or what is not as it should be of them.
pub(super) fn add_surroundings(view: &View, judgement: &Judgement, plan: &mut Plan<ModelDeploymentStatus>) {
    route(view, judgement, &mut plan.actions);
    disruption_budget(view, &mut plan.actions);
}

/// Takes out of a plan what was refused lately with all that depends on it, and has the rest wait for what it needs.
pub(super) fn guard(view: &View, plan: &mut Plan<ModelDeploymentStatus>) {
    let refused: Vec<&ObjectId> = view.refusals().map(|refusal| &refusal.id).collect();
    let is_refused = |id: &ObjectId| refused.contains(&id);
    // Pods that could not be taken away have their place still: no others come.
    let is_full = plan.actions.iter().any(|action| is_refused(action.id()) && moves(view, action) < 0);
    // Until the next revision has its record, the one before it is what goes on.
    let is_without_next = plan.actions.iter().any(|action| {
        matches!(action, Action::Create { id, .. } if id.resource == Resource::ControllerRevision && is_refused(id))
    });
    plan.actions.retain(|action| {
        let of_kind = |resource| ObjectId { resource, ..action.id().clone() };
        let waits = match action {
            Action::Create { id, .. } if id.resource == Resource::Deployment => {
                is_refused(&of_kind(Resource::ControllerRevision))
            }
            Action::Delete { id, .. } if id.resource == Resource::ControllerRevision => {
                is_without_next || is_refused(&of_kind(Resource::Deployment))
            }
            Action::Delete { id, .. } if id.resource == Resource::Deployment => is_without_next,
            _ => false,
        };
        let has_no_room = is_full && moves(view, action) > 0;
        !(is_refused(action.id()) || waits || has_no_room)
    });
    let creates = |resource: Option<Resource>| move |action: &Action| matches!(action, Action::Create { id, .. } if resource.is_none_or(|resource| id.resource == resource));
    if !plan.actions.iter().any(creates(Some(Resource::ControllerRevision))) {
        plan.checks.retain(|check| !matches!(check, Check::RevisionIsNew { .. }));
    }
    if plan.actions.iter().any(creates(None)) && !plan.checks.contains(&view.is_current()) {
        // Caches may be behind: what is created is decided upon the live deployment.
        plan.checks.insert(0, view.is_current());
    }
    let again = view.refusals().map(|refusal| refusal.until);
    plan.wake_at = again.chain(view.memory.writes.doubt_at()).chain(plan.wake_at).min();
}

/// By how many pods an action changes what a revision should have.
fn moves(view: &View, action: &Action) -> i64 {
    let after = match action {
        Action::Scale { replicas, .. } => i64::from(*replicas),
        Action::Create { id, object, .. } if id.resource == Resource::Deployment => replicas(&object.text()),
        Action::Apply { id, object } if id.resource == Resource::Deployment => {
            object["spec"]["replicas"].as_i64().unwrap_or(0)
        }
        _ => return 0,
    };
    let mut present = view.observed.deployments.iter();
    let before = present.find(|child| child.meta.name == action.id().name).map_or(0, |child| child.wanted);
    after - i64::from(before)
}

/// The number of pods that the text of a Deployment asks for.
fn replicas(deployment: &str) -> i64 {
    #[derive(Default, Deserialize)]
    struct Deployment {
        spec: Spec,
    }
    #[derive(Default, Deserialize)]
    struct Spec {
        #[serde(default)]
        replicas: i64,
    }
    serde_json::from_str::<Deployment>(deployment).unwrap_or_default().spec.replicas
}

/// The record of the revision that is asked for; answers whether the revision is new.
fn record(view: &View, actions: &mut Vec<Action>) -> bool {
    let name = view.revision_name(view.asked);
    if view.revision(view.asked).record.is_some() || view.has_created(Resource::ControllerRevision, &name) {
        return false;
    }
    let Some(content) = view.content(view.asked) else { return false };
    let before = view.status.revision.filter(|before| *before != view.asked).and_then(|before| view.content(before));
    let change = before.map(|before| change(&before.data(), &content.data())).unwrap_or_default();
    let object = revision::build_record(view.valid, view.asked, &content, &change);
    actions.push(create(view, Resource::ControllerRevision, &name, object));
    view.of_spec.is_none()
}

/// Deployments of revisions that should have pods and have none to hold them; with its pods, each is a move too.
fn deployments(view: &View, judgement: &Judgement, shares: &BTreeMap<i64, i32>, actions: &mut Vec<Action>) {
    // A record that no cache shows yet may be of what the spec said before its last edit, under the same number.
    let is_unsure = view.is_new() && view.memory.writes.has_created_any(Resource::ControllerRevision);
    if view.awaits_deployments() || is_unsure {
        return;
    }
    for (&number, &share) in shares {
        let is_wanted = share > 0 || number == judgement.heading;
        if !is_wanted || view.revision(number).deployment.is_some() {
            continue;
        }
        if let Some(content) = view.content(number) {
            let object = revision::build_deployment(view.valid, number, &content, share);
            actions.push(create(view, Resource::Deployment, &view.revision_name(number), object));
        }
    }
}

/// The Service. Its ports are those of the revision that serves: a new one's only when it has taken over. The model's
/// port is found in the pods of all revisions that have some.
fn route(view: &View, judgement: &Judgement, actions: &mut Vec<Action>) {
    let serving = if judgement.is_complete { view.asked } else { view.stable.unwrap_or(view.asked) };
    let Some(content) = view.content(serving).or_else(|| view.content(view.asked)) else { return };
    let with_pods = view.revisions.iter().filter(|(_, revision)| revision.wanted() > 0).map(|(number, _)| *number);
    // What is about to get its first pods, too.
    let others: BTreeSet<i64> = with_pods.chain([judgement.heading]).filter(|number| *number != serving).collect();
    let others: Vec<Content> = others.into_iter().filter_map(|number| view.content(number)).collect();
    let target = service::target(others.iter().chain([&content])).or_else(|| service::target([&content]));
    let ports = service::ports(&content, &target.unwrap_or_default());
    let name = &view.valid.name;
    let Some(route) = &view.observed.route else {
        if !view.has_created(Resource::Service, name) {
            actions.push(create(view, Resource::Service, name, service::build_service(view.valid, ports)));
        }
        return;
    };
    let selector = selector(name, &view.valid.uid);
    let is_right = route.ports == ports && json!(route.selector) == selector;
    if !is_right && !view.memory.writes.awaits(Resource::Service, &route.meta) {
        let object = service::build_service_change(view.valid, &route.meta, ports);
        actions.push(apply(Resource::Service, &route.meta, object));
    }
}

/// The PodDisruptionBudget, above one replica: below, it could only hold up the drain of a node.
fn disruption_budget(view: &View, actions: &mut Vec<Action>) {
    const KIND: Resource = Resource::PodDisruptionBudget;
    let wanted: Option<Amount> = view.valid.budget.filter(|_| view.valid.replicas > 1);
    let name = names::family(&view.valid.name, &view.valid.uid);
    match (&view.observed.budget, wanted) {
        (None, Some(amount)) if !view.has_created(KIND, &name) => {
            actions.push(create(view, KIND, &name, budget::build_budget(view.valid, amount)));
        }
        (Some(present), None) => actions.push(Action::delete(KIND, &present.meta)),
        (Some(present), Some(amount)) => {
            let is_right = present.max_unavailable == amount.to_string();
            if !is_right && !view.memory.writes.awaits(KIND, &present.meta) {
                actions.push(apply(KIND, &present.meta, budget::build_budget_change(&present.meta, amount)));
            }
        }
        (None, _) => {}
    }
}

/// Adds the removal of revisions that are beyond the history's limit and that nobody uses. Also while none comes to serve:
/// who tries one template after the other must not fill the cluster with them.
pub(super) fn forget(view: &View, judgement: &Judgement, plan: &mut Plan<ModelDeploymentStatus>) {
    if view.awaits_deployments() {
        // The cache may still show one without the pods that we have asked for since.
        return;
    }
    // What is stable by the record counts until the record says otherwise.
    // Also one that an invalid spec names: it may be all that is wrong with it.
    let named = view.deployment.spec.rollout.as_ref().and_then(|rollout| rollout.undo_to);
    let used = [Some(view.asked), view.of_spec, view.stable, judgement.stable, view.valid.undo_to, named];
    let is_unused = |number: &&i64| {
        let revision = view.revision(**number);
        !used.contains(&Some(**number)) && revision.wanted() == 0 && revision.replicas() == 0
    };
    for number in outdated(view.revisions.keys().filter(is_unused).copied(), view.valid.history) {
        let revision = view.revision(number);
        // The record last: as long as it is there, the number is not forgotten.
        plan.actions.extend(revision.deployment.map(|child| Action::delete(Resource::Deployment, &child.meta)));
        plan.actions.extend(revision.record.map(|record| Action::delete(Resource::ControllerRevision, &record.meta)));
    }
}

fn create(view: &View, resource: Resource, name: &str, object: Value) -> Action {
    let id = ObjectId::new(resource, &view.valid.namespace, name);
    Action::Create { id, owner_uid: view.valid.uid.clone(), object: object.into() }
}

fn apply(resource: Resource, child: &ChildMeta, object: Value) -> Action {
    Action::Apply { id: ObjectId::new(resource, &child.namespace, &child.name), object }
}
