//! What is said of a deployment: its counts, its history, and its situation in a sentence.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::judge::Judgement;
use super::view::View;
use crate::api::conditions::{self, Seen};
use crate::api::{MAX_LISTED_REVISIONS, ModelDeploymentStatus, RevisionStatus};
use crate::cluster::port::Resource;
use crate::cluster::problem::told;
use crate::cluster::refusal::{Refusal, RefusalKind};
use crate::names;
use crate::serving::observe::ClaimFacts;
use crate::serving::status::{
    CLAIM_NOT_SHAREABLE, REVISION_CHANGED, Situation, State, describe, describe_available, pods,
};

/// Access modes with which a claim can be mounted on one node only.
const EXCLUSIVE: [&str; 2] = ["ReadWriteOnce", "ReadWriteOncePod"];

impl View<'_> {
    /// What the apiserver would not create or change, as far as that still stands in the way of this generation.
    pub(super) fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.memory.refusals().filter(|refusal| refusal.holds_for(self.deployment.metadata.generation))
    }

    /// Whether the claim of the model that is asked for does not exist.
    pub(super) fn misses_claim(&self) -> bool {
        self.claim().is_some_and(|claim| !claim.exists)
    }

    /// Whether a child was created that no cache shows yet.
    pub(super) fn has_created(&self, resource: Resource, name: &str) -> bool {
        self.memory.writes.has_created(resource, name)
    }

    /// The claim of the model that is asked for, if it was read.
    fn claim(&self) -> Option<&ClaimFacts> {
        let wanted = self.content(self.asked)?.model?.claim;
        self.memory.claim.as_ref().filter(|claim| claim.name == wanted)
    }
}

/// The status as it should be, and the state that it tells.
pub(super) fn status(view: &View, judgement: &Judgement, seen: Seen) -> (ModelDeploymentStatus, State) {
    let valid = view.valid;
    let mut new = view.status.clone();
    let serving = view.serving();
    new.revision = Some(view.asked);
    new.stable_revision = judgement.stable;
    new.latest_revision = view.latest(judgement);
    let has_service = view.observed.route.is_some() || view.has_created(Resource::Service, &valid.name);
    new.url = has_service.then(|| format!("http://{}.{}.svc", valid.name, valid.namespace));
    // A HorizontalPodAutoscaler takes this number for what it had asked for: within its tolerance it asks for the same
    // again, and of an external metric's average it divides by it. Pods of a surge are not its own; its selector finds
    // them nevertheless, and the load that they carry.
    // https://github.com/kubernetes/kubernetes/blob/v1.35.0/pkg/controller/podautoscaler/replica_calculator.go
    let staying: i32 = view.revisions.values().map(super::view::Revision::staying).sum();
    new.replicas = Some(staying.min(valid.replicas));
    new.available_replicas = Some(serving);
    new.summary = Some(format!("{serving}/{}", valid.replicas));
    let incarnation = names::incarnation(&valid.uid);
    new.selector =
        Some(format!("{}={},{}={incarnation}", names::LABEL_DEPLOYMENT, valid.name, names::LABEL_INCARNATION));
    new.rollout.clone_from(&judgement.rollout);
    new.failure.clone_from(&judgement.failure);
    new.revisions = history(view);
    new.effective = Some(valid.effective());
    let situation = situation(view, judgement);
    describe(&mut new, &situation, seen);
    describe_available(&mut new, serving, valid.fewest_available(), seen);
    warn_of_claim(view, &mut new, seen);
    warn_of_change(view, &mut new, seen);
    (new, situation.state)
}

fn history(view: &View) -> Vec<RevisionStatus> {
    let told = |(number, revision): (&i64, &super::view::Revision)| {
        let record = revision.record?;
        Some(RevisionStatus {
            revision: *number,
            hash: record.hash.clone(),
            created: Time(record.created),
            change: Some(record.change.clone()).filter(|change| !change.is_empty()),
            replicas: revision.staying(),
            available_replicas: revision.ready(),
        })
    };
    let mut listed: Vec<RevisionStatus> =
        view.revisions.iter().rev().filter_map(told).take(MAX_LISTED_REVISIONS).collect();
    listed.reverse();
    listed
}

