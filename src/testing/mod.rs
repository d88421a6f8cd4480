//! The simulated cluster: tier 2 of the tests.
//!
//! ```text
//!  scenario ──script──▶ simulation ──deliver, reconcile──▶ the operator under test
//!                        │  │  │                                  │ writes (cluster::port::ApiServer)
//!                kubelet ┘  │  └ oracle                           ▼
//!                     │   watch ◀──────── changes ───────────── world ◀── people, garbage
//!                     └──────────────────────────────────────────▲
//! ```
//!
//! [`world`] holds the objects, [`apiserver`] is the door to them, [`faults`] spoils its answers; [`people`] and
//! [`garbage`] change it as users and the garbage collector do; [`kubelet`] runs its pods. [`watch`] hands its changes
//! to the operator, each kind of object with a lag of its own. [`simulation`] draws what happens next, [`oracle`] looks
//! at every single change, and [`scenario`] makes up stories and runs them.
//!
//! Everything follows from one seed: no threads, no real time, and no random generator that differs between platforms.

pub(crate) mod apiserver;
pub(crate) mod behaviour;
pub(crate) mod dice;
pub(crate) mod facts;
pub(crate) mod faults;
pub(crate) mod garbage;
pub(crate) mod json;
pub(crate) mod kubelet;
pub(crate) mod options;
pub(crate) mod oracle;
pub(crate) mod people;
pub(crate) mod pod_status;
pub(crate) mod scenario;
pub(crate) mod script;
pub(crate) mod simulation;
pub(crate) mod story;
pub(crate) mod watch;
pub(crate) mod world;

mod kubelet_tests;
mod toy;
mod toy_tests;
mod world_tests;
