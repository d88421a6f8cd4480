//! The controller of Pipelines: what it watches, and what it reconciles by.

use jiff::Timestamp;
use kube::ResourceExt;

use super::facts::{Memory, RunFacts};
use super::reconcile::reconcile;
use crate::api::{Pipeline, PipelineRun};
use crate::cluster::client::ApiClient;
use crate::cluster::controller::{Controlled, Fed, Feeding};
use crate::cluster::index::OwnedIndex;
use crate::cluster::port::ApiError;
use crate::cluster::reconcile::Reconciled;
use crate::cluster::watch::{Shared, locked};
use crate::server::metrics::Kind;

impl Controlled for Pipeline {
    const KIND: Kind = Kind::Pipeline;
    type Caches = OwnedIndex<RunFacts>;

    fn feed_children(feeding: &Feeding<Self::Caches>) -> Vec<Fed> {
        // Runs are the user's own objects: all of them, whatever their labels.
        vec![feeding.watch_own::<PipelineRun, _>("", |runs| runs)]
    }

    async fn reconcile(
        api: &ApiClient,
        pipeline: &Self,
        caches: &Shared<Self::Caches>,
        memory: &mut Memory,
        now: Timestamp,
    ) -> Result<Reconciled, ApiError> {
        let runs = locked(caches).of(&pipeline.namespace().unwrap_or_default(), &pipeline.name_any());
        reconcile(api, pipeline, &runs, memory, now).await
    }

    /// A pipeline is never over.
    fn is_over(&self, _memory: &Memory) -> bool {
        false
    }
}