fn situation(view: &View, judgement: &Judgement) -> Situation {
    if !view.problems.is_empty() {
        return Situation::new(State::Invalid, told(view.problems));
    }
    if let Some(situation) = refused(view) {
        return situation;
    }
    let replicas = view.valid.replicas;
    if judgement.is_complete {
        return match replicas {
            0 => Situation::new(State::ScaledToZero, "scaled to zero: raise replicas to serve again".to_owned()),
            _ => Situation::new(State::Serving, format!("{}{}", all_serve(replicas, view.asked), undo_note(view))),
        };
    }
    if let Some(failed) = judgement.rollout.as_ref().and_then(|rollout| rollout.failed.as_ref()) {
        let mut stable = view.stable.map(|stable| serves(view, stable)).unwrap_or_default();
        if let Some(trouble) = &judgement.trouble {
            stable.push_str(&format!(" ({})", trouble.words));
        }
        let change = "change model or template, an annotation for instance, to try again";
        let remedy = match judgement.deadline {
            Some(at) => format!("it is tried again at {at:.0}; {change} before"),
            None => change.to_owned(),
        };
        let message = format!("revision {} was given up: {failed}; {stable}; {remedy}", view.asked);
        return Situation::new(State::RolloutFailed, message);
    }
    let (state, what) = on_its_way(view, judgement);
    let message = match judgement.is_overdue {
        true => format!("{what}; no progress for {:#} (progressDeadline)", view.valid.patience()),
        false => what,
    };
    Situation { state, message, overdue: judgement.is_overdue }
}

/// What the apiserver refuses. One that has to be dealt with by a person comes first; then the first that was met.
fn refused(view: &View) -> Option<Situation> {
    let stalls = |refusal: &&Refusal| matches!(refusal.kind, RefusalKind::Content | RefusalKind::Foreign);
    let refusal = view.refusals().find(stalls).or_else(|| view.refusals().next())?;
    let stalled = stalled_before(view).filter(|_| refusal.kind == RefusalKind::Unanswered);
    Some(stalled.unwrap_or_else(|| Situation::new(State::of_refusal(refusal.kind), refusal.told(""))))
}

/// What this generation is stalled by, as far as its status says: no answer does not make it any better.
fn stalled_before(view: &View) -> Option<Situation> {
    let is_said = view.status.observed_generation == view.deployment.metadata.generation;
    let state = State::of(view.status).filter(|state| is_said && matches!(state, State::NameTaken | State::Refused))?;
    Some(Situation::new(state, view.status.message.clone()?))
}

/// A revision that does not have all its pods yet, or not any more.
fn on_its_way(view: &View, judgement: &Judgement) -> (State, String) {
    let heading = judgement.heading;
    let replaced = view.stable.filter(|stable| *stable != view.asked);
    if let Some(claim) = view.claim().filter(|_| view.misses_claim()) {
        let uri = view.content(view.asked).and_then(|content| content.source).map(|source| source.uri);
        let message = format!(
            "spec.model.uri: {}: there is no PersistentVolumeClaim {} in namespace {}: make it, or name another",
            uri.unwrap_or_default(),
            claim.name,
            view.valid.namespace
        );
        return (State::ClaimNotFound, with_stable(view, message));
    }
    if let Some(words) = view.revision(heading).deployment.and_then(|child| child.refused.as_deref()) {
        return (State::PodsRefused, with_stable(view, format!("its pods cannot be created: {words}")));
    }
    if let Some(trouble) = &judgement.trouble {
        let prefix = replaced.map(|stable| format!("revision {} replaces {stable}: ", view.asked)).unwrap_or_default();
        let message = with_stable(view, format!("{prefix}{}", trouble.words));
        return (State::of_trouble(trouble.kind), message);
    }
    let counts = counts(view);
    let others: Vec<String> = (view.revisions.iter())
        .filter(|(number, revision)| **number != view.asked && revision.wanted() > 0)
        .map(|(number, _)| number.to_string())
        .collect();
    match replaced.map(|stable| stable.to_string()).or_else(|| others.first().cloned()) {
        Some(other) if heading == view.asked => {
            (State::RollingOut, format!("revision {} replaces {other}: {counts}{}", view.asked, undo_note(view)))
        }
        Some(other) => {
            (State::RollingOut, format!("revision {other} is restored before revision {} begins", view.asked))
        }
        None if view.stable == Some(view.asked) => (State::Scaling, counts),
        None => (State::Starting, counts),
    }
}

