//! TrainingJobs in the simulated cluster: pods that train, end, and fail.

pub(crate) mod acts;
pub(crate) mod behaviour;
pub(crate) mod facts;
pub(crate) mod fates;
pub(crate) mod kubelet;
pub(crate) mod oracle;
pub(crate) mod stories;

mod kubelet_tests;
mod toy;
mod toy_tests;

use jiff::SignedDuration;
use serde_json::Value;

use self::behaviour::Odds;
use self::kubelet::Kubelet;
use self::oracle::JobOracle;
pub(crate) use self::stories::Menu;
use super::dice::Dice;
use super::json;
use super::subject::{Plot, Subject};
use super::watch::{Source, sources};
use crate::cluster::port::Resource;

/// What the controller of TrainingJobs watches.
pub(crate) const WATCHED: [Resource; 4] =
    [Resource::TrainingJob, Resource::Pod, Resource::Service, Resource::EndpointSlice];

/// TrainingJobs.
pub(crate) struct Jobs;

impl Subject for Jobs {
    const KIND: Resource = Resource::TrainingJob;
    const WATCHED: &'static [Source] = &sources(Self::KIND, WATCHED);
    /// A job has one timer at a time.
    const PATIENCE: SignedDuration = SignedDuration::ZERO;
    type Menu = Menu;
    type Odds = Odds;
    type Machinery = Kubelet;
    type Oracle = JobOracle;
    /// Whether it is Complete, and its last attempt.
    type Outcome = (bool, u64);

    fn invent(dice: &mut Dice, menu: &Menu) -> Plot<Odds> {
        stories::invent(dice, menu)
    }

    fn outcomes_are_fixed(menu: &Menu) -> bool {
        !(menu.people || menu.timers || menu.suspends || menu.obstacles || menu.mishaps)
    }

    fn outcome(job: &Value) -> (bool, u64) {
        (json::condition_is_true(job, "Complete"), json::number(job, "/status/attempt").unwrap_or(1))
    }
}
