//! Launching the attempt in force, and telling its pods each other's addresses.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::view::View;
use super::{outcome, stop};
use crate::api::TrainingJobStatus;
use crate::api::conditions;
use crate::cluster::body::Body;
use crate::cluster::endpoints::{EndpointFacts, SliceFacts};
use crate::cluster::plan::{Action, Plan};
use crate::cluster::pod_state::PodState;
use crate::cluster::port::{ObjectId, Resource};
use crate::cluster::refusal::Refusal;
use crate::cluster::waiting;
use crate::names::{self, AddressFamily};
use crate::training::build::{pod::PodBlueprint, service};
use crate::training::status::{SUSPENDED, Situation};
use crate::training::validate::ValidJob;

/// Addresses that come one by one are written in waves, at most this often.
const SLICE_INTERVAL: SignedDuration = SignedDuration::from_millis(500);

/// Most pods created in one reconcile; more follow in the next, so that an edit or a deletion is seen in between.
const MOST_CREATES: usize = 128;

/// Creates what the attempt lacks, publishes host names, and says how far it is.
pub(super) fn launch(view: &View) -> Plan<TrainingJobStatus> {
    if view.valid.suspended {
        return rest(view);
    }
    if let Some(at) = view.status.retry_time.as_ref().map(|time| time.0).filter(|at| view.now < *at) {
        let next = format!("restart {} of {} comes at {at:.0}", view.restarts(), view.valid.max_restarts);
        return view.say(&Situation::Restarting { next }).waking_at(Some(at)).waking_at(outcome::deadline(view));
    }
    let refusal = view.memory.writes.refusal.as_ref().filter(|refusal| refusal.holds_for(view.job.metadata.generation));
    let (mut actions, wake_at) = name_writes(view);
    // What was refused is not asked for again before its time, and neither is what would follow it.
    let refusal = refusal.filter(|_| !view.missing.is_empty() || !actions.is_empty());
    let mut checks = Vec::new();
    if refusal.is_some() {
        actions.clear();
    } else if !view.missing.is_empty() {
        // Caches may be behind: what is created is decided upon the live job, and never beside a live older attempt.
        checks.push(view.job_is_current());
        if view.attempt > 1 {
            checks.push(view.names_are_cleared());
            checks.push(view.pods_are_gone(view.attempt, Vec::new()));
        }
        actions.extend(creations(view));
    }
    let strangers = stop::deletions_of_strangers(view);
    if !strangers.is_empty() {
        checks.push(view.job_is_current());
        actions.extend(strangers);
    }
    let more_to_create = (view.missing.len() > MOST_CREATES && refusal.is_none()).then_some(view.now);
    let mut plan = view.say(&situation(view, refusal));
    for at in [wake_at, refusal.map(|refusal| refusal.until), view.memory.writes.doubt_at(), more_to_create] {
        plan = plan.waking_at(at);
    }
    plan.checks = checks;
    plan.actions = actions;
    plan.waking_at(outcome::deadline(view)).waking_at(view.memory.ending.at_the_latest(view.now))
}

/// A suspended job rests. That no pod runs is said, the first time, only when the live cluster says so too: quota may be
/// given to others on it.
fn rest(view: &View) -> Plan<TrainingJobStatus> {
    let mut plan = view.say_suspended(&Situation::Suspended);
    if !conditions::holds(&view.status.conditions, SUSPENDED) {
        plan.checks.push(view.pods_are_gone(view.attempt.saturating_add(1), Vec::new()));
    }
    plan
}

fn situation(view: &View, refusal: Option<&Refusal>) -> Situation {
    if let Some(refusal) = refusal {
        return Situation::Refused(refusal.clone());
    }
    let nodes = view.valid.nodes;
    let started = view.count_started();
    // Once all have started the attempt runs, even while the first of its ranks come to their end.
    if started == nodes {
        return Situation::Running { nodes };
    }
    let waiting_pods = view.ranks.iter().filter(|rank| rank.state == PodState::Waiting);
    let why = waiting::why(waiting_pods.map(|rank| rank.pod.as_ref()), nodes);
    if view.follows_failure() && why.is_none() {
        let next = format!("attempt {} is starting: {started} of {nodes} pods have started", view.attempt);
        return Situation::Restarting { next };
    }
    Situation::Starting { started, nodes, why }
}

