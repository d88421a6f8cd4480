//! Stories for the simulated cluster, made up from a seed, and the ways to run them.
//!
//! `TRAINYARD_SEEDS` says how many seeds [`random_runs`] takes; a failure names its seed, which [`run_seed`] repeats,
//! and tells the last lines of its story, or as many as `TRAINYARD_STORY` says.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::SignedDuration;
use rand::RngExt;
use serde_json::{Value, json};

use super::behaviour::Odds;
use super::dice::{Dice, dice, up_to_millis};
use super::faults::{ApiFaults, CrashPoint};
use super::json;
use super::options::{Failure, SimOptions};
use super::script::Action;
use super::simulation::{SimulatedOperator, Simulation};
use super::world::{RESOURCES, World};
use crate::cluster::port::{ObjectId, Resource};

/// What may occur in a scenario, so that an operator that knows less can be tested as well.
#[derive(Clone, Debug)]
pub(crate) struct Menu {
    /// Values of `spec.framework`.
    pub(crate) frameworks: &'static [&'static str],
    /// Most jobs, and most nodes of each.
    pub(crate) most_jobs: usize,
    /// Most nodes of a job.
    pub(crate) most_nodes: u32,
    /// Deadlines, and removal of pods and jobs some time after the end.
    pub(crate) timers: bool,
    /// Containers beside the primary one.
    pub(crate) sidecars: bool,
    /// Suspended jobs, and edits of them.
    pub(crate) suspends: bool,
    /// People who delete pods and jobs, and make jobs again.
    pub(crate) people: bool,
    /// Quota spells, refusals, and somebody else's objects under our names.
    pub(crate) obstacles: bool,
    /// Errors of the apiserver, relists, frozen watches, kills by chance, a wrong clock.
    pub(crate) mishaps: bool,
    /// Kinds of objects whose lists may show the past. Lists that kube makes by default are consistent reads, so for
    /// pods this is more than a real cluster does; only a look at the cluster itself tells then whether one is lost.
    pub(crate) rewound: &'static [Resource],
}

impl Menu {
    /// All there is.
    pub(crate) fn everything() -> Self {
        Menu {
            frameworks: &["torch", "none"],
            most_jobs: 4,
            most_nodes: 8,
            timers: true,
            sidecars: true,
            suspends: true,
            people: true,
            obstacles: true,
            mishaps: true,
            rewound: &RESOURCES,
        }
    }

    /// Two small jobs whose fate depends on their pods alone: whatever the operator suffers, their outcome is the same.
    pub(crate) fn calm() -> Self {
        Menu {
            most_jobs: 2,
            most_nodes: 3,
            timers: false,
            suspends: false,
            people: false,
            obstacles: false,
            mishaps: false,
            rewound: &[],
            ..Menu::everything()
        }
    }
}

/// A story: what is set, and what happens when.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// Its seed.
    pub(crate) seed: u64,
    /// What may happen by chance.
    pub(crate) options: SimOptions,
    /// What users and the cluster do, each so long after the beginning.
    pub(crate) script: Vec<(SignedDuration, Action)>,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// So many writes did the operator send.
    pub(crate) writes: u64,
    /// So many steps did it take.
    pub(crate) steps: u64,
    /// For each job that is left: whether it is Complete, and its last attempt.
    pub(crate) outcomes: BTreeMap<ObjectId, (bool, u64)>,
}

/// Steps after which a run that has not come to rest never will: the longest take a tenth.
const STEP_LIMIT: u64 = 60_000;
/// When the last of a script's obstacles goes.
const LAST_ACT: i64 = 900;

impl Scenario {
    /// Makes one up.
    pub(crate) fn random(seed: u64, menu: &Menu) -> Self {
        let mut dice = dice(seed, "scenario");
        let dice = &mut dice;
        let odds = if dice.random_bool(0.5) { Odds::calm() } else { Odds::stormy() };
        let odds = if menu.people { odds } else { odds.without_vanishing() };
        let options = SimOptions { odds, ..random_options(dice, menu) };
        let mut script = Vec::new();
        for number in 0..dice.random_range(1..=menu.most_jobs) {
            let manifest = random_job(dice, menu, number);
            let job = super::people::job_id(&manifest);
            let begin = up_to_millis(dice, 60_000);
            script.push((begin, Action::CreateJob(manifest)));
            script.extend(acts_upon(dice, menu, &job, begin));
        }
        if menu.obstacles {
            script.extend(spells(dice));
        }
        if menu.mishaps && dice.random_bool(0.3) {
            script.push((up_to_millis(dice, 200_000), Action::Crash));
            script
                .push((up_to_millis(dice, 200_000), Action::Relist(RESOURCES[dice.random_range(0..RESOURCES.len())])));
        }
        Scenario { seed, options, script }
    }

    /// Runs it, with a death of the operator at one of its writes if so wished.
    pub(crate) fn run<O: SimulatedOperator>(&self, crash: Option<CrashPoint>) -> Result<Report, Failure> {
        self.run_with::<O>(|simulation| simulation.crash_at(crash))
    }

