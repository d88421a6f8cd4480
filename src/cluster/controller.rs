//! The controller of a kind: caches fed by watches, a queue, and a reconcile for each object in it.

mod feeding;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use futures::{FutureExt, SinkExt, Stream, StreamExt, TryStreamExt, future, stream};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::{self, Action, Config, Controller};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;

pub use feeding::{Fed, Feeding};

use super::backoff::Backoff;
use super::client::ApiClient;
use super::guard::Guarded;
use super::load::{Activity, extra_wait};
use super::managed::{Managed, Remembers};
use super::port::ApiError;
use super::reconcile::{Reconciled, report_unreadable};
use super::scope::Scope;
use super::territory::Territory;
use super::watch::events::events;
use super::watch::shared::Watches;
use super::watch::{Filled, Shared, TRIGGER_BUFFER, Trouble, locked, restarted};
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

/// What the controller is given.
pub struct Options {
    /// Client for the watches.
    pub client: kube::Client,
    /// What is watched.
    pub scope: Scope,
    /// Which of that is not to be reconciled.
    pub territory: Territory,
    /// The door for reads and writes.
    pub api: ApiClient,
    /// Where reconciles are counted.
    pub metrics: Arc<Metrics>,
    /// What all watches share.
    pub watches: Watches,
    /// Objects worked on at a time.
    pub concurrency: u16,
    /// Told how far all caches together have come.
    pub synced: watch::Sender<Filled>,
}

