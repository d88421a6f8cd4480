//! Carrying out a plan: checks, then actions, through the one door to the apiserver.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use futures::stream::{self, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::body::Body;
use super::canonical;
use super::endpoints::{SliceFacts, WatchedSlice};
use super::guard::Guarded;
use super::guard::lenient::Fields;
use super::index::{Child, ChildMeta, Owner};
use super::plan::{Action, Check};
use super::pod::{PodFacts, WatchedPod};
use super::port::{ApiError, ApiServer, ObjectId, Resource};
use super::workload::{DeploymentFacts, RevisionFacts, WatchedDeployment, WatchedRevision};
use crate::names;

/// Pods created or deleted at a time. Enough to hide the apiserver's latency, few enough that one large job leaves room
/// for others.
const WRITES_AT_ONCE: usize = 16;
/// About as many bytes may the bodies of one plan have that are under way at a time: many plans are carried out at once.
const BYTES_AT_ONCE: usize = 1024 * 1024;

/// How an attempt to carry out a plan ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Executed {
    /// Everything was done.
    Done,
    /// A cache is behind, and the decision has to be made again when it has caught up.
    Stale(String),
    /// These checks do not hold, for that reason; nothing was done.
    Doubted(String, Vec<Check>),
    /// The apiserver would not create or change this object, or did not answer; what came before it was done.
    Refused(ObjectId, ApiError),
    /// Somebody else's object has the name; what came before it was done.
    Foreign(ObjectId),
    /// A child of the owner's past self has the name, and will be collected; what came before it was done.
    Leftover(ObjectId),
}

/// Verifies the checks and carries out the actions, in order; pods that are created, or deleted, one after another go in
/// parallel.
///
/// `made` receives what was created, with the UIDs that the apiserver gave, also when something else was not carried out.
///
/// # Errors
/// What the apiserver answered to a read, a change or a deletion, if it was not yes. Whatever was done until then is
/// found by the next reconcile.
pub async fn execute<A: ApiServer>(
    api: &A,
    checks: &[Check],
    actions: &[Action],
    made: &mut Vec<(ObjectId, String)>,
) -> Result<Executed, ApiError> {
    let (mut reasons, mut doubted) = (Vec::new(), Vec::new());
    for check in checks {
        if let Some(reason) = verify(api, check).await? {
            reasons.push(reason);
            doubted.push(check.clone());
        }
    }
    if !doubted.is_empty() {
        return Ok(Executed::Doubted(reasons.join("; "), doubted));
    }
    for group in actions.chunk_by(in_parallel) {
        let is_over = AtomicBool::new(false);
        let deeds: Vec<_> = group.iter().map(|action| act_unless(&is_over, api, action)).collect();
        let longest = group.iter().map(Action::length).max().unwrap_or_default().max(1);
        let mut deeds = stream::iter(deeds).buffered((BYTES_AT_ONCE / longest).clamp(1, WRITES_AT_ONCE));
        let mut first_problem = None;
        // No more are begun after a problem, but what is under way is awaited: its UID says later that it is ours.
        while let Some(deed) = deeds.next().await {
            match deed {
                Ok(Deed::Made(id, uid)) => made.push((id, uid)),
                Ok(Deed::Other(Executed::Done)) => {}
                Ok(Deed::Other(problem)) => first_problem = first_problem.or(Some(Ok(problem))),
                Err(error) => first_problem = first_problem.or(Some(Err(error))),
            }
            is_over.store(first_problem.is_some(), Relaxed);
        }
        if let Some(problem) = first_problem {
            return problem;
        }
    }
    Ok(Executed::Done)
}

/// What came of one action.
enum Deed {
    /// An object was created, with that UID.
    Made(ObjectId, String),
    /// Anything else.
    Other(Executed),
}

/// Carries out an action, or nothing once `is_over` is set.
async fn act_unless<A: ApiServer>(is_over: &AtomicBool, api: &A, action: &Action) -> Result<Deed, ApiError> {
    match is_over.load(Relaxed) {
        true => Ok(Deed::Other(Executed::Done)),
        false => act(api, action).await,
    }
}

/// Creations of pods need no order among themselves, nor do deletions; everything else goes one by one.
fn in_parallel(a: &Action, b: &Action) -> bool {
    let deletes_pod = |action: &Action| matches!(action, Action::Delete { id, .. } if id.resource == Resource::Pod);
    (a.creates_pod() && b.creates_pod()) || (deletes_pod(a) && deletes_pod(b))
}

