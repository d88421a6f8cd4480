//! The controller of TrainingJobs: caches fed by watches, a queue, and [`reconcile`] for each job in it.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use futures::{FutureExt, SinkExt, Stream, StreamExt, future, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::{self, Action, Config, Controller};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::watch;

use super::caches::{Caches, concerns_us};
use super::observe::Memory;
use super::reconcile::{Reconciled, reconcile, report_unreadable};
use super::status::is_finished;
use crate::api::TrainingJob;
use crate::cluster::backoff::{Backoff, CONFLICT_DELAY};
use crate::cluster::client::ApiClient;
use crate::cluster::endpoints::WatchedSlice;
use crate::cluster::guard::Guarded;
use crate::cluster::index::OwnerKey;
use crate::cluster::pod::WatchedPod;
use crate::cluster::port::ApiError;
use crate::cluster::watch::{Shared, TRIGGER_BUFFER, feed};
use crate::names;
use crate::server::metrics::{Kind, Metrics, ReconcileOutcome};

/// A job as it comes from the watch: one that cannot be read is an error of its own and no obstacle to the others.
type GuardedJob = Guarded<TrainingJob>;
/// Where kubectl keeps what was applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Namespace and name.
type Key = (String, String);

/// What the controller is given.
pub struct Options {
    /// Client for the watches.
    pub client: kube::Client,
    /// The door for reads and writes.
    pub api: ApiClient,
    /// Where reconciles are counted.
    pub metrics: Arc<Metrics>,
    /// Jobs worked on at a time.
    pub concurrency: u16,
    /// Turned true when all caches are filled.
    pub synced: watch::Sender<bool>,
}