    /// Runs it, arranged further by `arrange`.
    fn run_with<O: SimulatedOperator>(&self, arrange: impl FnOnce(&mut Simulation<O>)) -> Result<Report, Failure> {
        let mut simulation = Simulation::<O>::new(self.seed, self.options.clone());
        for (after, action) in &self.script {
            simulation.schedule(*after, action.clone());
        }
        arrange(&mut simulation);
        simulation.run_to_the_end(STEP_LIMIT)?;
        let world = simulation.world();
        Ok(Report { writes: world.write_count(), steps: world.step(), outcomes: outcomes(world) })
    }
}

fn outcomes(world: &World) -> BTreeMap<ObjectId, (bool, u64)> {
    let outcome =
        |job: &Value| (json::condition_is_true(job, "Complete"), json::number(job, "/status/attempt").unwrap_or(1));
    world.objects(Resource::TrainingJob).into_iter().map(|(id, job)| (id, outcome(&job))).collect()
}

fn random_options(dice: &mut Dice, menu: &Menu) -> SimOptions {
    if !menu.mishaps || dice.random_bool(0.2) {
        return SimOptions::calm();
    }
    let mut chance = |most: f64| if dice.random_bool(0.5) { dice.random_range(0.0..most) } else { 0.0 };
    let (refused, answer_lost, conflict, overtaken) = (chance(0.2), chance(0.2), chance(0.1), chance(0.4));
    let faults = ApiFaults { refused, answer_lost, conflict, overtaken, at_most: 30 };
    let (relist, freeze, crash) = (chance(0.01), chance(0.01), chance(0.005));
    let rewound = if dice.random_bool(0.25) { menu.rewound.to_vec() } else { Vec::new() };
    let clock_error = match dice.random_range(0..16) {
        0 => SignedDuration::from_hours(1),
        1 => SignedDuration::from_hours(-1),
        _ => SignedDuration::ZERO,
    };
    SimOptions { faults, relist, freeze, crash, rewound, clock_error, mishaps: 12, ..SimOptions::calm() }
}

/// A TrainingJob such as a user writes.
fn random_job(dice: &mut Dice, menu: &Menu, number: usize) -> Value {
    const NAMES: [&str; 4] = ["digits", "faces", "a-name-of-thirty-one-characters", "digits"];
    let framework = menu.frameworks[dice.random_range(0..menu.frameworks.len())];
    let mut containers = vec![json!({ "name": "trainer", "image": "example/digits:1", "command": ["train"] })];
    let mut template = json!({});
    if menu.sidecars && dice.random_bool(0.3) {
        containers.insert(dice.random_range(0..=1), json!({ "name": "logs", "image": "example/logs:1" }));
        template["metadata"] = json!({ "annotations": { "kubectl.kubernetes.io/default-container": "trainer" } });
    }
    template["spec"] = json!({ "containers": containers });
    let mut spec = json!({ "framework": framework, "template": template });
    if dice.random_bool(0.8) {
        spec["nodes"] = dice.random_range(1..=menu.most_nodes).into();
    }
    if dice.random_bool(0.7) {
        spec["failurePolicy"] = json!({ "maxRestarts": dice.random_range(0..=3) });
        if dice.random_bool(0.5) {
            spec["failurePolicy"]["backoff"] = json!({ "initial": "2s", "max": "1m" });
        }
    }
    if menu.suspends && dice.random_bool(0.1) {
        spec["suspend"] = true.into();
    }
    if menu.timers {
        let timers = [
            ("activeDeadline", ["30s", "5m"]),
            ("podsAfterFinished", ["0s", "10m"]),
            ("deleteAfterFinished", ["1s", "2h"]),
        ];
        for (field, values) in timers {
            if dice.random_bool(0.2) {
                spec[field] = values[dice.random_range(0..2)].into();
            }
        }
    }
    // Jobs of the same name in two namespaces have nothing to do with each other.
    let namespace = if number < 2 { "team" } else { "other-team" };
    json!({ "metadata": { "name": NAMES[number % NAMES.len()], "namespace": namespace }, "spec": spec })
}

