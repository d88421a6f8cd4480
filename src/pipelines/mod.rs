//! Pipelines: a graph of steps, run once for each PipelineRun.
//!
//! `policy` holds the rules, `validate` what a pipeline must be, `build` what a run makes, `runs` the controller of PipelineRuns,
//! `definitions` that of Pipelines, `probe` what both ask the apiserver before anything runs.

pub mod build;
pub mod definitions;
pub mod policy;
pub mod probe;
pub mod runs;
#[cfg(test)]
mod simulated;
pub mod validate;
