//! Pipelines: whether they can be run, how their runs went, and which finished runs are kept.

pub mod controller;
pub mod decide;
pub mod facts;
pub mod history;
pub mod reconcile;
pub mod status;
