//! ModelDeployment: observe, validate, decide, build, status, and the controller that runs them.

pub mod build;
pub mod caches;
pub mod content;
pub mod controller;
pub mod decide;
pub mod events;
pub mod observe;
pub mod policy;
pub mod reconcile;
#[cfg(test)]
pub(crate) mod simulated;
pub mod status;
pub mod validate;
