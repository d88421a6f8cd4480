//! The controller of a kind: caches fed by watches, a queue, and a reconcile for each object in it.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use futures::{FutureExt, SinkExt, Stream, StreamExt, future, stream};
use jiff::Timestamp;
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::{self, Action, Config, Controller};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::backoff::{Backoff, CONFLICT_DELAY};
use super::client::ApiClient;
use super::guard::Guarded;
use super::index::{Child, OwnedIndex, OwnerKey};
use super::managed::Managed;
use super::port::ApiError;
use super::reconcile::{Reconciled, report_unreadable};
use super::watch::{Shared, TRIGGER_BUFFER, feed, locked};
use crate::server::metrics::{Kind, Metrics, ReconcileOutcome};

/// Where kubectl keeps what was applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Namespace and name.
type Key = (String, String);

/// A kind with a controller.
pub trait Controlled: Managed {
    /// The kind in metrics.
    const KIND: Kind;
    /// One index for each kind of child.
    type Caches: Default + Send + 'static;

    /// Has the caches of children fed.
    fn feed_children(feeding: &Feeding<Self::Caches>) -> Vec<Fed>;

    /// Brings one object a step closer to its spec.
    fn reconcile(
        api: &ApiClient,
        object: &Self,
        caches: &Shared<Self::Caches>,
        memory: &mut Self::Memory,
        now: Timestamp,
    ) -> impl Future<Output = Result<Reconciled, ApiError>> + Send;

    /// Whether nothing that is remembered of the object can matter any more: ten thousand objects that are over and
    /// tidied up should not be remembered one by one.
    fn is_over(&self, memory: &Self::Memory) -> bool;
}

/// Keeps one cache fed; ends with the controller.
pub struct Fed {
    feeder: future::BoxFuture<'static, ()>,
    filled: watch::Receiver<bool>,
}

/// How caches of children are fed: objects that have a label, and the owners that their changes concern.
pub struct Feeding<C> {
    client: kube::Client,
    caches: Shared<C>,
    triggers: mpsc::Sender<OwnerKey>,
}

impl<C: Send + 'static> Feeding<C> {
    /// Feeds the index of one kind of child from a watch of the objects that have `label`; `K` is the object as it is
    /// watched.
    pub fn watch<K, T>(&self, label: &str, pick: fn(&mut C) -> &mut OwnedIndex<T>) -> Fed
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
        T: Child + From<K> + Send + Sync + 'static,
    {
        let selected = watcher::Config::default().labels(label);
        let events = watcher(Api::<K>::all(self.client.clone()), selected).default_backoff();
        let (set, filled) = watch::channel(false);
        Fed { feeder: feed(events, self.caches.clone(), pick, self.triggers.clone(), set).boxed(), filled }
    }
}

/// What the controller is given.
pub struct Options {
    /// Client for the watches.
    pub client: kube::Client,
    /// The door for reads and writes.
    pub api: ApiClient,
    /// Where reconciles are counted.
    pub metrics: Arc<Metrics>,
    /// Objects worked on at a time.
    pub concurrency: u16,
    /// Turned true when all caches are filled.
    pub synced: watch::Sender<bool>,
}