/// The pods that are missing, by rank, as many as one reconcile may create.
fn creations(view: &View) -> impl Iterator<Item = Action> {
    let job = Arc::new(view.valid.clone());
    view.missing.iter().take(MOST_CREATES).map(move |&rank| {
        let pod = PodBlueprint { job: job.clone(), rank, attempt: view.attempt };
        create(view.valid, Resource::Pod, &view.pod_name(rank), Body::Later(Arc::new(pod)))
    })
}

fn create(job: &ValidJob, resource: Resource, name: &str, object: Body) -> Action {
    Action::Create { id: ObjectId::new(resource, &job.namespace, name), owner_uid: job.uid.clone(), object }
}

/// What DNS needs. The Service comes first, since a pod's own host name is looked up under it; then the slices as they
/// should be, in waves, from when rank 0 has its address.
fn name_writes(view: &View) -> (Vec<Action>, Option<Timestamp>) {
    let job = view.valid;
    if job.nodes == 1 {
        return (Vec::new(), None);
    }
    let service_name = names::service(&job.name, &job.uid);
    let has_service =
        view.observed.service.is_some() || view.memory.writes.has_created(Resource::Service, &service_name);
    let mut actions: Vec<Action> = (!has_service)
        .then(|| create(job, Resource::Service, &service_name, service::build_service(job).into()))
        .into_iter()
        .collect();
    let leader_has_address =
        view.ranks.first().is_some_and(|rank| rank.pod.rank == 0 && !rank.pod.addresses.is_empty());
    if !leader_has_address {
        return (actions, None);
    }
    let slices: Vec<Action> = AddressFamily::ALL
        .into_iter()
        .filter_map(|family| {
            let wanted = service::endpoints(view.ranks.iter().map(|rank| rank.pod.as_ref()), family);
            slice_write(view, family, &wanted)
        })
        .collect();
    let next_wave = view.memory.slices_written_at.map(|written| written + SLICE_INTERVAL);
    match next_wave.filter(|next| view.now < *next && !slices.is_empty()) {
        Some(next) => (actions, Some(next)),
        None => {
            actions.extend(slices);
            (actions, None)
        }
    }
}

fn slice_write(view: &View, family: AddressFamily, wanted: &[EndpointFacts]) -> Option<Action> {
    let job = view.valid;
    let name = names::endpoint_slice(&job.name, &job.uid, family);
    let present = view.observed.slices.iter().find(|slice| slice.meta.name == name);
    match present {
        Some(slice) if slice.endpoints == wanted || view.memory.awaits(slice) => None,
        Some(slice) => Some(change_slice(slice, family, wanted)),
        None if wanted.is_empty() || view.memory.writes.has_created(Resource::EndpointSlice, &name) => None,
        None => Some(create(job, Resource::EndpointSlice, &name, service::build_slice(job, family, wanted).into())),
    }
}

fn change_slice(slice: &SliceFacts, family: AddressFamily, endpoints: &[EndpointFacts]) -> Action {
    let id = ObjectId::new(Resource::EndpointSlice, &slice.meta.namespace, &slice.meta.name);
    Action::Apply { id, object: service::build_slice_change(&slice.meta, family, endpoints) }
}

/// Takes the names of older attempts out of DNS. Not in waves: it comes before their pods are stopped.
pub(super) fn clear_stale_names(view: &View) -> Vec<Action> {
    let suffix = format!("-{}", view.attempt);
    let of_older = |slice: &SliceFacts| slice.endpoints.iter().any(|endpoint| !endpoint.hostname.ends_with(&suffix));
    empty_slices(
        view.observed.slices.iter().filter(|slice| of_older(slice) && !view.memory.awaits(slice)).map(AsRef::as_ref),
    )
}

/// Empties slices.
pub(super) fn empty_slices<'a>(slices: impl Iterator<Item = &'a SliceFacts>) -> Vec<Action> {
    slices
        .filter_map(|slice| {
            let address = slice.endpoints.first()?.addresses.first()?;
            Some(change_slice(slice, AddressFamily::of(address)?, &[]))
        })
        .collect()
}
