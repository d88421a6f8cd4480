//! The rules, one to a file, each with its table of cases.

pub mod backoff;
pub mod culprit;
pub mod rank_set;
pub mod rank_state;
pub mod results;