/// Runs until `shutdown`, then lets the reconciles under way finish.
pub async fn run<O: Controlled>(options: Options, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let Options { client, api, metrics, concurrency, synced } = options;
    let (objects, writer) = store::<Guarded<O>>();
    let context = Arc::new(Context::<O> {
        api,
        metrics,
        caches: Shared::default(),
        objects: objects.clone(),
        memories: Mutex::default(),
        backoff: Mutex::new(Backoff::new(rand::random())),
        queued: Mutex::default(),
    });

    let (triggers, children_changed) = mpsc::channel(TRIGGER_BUFFER);
    let feeding = Feeding { client: client.clone(), caches: context.caches.clone(), triggers };
    let (mut feeders, mut filled): (Vec<_>, Vec<_>) =
        O::feed_children(&feeding).into_iter().map(|fed| (fed.feeder, fed.filled)).unzip();
    drop(feeding);
    let (triggers, objects_changed) = mpsc::channel(TRIGGER_BUFFER);
    let (objects_set, objects_filled) = watch::channel(false);
    let events = watch_objects::<O>(client).reflect(writer);
    feeders.push(feed_objects(events, context.clone(), triggers, objects_set).boxed());
    filled.push(objects_filled);

    let children_changed = children_changed.filter(|key| future::ready(key.owner.kind == O::RESOURCE.kind()));
    let owners = children_changed.map(|key| (key.namespace, key.owner.name));
    let queueing = context.clone();
    let triggered = stream::select(objects_changed, owners).map(move |key| {
        queueing.enqueue(key.clone());
        ObjectRef::<Guarded<O>>::new(&key.1).within(&key.0)
    });

    // A decision from half-filled caches would take children that are not listed yet for missing ones.
    let all_filled = async move {
        for flag in &mut filled {
            // An error means that the feeder has ended, which ends the controller too.
            let _ = flag.wait_for(|filled| *filled).await;
        }
        synced.send_replace(true);
    };
    let (shutdown, ended) = (shutdown.shared(), future::join_all(feeders));
    let controlling = async {
        tokio::select! {
            () = all_filled => {}
            () = shutdown.clone() => return,
        }
        tracing::info!("caches are filled, reconciling {}", O::RESOURCE.plural());
        // All triggers come through `reconcile_on`. kube's own would announce the objects of a list before its store
        // shows them, and would hold back every trigger while one watch is broken.
        let finding = context.clone();
        Controller::for_stream(stream::pending(), objects)
            .with_config(Config::default().concurrency(concurrency))
            .reconcile_on(triggered)
            .graceful_shutdown_on(shutdown.clone())
            .run(reconcile_one, |object, error, context| context.retry(&object, error), context)
            .for_each(|result| {
                if let Err(controller::Error::ObjectNotFound(gone)) = result {
                    finding.dequeue(&(gone.namespace.unwrap_or_default(), gone.name));
                }
                future::ready(())
            })
            .await;
    };
    tokio::select! {
        () = controlling => {}
        _ = ended => tracing::error!("the watches have ended"),
    }
}

fn watch_objects<O: Managed>(client: kube::Client) -> impl Stream<Item = watcher::Result<Event<Guarded<O>>>> + Send {
    watcher(Api::<Guarded<O>>::all(client), watcher::Config::default()).default_backoff().modify(|object| {
        // Who manages which field is nothing to us, and often longer than the object; who made the object is told.
        object.managed_fields_mut().iter_mut().for_each(|entry| entry.fields_v1 = None);
        // A second copy of the whole object, for kubectl alone.
        object.annotations_mut().remove(LAST_APPLIED);
    })
}

/// Announces every object that is listed or changes, once the store shows it, and forgets those that are gone.
async fn feed_objects<O: Controlled>(
    events: impl Stream<Item = watcher::Result<Event<Guarded<O>>>>,
    context: Arc<Context<O>>,
    mut triggers: mpsc::Sender<Key>,
    filled: watch::Sender<bool>,
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let changed: Vec<Key> = match event {
            Ok(Event::Init | Event::InitApply(_)) => Vec::new(),
            Ok(Event::InitDone) => {
                filled.send_replace(true);
                let listed = context.objects.state();
                context.remember_only(&listed);
                listed.iter().map(|object| key(object)).collect()
            }
            Ok(Event::Apply(object)) => vec![key(&object)],
            Ok(Event::Delete(object)) => {
                context.forget(&object);
                Vec::new()
            }
            Err(error) => {
                tracing::warn!("the watch of {} broke and is started again: {error}", O::RESOURCE.plural());
                Vec::new()
            }
        };
        for key in changed {
            if triggers.send(key).await.is_err() {
                return;
            }
        }
    }
}

/// What every reconcile shares.
struct Context<O: Controlled> {
    api: ApiClient,
    metrics: Arc<Metrics>,
    caches: Shared<O::Caches>,
    /// As they come from the watch: one that cannot be read is an error of its own and no obstacle to the others.
    objects: Store<Guarded<O>>,
    /// By UID, so that an object made again under its name starts with none.
    memories: Mutex<HashMap<String, O::Memory>>,
    backoff: Mutex<Backoff<Key>>,
    /// Objects that wait for their turn, for the queue's depth.
    queued: Mutex<HashSet<Key>>,
}

fn key<O: Managed>(object: &Guarded<O>) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

