//! The simulated cluster: tier 2 of the tests.
//!
//! ```text
//!  scenario ──script──▶ simulation ──deliver, reconcile──▶ the operator under test
//!                        │  │  │                                  │ writes (cluster::port::ApiServer)
//!              machinery ┘  │  └ oracle                           ▼
//!                     │   watch ◀──────── changes ───────────── world ◀── people, garbage
//!                     └──────────────────────────────────────────▲
//! ```
//!
//! [`world`] holds the objects, [`apiserver`] is the door to them, [`faults`] spoils its answers; [`people`] and
//! [`garbage`] change it as users and the garbage collector do. [`watch`] hands its changes to the operator, each kind of
//! object with a lag of its own. [`simulation`] draws what happens next, and [`scenario`] runs stories.
//!
//! All that is of one kind of object of ours is behind the traits in [`subject`]: what runs its pods, an oracle that looks
//! at every single change, and the stories. [`jobs`] is about TrainingJobs, [`serving`] about ModelDeployments, [`pipelines`]
//! about PipelineRuns with all that they make: there the controllers of all kinds run together, each with watches of its own.
//!
//! Everything follows from one seed: no threads, no real time, and no random generator that differs between platforms.

pub(crate) mod any_json;
pub(crate) mod apiserver;
pub(crate) mod dice;
pub(crate) mod faults;
pub(crate) mod garbage;
pub(crate) mod jobs;
pub(crate) mod json;
pub(crate) mod operator;
pub(crate) mod options;
pub(crate) mod people;
pub(crate) mod pipelines;
pub(crate) mod pod_status;
pub(crate) mod pods;
pub(crate) mod scenario;
pub(crate) mod script;
pub(crate) mod serving;
pub(crate) mod simulation;
pub(crate) mod story;
pub(crate) mod subject;
pub(crate) mod toys;
pub(crate) mod watch;
pub(crate) mod world;

mod odd_templates;
mod world_tests;
