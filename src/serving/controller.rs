//! The controller of ModelDeployments: what it watches, and what it reconciles by.

use jiff::Timestamp;
use kube::ResourceExt;

use super::caches::Caches;
use super::observe::Memory;
use super::reconcile::reconcile;
use crate::api::ModelDeployment;
use crate::cluster::client::ApiClient;
use crate::cluster::controller::{Controlled, Fed, Feeding};
use crate::cluster::pod::WatchedPod;
use crate::cluster::port::ApiError;
use crate::cluster::reconcile::Reconciled;
use crate::cluster::watch::{Shared, locked};
use crate::cluster::workload::{WatchedBudget, WatchedDeployment, WatchedRevision, WatchedService};
use crate::names::LABEL_DEPLOYMENT;
use crate::server::metrics::Kind;

impl Controlled for ModelDeployment {
    const KIND: Kind = Kind::ModelDeployment;
    type Caches = Caches;

    fn feed_children(feeding: &Feeding<Caches>) -> Vec<Fed> {
        vec![
            feeding.watch::<WatchedPod, _>(LABEL_DEPLOYMENT, |caches| &mut caches.pods),
            feeding.watch::<WatchedDeployment, _>(LABEL_DEPLOYMENT, |caches| &mut caches.deployments),
            feeding.watch::<WatchedRevision, _>(LABEL_DEPLOYMENT, |caches| &mut caches.revisions),
            feeding.watch::<WatchedService, _>(LABEL_DEPLOYMENT, |caches| &mut caches.routes),
            feeding.watch::<WatchedBudget, _>(LABEL_DEPLOYMENT, |caches| &mut caches.budgets),
        ]
    }

    async fn reconcile(
        api: &ApiClient,
        deployment: &Self,
        caches: &Shared<Caches>,
        memory: &mut Memory,
        now: Timestamp,
    ) -> Result<Reconciled, ApiError> {
        let (namespace, uid) = (deployment.namespace().unwrap_or_default(), deployment.uid().unwrap_or_default());
        let observed = locked(caches).observe(&namespace, &deployment.name_any(), &uid);
        reconcile(api, deployment, &observed, memory, now).await
    }

    /// A deployment is never over.
    fn is_over(&self, _memory: &Memory) -> bool {
        false
    }
}