/// Runs until `shutdown`, then lets the reconciles under way finish.
pub async fn run<O: Controlled>(options: Options, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let Options { client, scope, territory, api, metrics, watches, concurrency, synced } = options;
    let (objects, writer) = store::<Guarded<O>>();
    let context = Arc::new(Context::<O> {
        api,
        territory: territory.clone(),
        metrics,
        caches: Shared::default(),
        objects: objects.clone(),
        memories: Mutex::default(),
        backoff: Mutex::new(Backoff::new(rand::random())),
        queued: Mutex::default(),
        activity: Mutex::new(Activity::new(Instant::now())),
    });

    let (triggers, children_changed) = mpsc::channel(TRIGGER_BUFFER);
    let feeding = Feeding {
        client: client.clone(),
        scope: scope.clone(),
        watches: watches.clone(),
        caches: context.caches.clone(),
        triggers,
        of: O::RESOURCE.plural(),
    };
    let (mut feeders, mut filled): (Vec<_>, Vec<_>) =
        O::feed_children(&feeding).into_iter().map(|fed| (fed.feeder, fed.filled)).unzip();
    drop(feeding);
    let (triggers, objects_changed) = mpsc::channel(TRIGGER_BUFFER);
    let (objects_set, objects_filled) = watch::channel(Filled::No);
    feeders.push(feed_objects(client, scope, watches, writer, context.clone(), triggers, objects_set).boxed());
    filled.extend([objects_filled, territory.known()]);

    let children_changed = children_changed.filter(|key| future::ready(key.owner.kind == O::RESOURCE.kind()));
    let owners = children_changed.map(|key| (key.namespace, key.owner.name));
    let returning = context.clone();
    let returned = territory.returned().flat_map(move |namespace| stream::iter(returning.take_up(&namespace)));
    let queueing = context.clone();
    let changed = stream::select(stream::select(objects_changed, owners), returned);
    let triggered = changed.map(move |key| {
        queueing.enqueue(key.clone());
        ObjectRef::<Guarded<O>>::new(&key.1).within(&key.0)
    });

    // A decision from half-filled caches would take children that are not listed yet for missing ones.
    let all_filled = until_filled(filled, synced);
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

/// Returns when all caches are filled; meanwhile `overall` is told how far they have come.
async fn until_filled(mut caches: Vec<watch::Receiver<Filled>>, overall: watch::Sender<Filled>) {
    loop {
        let filled = Filled::all(caches.iter_mut().map(|cache| *cache.borrow_and_update()));
        overall.send_replace(filled);
        if filled == Filled::Yes {
            return;
        }
        let changes = caches.iter_mut().map(|cache| cache.changed().boxed());
        if future::select_all(changes).await.0.is_err() {
            // The feeder has ended, which ends the controller too.
            future::pending::<()>().await;
        }
    }
}

/// Keeps the store of our own objects fed, see [`follow_objects`].
async fn feed_objects<O: Controlled>(
    client: kube::Client,
    scope: Scope,
    watches: Watches,
    writer: Writer<Guarded<O>>,
    context: Arc<Context<O>>,
    triggers: mpsc::Sender<Key>,
    filled: watch::Sender<Filled>,
) {
    let (of, writer) = (O::RESOURCE.plural(), Mutex::new(writer));
    restarted(of, &watches, || {
        let events = events(scope.api::<Guarded<O>>(&client), watcher::Config::default(), watches.clone());
        // A second copy of the whole object, for kubectl alone.
        let events = events.modify(|object| drop(object.annotations_mut().remove(LAST_APPLIED)));
        let trouble = Trouble::of(of.to_owned(), watches.clone());
        let events = events.inspect_ok(|event| locked(&writer).apply_watcher_event(event));
        follow_objects(events, context.clone(), triggers.clone(), &filled, trouble)
    })
    .await;
}

/// Announces every object that is listed or changes, once the store shows it, and forgets those that are gone.
async fn follow_objects<O: Controlled>(
    events: impl Stream<Item = watcher::Result<Event<Guarded<O>>>>,
    context: Arc<Context<O>>,
    mut triggers: mpsc::Sender<Key>,
    filled: &watch::Sender<Filled>,
    mut trouble: Trouble,
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let changed: Vec<Key> = match event {
            Ok(Event::Init | Event::InitApply(_)) => Vec::new(),
            Ok(Event::InitDone) => {
                trouble.settle();
                filled.send_replace(Filled::Yes);
                let listed = context.objects.state();
                context.remember_only(&listed);
                listed.iter().map(|object| key(object)).collect()
            }
            Ok(Event::Apply(object)) => {
                trouble.settle();
                vec![key(&object)]
            }
            Ok(Event::Delete(object)) => {
                context.forget(&object);
                Vec::new()
            }
            Err(error) => {
                if trouble.tell(&error) && *filled.borrow() != Filled::Yes {
                    filled.send_replace(Filled::Unserved);
                }
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
    territory: Territory,
    metrics: Arc<Metrics>,
    caches: Shared<O::Caches>,
    /// As they come from the watch: one that cannot be read is an error of its own and no obstacle to the others.
    objects: Store<Guarded<O>>,
    /// By UID, so that an object made again under its name starts with none.
    memories: Mutex<HashMap<String, O::Memory>>,
    backoff: Mutex<Backoff<Key>>,
    /// Objects that wait for their turn, for the queue's depth.
    queued: Mutex<HashSet<Key>>,
    activity: Mutex<Activity>,
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

    /// A namespace is ours again: another wrote there meanwhile, so what we remember of its objects is worth nothing.
    /// Answers all of them.
    fn take_up(&self, namespace: &str) -> Vec<Key> {
        let objects = self.objects.state();
        let there = objects.iter().filter(|object| object.namespace().as_deref() == Some(namespace));
        there.inspect(|object| self.forget(object)).map(|object| key(object)).collect()
    }

    fn enqueue(&self, key: Key) {
        if locked(&self.queued).insert(key) {
            self.metrics.change_queue_depth(O::KIND, 1);
        }
    }

    fn dequeue(&self, key: &Key) {
        if locked(&self.queued).remove(key) {
            self.metrics.change_queue_depth(O::KIND, -1);
        }
    }

    /// When to try an object again that could not be reconciled.
    fn retry(&self, object: &Guarded<O>, error: &ApiError) -> Action {
        let key = key(object);
        if matches!(error, ApiError::Conflict(_) | ApiError::NotFound(_) | ApiError::NotLeader) {
            // The cache is behind, or the gate is shut: ordinary, and over in a moment. Not if somebody changes the object without
            // end.
            tracing::debug!(namespace = key.0, name = key.1, "deciding again: {error}");
            return Action::requeue(locked(&self.backoff).conflicted(key));
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
        let active = locked(&self.activity).note(&uid, Instant::now());
        memory.writes().extra_wait = extra_wait(active);
        let result = match &guarded.0 {
            Ok(object) => O::reconcile(&self.api, object, &self.caches, &mut memory, now).await,
            Err(unreadable) => report_unreadable::<_, O>(&self.api, unreadable, now).await,
        };
        let live = self.objects.get(&ObjectRef::from_obj(guarded));
        let lives = live.is_some_and(|live| live.uid().as_deref() == Some(&uid));
        let ours = self.territory.is_ours(&key(guarded).0);
        let over = guarded.0.as_ref().is_ok_and(|object| object.is_over(&memory));
        let at_rest = over && matches!(&result, Ok(Reconciled { changed: false, .. }));
        if lives && ours && !at_rest {
            locked(&self.memories).insert(uid, memory);
        }
        result
    }
}

impl<O: Controlled> Drop for Context<O> {
    /// The queue ends with the term of leadership; the next one has its own.
    fn drop(&mut self) {
        let waiting = i64::try_from(locked(&self.queued).len()).unwrap_or(i64::MAX);
        self.metrics.change_queue_depth(O::KIND, -waiting);
    }
}

async fn reconcile_one<O: Controlled>(object: Arc<Guarded<O>>, context: Arc<Context<O>>) -> Result<Action, ApiError> {
    let (started, now) = (Instant::now(), Timestamp::now());
    let key = key(&object);
    context.dequeue(&key);
    if !context.territory.is_ours(&key.0) {
        // Looked at again when the namespace is ours.
        return Ok(Action::await_change());
    }
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
