//! Trainyard: a Kubernetes operator for machine-learning workloads.
//!
//! Where things are: `api` holds the resources as users write them, `training` the controller of TrainingJobs, `serving` that
//! of ModelDeployments, `pipelines` the rules of pipelines, `cluster` what every controller shares, `server` the endpoints for
//! probes and metrics, `testing` the simulated cluster.
//! ARCHITECTURE.md is the map, with the invariants that hold everywhere.

pub mod api;
pub mod cli;
pub mod cluster;
pub mod log;
pub mod manifests;
pub mod names;
pub mod operator;
pub mod pipelines;
pub mod server;
pub mod serving;
#[cfg(test)]
mod testing;
mod text;
pub mod training;
pub mod version;
