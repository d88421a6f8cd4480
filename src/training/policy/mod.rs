//! The rules, one to a file, each with its table of cases.

pub mod culprit;
pub mod rank_set;