/// How many pods of what is asked for serve, and whether they have done so for long enough.
fn counts(view: &View) -> String {
    let (asked, replicas) = (view.revision(view.asked), view.valid.replicas);
    let counts = format!("{} of {replicas} {} serve", asked.ready(), pods(replicas));
    match asked.ready() >= replicas && asked.available() < replicas {
        true => format!("{counts}, not yet all of them for {}s (minReadySeconds)", view.valid.min_ready),
        false => counts,
    }
}

fn all_serve(replicas: i32, revision: i64) -> String {
    match replicas {
        1 => format!("the pod serves revision {revision}"),
        _ => format!("all {replicas} pods serve revision {revision}"),
    }
}

fn undo_note(view: &View) -> String {
    match view.valid.undo_to {
        Some(number) if view.of_spec == Some(number) => {
            " (rollout.undoTo; model and template say the same by now: remove it)".to_owned()
        }
        Some(_) => " (rollout.undoTo; remove it to serve what model and template say)".to_owned(),
        None => String::new(),
    }
}

/// Adds that the stable revision goes on, if there is another one.
fn with_stable(view: &View, message: String) -> String {
    match view.stable.filter(|stable| *stable != view.asked) {
        Some(stable) => format!("{message}; {}", serves(view, stable)),
        None => message,
    }
}

fn serves(view: &View, revision: i64) -> String {
    let replicas = view.valid.replicas;
    format!("revision {revision} serves with {} of {replicas} {}", view.revision(revision).ready(), pods(replicas))
}

/// Warns when the model's claim cannot be mounted wherever a replica may be placed. What was said stays until the claim
/// has been looked at.
fn warn_of_claim(view: &View, status: &mut ModelDeploymentStatus, seen: Seen) {
    let Some(claim) = view.claim() else {
        if view.content(view.asked).is_none_or(|content| content.model.is_none()) {
            conditions::remove(&mut status.conditions, CLAIM_NOT_SHAREABLE);
        }
        return;
    };
    let exclusive = |mode: &String| EXCLUSIVE.contains(&mode.as_str());
    let most = view.valid.replicas + view.valid.max_surge;
    if view.valid.replicas == 0
        || most < 2
        || claim.access_modes.is_empty()
        || !claim.access_modes.iter().all(exclusive)
    {
        conditions::remove(&mut status.conditions, CLAIM_NOT_SHAREABLE);
        return;
    }
    let mode = claim.access_modes.join(", ");
    let message = format!(
        "claim {} is {mode}: it can be mounted on one node only, and {most} pods (replicas and maxSurge) may be placed on \
         several; use a claim that is ReadOnlyMany or ReadWriteMany, keep the pods together with podAffinity, or use one \
         replica with maxSurge 0",
        claim.name
    );
    conditions::set(&mut status.conditions, CLAIM_NOT_SHAREABLE, true, "ReadWriteOnce", &message, seen);
}

/// Warns when the template of a revision's Deployment was changed after it was made: its pods may run something else than
/// the revision says. The policy `trainyard-revisions` refuses such changes, where it is installed; a cluster's policies
/// that edit templates are not held up by it.
fn warn_of_change(view: &View, status: &mut ModelDeploymentStatus, seen: Seen) {
    let is_changed = |(_, revision): &(&i64, &super::view::Revision)| {
        revision.deployment.is_some_and(|deployment| deployment.was_changed && deployment.wanted > 0)
    };
    let numbers: Vec<String> = view.revisions.iter().filter(is_changed).map(|(number, _)| number.to_string()).collect();
    let Some(first) = view.revisions.iter().find(is_changed).map(|(number, _)| view.revision_name(*number)) else {
        conditions::remove(&mut status.conditions, REVISION_CHANGED);
        return;
    };
    let message = format!(
        "the pod template of revision {} was changed in its Deployment ({first}) after it was made: its pods may not run \
         what the revision says; change an annotation of the template to replace them with a new revision",
        numbers.join(", ")
    );
    conditions::set(&mut status.conditions, REVISION_CHANGED, true, "TemplateChanged", &message, seen);
}