async fn act<A: ApiServer>(api: &A, action: &Action) -> Result<Deed, ApiError> {
    let (id, answer) = match action {
        Action::Create { id, owner_uid, object } => return create(api, id, owner_uid, object).await,
        Action::Put { id, object, mark, adopts } => return put(api, id, object, mark, *adopts).await.map(Deed::Other),
        Action::Apply { id, object } => (id, api.apply(id.resource, &id.namespace, object).await),
        Action::Scale { id, uid, version, replicas } => (id, api.scale(id, uid, version, *replicas).await),
        Action::Delete { id, uid, version } => (id, api.delete(id, uid, version.as_deref()).await),
    };
    match answer {
        // A policy of the cluster may protect it: that is reported, and does not hold up what does not depend on it.
        Err(no @ ApiError::Refused(_)) => Ok(Deed::Other(Executed::Refused(id.clone(), no))),
        answer => answer.map(|()| Deed::Other(Executed::Done)),
    }
}

async fn create<A: ApiServer>(api: &A, id: &ObjectId, owner_uid: &str, body: &Body) -> Result<Deed, ApiError> {
    let ended = match api.create(id, body.text().into_owned()).await {
        Ok(uid) => return Ok(Deed::Made(id.clone(), uid)),
        Err(ApiError::AlreadyExists(_)) => match api.read(id).await? {
            Some(present) => already_there(id, owner_uid, &body.text(), &present),
            // Gone again by now: no obstacle, and the next reconcile finds it missing.
            None => Executed::Stale(format!("{id} was there and is gone")),
        },
        Err(no @ (ApiError::Refused(_) | ApiError::QuotaExceeded(_) | ApiError::Unavailable(_))) => {
            Executed::Refused(id.clone(), no)
        }
        Err(other) => return Err(other),
    };
    Ok(Deed::Other(ended))
}

/// Looks whose the object is, past all caches, before it is changed. One that somebody makes between look and change is
/// changed too, as far as nobody else manages its fields: server-side apply knows no precondition for absence.
async fn put<A: ApiServer>(
    api: &A,
    id: &ObjectId,
    object: &Value,
    mark: &str,
    adopts: bool,
) -> Result<Executed, ApiError> {
    let mut object = object.clone();
    if let Some(present) = api.read(id).await? {
        let mark = |object: &Value| object["metadata"]["annotations"][mark].as_str().map(str::to_owned);
        if present["metadata"].get("deletionTimestamp").is_some() {
            return Ok(Executed::Leftover(id.clone()));
        }
        if !adopts && mark(&present) != mark(&object) {
            return Ok(Executed::Foreign(id.clone()));
        }
        for field in ["uid", "resourceVersion"] {
            object["metadata"][field] = present["metadata"][field].clone();
        }
    }
    match api.apply_giving_way(id.resource, &id.namespace, &object).await {
        Ok(()) => Ok(Executed::Done),
        Err(no @ (ApiError::Refused(_) | ApiError::QuotaExceeded(_) | ApiError::Unavailable(_))) => {
            Ok(Executed::Refused(id.clone(), no))
        }
        Err(other) => Err(other),
    }
}

/// What is read of an object to find out whose it is.
#[derive(Default, Deserialize)]
struct Owned {
    metadata: ObjectMeta,
}

impl Owned {
    /// Of an object that others may have made, or marked: its metadata is read field by field.
    fn of(object: &Value) -> Self {
        let text = to_raw_value(&object["metadata"]).unwrap_or_default();
        Owned { metadata: Fields::of(&text).metadata() }
    }

    fn owner(&self) -> Option<Owner> {
        ChildMeta::new(&self.metadata).owner
    }

    /// What marks the child of a step as made by us.
    fn token(&self) -> Option<&String> {
        self.metadata.annotations.as_ref()?.get(names::ANNOTATION_LAUNCH_TOKEN)
    }

    /// The labels by which our watches find it.
    fn labels(&self) -> Vec<(&String, &String)> {
        let labels = self.metadata.labels.iter().flatten();
        labels.filter(|(key, _)| key.starts_with(names::RESERVED_PREFIX)).collect()
    }
}

/// Identity and controller of an object.
pub(super) fn identity(object: &Value) -> ChildMeta {
    ChildMeta::new(&Owned::of(object).metadata)
}

