//! The rules of a decision, one a file, each with its table of cases.

pub mod change;
pub mod history;
pub mod progress;
pub mod retry;
pub mod share;
pub mod trouble;
