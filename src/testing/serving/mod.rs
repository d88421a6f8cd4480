//! ModelDeployments in the simulated cluster: revisions that serve, or fail to, and replace one another.

pub(crate) mod acts;
pub(crate) mod behaviour;
mod deployments;
mod nodes;
pub(crate) mod oracle;
pub(crate) mod stories;
mod toy;

mod machinery_tests;

use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use serde_json::Value;

use self::behaviour::Odds;
use self::deployments::Deployments;
use self::nodes::Nodes;
use self::oracle::ServingOracle;
pub(crate) use self::stories::Menu;
use super::dice::Dice;
use super::json;
use super::subject::{Machinery, Plot, Subject};
use super::watch::{Source, sources};
use super::world::World;
use crate::cluster::port::Resource;

/// What the controller of ModelDeployments watches.
pub(crate) const WATCHED: [Resource; 6] = [
    Resource::ModelDeployment,
    Resource::Pod,
    Resource::Service,
    Resource::Deployment,
    Resource::ControllerRevision,
    Resource::PodDisruptionBudget,
];

/// ModelDeployments.
pub(crate) struct Serving;

impl Subject for Serving {
    const KIND: Resource = Resource::ModelDeployment;
    const WATCHED: &'static [Source] = &sources(Self::KIND, WATCHED);
    /// A claim may be asked for again and again while the deadline, of at most 20 minutes, passes.
    const PATIENCE: SignedDuration = SignedDuration::from_mins(25);
    type Menu = Menu;
    type Odds = Odds;
    type Machinery = ServingMachinery;
    type Oracle = ServingOracle;
    type Outcome = Outcome;

    fn invent(dice: &mut Dice, menu: &Menu) -> Plot<Odds> {
        stories::invent(dice, menu)
    }

    fn outcomes_are_fixed(menu: &Menu) -> bool {
        menu.is_calm()
    }

    fn outcome(deployment: &Value) -> Outcome {
        Outcome {
            revision: json::number(deployment, "/status/revision"),
            stable: json::number(deployment, "/status/stableRevision"),
            state: json::reason(deployment, "Ready").unwrap_or_default().to_owned(),
        }
    }
}

/// What a run comes to for one ModelDeployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// `status.revision`.
    revision: Option<u64>,
    /// `status.stableRevision`.
    stable: Option<u64>,
    /// The reason of Ready.
    state: String,
}

/// What runs the pods: the controller of Deployments, the scheduler, and the nodes.
pub(crate) struct ServingMachinery {
    deployments: Deployments,
    nodes: Nodes,
}

impl Machinery for ServingMachinery {
    type Odds = Odds;

    fn new(seed: u64, odds: Odds) -> Self {
        ServingMachinery { deployments: Deployments::new(seed), nodes: Nodes::new(seed, odds) }
    }

    fn next_due(&mut self, world: &World) -> Option<Timestamp> {
        [self.deployments.next_due(world), self.nodes.next_due(world)].into_iter().flatten().min()
    }

    fn step(&mut self, world: &World, dice: &mut Dice) -> bool {
        // Either may be the faster one.
        let deployments_first = dice.random_bool(0.5);
        deployments_first && self.deployments.step(world)
            || self.nodes.step(world, dice)
            || self.deployments.step(world)
    }
}
