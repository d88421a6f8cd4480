//! What every reconcile does once it can decide: execute the plan, publish the status, remember.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use serde_json::{Value, json};

use super::execute::{Executed, execute, identity};
use super::guard::Unreadable;
use super::managed::{Managed, Remembers, meta};
use super::plan::{Action, Plan, Publish, earliest};
use super::port::{ApiError, ApiServer, ObjectId};
use super::problem::Problem;
use super::publish::status_patch;
use super::refusal::Refusal;
use crate::api::conditions::{FINISHED, Seen, holds, whole_second};

/// How soon a decision is made again when a cache turned out to be behind, should no event come first.
const STALE_RETRY: SignedDuration = SignedDuration::from_secs(1);

/// Most refusals after which a reconcile goes on with what does not depend on them.
const MOST_REFUSALS: usize = 8;

/// What a reconcile came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// Whether anything was written.
    pub changed: bool,
    /// When to come again even if nothing happens.
    pub wake_at: Option<Timestamp>,
}

impl Reconciled {
    /// Nothing was written, and a cache is behind: its event is on the way.
    pub fn stale(now: Timestamp) -> Self {
        Reconciled { changed: false, wake_at: Some(now + STALE_RETRY) }
    }
}

/// Whether the cache does not show our own last word on an object yet, so that nothing can be decided from it.
pub fn is_behind<O: Managed>(object: &O, memory: &mut O::Memory) -> bool {
    memory.writes().patched_from.is_some() && memory.writes().patched_from == meta(object).resource_version
}

/// Decides, executes and publishes.
///
/// `decide` is asked again when the apiserver refuses something: what is said then names the refusal, and what does not
/// depend on it is carried out, for kinds whose decisions tell the one from the other ([`Remembers::refused`]).
///
/// # Errors
/// What the apiserver answered, if it is worth another try soon.
pub async fn carry_out<A: ApiServer, O: Managed>(
    api: &A,
    object: &O,
    memory: &mut O::Memory,
    decide: impl Fn(&O::Memory) -> Plan<O::Status>,
    now: Timestamp,
) -> Result<Reconciled, ApiError> {
    settle_uncertain(api, meta(object), memory, now).await?;
    let generation = meta(object).generation;
    let (mut plan, mut made) = (decide(memory), Vec::new());
    let mut executed = execute(api, &plan.checks, &plan.actions, &mut made).await;
    if let Ok(Executed::Doubted(reason, checks)) = &executed
        && memory.doubted(checks, now)
    {
        tracing::debug!(reason, "going on without it");
        plan = decide(memory);
        executed = execute(api, &plan.checks, &plan.actions, &mut made).await;
    }
    let (mut changed, mut again, mut refused) = (false, None, Vec::new());
    loop {
        changed |= !plan.actions.is_empty();
        let (done, uncertain) = carried_out(&executed, &plan.actions);
        memory.writes().note(done, now);
        made.drain(..).for_each(|(id, uid)| memory.writes().note_made(&id, &uid, now));
        memory.writes().note_uncertain(uncertain);
        memory.acted(done, now);
        let refusal = match executed? {
            Executed::Done => {
                memory.writes().not_stale();
                break;
            }
            Executed::Stale(reason) | Executed::Doubted(reason, _) => {
                tracing::debug!(reason, "a cache is behind; deciding again");
                let again = memory.writes().stale_again(now);
                return Ok(Reconciled { changed: false, wake_at: Some(again) });
            }
            Executed::Refused(id, error) => Refusal::answered(&id, &error, generation, now),
            Executed::Foreign(id) => Refusal::foreign(&id, O::NOUN, generation, now),
            Executed::Leftover(id) => Refusal::leftover(&id, O::NOUN, generation, now),
        };
        // Whatever the next decision makes of it, what was refused is to be tried again.
        let goes_on = memory.refused(&refusal) && !refused.contains(&refusal.id) && refused.len() < MOST_REFUSALS;
        refused.push(refusal.id.clone());
        memory.writes().note_refused(refusal, now);
        again = earliest(again, memory.writes().refusal.as_ref().map(|refusal| refusal.until));
        plan = decide(memory);
        if !goes_on || plan.actions.is_empty() {
            break;
        }
        executed = execute(api, &plan.checks, &plan.actions, &mut made).await;
    }
    plan = plan.waking_at(again);
    memory.decided(&plan.status, now);
    let (published, publish_at) = publish(api, object, &plan, memory, now).await?;
    changed |= published;
    Ok(Reconciled { changed, wake_at: earliest(plan.wake_at, publish_at) })
}

/// The actions of a plan that were carried out, and those that may have been.
fn carried_out<'a>(executed: &Result<Executed, ApiError>, actions: &'a [Action]) -> (&'a [Action], &'a [Action]) {
    let until = |id: &ObjectId| actions.iter().position(|action| action.id() == id).unwrap_or(actions.len());
    match executed {
        Ok(Executed::Done) => (actions, &[]),
        Ok(Executed::Stale(_) | Executed::Doubted(..)) => (&[], &[]),
        Ok(Executed::Refused(id, ApiError::Unavailable(_))) => {
            let (done, rest) = actions.split_at(until(id));
            (done, &rest[..rest.len().min(1)])
        }
        Ok(Executed::Refused(id, _) | Executed::Foreign(id) | Executed::Leftover(id)) => (&actions[..until(id)], &[]),
        Err(_) => (&[], actions),
    }
}

