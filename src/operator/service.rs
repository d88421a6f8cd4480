//! Serving one scope: terms of leadership, one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::{OperatorError, Shutdown};
use crate::cluster::lease::{LeaseError, LeasePlace, LeaseTimes};
use crate::cluster::news::News;
use crate::cluster::scope::Scope;
use crate::server::health::{Health, Stage};
use crate::server::metrics::Metrics;

/// Between two tries in a namespace that does not let us: a person may have helped meanwhile.
const RETRY: Duration = Duration::from_secs(10);

/// What it takes to serve one scope.
pub(super) struct Service {
    /// For what the controllers ask and watch.
    pub(super) client: kube::Client,
    /// For the Leases alone: its connections wait for nobody else's requests.
    pub(super) lease_client: kube::Client,
    /// Where the controllers run.
    pub(super) controllers: Handle,
    pub(super) times: LeaseTimes,
    pub(super) place: LeasePlace,
    pub(super) concurrency: u16,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
}

impl Service {
    /// Serves until told to stop.
    ///
    /// The operator of the whole cluster ends with its term: a fresh process is the surest way to fresh caches. One of
    /// several namespaces begins another term instead, since the others have lost nothing. That is as good, because a term
    /// owns all that it knows: gate, caches, memories, controllers and their tasks go with it ([`Service::reign`]), and the
    /// next has an identity of its own, so it takes its own past for any other operator.
    ///
    /// # Errors
    /// Whatever makes it impossible or unsafe to go on.
    pub(super) async fn run(self, shutdown: Shutdown) -> Result<(), OperatorError> {
        let mut hindrance = News::default();
        self.metrics.set_leader(self.scope().name(), false);
        loop {
            let ended = self.term(&shutdown).await;
            self.metrics.set_leader(self.scope().name(), false);
            match ended {
                Ok(()) => return Ok(()),
                Err(OperatorError::Lease(refused @ LeaseError::Refused { .. })) if self.is_one_of_several() => {
                    let problem = format!("{refused}; the namespace is served once it exists and has our Role");
                    if hindrance.is_new(&problem, Instant::now()) {
                        tracing::warn!("not serving this namespace: {problem}");
                    }
                    self.enter(Stage::Hindered(problem));
                }
                Err(OperatorError::LeaseLost(loss)) if self.is_one_of_several() => {
                    tracing::warn!("the lease was lost: {loss}; beginning again with fresh caches");
                    self.enter(Stage::Starting);
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = sleep(RETRY) => {}
                () = shutdown.clone() => return Ok(()),
            }
        }
    }

    async fn term(&self, shutdown: &Shutdown) -> Result<(), OperatorError> {
        match self.win(shutdown).await? {
            Some(lease) => self.reign(lease, shutdown).await,
            None => Ok(()),
        }
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.place.scope
    }

    /// Tells probes and metrics how far this scope has come.
    pub(super) fn enter(&self, stage: Stage) {
        self.metrics.set_ready(self.scope().name(), stage.is_ready());
        self.health.set(self.scope(), stage);
    }

    fn is_one_of_several(&self) -> bool {
        self.scope().is_namespace()
    }
}
