//! The controller of PipelineRuns: what it watches, and what it reconciles by.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::core::PartialObjectMeta;

use super::caches::Caches;
use super::observe::Memory;
use super::reconcile::reconcile;
use super::status::is_finished;
use crate::api::{ModelDeployment, Pipeline, PipelineRun, TrainingJob};
use crate::cluster::client::ApiClient;
use crate::cluster::controller::{Controlled, Fed, Feeding};
use crate::cluster::pod::WatchedPod;
use crate::cluster::port::ApiError;
use crate::cluster::reconcile::Reconciled;
use crate::cluster::watch::{Shared, locked};
use crate::cluster::workload::WatchedRevision;
use crate::names::LABEL_RUN;
use crate::server::metrics::Kind;

/// Selects the pods of steps. Those of a TrainingJob have the run's label too, and are the job's affair.
const PODS_OF_STEPS: &str = "trainyard.dev/run,!trainyard.dev/job";

impl Controlled for PipelineRun {
    const KIND: Kind = Kind::PipelineRun;
    type Caches = Caches;

    fn feed_children(feeding: &Feeding<Caches>) -> Vec<Fed> {
        vec![
            feeding.watch::<WatchedPod, _>(PODS_OF_STEPS, |caches| &mut caches.pods),
            feeding.watch_own::<TrainingJob, _>(LABEL_RUN, |caches| &mut caches.jobs),
            feeding.watch_own::<ModelDeployment, _>(LABEL_RUN, |caches| &mut caches.deployments),
            feeding.watch_own::<PipelineRun, _>("", |caches| &mut caches.finished),
            feeding.watch_own::<PartialObjectMeta<Pipeline>, _>("", |caches| &mut caches.pipelines),
            feeding.watch::<WatchedRevision, _>(LABEL_RUN, |caches| &mut caches.records),
            feeding.watch::<PartialObjectMeta<PersistentVolumeClaim>, _>(LABEL_RUN, |caches| &mut caches.claims),
        ]
    }

    async fn reconcile(
        api: &ApiClient,
        run: &Self,
        caches: &Shared<Caches>,
        memory: &mut Memory,
        now: Timestamp,
    ) -> Result<Reconciled, ApiError> {
        let observed = locked(caches).observe(run, now);
        reconcile(api, run, &observed, memory, now).await
    }

    fn is_over(&self, memory: &Memory) -> bool {
        self.status.as_ref().is_some_and(is_finished) && memory.ending.is_empty()
    }
}