/// What an object means that already has the name of a child.
fn already_there(id: &ObjectId, owner_uid: &str, wanted_text: &str, present: &Value) -> Executed {
    let wanted: Owned = serde_json::from_str(wanted_text).unwrap_or_default();
    let found = Owned::of(present);
    match (found.owner(), wanted.owner()) {
        // Whoever may create objects can name our object as the owner.
        (Some(owner), _) if owner.uid == owner_uid && found.token() != wanted.token() => {
            let check = Check::IsAbsent { id: id.clone(), owner_uid: owner_uid.to_owned() };
            Executed::Doubted(format!("{id} was made by somebody else"), vec![check])
        }
        (Some(owner), _) if owner.uid == owner_uid => match is_as_sent(id.resource, wanted_text, present) {
            true => Executed::Done,
            // Once the cache shows it, it is decided upon.
            false if id.resource == Resource::Pod && found.labels() == wanted.labels() => {
                Executed::Stale(format!("{id} was made by somebody else"))
            }
            false => Executed::Foreign(id.clone()),
        },
        (Some(owner), Some(wanted)) if owner.kind == wanted.kind && owner.name == wanted.name => {
            Executed::Leftover(id.clone())
        }
        _ => Executed::Foreign(id.clone()),
    }
}

/// Whether an object that claims to be our child runs what we would have it run: others may make pods and Deployments under
/// our names.
fn is_as_sent(resource: Resource, wanted: &str, present: &Value) -> bool {
    let present = to_raw_value(present).unwrap_or_default();
    match resource {
        Resource::Pod => {
            let wanted = serde_json::from_str::<WatchedPod>(wanted).map(PodFacts::from).unwrap_or_default();
            wanted.programs.are_run_by(&facts::<WatchedPod, PodFacts>(&present).programs)
        }
        Resource::Deployment => {
            let wanted = serde_json::from_str::<WatchedDeployment>(wanted).map(DeploymentFacts::from);
            let present = facts::<WatchedDeployment, DeploymentFacts>(&present);
            !canonical::differs(&present.hash, &wanted.unwrap_or_default().hash)
        }
        _ => true,
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
            // By name and not by label: a pod that somebody took the labels off is still there.
            for name in absent {
                if api.read(&ObjectId::new(Resource::Pod, &owner.namespace, name)).await?.is_some() {
                    return Ok(Some(format!("pod {name} is there, whatever the cache says")));
                }
            }
            if *below_attempt <= 1 {
                return Ok(None);
            }
            let pods: Vec<PodFacts> = live_children::<_, WatchedPod, _>(api, Resource::Pod, owner, None).await?;
            let is_of_this_life = |pod: &PodFacts| {
                owner_uid.is_some() && pod.meta.owner.as_ref().map(|owner| &owner.uid) == owner_uid.as_ref()
            };
            let is_older = |pod: &PodFacts| !is_of_this_life(pod) || pod.attempt < *below_attempt;
            let older = pods.iter().find(|pod| !pod.is_terminal() && is_older(pod));
            Ok(older.map(|pod| format!("pod {} of an older attempt still runs", pod.meta.name)))
        }
        Check::IsAbsent { id, owner_uid } => {
            let live = api.read(id).await?;
            Ok(live
                .filter(|object| identity(object).is_controlled_by(owner_uid))
                .map(|_| format!("{id} is there, whatever the cache says")))
        }
        Check::IsGone { id } => Ok(api.read(id).await?.map(|_| format!("{id} is there, whatever the cache says"))),
        Check::IsInOtherHands { id, marks } => {
            let live = api.read(id).await?;
            let carries = |object: &Value| {
                ["labels", "annotations"].into_iter().all(|kind| {
                    let mut marks = marks[kind].as_object().into_iter().flatten();
                    marks.all(|(key, value)| object["metadata"][kind][key] == *value)
                })
            };
            Ok(live.filter(carries).map(|_| format!("{id} is still as we have left it")))
        }
        Check::PodHasEnded { id } => {
            let live = api.read(id).await?;
            let pod = live.map(|object| facts::<WatchedPod, PodFacts>(&to_raw_value(&object).unwrap_or_default()));
            Ok(pod.filter(|pod| !pod.is_terminal()).map(|_| format!("{id} still runs")))
        }
        Check::RevisionIsNew { owner, owner_uid, number, most, hashes } => {
            let revisions: Vec<RevisionFacts> =
                live_children::<_, WatchedRevision, _>(api, Resource::ControllerRevision, owner, Some(owner_uid))
                    .await?;
            let most = (*most).max(*number);
            let is_given = |known: &&RevisionFacts| {
                (1..=most).contains(&known.number)
                    && known.meta.name == names::revision(&owner.name, owner_uid, known.number)
            };
            let is_the_same = |known: &&RevisionFacts| known.number >= *number || hashes.contains(&known.hash);
            let known = revisions.iter().filter(is_given).find(is_the_same);
            Ok(known.map(|known| format!("{} is there already", known.meta.name)))
        }
        Check::NamesAreCleared { owner, owner_uid, attempt } => {
            let slices: Vec<SliceFacts> =
                live_children::<_, WatchedSlice, _>(api, Resource::EndpointSlice, owner, Some(owner_uid)).await?;
            let stale = slices.into_iter().find(|slice| slice.names_other_than(*attempt));
            Ok(stale.map(|slice| format!("{} still names an older attempt", slice.meta.name)))
        }
    }
}

