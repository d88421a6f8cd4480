//! PipelineRuns in the simulated cluster, with all that they make: pods, TrainingJobs and ModelDeployments, each kind with the
//! machinery that it has in [`super::jobs`] and [`super::serving`].

mod acts;
mod dag;
mod oracle;
mod stories;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use serde_json::Value;

use self::oracle::PipelineOracle;
pub(crate) use self::stories::Menu;
use super::dice::Dice;
use super::jobs::kubelet::Kubelet;
use super::subject::{Machinery, Plot, Subject};
use super::watch::Source;
use super::world::World;
use super::{jobs, json, serving};
use crate::cluster::port::Resource;

/// PipelineRuns, and whatever their steps need.
pub(crate) struct Pipelines;

const fn watch(by: Resource, of: Resource) -> Source {
    Source { by, of }
}

impl Subject for Pipelines {
    const KIND: Resource = Resource::PipelineRun;
    const RECONCILED: &'static [Resource] =
        &[Resource::PipelineRun, Resource::Pipeline, Resource::TrainingJob, Resource::ModelDeployment];
    const WATCHED: &'static [Source] = &[
        watch(Resource::PipelineRun, Resource::PipelineRun),
        watch(Resource::PipelineRun, Resource::Pod),
        watch(Resource::PipelineRun, Resource::TrainingJob),
        watch(Resource::PipelineRun, Resource::ModelDeployment),
        watch(Resource::PipelineRun, Resource::ControllerRevision),
        watch(Resource::PipelineRun, Resource::PersistentVolumeClaim),
        watch(Resource::PipelineRun, Resource::Pipeline),
        watch(Resource::Pipeline, Resource::Pipeline),
        watch(Resource::Pipeline, Resource::PipelineRun),
        watch(Resource::TrainingJob, Resource::TrainingJob),
        watch(Resource::TrainingJob, Resource::Pod),
        watch(Resource::TrainingJob, Resource::Service),
        watch(Resource::TrainingJob, Resource::EndpointSlice),
        watch(Resource::ModelDeployment, Resource::ModelDeployment),
        watch(Resource::ModelDeployment, Resource::Pod),
        watch(Resource::ModelDeployment, Resource::Service),
        watch(Resource::ModelDeployment, Resource::Deployment),
        watch(Resource::ModelDeployment, Resource::ControllerRevision),
        watch(Resource::ModelDeployment, Resource::PodDisruptionBudget),
    ];
    /// A step or a run may have 20 minutes, while something that is asked for again and again holds it up.
    const PATIENCE: SignedDuration = SignedDuration::from_mins(25);
    type Menu = Menu;
    type Odds = Odds;
    type Machinery = PipelineMachinery;
    type Oracle = PipelineOracle;
    type Outcome = Outcome;

    fn invent(dice: &mut Dice, menu: &Menu) -> Plot<Odds> {
        stories::invent(dice, menu)
    }

    fn outcomes_are_fixed(menu: &Menu) -> bool {
        menu.is_calm()
    }

    fn outcome(run: &Value) -> Outcome {
        let steps = json::at(run, "/status/steps").and_then(Value::as_object).into_iter().flatten();
        let step = |(name, step): (&String, &Value)| {
            (name.clone(), (step["state"].clone(), step["attempts"].clone(), step["outputs"].clone()))
        };
        Outcome { state: json::reason(run, "Ready").unwrap_or_default().to_owned(), steps: steps.map(step).collect() }
    }
}

/// What a run comes to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// The reason of Ready.
    state: String,
    /// Of each step its state, its attempts and its outputs.
    steps: BTreeMap<String, (Value, Value, Value)>,
}

/// How likely pods behave in which way.
#[derive(Clone, Debug)]
pub(crate) struct Odds {
    /// Pods that run to their end.
    pods: jobs::behaviour::Odds,
    /// Pods that serve.
    serving: serving::behaviour::Odds,
}

/// What runs the pods: the nodes of those that end, and the machinery of those that serve.
pub(crate) struct PipelineMachinery {
    kubelet: Kubelet,
    serving: serving::ServingMachinery,
}

impl Machinery for PipelineMachinery {
    type Odds = Odds;

    fn new(seed: u64, odds: Odds) -> Self {
        PipelineMachinery { kubelet: Machinery::new(seed, odds.pods), serving: Machinery::new(seed, odds.serving) }
    }

    fn next_due(&mut self, world: &World) -> Option<Timestamp> {
        [self.kubelet.next_due(world), self.serving.next_due(world)].into_iter().flatten().min()
    }

    fn step(&mut self, world: &World, dice: &mut Dice) -> bool {
        // Either may be the faster one.
        let kubelet_first = dice.random_bool(0.5);
        kubelet_first && self.kubelet.step(world, dice)
            || self.serving.step(world, dice)
            || self.kubelet.step(world, dice)
    }
}
