//! Pipelines: a graph of steps, run once for each PipelineRun.
//!
//! `policy` holds the rules, `validate` what a pipeline must be, `build` what a run makes, `runs` the controller of PipelineRuns,
//! `definitions` that of Pipelines.

pub mod build;
pub mod definitions;
pub mod policy;
pub mod runs;
#[cfg(test)]
mod simulated;
pub mod validate;
