//! One term of leadership: the controllers, while the lease holds.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::Instrument;

use super::service::Service;
use super::{OperatorError, Shutdown};
use crate::api::{ModelDeployment, Pipeline, PipelineRun, TrainingJob};
use crate::cluster::client::ApiClient;
use crate::cluster::controller::{self, Controlled};
use crate::cluster::lease::{ClaimWatch, Ended, LeaseGate, LeaseHolder};
use crate::cluster::port::Resource;
use crate::cluster::scope::Scope;
use crate::cluster::territory::Territory;
use crate::cluster::watch::Filled;
use crate::cluster::watch::shared::Watches;
use crate::server::health::Stage;

/// Longest wait for reconciles under way when the process is told to stop; Kubernetes gives a pod 30 s.
const LONGEST_FAREWELL: Duration = Duration::from_secs(20);

/// After a controller has panicked, its requests that were under way may still arrive. Nobody else should write meanwhile.
const AFTERMATH: Duration = Duration::from_secs(1);

/// How often it is looked whether a watch has been broken for long.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why the claims of others cannot be followed, see [`Territory::deaf`].
type Deaf = watch::Receiver<Option<String>>;

/// How far the caches of each kind's controller have come.
type Progress = Vec<(Resource, watch::Receiver<Filled>)>;

impl Service {
    /// Runs the controllers until the lease is lost, the process is told to stop, or a controller ends by itself. In the last
    /// two cases the lease is released, so that the next process leads at once.
    ///
    /// Everything that this term knows is owned by this future, its tasks included: they end when it does.
    ///
    /// # Errors
    /// The lease was lost, or a controller ended by itself.
    pub(super) async fn reign(&self, mut lease: LeaseHolder, shutdown: &Shutdown) -> Result<(), OperatorError> {
        self.metrics.set_leader(self.scope().name(), true);
        let (stop, stopped) = oneshot::channel::<()>();
        let ending: Shutdown = future::select(shutdown.clone(), stopped).map(drop).boxed().shared();
        let watches = Watches::new(self.metrics.clone());
        let (tasks, progress, deaf) = self.tasks(&lease, &watches, &ending);
        let wait = lease.wait_before_writing();
        let mut running = JoinSet::new();
        let work = work(tasks, wait, lease.gate(), stop, ending.clone());
        running.spawn_on(work.in_current_span(), &self.controllers);
        let ended = tokio::select! {
            ended = lease.keep(ending) => Some(ended),
            _ = running.join_next() => None,
            never = self.tell(progress, deaf, &watches, wait) => match never {},
        };
        if let Some(Ended::Lost(loss)) = ended {
            return Err(OperatorError::LeaseLost(loss));
        }
        let was_told = shutdown.clone().now_or_never().is_some();
        if was_told {
            tracing::info!("told to stop: finishing what is under way");
        } else {
            self.enter(Stage::Stopped);
        }
        if tokio::time::timeout(LONGEST_FAREWELL, running.join_next()).await.is_err() {
            tracing::warn!("some reconciles did not finish within {LONGEST_FAREWELL:?}; the next leader redoes them");
        }
        if !was_told {
            running.shutdown().await;
            sleep(AFTERMATH).await;
        }
        lease.release().await;
        if was_told { Ok(()) } else { Err(OperatorError::ControllerEnded) }
    }

    /// The controllers, and for the whole cluster the watch of namespaces that others claim.
    fn tasks(
        &self,
        lease: &LeaseHolder,
        watches: &Watches,
        shutdown: &Shutdown,
    ) -> (Vec<BoxFuture<'static, ()>>, Progress, Deaf) {
        let mut tasks = Vec::new();
        let territory = match self.scope() {
            Scope::Cluster => {
                let territory = Territory::of_cluster(&self.place.namespace);
                let claims = ClaimWatch {
                    own: self.place.clone(),
                    times: self.times,
                    gate: lease.gate(),
                    territory: territory.clone(),
                    metrics: self.metrics.clone(),
                    watches: watches.with_its_own_place(),
                };
                // A task of this runtime and not of the controllers': the gate is open only for renewals that this watch
                // has shown.
                let mut watching = JoinSet::new();
                watching.spawn(claims.run(self.lease_client.clone()).in_current_span());
                let watched = async move { watching.join_next().await };
                tasks.push(future::select(watched.boxed(), shutdown.clone()).map(drop).boxed());
                territory
            }
            Scope::Namespace(_) => Territory::undisputed(),
        };
        let api = ApiClient::new(self.client.clone(), lease.gate(), territory.clone(), self.metrics.clone());
        let mut progress = Progress::new();
        tasks.extend([
            self.controller::<TrainingJob>(&api, &territory, watches, shutdown, &mut progress),
            self.controller::<ModelDeployment>(&api, &territory, watches, shutdown, &mut progress),
            self.controller::<Pipeline>(&api, &territory, watches, shutdown, &mut progress),
            self.controller::<PipelineRun>(&api, &territory, watches, shutdown, &mut progress),
        ]);
        (tasks, progress, territory.deaf())
    }