/// A child's facts from its text. One that cannot be read is there all the same, and nothing about it has ended.
fn facts<W, T>(text: &RawValue) -> T
where
    W: kube::Resource + DeserializeOwned + Default,
    T: From<W>,
{
    T::from(Guarded::<W>::of(text).or_bare())
}

/// The children of an owner as they are now, past any cache; without a UID, of any life of the owner's.
async fn live_children<A, W, T>(
    api: &A,
    resource: Resource,
    owner: &ObjectId,
    owner_uid: Option<&str>,
) -> Result<Vec<T>, ApiError>
where
    A: ApiServer,
    W: kube::Resource + DeserializeOwned + Default,
    T: Child + From<W> + Send,
{
    let label = names::owner_label(owner.resource);
    let children: Vec<T> = api.list(resource, &owner.namespace, label, &owner.name, facts::<W, T>).await?;
    let ours = |child: &T| {
        child.meta().owner.as_ref().is_some_and(|controller| {
            let same = controller.kind == owner.resource.kind() && controller.name == owner.name;
            owner_uid.map_or(same, |uid| controller.uid == uid)
        })
    };
    Ok(children.into_iter().filter(ours).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(owner_uid: &str, image: &str) -> Value {
        json!({
            "metadata": {
                "name": "j-0", "labels": {"trainyard.dev/job": "j", "team": "a"},
                "ownerReferences": [{"apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "name": "j", "uid": owner_uid, "controller": true}],
            },
            "spec": {"containers": [{"name": "c", "image": image}]},
        })
    }

    #[test]
    fn a_pod_under_our_name_is_ours_only_if_it_runs_what_was_sent() {
        let id = ObjectId::new(Resource::Pod, "ns", "j-0");
        let wanted = pod("u", "train:1").to_string();
        let answer = |present: &Value| already_there(&id, "u", &wanted, present);
        assert_eq!(answer(&pod("u", "mirror.example/train:1")), Executed::Done);
        assert!(matches!(answer(&pod("u", "forged:1")), Executed::Stale(_)), "the cache will show it");
        let mut hidden = pod("u", "forged:1");
        hidden["metadata"]["labels"] = json!({});
        assert_eq!(answer(&hidden), Executed::Foreign(id.clone()), "no cache will ever show it");
        assert_eq!(answer(&pod("earlier", "train:1")), Executed::Leftover(id.clone()));
        let mut strange = pod("u", "train:1");
        strange["metadata"]["ownerReferences"] = json!([]);
        assert_eq!(answer(&strange), Executed::Foreign(id.clone()));
    }

    #[test]
    fn a_deployment_under_our_name_is_ours_only_if_it_is_of_the_same_revision() {
        let id = ObjectId::new(Resource::Deployment, "ns", "d-2");
        let owner = json!([{"apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelDeployment", "name": "d", "uid": "u", "controller": true}]);
        let deployment = |hash: &str| {
            let annotations = json!({"trainyard.dev/revision-hash": hash});
            json!({"metadata": {"name": "d-2", "annotations": annotations, "ownerReferences": owner}})
        };
        let wanted = deployment("v1:a").to_string();
        for (hash, expected) in [
            ("v1:a", Executed::Done),
            ("v1:b", Executed::Foreign(id.clone())),
            ("of an earlier version", Executed::Done),
        ] {
            assert_eq!(already_there(&id, "u", &wanted, &deployment(hash)), expected, "{hash}");
        }
    }
}
