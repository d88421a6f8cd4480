//! The controller of TrainingJobs: caches fed by watches, a queue, and [`reconcile`] for each job in it.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use futures::{FutureExt, StreamExt, future};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::watch;

use super::caches::{Caches, concerns_us};
use super::observe::Memory;
use super::reconcile::{Reconciled, reconcile, report_unreadable};
use crate::api::TrainingJob;
use crate::cluster::backoff::{Backoff, CONFLICT_DELAY};
use crate::cluster::client::ApiClient;
use crate::cluster::endpoints::WatchedSlice;
use crate::cluster::index::OwnerKey;
use crate::cluster::pod::WatchedPod;
use crate::cluster::port::ApiError;
use crate::cluster::watch::{Shared, TRIGGER_BUFFER, feed};
use crate::names;
use crate::server::metrics::{Kind, Metrics, ReconcileOutcome};

/// A job as it comes from the watch: one that cannot be read is an error of its own and no obstacle to the others.
type Guarded = DeserializeGuard<TrainingJob>;
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
    let (jobs, writer) = store::<Guarded>();
    let context = Arc::new(Context {
        api,
        metrics,
        caches: Shared::default(),
        jobs: jobs.clone(),
        memories: Mutex::default(),
        backoff: Mutex::new(Backoff::new(rand::random())),
        queued: Mutex::default(),
    });

    let (triggers, triggered) = mpsc::channel(TRIGGER_BUFFER);
    let feeding = feed_children(client.clone(), &context.caches, &triggers);
    drop(triggers);
    let (feeders, mut filled): (Vec<_>, Vec<_>) = feeding.into_iter().unzip();

    let watched = watcher(Api::<Guarded>::all(client), watcher::Config::default())
        .default_backoff()
        .modify(|job| job.managed_fields_mut().clear())
        .reflect(writer);
    let noticing = context.clone();
    let watched = watched.inspect(move |event| noticing.notice(event)).touched_objects();
    let noticing = context.clone();
    let triggered = triggered.filter(|key| future::ready(concerns_us(key))).map(move |key| {
        noticing.enqueue((key.namespace.clone(), key.owner.name.clone()));
        ObjectRef::<Guarded>::new(&key.owner.name).within(&key.namespace)
    });

    // A decision from half-filled caches would take children that are not listed yet for missing ones.
    let all_filled = async move {
        for flag in &mut filled {
            // An error means that the feeder has ended, which the watchdog notices.
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
        Controller::for_stream(watched, jobs)
            .with_config(Config::default().concurrency(concurrency))
            .reconcile_on(triggered)
            .graceful_shutdown_on(shutdown.clone())
            .run(reconcile_one, |job, error, context| context.retry(&job, error), context)
            .for_each(|_| future::ready(()))
            .await;
    };
    tokio::select! {
        () = controlling => {}
        _ = ended => tracing::error!("the watches of child objects have ended"),
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
    jobs: Store<Guarded>,
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

fn key(job: &Guarded) -> Key {
    (job.namespace().unwrap_or_default(), job.name_any())
}

impl Context {
    /// Keeps books about what the watch of jobs shows: what is queued, and what may be forgotten.
    fn notice(&self, event: &watcher::Result<Event<Guarded>>) {
        match event {
            Ok(Event::Apply(job) | Event::InitApply(job)) => self.enqueue(key(job)),
            Ok(Event::Delete(job)) => {
                locked(&self.memories).remove(&job.uid().unwrap_or_default());
                locked(&self.backoff).forget(&key(job));
                self.dequeue(&key(job));
            }
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => tracing::warn!("the watch of TrainingJobs broke and is started again: {error}"),
        }
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
    fn retry(&self, job: &Guarded, error: &ApiError) -> Action {
        let key = key(job);
        let delay = match error {
            ApiError::Conflict(_) | ApiError::NotFound(_) => CONFLICT_DELAY,
            _ => locked(&self.backoff).failed(key.clone()),
        };
        tracing::warn!(namespace = key.0, name = key.1, retry_in = ?delay, "reconciling a TrainingJob failed: {error}");
        Action::requeue(delay)
    }

    /// Reconciles with the memory of that job, which nobody else uses meanwhile: the controller never runs two
    /// reconciles of one object at a time.
    async fn reconcile(&self, job: &Guarded, now: Timestamp) -> Result<Reconciled, ApiError> {
        let uid = job.uid().unwrap_or_default();
        let mut memory = locked(&self.memories).remove(&uid).unwrap_or_default();
        let result = match &job.0 {
            Ok(job) => {
                let observed = locked(&self.caches).observe(&uid);
                reconcile(&self.api, job, &observed, &mut memory, now).await
            }
            Err(unreadable) => {
                report_unreadable(&self.api, &unreadable.metadata, &unreadable.error, &mut memory, now).await
            }
        };
        let lives = self.jobs.get(&ObjectRef::from_obj(job)).is_some_and(|live| live.uid().as_deref() == Some(&uid));
        if lives && memory != Memory::default() {
            locked(&self.memories).insert(uid, memory);
        }
        result
    }
}

async fn reconcile_one(job: Arc<Guarded>, context: Arc<Context>) -> Result<Action, ApiError> {
    let (started, now) = (Instant::now(), Timestamp::now());
    let key = key(&job);
    context.dequeue(&key);
    let result = context.reconcile(&job, now).await;
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