/// Runs until `shutdown`, then lets the reconciles under way finish.
pub async fn run(options: Options, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let Options { client, api, metrics, concurrency, synced } = options;
    let (jobs, writer) = store::<GuardedJob>();
    let context = Arc::new(Context {
        api,
        metrics,
        caches: Shared::default(),
        jobs: jobs.clone(),
        memories: Mutex::default(),
        backoff: Mutex::new(Backoff::new(rand::random())),
        queued: Mutex::default(),
    });

    let (triggers, children_changed) = mpsc::channel(TRIGGER_BUFFER);
    let feeding = feed_children(client.clone(), &context.caches, &triggers);
    drop(triggers);
    let (mut feeders, mut filled): (Vec<_>, Vec<_>) = feeding.into_iter().unzip();
    let (triggers, jobs_changed) = mpsc::channel(TRIGGER_BUFFER);
    let (jobs_set, jobs_filled) = watch::channel(false);
    let events = watch_jobs(client).reflect(writer);
    feeders.push(feed_jobs(events, context.clone(), triggers, jobs_set).boxed());
    filled.push(jobs_filled);

    let children_changed = children_changed.filter(|key| future::ready(concerns_us(key)));
    let owners = children_changed.map(|key| (key.namespace, key.owner.name));
    let queueing = context.clone();
    let triggered = stream::select(jobs_changed, owners).map(move |key| {
        queueing.enqueue(key.clone());
        ObjectRef::<GuardedJob>::new(&key.1).within(&key.0)
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
        tracing::info!("caches are filled, reconciling TrainingJobs");
        // All triggers come through `reconcile_on`. kube's own would announce the jobs of a list before its store shows
        // them, and would hold back every trigger while one watch is broken.
        let finding = context.clone();
        Controller::for_stream(stream::pending(), jobs)
            .with_config(Config::default().concurrency(concurrency))
            .reconcile_on(triggered)
            .graceful_shutdown_on(shutdown.clone())
            .run(reconcile_one, |job, error, context| context.retry(&job, error), context)
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

fn watch_jobs(client: kube::Client) -> impl Stream<Item = watcher::Result<Event<GuardedJob>>> + Send {
    watcher(Api::<GuardedJob>::all(client), watcher::Config::default()).default_backoff().modify(|job| {
        job.managed_fields_mut().clear();
        // A second copy of the whole job, for kubectl alone.
        job.annotations_mut().remove(LAST_APPLIED);
    })
}

/// Announces every job that is listed or changes, once the store shows it, and forgets those that are gone.
async fn feed_jobs(
    events: impl Stream<Item = watcher::Result<Event<GuardedJob>>>,
    context: Arc<Context>,
    mut triggers: mpsc::Sender<Key>,
    filled: watch::Sender<bool>,
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let changed: Vec<Key> = match event {
            Ok(Event::Init | Event::InitApply(_)) => Vec::new(),
            Ok(Event::InitDone) => {
                filled.send_replace(true);
                let listed = context.jobs.state();
                context.remember_only(&listed);
                listed.iter().map(|job| key(job)).collect()
            }
            Ok(Event::Apply(job)) => vec![key(&job)],
            Ok(Event::Delete(job)) => {
                context.forget(&job);
                Vec::new()
            }
            Err(error) => {
                tracing::warn!("the watch of TrainingJobs broke and is started again: {error}");
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

type Feeder = future::BoxFuture<'static, ()>;

/// One feeder for each kind of child, and the flag that says when its cache is filled.
fn feed_children(
    client: kube::Client,
    caches: &Shared<Caches>,
    triggers: &mpsc::Sender<OwnerKey>,
) -> Vec<(Feeder, watch::Receiver<bool>)> {
    let label = names::LABEL_JOB;
    let selected = || watcher::Config::default().labels(label);
    let pods = watcher(Api::<WatchedPod>::all(client.clone()), selected()).default_backoff();
    let slices = watcher(Api::<WatchedSlice>::all(client.clone()), selected()).default_backoff();
    let services = watcher(Api::<PartialObjectMeta<Service>>::all(client), selected()).default_backoff();
    let flag = || watch::channel(false);
    let ((pods_set, pods_filled), (slices_set, slices_filled), (services_set, services_filled)) =
        (flag(), flag(), flag());
    vec![
        (feed(pods, caches.clone(), |caches| &mut caches.pods, triggers.clone(), pods_set).boxed(), pods_filled),
        (
            feed(slices, caches.clone(), |caches| &mut caches.slices, triggers.clone(), slices_set).boxed(),
            slices_filled,
        ),
        (
            feed(services, caches.clone(), |caches| &mut caches.services, triggers.clone(), services_set).boxed(),
            services_filled,
        ),
    ]
}

/// What every reconcile shares.
struct Context {
    api: ApiClient,
    metrics: Arc<Metrics>,
    caches: Shared<Caches>,
    jobs: Store<GuardedJob>,
    /// By UID, so that a job made again under its name starts with none.
    memories: Mutex<HashMap<String, Memory>>,
    backoff: Mutex<Backoff<Key>>,
    /// Jobs that wait for their turn, for the queue's depth.
    queued: Mutex<HashSet<Key>>,
}

/// Locks, also after a panic elsewhere: what these locks guard is whole after every statement.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(job: &GuardedJob) -> Key {
    (job.namespace().unwrap_or_default(), job.name_any())
}

impl Context {
    /// Forgets a job that was deleted.
    fn forget(&self, job: &GuardedJob) {
        locked(&self.memories).remove(&job.uid().unwrap_or_default());
        locked(&self.backoff).forget(&key(job));
        self.dequeue(&key(job));
    }

    /// Forgets the jobs that are not in a complete list: their deletion was missed.
    fn remember_only(&self, listed: &[Arc<GuardedJob>]) {
        let living: HashSet<String> = listed.iter().filter_map(|job| job.uid()).collect();
        locked(&self.memories).retain(|uid, _| living.contains(uid));
    }

    fn enqueue(&self, key: Key) {
        let mut queued = locked(&self.queued);
        queued.insert(key);
        self.metrics.set_queue_depth(Kind::TrainingJob, queued.len());
    }

    fn dequeue(&self, key: &Key) {
        let mut queued = locked(&self.queued);
        queued.remove(key);
        self.metrics.set_queue_depth(Kind::TrainingJob, queued.len());
    }

    /// When to try a job again that could not be reconciled.
    fn retry(&self, job: &GuardedJob, error: &ApiError) -> Action {
        let key = key(job);
        if matches!(error, ApiError::Conflict(_) | ApiError::NotFound(_)) {
            // The cache is behind: ordinary, and over in a moment.
            tracing::debug!(namespace = key.0, name = key.1, "deciding again: {error}");
            return Action::requeue(CONFLICT_DELAY);
        }
        let delay = locked(&self.backoff).failed(key.clone());
        tracing::warn!(namespace = key.0, name = key.1, retry_in = ?delay, "reconciling a TrainingJob failed: {error}");
        Action::requeue(delay)
    }

    /// Reconciles with the memory of that job, which nobody else uses meanwhile: the controller never runs two
    /// reconciles of one object at a time.
    async fn reconcile(&self, guarded: &GuardedJob, now: Timestamp) -> Result<Reconciled, ApiError> {
        let uid = guarded.uid().unwrap_or_default();
        let mut memory = locked(&self.memories).remove(&uid).unwrap_or_default();
        let result = match &guarded.0 {
            Ok(job) => {
                let (namespace, name) = key(guarded);
                let observed = locked(&self.caches).observe(&namespace, &name, &uid);
                reconcile(&self.api, job, &observed, &mut memory, now).await
            }
            Err(unreadable) => report_unreadable(&self.api, unreadable, now).await,
        };
        let lives =
            self.jobs.get(&ObjectRef::from_obj(guarded)).is_some_and(|live| live.uid().as_deref() == Some(&uid));
        // Ten thousand jobs that are over and tidied up should not be remembered one by one.
        let over = guarded.0.as_ref().is_ok_and(|job| job.status.as_ref().is_some_and(is_finished));
        let at_rest = over && memory.ending.is_empty() && matches!(&result, Ok(Reconciled { changed: false, .. }));
        if lives && !at_rest {
            locked(&self.memories).insert(uid, memory);
        }
        result
    }
}

async fn reconcile_one(job: Arc<GuardedJob>, context: Arc<Context>) -> Result<Action, ApiError> {
    let (started, now) = (Instant::now(), Timestamp::now());
    let key = key(&job);
    context.dequeue(&key);
    // A panic is a defect of ours, but it must stall one job and not the operator.
    let reconciling = AssertUnwindSafe(context.reconcile(&job, now)).catch_unwind();
    let result = reconciling.await.unwrap_or_else(|_| Err(ApiError::Unavailable("the operator panicked".to_owned())));
    let outcome = match &result {
        Err(_) => ReconcileOutcome::Error,
        Ok(Reconciled { changed: true, .. }) => ReconcileOutcome::Changed,
        Ok(Reconciled { wake_at: Some(_), .. }) => ReconcileOutcome::Waiting,
        Ok(_) => ReconcileOutcome::Unchanged,
    };
    context.metrics.reconciled(Kind::TrainingJob, outcome, started.elapsed());
    let reconciled = result?;
    locked(&context.backoff).succeeded(&key);
    tracing::debug!(namespace = key.0, name = key.1, ?outcome, took = ?started.elapsed(), "reconciled a TrainingJob");
    Ok(match reconciled.wake_at {
        Some(at) => Action::requeue(until(at)),
        None => Action::await_change(),
    })
}

/// Time from now until a moment; a moment that has passed is now.
fn until(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
}