impl<O: Controlled> Context<O> {
    /// Forgets an object that was deleted.
    fn forget(&self, object: &Guarded<O>) {
        locked(&self.memories).remove(&object.uid().unwrap_or_default());
        locked(&self.backoff).forget(&key(object));
        self.dequeue(&key(object));
    }

    /// Forgets the objects that are not in a complete list: their deletion was missed.
    fn remember_only(&self, listed: &[Arc<Guarded<O>>]) {
        let living: HashSet<String> = listed.iter().filter_map(|object| object.uid()).collect();
        locked(&self.memories).retain(|uid, _| living.contains(uid));
    }

    fn enqueue(&self, key: Key) {
        let mut queued = locked(&self.queued);
        queued.insert(key);
        self.metrics.set_queue_depth(O::KIND, queued.len());
    }

    fn dequeue(&self, key: &Key) {
        let mut queued = locked(&self.queued);
        queued.remove(key);
        self.metrics.set_queue_depth(O::KIND, queued.len());
    }

    /// When to try an object again that could not be reconciled.
    fn retry(&self, object: &Guarded<O>, error: &ApiError) -> Action {
        let key = key(object);
        if matches!(error, ApiError::Conflict(_) | ApiError::NotFound(_)) {
            // The cache is behind: ordinary, and over in a moment.
            tracing::debug!(namespace = key.0, name = key.1, "deciding again: {error}");
            return Action::requeue(CONFLICT_DELAY);
        }
        let delay = locked(&self.backoff).failed(key.clone());
        let kind = O::RESOURCE.kind();
        tracing::warn!(namespace = key.0, name = key.1, retry_in = ?delay, "reconciling a {kind} failed: {error}");
        Action::requeue(delay)
    }

    /// Reconciles with the memory of that object, which nobody else uses meanwhile: the controller never runs two
    /// reconciles of one object at a time.
    async fn reconcile(&self, guarded: &Guarded<O>, now: Timestamp) -> Result<Reconciled, ApiError> {
        let uid = guarded.uid().unwrap_or_default();
        let mut memory = locked(&self.memories).remove(&uid).unwrap_or_default();
        let result = match &guarded.0 {
            Ok(object) => O::reconcile(&self.api, object, &self.caches, &mut memory, now).await,
            Err(unreadable) => report_unreadable::<_, O>(&self.api, unreadable, now).await,
        };
        let live = self.objects.get(&ObjectRef::from_obj(guarded));
        let lives = live.is_some_and(|live| live.uid().as_deref() == Some(&uid));
        let over = guarded.0.as_ref().is_ok_and(|object| object.is_over(&memory));
        let at_rest = over && matches!(&result, Ok(Reconciled { changed: false, .. }));
        if lives && !at_rest {
            locked(&self.memories).insert(uid, memory);
        }
        result
    }
}

async fn reconcile_one<O: Controlled>(object: Arc<Guarded<O>>, context: Arc<Context<O>>) -> Result<Action, ApiError> {
    let (started, now) = (Instant::now(), Timestamp::now());
    let key = key(&object);
    context.dequeue(&key);
    // A panic is a defect of ours, but it must stall one object and not the operator.
    let reconciling = AssertUnwindSafe(context.reconcile(&object, now)).catch_unwind();
    let result = reconciling.await.unwrap_or_else(|_| Err(ApiError::Unavailable("the operator panicked".to_owned())));
    let outcome = match &result {
        Err(_) => ReconcileOutcome::Error,
        Ok(Reconciled { changed: true, .. }) => ReconcileOutcome::Changed,
        Ok(Reconciled { wake_at: Some(_), .. }) => ReconcileOutcome::Waiting,
        Ok(_) => ReconcileOutcome::Unchanged,
    };
    context.metrics.reconciled(O::KIND, outcome, started.elapsed());
    let reconciled = result?;
    locked(&context.backoff).succeeded(&key);
    let kind = O::RESOURCE.kind();
    tracing::debug!(namespace = key.0, name = key.1, ?outcome, took = ?started.elapsed(), "reconciled a {kind}");
    Ok(match reconciled.wake_at {
        Some(at) => Action::requeue(until(at)),
        None => Action::await_change(),
    })
}

/// Time from now until a moment; a moment that has passed is now.
fn until(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
}
