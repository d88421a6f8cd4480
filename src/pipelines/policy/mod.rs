//! The rules of a run as functions of data.

pub mod fields;
pub mod graph;
pub mod outputs;
pub mod parameters;
pub mod places;
pub mod references;
pub mod side_by_side;
pub mod substitute;
pub mod when;
