//! PipelineRuns: one run of a pipeline, from its start to its end.

pub mod ahead;
pub mod caches;
pub mod controller;
pub mod decide;
pub mod events;
pub mod facts;
pub mod hidden;
pub mod launch;
pub mod observe;
pub mod reconcile;
pub mod status;