/// Finds out what became of writes of which no answer told, or which no cache shows: a decision must know. What others
/// have made under the name of a child is none.
async fn settle_uncertain<A: ApiServer, M: Remembers<S>, S>(
    api: &A,
    owner: &ObjectMeta,
    memory: &mut M,
    now: Timestamp,
) -> Result<(), ApiError> {
    let [namespace, uid] = [&owner.namespace, &owner.uid].map(|field| field.as_deref().unwrap_or_default());
    while let Some((resource, name)) = memory.writes().next_uncertain() {
        let live = api.read(&ObjectId::new(resource, namespace, name)).await?;
        let child = live.map(|object| identity(&object)).filter(|child| child.is_controlled_by(uid));
        memory.writes().settle(child.as_ref(), now);
    }
    Ok(())
}

/// Writes the status if it changed and cannot wait; answers whether it was written, and when it has to be.
async fn publish<A: ApiServer, O: Managed>(
    api: &A,
    object: &O,
    plan: &Plan<O::Status>,
    memory: &mut O::Memory,
    now: Timestamp,
) -> Result<(bool, Option<Timestamp>), ApiError> {
    let old = object.status().cloned().unwrap_or_default();
    let meta = meta(object);
    let (Some(namespace), Some(name), Some(uid), Some(version)) =
        (&meta.namespace, &meta.name, &meta.uid, &meta.resource_version)
    else {
        return Err(ApiError::Refused("the cache holds an object without a name, UID or resourceVersion".to_owned()));
    };
    let Some(patch) = status_patch(&old, &plan.status, uid, version) else {
        return Ok((false, None));
    };
    if let Publish::By(at) = plan.publish
        && now < at
    {
        return Ok((false, Some(at)));
    }
    let id = ObjectId::new(O::RESOURCE, namespace, name);
    let written = api.patch_status(&id, &patch).await?;
    // An older CRD may drop all that is new to it: then nothing was written, and no event will come.
    memory.writes().patched_from = Some(version.clone()).filter(|replaced| *replaced != written);
    memory.writes().published_at = Some(now);
    memory.published(&plan.status);
    for event in O::events(&old, &plan.status) {
        // Without the note: it quotes what users and their programs wrote.
        tracing::info!(namespace, name, state = event.reason, "a {} changes its state", O::RESOURCE.kind());
        api.publish_event(&id, uid, &event).await;
    }
    Ok((true, None))
}

/// Says on an object that cannot even be read what is wrong with it; such an object stalls alone.
///
/// # Errors
/// What the apiserver answered to the status.
pub async fn report_unreadable<A: ApiServer, O: Managed>(
    api: &A,
    object: &Unreadable,
    now: Timestamp,
) -> Result<Reconciled, ApiError> {
    let unchanged = Reconciled { changed: false, wake_at: None };
    let Unreadable { error, part, metadata: meta, status } = object;
    let (Some(namespace), Some(name), Some(uid)) = (&meta.namespace, &meta.name, &meta.uid) else {
        return Ok(unchanged);
    };
    let old: Value = serde_json::from_str(status).unwrap_or_default();
    let conditions = conditions(&old, now);
    if holds(&conditions, FINISHED) {
        // A newer operator finished it; its outcome stands, whatever we can make of its spec.
        return Ok(unchanged);
    }
    let remedy = match *part {
        "status" => "nobody but the operator should write it: delete the object and make it again, or correct it there",
        _ => "correct it; if the field is newer than this operator, upgrade the operator",
    };
    let problem = Problem { field: (*part).to_owned(), value: error.clone(), remedy: remedy.to_owned() };
    let seen = Seen { now: whole_second(now), generation: meta.generation };
    // What the status says besides stays: it may be of a time when the object could be read.
    let said = json!(O::unreadable(conditions, problem, seen));
    let old = &old;
    if said.as_object().into_iter().flatten().all(|(field, value)| old[field] == *value) {
        return Ok(unchanged);
    }
    let id = ObjectId::new(O::RESOURCE, namespace, name);
    let patch = json!({"metadata": {"uid": uid, "resourceVersion": meta.resource_version}, "status": said});
    api.patch_status(&id, &patch).await?;
    Ok(Reconciled { changed: true, wake_at: None })
}

/// The conditions of a status that cannot be read as a whole; one whose time cannot be read holds all the same.
fn conditions(status: &Value, now: Timestamp) -> Vec<Condition> {
    let read = |condition: &Value| {
        serde_json::from_value(condition.clone()).ok().or_else(|| {
            let mut condition = condition.clone();
            condition.as_object_mut()?.insert("lastTransitionTime".to_owned(), json!(Time(whole_second(now))));
            serde_json::from_value(condition).ok()
        })
    };
    status["conditions"].as_array().into_iter().flatten().filter_map(read).collect()
}
