//! The controller of TrainingJobs: what it watches, and what it reconciles by.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;

use super::caches::Caches;
use super::observe::Memory;
use super::reconcile::reconcile;
use super::status::is_finished;
use crate::api::TrainingJob;
use crate::cluster::client::ApiClient;
use crate::cluster::controller::{Controlled, Fed, Feeding};
use crate::cluster::endpoints::WatchedSlice;
use crate::cluster::pod::WatchedPod;
use crate::cluster::port::ApiError;
use crate::cluster::reconcile::Reconciled;
use crate::cluster::watch::{Shared, locked};
use crate::names::LABEL_JOB;
use crate::server::metrics::Kind;

impl Controlled for TrainingJob {
    const KIND: Kind = Kind::TrainingJob;
    type Caches = Caches;

    fn feed_children(feeding: &Feeding<Caches>) -> Vec<Fed> {
        vec![
            feeding.watch::<WatchedPod, _>(LABEL_JOB, |caches| &mut caches.pods),
            feeding.watch::<WatchedSlice, _>(LABEL_JOB, |caches| &mut caches.slices),
            feeding.watch::<PartialObjectMeta<Service>, _>(LABEL_JOB, |caches| &mut caches.services),
        ]
    }

    async fn reconcile(
        api: &ApiClient,
        job: &Self,
        caches: &Shared<Caches>,
        memory: &mut Memory,
        now: Timestamp,
    ) -> Result<Reconciled, ApiError> {
        let (namespace, uid) = (job.namespace().unwrap_or_default(), job.uid().unwrap_or_default());
        let observed = locked(caches).observe(&namespace, &job.name_any(), &uid);
        reconcile(api, job, &observed, memory, now).await
    }

    fn is_over(&self, memory: &Memory) -> bool {
        self.status.as_ref().is_some_and(is_finished) && memory.ending.is_empty()
    }
}
