//! What every kind's controller has in common: the door to the apiserver, caches, plans and how they are carried out.

pub mod backoff;
pub mod client;
pub mod endpoints;
pub mod execute;
pub mod guard;
pub mod index;
pub mod lease;
pub mod plan;
pub mod pod;
pub mod port;
pub mod publish;
pub mod watch;
