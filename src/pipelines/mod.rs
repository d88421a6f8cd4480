//! Pipelines: a graph of steps, run once for each PipelineRun.
//!
//! So far the decisions that need no cluster; resources and controller come on top of them.

pub mod policy;
