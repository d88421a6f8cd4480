//! What every kind's controller has in common: the door to the apiserver, caches, plans and how they are carried out.

pub mod backoff;
pub mod build;
pub mod client;
pub mod container;
pub mod controller;
pub mod ending;
pub mod endpoints;
pub mod execute;
pub mod guard;
pub mod index;
pub mod lease;
pub mod managed;
pub mod plan;
pub mod pod;
pub mod pod_state;
pub mod port;
pub mod problem;
pub mod publish;
pub mod reconcile;
pub mod refusal;
pub mod results;
pub mod retry;
pub mod waiting;
pub mod watch;
pub mod workload;
pub mod writes;
