//! Carrying out a plan: checks, then actions, through the one door to the apiserver.

use futures::stream::{self, StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::endpoints::{SliceFacts, WatchedSlice};
use super::index::Child;
use super::plan::{Action, Check};
use super::pod::{PodFacts, WatchedPod};
use super::port::{ApiError, ApiServer, ObjectId, Resource};
use crate::names;

/// Pods created at a time. Enough to hide the apiserver's latency, few enough that one large job leaves room for others.
const CREATES_AT_ONCE: usize = 16;

/// How an attempt to carry out a plan ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Executed {
    /// Everything was done.
    Done,
    /// A check failed: a cache is behind, and the decision has to be made again when it has caught up. Nothing was done.
    Stale(String),
    /// The apiserver would not create this object; what came before it was done.
    Refused(ObjectId, ApiError),
    /// Somebody else's object has the name; what came before it was done.
    Foreign(ObjectId),
}

/// Verifies the checks and carries out the actions, in order; creations of pods that follow each other go in parallel.
///
/// # Errors
/// What the apiserver answered to a read, a change or a deletion, if it was not yes. Whatever was done until then is
/// found by the next reconcile.
pub async fn execute<A: ApiServer>(api: &A, checks: &[Check], actions: &[Action]) -> Result<Executed, ApiError> {
    for check in checks {
        if let Some(reason) = verify(api, check).await? {
            return Ok(Executed::Stale(reason));
        }
    }
    for group in actions.chunk_by(|a, b| a.creates_pod() && b.creates_pod()) {
        let deeds: Vec<_> = group.iter().map(|action| act(api, action)).collect();
        let ended = stream::iter(deeds)
            .buffered(CREATES_AT_ONCE)
            .try_fold(Executed::Done, async |first, next| Ok(if first == Executed::Done { next } else { first }))
            .await?;
        if ended != Executed::Done {
            return Ok(ended);
        }
    }
    Ok(Executed::Done)
}

async fn act<A: ApiServer>(api: &A, action: &Action) -> Result<Executed, ApiError> {
    match action {
        Action::Create { id, owner_uid, object } => match api.create(id.resource, &id.namespace, object).await {
            Ok(()) => Ok(Executed::Done),
            Err(ApiError::AlreadyExists(_)) => {
                let ours = api.read(id).await?.is_some_and(|present| controller_uid(&present) == Some(owner_uid));
                // One that is gone again by now is no obstacle: the next reconcile finds it missing.
                Ok(if ours { Executed::Done } else { foreign_or_gone(api, id).await? })
            }
            Err(refused @ (ApiError::Refused(_) | ApiError::QuotaExceeded(_))) => {
                Ok(Executed::Refused(id.clone(), refused))
            }
            Err(other) => Err(other),
        },
        Action::Apply { id, object } => api.apply(id.resource, &id.namespace, object).await.map(|()| Executed::Done),
        Action::Delete { id, uid } => api.delete(id, uid).await.map(|()| Executed::Done),
    }
}

async fn foreign_or_gone<A: ApiServer>(api: &A, id: &ObjectId) -> Result<Executed, ApiError> {
    Ok(match api.read(id).await? {
        Some(_) => Executed::Foreign(id.clone()),
        None => Executed::Stale(format!("{id} was there and is gone")),
    })
}

fn controller_uid(object: &Value) -> Option<&String> {
    let references = object["metadata"]["ownerReferences"].as_array()?;
    let controller = references.iter().find(|reference| reference["controller"].as_bool() == Some(true))?;
    match &controller["uid"] {
        Value::String(uid) => Some(uid),
        _ => None,
    }
}

/// Answers why a check does not hold, or nothing if it does.
async fn verify<A: ApiServer>(api: &A, check: &Check) -> Result<Option<String>, ApiError> {
    match check {
        Check::OwnerIsCurrent { id, uid, resource_version } => {
            let live = api.read(id).await?;
            let live = live.as_ref().map(|object| &object["metadata"]);
            let current = live.is_some_and(|meta| {
                meta["uid"] == uid.as_str()
                    && meta["resourceVersion"] == resource_version.as_str()
                    && meta.get("deletionTimestamp").is_none()
            });
            Ok((!current).then(|| format!("{id} has changed since it was cached")))
        }
        Check::PodsAreGone { owner, owner_uid, below_attempt, absent } => {
            let pods: Vec<PodFacts> = live_children::<_, WatchedPod, _>(api, Resource::Pod, owner, owner_uid).await?;
            Ok(pods.iter().find_map(|pod| {
                let older_runs = pod.attempt < *below_attempt && !pod.is_terminal();
                let in_the_way = older_runs || absent.contains(&pod.meta.name);
                in_the_way.then(|| format!("pod {} is there, whatever the cache says", pod.meta.name))
            }))
        }
        Check::NamesAreCleared { owner, owner_uid, attempt } => {
            let slices: Vec<SliceFacts> =
                live_children::<_, WatchedSlice, _>(api, Resource::EndpointSlice, owner, owner_uid).await?;
            let stale = slices.into_iter().find(|slice| slice.names_other_than(*attempt));
            Ok(stale.map(|slice| format!("{} still names an older attempt", slice.meta.name)))
        }
    }
}

/// The children of an owner as they are now, past any cache.
async fn live_children<A, W, T>(
    api: &A,
    resource: Resource,
    owner: &ObjectId,
    owner_uid: &str,
) -> Result<Vec<T>, ApiError>
where
    A: ApiServer,
    W: DeserializeOwned,
    T: Child + From<W>,
{
    let objects = api.list(resource, &owner.namespace, names::LABEL_JOB, &owner.name).await?;
    let read = |object| serde_json::from_value::<W>(object).map(T::from);
    let children: Result<Vec<T>, _> = objects.into_iter().map(read).collect();
    let children = children.map_err(|error| ApiError::Unavailable(format!("an answer cannot be read: {error}")))?;
    let ours = |child: &T| child.meta().owner.as_ref().is_some_and(|controller| controller.uid == owner_uid);
    Ok(children.into_iter().filter(ours).collect())
}
