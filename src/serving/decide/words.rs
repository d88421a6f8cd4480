//! What is said of a deployment: its counts, its history, and its situation in a sentence.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::judge::Judgement;
use super::view::View;
use crate::api::conditions::{self, Seen};
use crate::api::{ModelDeploymentStatus, RevisionStatus};
use crate::cluster::port::Resource;
use crate::cluster::refusal::{Refusal, RefusalKind};
use crate::names;
use crate::serving::observe::ClaimFacts;
use crate::serving::status::{CLAIM_NOT_SHAREABLE, Situation, State, describe, describe_available, pods};

/// Access modes with which a claim can be mounted on one node only.
const EXCLUSIVE: [&str; 2] = ["ReadWriteOnce", "ReadWriteOncePod"];

impl View<'_> {
    /// What the apiserver would not create, if that still stands in the way of this generation.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        let refusal = self.memory.writes.refusal.as_ref();
        refusal.filter(|refusal| refusal.holds_for(self.deployment.metadata.generation))
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
    // Not the one that is asked for: its record may be refused, and the number is given when there is one.
    let latest = view.revisions.keys().last().copied().max(new.latest_revision);
    new.revision = Some(view.asked);
    new.stable_revision = judgement.stable;
    new.latest_revision = latest;
    new.url = Some(format!("http://{}.{}.svc", valid.name, valid.namespace));
    new.replicas = Some(view.revisions.values().map(super::view::Revision::staying).sum());
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
            available_replicas: revision.available(),
        })
    };
    view.revisions.iter().filter_map(told).collect()
}

fn situation(view: &View, judgement: &Judgement) -> Situation {
    if let Some(refusal) = view.refusal() {
        let stalled = stalled_before(view).filter(|_| refusal.kind == RefusalKind::Unanswered);
        return stalled.unwrap_or_else(|| Situation::new(State::of_refusal(refusal.kind), refusal.told("")));
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
        let message = format!(
            "revision {} was given up: {failed}; {stable}; change model or template, an annotation for instance, to try \
             again",
            view.asked
        );
        return Situation::new(State::RolloutFailed, message);
    }
    let (state, what) = on_its_way(view, judgement);
    let message = match judgement.is_overdue {
        true => format!("{what}; no progress for {:#} (progressDeadline)", view.valid.patience()),
        false => what,
    };
    Situation { state, message, overdue: judgement.is_overdue }
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
    if let Some(claim) = view.claim().filter(|claim| !claim.exists) {
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
    let serving = view.revision(view.asked).available();
    let counts = format!("{serving} of {} {} serve", view.valid.replicas, pods(view.valid.replicas));
    let others: Vec<String> = (view.revisions.iter())
        .filter(|(number, revision)| **number != view.asked && revision.wanted() > 0)
        .map(|(number, _)| number.to_string())
        .collect();
    match replaced.map(|stable| stable.to_string()).or_else(|| others.first().cloned()) {
        Some(other) if heading == view.asked => {
            (State::RollingOut, format!("revision {} replaces {other}: {counts} it{}", view.asked, undo_note(view)))
        }
        Some(other) => {
            (State::RollingOut, format!("revision {other} is restored before revision {} begins", view.asked))
        }
        None if view.stable == Some(view.asked) => (State::Scaling, counts),
        None => (State::Starting, counts),
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
    format!("revision {revision} serves with {} of {replicas} {}", view.revision(revision).available(), pods(replicas))
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