    fn controller<O: Controlled>(
        &self,
        api: &ApiClient,
        territory: &Territory,
        watches: &Watches,
        shutdown: &Shutdown,
        progress: &mut Progress,
    ) -> BoxFuture<'static, ()> {
        let (synced, is_synced) = watch::channel(Filled::No);
        progress.push((O::RESOURCE, is_synced));
        let options = controller::Options {
            client: self.client.clone(),
            scope: self.scope().clone(),
            territory: territory.clone(),
            api: api.clone(),
            metrics: self.metrics.clone(),
            watches: watches.clone(),
            concurrency: self.concurrency,
            synced,
        };
        controller::run::<O>(options, shutdown.clone()).boxed()
    }

    /// Keeps the probes informed.
    async fn tell(
        &self,
        mut progress: Progress,
        mut deaf: Deaf,
        watches: &Watches,
        wait: Duration,
    ) -> std::convert::Infallible {
        if !wait.is_zero() {
            let why =
                format!("waiting {wait:?}, so that an operator of the whole cluster has let go of this namespace");
            tracing::info!("{why}");
            self.enter(Stage::Filling(why));
            sleep(wait).await;
        }
        loop {
            let kinds = progress.iter_mut().map(|(kind, filled)| (*kind, *filled.borrow_and_update()));
            self.enter(stage(kinds, deaf.borrow_and_update().as_deref(), &watches.broken()));
            // Filled is the last that a controller tells.
            progress.retain(|(_, filled)| *filled.borrow() != Filled::Yes);
            let mut changes: Vec<_> = progress.iter_mut().map(|(_, filled)| filled.changed().boxed()).collect();
            changes.push(deaf.changed().boxed());
            tokio::select! {
                (changed, ..) = future::select_all(changes) => if changed.is_err() {
                    // A task has ended, which ends the term.
                    future::pending::<()>().await;
                },
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }
}

/// A kind that is not served holds up no other, nor the process's readiness: that nothing can be of that kind is told
/// where the schema is looked at, and its controller begins by itself when the CRD is there.
fn stage(kinds: impl Iterator<Item = (Resource, Filled)>, deaf: Option<&str>, broken: &[String]) -> Stage {
    if let Some(why) = deaf {
        return Stage::Hindered(why.to_owned());
    }
    if !broken.is_empty() {
        return Stage::Hindered(format!("the watch of {} keeps failing; the log says why", broken.join(", of ")));
    }
    let filling = kinds.filter(|(_, filled)| *filled == Filled::No);
    let filling: Vec<&str> = filling.map(|(kind, _)| kind.plural()).collect();
    if filling.is_empty() {
        return Stage::Working;
    }
    Stage::Filling(format!("the caches of {} are not filled yet", filling.join(", ")))
}

/// Runs the tasks after the wait, until they are told to stop; then each has its time. A task that ends by itself, or panics, has
/// the others stopped like that.
async fn work(
    tasks: Vec<BoxFuture<'static, ()>>,
    wait: Duration,
    gate: LeaseGate,
    stop: oneshot::Sender<()>,
    ending: Shutdown,
) {
    tokio::select! {
        () = sleep(wait) => {}
        () = ending.clone() => return,
    }
    gate.end_wait();
    // Each future is polled no more after its panic, and what it shares with others is whole after every statement.
    let tasks = tasks.into_iter().map(|task| AssertUnwindSafe(task).catch_unwind());
    let (_, _, others) = future::select_all(tasks).await;
    if ending.now_or_never().is_none() {
        tracing::error!("a controller has ended by itself, which is a defect of this operator; stopping the others");
        // Whoever listened has ended with the term.
        let _ = stop.send(());
    }
    future::join_all(others).await;
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::Instant;

    use super::*;
    use Filled::{No, Unserved, Yes};

    const WAIT: Duration = Duration::from_secs(15);

    /// What a task of a test does.
    #[derive(Clone, Copy, Debug)]
    enum Task {
        /// It ends by itself after so many seconds.
        Ends(u64),
        /// It panics after so many seconds.
        Panics(u64),
        /// It ends so many seconds after it was told to stop.
        Stops(u64),
    }

    #[tokio::test(start_paused = true)]
    async fn work_begins_after_the_wait_and_a_task_that_ends_leaves_the_others_their_time() {
        use Task::{Ends, Panics, Stops};
        // When it is told to stop, the two tasks -> how many of them have begun, how many have ended, and when it is over.
        for (told, tasks, begun, ended, over) in [
            (Some(5), [Stops(1), Stops(4)], 0, 0, 5),
            (Some(20), [Stops(1), Stops(4)], 2, 2, 24),
            (Some(20), [Ends(6), Stops(9)], 2, 2, 29),
            (Some(20), [Ends(2), Stops(9)], 2, 2, 26),
            (None, [Ends(3), Stops(1)], 2, 2, 19),
            (None, [Panics(3), Stops(2)], 2, 1, 20),
            (None, [Panics(3), Panics(9)], 2, 0, 24),
        ] {
            let told_to: Shutdown = match told {
                Some(told) => sleep(Duration::from_secs(told)).boxed().shared(),
                None => pending().boxed().shared(),
            };
            let (stop, stopped) = oneshot::channel::<()>();
            let ending: Shutdown = future::select(told_to, stopped).map(drop).boxed().shared();
            let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
            let run = |task| {
                let (counts, ending) = (counts.clone(), ending.clone());
                let run = async move {
                    counts[0].fetch_add(1, Ordering::Relaxed);
                    let seconds = match task {
                        Ends(seconds) | Panics(seconds) => seconds,
                        Stops(seconds) => {
                            ending.await;
                            seconds
                        }
                    };
                    sleep(Duration::from_secs(seconds)).await;
                    assert!(!matches!(task, Panics(_)), "as the test wants it");
                    counts[1].fetch_add(1, Ordering::Relaxed);
                };
                run.boxed()
            };
            let started = Instant::now();
            work(tasks.map(run).into(), WAIT, LeaseGate::always(), stop, ending.clone()).await;
            let [has_begun, has_ended] = [0, 1].map(|index| counts[index].load(Ordering::Relaxed));
            let seen = (has_begun, has_ended, started.elapsed().as_secs());
            assert_eq!(seen, (begun, ended, over), "told at {told:?}, {tasks:?}");
        }
    }

    #[test]
    fn readiness_waits_for_caches_that_can_be_filled() {
        let filling = |kinds: &str| Stage::Filling(format!("the caches of {kinds} are not filled yet"));
        for (jobs, pipelines, expected) in [
            (No, No, filling("trainingjobs, pipelines")),
            (Yes, No, filling("pipelines")),
            (Yes, Yes, Stage::Working),
            (Unserved, Yes, Stage::Working),
            (Unserved, No, filling("pipelines")),
            (Unserved, Unserved, Stage::Working),
        ] {
            let kinds = [(Resource::TrainingJob, jobs), (Resource::Pipeline, pipelines)];
            assert_eq!(stage(kinds.into_iter(), None, &[]), expected, "{jobs:?}, {pipelines:?}");
            let hindered = stage(kinds.into_iter(), Some("the watch is silent"), &[]);
            assert_eq!(hindered, Stage::Hindered("the watch is silent".to_owned()), "{jobs:?}, {pipelines:?}");
            let broken = ["pods of trainingjobs".to_owned(), "trainingjobs".to_owned()];
            let words = "the watch of pods of trainingjobs, of trainingjobs keeps failing; the log says why";
            assert_eq!(stage(kinds.into_iter(), None, &broken), Stage::Hindered(words.to_owned()));
        }
    }
}