/// What users do to one job, some time after it came into being. Whatever stands in its way goes in the end.
fn acts_upon(dice: &mut Dice, menu: &Menu, job: &ObjectId, begin: SignedDuration) -> Vec<(SignedDuration, Action)> {
    let mut acts = Vec::new();
    let mut at = |dice: &mut Dice, most: i64, action: Action| acts.push((begin + up_to_millis(dice, most), action));
    if menu.suspends {
        for _ in 0..dice.random_range(0..=2) {
            at(dice, 200_000, Action::Suspend(job.clone(), true));
            let nodes = dice.random_range(1..=menu.most_nodes);
            at(dice, 200_000, Action::SetNodes(job.clone(), nodes));
            at(dice, 200_000, Action::Suspend(job.clone(), false));
        }
    }
    if menu.people {
        for _ in 0..dice.random_range(0..=1) {
            let nth = dice.random_range(0..4);
            at(dice, 200_000, Action::DeletePod(job.clone(), nth));
        }
        match dice.random_range(0..10) {
            0 => at(dice, 200_000, Action::DeleteJob(job.clone())),
            1 => at(dice, 200_000, Action::DeleteJobInForeground(job.clone())),
            2 | 3 => at(dice, 200_000, Action::Recreate(job.clone())),
            _ => {}
        }
    }
    if menu.obstacles && dice.random_bool(0.15) {
        let kinds = [Resource::Pod, Resource::Service, Resource::EndpointSlice];
        let (resource, attempt) = (kinds[dice.random_range(0..3)], dice.random_range(1..=2));
        let with_labels = dice.random_bool(0.5);
        let plant = Action::Plant { resource, job: job.clone(), attempt, with_labels };
        at(dice, 30_000, plant);
        if dice.random_bool(0.8) {
            acts.push((SignedDuration::from_secs(LAST_ACT), Action::RemovePlanted));
        }
    }
    if menu.suspends && dice.random_bool(0.9) {
        acts.push((SignedDuration::from_secs(LAST_ACT), Action::Suspend(job.clone(), false)));
    }
    acts
}

/// Times in which the cluster takes no pods.
fn spells(dice: &mut Dice) -> Vec<(SignedDuration, Action)> {
    let mut acts = Vec::new();
    for action in [Action::Quota as fn(bool) -> Action, Action::Refusal] {
        if dice.random_bool(0.2) {
            let begin = up_to_millis(dice, 200_000);
            acts.push((begin, action(true)));
            acts.push((begin + up_to_millis(dice, 300_000), action(false)));
        }
    }
    acts
}

/// Runs the scenario of one seed, as [`random_runs`] does.
pub(crate) fn run_seed<O: SimulatedOperator>(seed: u64, menu: &Menu) -> Result<Report, Failure> {
    Scenario::random(seed, menu).run::<O>(None)
}

/// The seeds to run: as many as `TRAINYARD_SEEDS` says, or 300.
pub(crate) fn seeds() -> Range<u64> {
    let count = std::env::var("TRAINYARD_SEEDS").ok().and_then(|text| text.parse().ok());
    0..count.unwrap_or(300)
}

/// Runs a scenario for each seed.
///
/// # Panics
/// At the first that does not go as it must.
pub(crate) fn random_runs<O: SimulatedOperator>(seeds: Range<u64>, menu: &Menu) {
    for seed in seeds {
        if let Err(failure) = run_seed::<O>(seed, menu) {
            panic!("seed {seed}: {failure}");
        }
    }
}

/// Runs a scenario once undisturbed, then again and again with a death of the operator after, and before, each of its
/// writes. Each run must go as it must, and with a calm menu its outcomes must be those of the undisturbed run.
/// Answers the number of runs.
///
/// # Panics
/// At the first run that does not.
pub(crate) fn exhaustive_crashes<O: SimulatedOperator>(scenario_seed: u64, menu: &Menu) -> u64 {
    let scenario = Scenario::random(scenario_seed, menu);
    let same_outcome = !(menu.people || menu.timers || menu.suspends || menu.obstacles || menu.mishaps);
    let undisturbed = match scenario.run::<O>(None) {
        Ok(report) => report,
        Err(failure) => panic!("seed {scenario_seed}, no crash: {failure}"),
    };
    for write in 1..=undisturbed.writes {
        for crash in [CrashPoint::AfterWrite(write), CrashPoint::BeforeWrite(write)] {
            match scenario.run::<O>(Some(crash)) {
                Err(failure) => panic!("seed {scenario_seed}, {crash:?}: {failure}"),
                Ok(report) if same_outcome => assert_eq!(
                    report.outcomes, undisturbed.outcomes,
                    "seed {scenario_seed}, {crash:?}: the outcomes are not those of the undisturbed run"
                ),
                Ok(_) => {}
            }
        }
    }
    2 * undisturbed.writes
}

/// Runs a scenario once undisturbed, then again and again with one of its jobs deleted and made again under its name
/// right after each of the operator's writes. Answers the number of runs.
///
/// # Panics
/// At the first run that does not go as it must.
pub(crate) fn exhaustive_recreations<O: SimulatedOperator>(scenario_seed: u64, menu: &Menu) -> u64 {
    let scenario = Scenario::random(scenario_seed, menu);
    let undisturbed = match scenario.run::<O>(None) {
        Ok(report) => report,
        Err(failure) => panic!("seed {scenario_seed}, undisturbed: {failure}"),
    };
    let mut runs = 0;
    for job in undisturbed.outcomes.keys() {
        for write in 1..=undisturbed.writes {
            let recreate = Action::Recreate(job.clone());
            if let Err(failure) = scenario.run_with::<O>(|simulation| simulation.after_write(write, recreate)) {
                panic!("seed {scenario_seed}, {job} made again after write {write}: {failure}");
            }
            runs += 1;
        }
    }
    runs
}
