//! Stories of PipelineRuns, made up from a seed.

use jiff::SignedDuration;
use rand::RngExt;
use serde_json::{Value, json};

use super::dag::random_definition;
use super::{Odds, Pipelines, acts};
use crate::cluster::port::{ObjectId, Resource};
use crate::testing::dice::{Dice, up_to_millis};
use crate::testing::scenario::{LAST_ACT, chance_mishaps, random_options, spells};
use crate::testing::script::Action;
use crate::testing::subject::{Plot, Subject};
use crate::testing::{jobs, json, serving};

/// What may occur in a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Menu {
    /// Most runs.
    pub(crate) most_runs: usize,
    /// Most steps of each, those of `finally` aside.
    pub(crate) most_steps: usize,
    /// What steps do, as likely as it occurs: run, train, deploy.
    pub(crate) kinds: &'static [&'static str],
    /// Steps that fail, never end, or do not report what they declare.
    pub(crate) fails: bool,
    /// Containers beside the one that counts.
    pub(crate) sidecars: bool,
    /// Timeouts that may come between.
    pub(crate) timers: bool,
    /// Runs that are cancelled.
    pub(crate) cancels: bool,
    /// Pipelines that runs refer to: they appear late, change, and clear away what has finished.
    pub(crate) pipelines: bool,
    /// People who delete pods, jobs, models and runs, and make runs again.
    pub(crate) people: bool,
    /// Quota spells, refusals, and somebody else's objects under our names.
    pub(crate) obstacles: bool,
    /// Errors of the apiserver, relists, frozen watches, kills by chance, a wrong clock; nodes that throw out pods.
    pub(crate) mishaps: bool,
    /// Kinds of objects whose lists may show the past.
    pub(crate) rewound: &'static [Resource],
}

impl Menu {
    /// All there is.
    pub(crate) fn everything() -> Self {
        Menu {
            most_runs: 3,
            most_steps: 8,
            kinds: &["run", "run", "run", "run", "train", "deploy"],
            fails: true,
            sidecars: true,
            timers: true,
            cancels: true,
            pipelines: true,
            people: true,
            obstacles: true,
            mishaps: true,
            rewound: &[Resource::Pod, Resource::PipelineRun, Resource::TrainingJob],
        }
    }

    /// One run whose fate is in its script: whatever the operator suffers, the outcome is the same.
    pub(crate) fn calm() -> Self {
        Menu {
            most_runs: 1,
            most_steps: 5,
            timers: false,
            cancels: false,
            pipelines: false,
            people: false,
            obstacles: false,
            mishaps: false,
            rewound: &[],
            ..Menu::everything()
        }
    }

    /// Whether the same must come of every run of a scenario.
    pub(super) fn is_calm(&self) -> bool {
        !(self.timers || self.cancels || self.pipelines || self.people || self.obstacles || self.mishaps)
    }
}

const NAMESPACE: &str = "team";
const PIPELINE: &str = "nightly";
/// Within so many milliseconds of its creation something happens to a run.
const WITHIN: i64 = 240_000;

/// Makes up a scenario.
pub(super) fn invent(dice: &mut Dice, menu: &Menu) -> Plot<Odds> {
    let stormy = menu.mishaps && dice.random_bool(0.5);
    let mut pods = if stormy { jobs::behaviour::Odds::stormy() } else { jobs::behaviour::Odds::calm() };
    if !menu.people {
        // A pod that is gone may be made again or be counted as lost: that depends on who saw what when.
        pods.endings = [1, 0, 0, 0, 0, 0];
        pods.long_goodbye = 0.0;
    }
    let serving = if stormy { serving::behaviour::Odds::stormy() } else { serving::behaviour::Odds::calm() };
    let options = random_options(dice, menu.mishaps, menu.rewound);
    let mut script = Vec::new();
    for number in 0..dice.random_range(1..=menu.most_runs) {
        let manifest = random_run(dice, menu, number);
        let run = json::id(Resource::PipelineRun, &manifest);
        let begin = up_to_millis(dice, 60_000);
        script.push((begin, Action::create(Resource::PipelineRun, manifest)));
        script.extend(acts_upon(dice, menu, &run, begin));
    }
    if menu.pipelines {
        script.extend(life_of_pipeline(dice, menu));
    }
    if menu.obstacles {
        script.extend(spells(dice));
        if dice.random_bool(0.1) {
            script.push((up_to_millis(dice, 120_000), acts::own_model(NAMESPACE, "model")));
        }
    }
    if menu.mishaps {
        script.extend(chance_mishaps(dice, Pipelines::WATCHED));
    }
    Plot { options, odds: Odds { pods, serving }, script }
}

/// A PipelineRun such as a user writes.
fn random_run(dice: &mut Dice, menu: &Menu, number: usize) -> Value {
    let name = ["digits-1", "a-run-with-a-name-of-forty-two-characters-x", "digits-3"][number % 3];
    let mut spec = if menu.pipelines && dice.random_bool(0.4) {
        json!({ "pipelineRef": { "name": PIPELINE } })
    } else {
        json!({ "pipeline": random_definition(dice, menu) })
    };
    let mut arguments = Vec::new();
    if dice.random_bool(0.5) {
        arguments.push(json!({ "name": "level", "value": dice.random_range(1..=3) }));
    }
    if dice.random_bool(0.3) {
        arguments.push(json!({ "name": "env", "value": "prod" }));
    }
    spec["arguments"] = arguments.into();
    json!({ "metadata": { "name": name, "namespace": NAMESPACE }, "spec": spec })
}

/// What users do to one run, some time after it came into being.
fn acts_upon(dice: &mut Dice, menu: &Menu, run: &ObjectId, begin: SignedDuration) -> Vec<(SignedDuration, Action)> {
    let mut acts = Vec::new();
    let mut at = |dice: &mut Dice, most: i64, action: Action| acts.push((begin + up_to_millis(dice, most), action));
    if menu.cancels && dice.random_bool(0.3) {
        at(dice, WITHIN, acts::cancel(run));
    }
    if menu.people {
        for _ in 0..dice.random_range(0..=2) {
            let nth = dice.random_range(0..3);
            at(dice, WITHIN, acts::delete_nth_child(run, Resource::Pod, nth));
        }
        if dice.random_bool(0.25) {
            let kinds = [Resource::TrainingJob, Resource::ModelDeployment, Resource::TrainingJob];
            let kind = kinds[dice.random_range(0..3)];
            at(dice, WITHIN, acts::delete_nth_child(run, kind, 0));
        }
        if dice.random_bool(0.03) {
            at(dice, WITHIN, acts::delete_nth_child(run, Resource::ControllerRevision, 0));
        }
        match dice.random_range(0..12) {
            0 => at(dice, WITHIN, Action::delete(run)),
            1 => at(dice, WITHIN, Action::delete_in_foreground(run)),
            2 | 3 => at(dice, WITHIN, Action::recreate(run)),
            _ => {}
        }
    }
    if menu.obstacles {
        for _ in 0..dice.random_range(0..=3) {
            let step = ["prepare", "train", "evaluate", "report"][dice.random_range(0..4)];
            let kind = [Resource::Pod, Resource::Pod, Resource::TrainingJob][dice.random_range(0..3)];
            at(dice, 60_000, acts::forge_child(run, step, kind));
        }
    }
    if menu.obstacles && dice.random_bool(0.1) {
        let with_labels = dice.random_bool(0.5);
        at(dice, 30_000, acts::plant_pod(run, "prepare", with_labels));
        if dice.random_bool(0.8) {
            acts.push((SignedDuration::from_secs(LAST_ACT), Action::remove_planted()));
        }
    }
    if menu.obstacles && dice.random_bool(0.2) {
        let is_rubbish = dice.random_bool(0.5);
        acts.push((begin + up_to_millis(dice, 2_000), acts::forge_record(run, is_rubbish)));
    }
    acts
}

/// A Pipeline appears, perhaps long after runs have named it, and may change later.
fn life_of_pipeline(dice: &mut Dice, menu: &Menu) -> Vec<(SignedDuration, Action)> {
    let definition = |dice: &mut Dice| {
        let mut spec = random_definition(dice, menu);
        if dice.random_bool(0.3) {
            spec["successfulRunsHistoryLimit"] = dice.random_range(0..=1).into();
            spec["failedRunsHistoryLimit"] = dice.random_range(0..=1).into();
        }
        spec
    };
    let begin = up_to_millis(dice, 120_000);
    let metadata = json!({ "name": PIPELINE, "namespace": NAMESPACE });
    let manifest = json!({ "metadata": metadata, "spec": definition(dice) });
    let pipeline = json::id(Resource::Pipeline, &manifest);
    let mut acts = vec![(begin, Action::create(Resource::Pipeline, manifest))];
    if dice.random_bool(0.3) {
        acts.push((begin + up_to_millis(dice, WITHIN), acts::redefine(&pipeline, definition(dice))));
    }
    if menu.people && dice.random_bool(0.1) {
        acts.push((begin + up_to_millis(dice, WITHIN), Action::delete(&pipeline)));
    }
    acts
}
