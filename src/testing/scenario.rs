//! Stories for the simulated cluster, made up from a seed, and the ways to run them.
//!
//! `TRAINYARD_SEEDS` says how many seeds [`random_runs`] takes; a failure names its seed, which `TRAINYARD_SEEDS=7..8` repeats,
//! and tells the last lines of its story, or as many as `TRAINYARD_STORY` says.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::SignedDuration;
use rand::RngExt;

use super::dice::{Dice, dice, up_to_millis};
use super::faults::{ApiFaults, CrashPoint};
use super::operator::SimulatedOperator;
use super::options::{Failure, SimOptions};
use super::script::{Action, Deed};
use super::simulation::Simulation;
use super::subject::{Plot, Subject};
use super::watch::Source;
use crate::cluster::port::{ObjectId, Resource};

/// A story: its seed, and what it is given.
#[derive(Clone, Debug)]
pub(crate) struct Scenario<S: Subject> {
    seed: u64,
    plot: Plot<S::Odds>,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report<Outcome> {
    /// So many writes did the operator send.
    pub(crate) writes: u64,
    /// So many steps did it take.
    pub(crate) steps: u64,
    /// What it came to for each object that is left.
    pub(crate) outcomes: BTreeMap<ObjectId, Outcome>,
}

/// What a run of this operator comes to.
type Ran<O> = Result<Report<<<O as SimulatedOperator>::Subject as Subject>::Outcome>, Failure>;
/// The menu of this operator's scenarios.
pub(crate) type MenuOf<O> = <<O as SimulatedOperator>::Subject as Subject>::Menu;

/// Steps after which a run that has not come to rest never will: the longest take a tenth.
const STEP_LIMIT: u64 = 60_000;
/// When the last of a script's obstacles goes.
pub(crate) const LAST_ACT: i64 = 900;

impl<S: Subject> Scenario<S> {
    /// Makes one up.
    pub(crate) fn random(seed: u64, menu: &S::Menu) -> Self {
        Scenario { seed, plot: S::invent(&mut dice(seed, "scenario"), menu) }
    }

    /// Runs it, with a death of the operator at one of its writes if so wished.
    pub(crate) fn run<O: SimulatedOperator<Subject = S>>(&self, crash: Option<CrashPoint>) -> Ran<O> {
        self.run_with::<O>(|simulation| simulation.crash_at(crash))
    }

    /// Runs it, arranged further by `arrange`.
    fn run_with<O: SimulatedOperator<Subject = S>>(&self, arrange: impl FnOnce(&mut Simulation<O>)) -> Ran<O> {
        let Plot { options, odds, script } = self.plot.clone();
        let mut simulation = Simulation::<O>::new(self.seed, options, odds);
        for (after, action) in script {
            simulation.schedule(after, action);
        }
        arrange(&mut simulation);
        simulation.run_to_the_end(STEP_LIMIT)?;
        let world = simulation.world();
        let outcomes = world.objects(S::KIND).into_iter().map(|(id, object)| (id, S::outcome(&object)));
        Ok(Report { writes: world.write_count(), steps: world.step(), outcomes: outcomes.collect() })
    }
}

/// What may go wrong between operator and cluster; `rewound` are kinds of objects whose lists may show the past.
pub(crate) fn random_options(dice: &mut Dice, mishaps: bool, rewound: &[Resource]) -> SimOptions {
    if !mishaps || dice.random_bool(0.2) {
        return SimOptions::calm();
    }
    let mut chance = |most: f64| if dice.random_bool(0.5) { dice.random_range(0.0..most) } else { 0.0 };
    let (refused, answer_lost, conflict, overtaken) = (chance(0.2), chance(0.2), chance(0.1), chance(0.4));
    let faults = ApiFaults { refused, answer_lost, conflict, overtaken, at_most: 30 };
    let (relist, freeze, crash) = (chance(0.01), chance(0.01), chance(0.005));
    let rewound = if dice.random_bool(0.25) { rewound.to_vec() } else { Vec::new() };
    let clock_error = match dice.random_range(0..16) {
        0 => SignedDuration::from_hours(1),
        1 => SignedDuration::from_hours(-1),
        _ => SignedDuration::ZERO,
    };
    let active = [0, 0, 80, 10_000][dice.random_range(0..4)];
    SimOptions { faults, relist, freeze, crash, rewound, clock_error, active, mishaps: 12 }
}

/// Times in which the cluster takes no pods.
pub(crate) fn spells(dice: &mut Dice) -> Vec<(SignedDuration, Action)> {
    let mut acts = Vec::new();
    for action in [Action::quota as fn(bool) -> Action, Action::refusal] {
        if dice.random_bool(0.2) {
            let begin = up_to_millis(dice, 200_000);
            acts.push((begin, action(true)));
            acts.push((begin + up_to_millis(dice, 300_000), action(false)));
        }
    }
    acts
}

/// Now and then, a death and a list at times that the scenario knows.
pub(crate) fn chance_mishaps(dice: &mut Dice, watched: &[Source]) -> Vec<(SignedDuration, Action)> {
    if !dice.random_bool(0.3) {
        return Vec::new();
    }
    let crash = (up_to_millis(dice, 200_000), Action::Crash);
    let relist = (up_to_millis(dice, 200_000), Action::Relist(watched[dice.random_range(0..watched.len())]));
    vec![crash, relist]
}

/// Runs the scenario of one seed, as [`random_runs`] does.
pub(crate) fn run_seed<O: SimulatedOperator>(seed: u64, menu: &MenuOf<O>) -> Ran<O> {
    Scenario::<O::Subject>::random(seed, menu).run::<O>(None)
}

/// The seeds to run: as many as `TRAINYARD_SEEDS` says, or 300.
pub(crate) fn seeds() -> Range<u64> {
    seeds_or(300)
}

/// The seeds to run, where a scenario takes longer: as many as `TRAINYARD_SEEDS` says, or those from one number up to another
/// (`647..648`), or else this number of them.
pub(crate) fn seeds_or(default: u64) -> Range<u64> {
    let chosen = std::env::var("TRAINYARD_SEEDS").unwrap_or_default();
    match chosen.split_once("..").map(|(first, end)| (first.parse(), end.parse())) {
        Some((Ok(first), Ok(end))) => first..end,
        _ => 0..chosen.parse().unwrap_or(default),
    }
}

/// Runs a scenario for each seed.
///
/// # Panics
/// At the first that does not go as it must.
pub(crate) fn random_runs<O: SimulatedOperator>(seeds: Range<u64>, menu: &MenuOf<O>) {
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
pub(crate) fn exhaustive_crashes<O: SimulatedOperator>(scenario_seed: u64, menu: &MenuOf<O>) -> u64 {
    let scenario = Scenario::<O::Subject>::random(scenario_seed, menu);
    let same_outcome = O::Subject::outcomes_are_fixed(menu);
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

/// Runs a scenario once undisturbed, then again and again with one of its objects deleted and made again under its name
/// right after each of the operator's writes. Answers the number of runs.
///
/// # Panics
/// At the first run that does not go as it must.
pub(crate) fn exhaustive_recreations<O: SimulatedOperator>(scenario_seed: u64, menu: &MenuOf<O>) -> u64 {
    let scenario = Scenario::<O::Subject>::random(scenario_seed, menu);
    let undisturbed = match scenario.run::<O>(None) {
        Ok(report) => report,
        Err(failure) => panic!("seed {scenario_seed}, undisturbed: {failure}"),
    };
    let mut runs = 0;
    for object in undisturbed.outcomes.keys() {
        for write in 1..=undisturbed.writes {
            let recreate = Deed::recreate(object);
            if let Err(failure) = scenario.run_with::<O>(|simulation| simulation.after_write(write, recreate)) {
                panic!("seed {scenario_seed}, {object} made again after write {write}: {failure}");
            }
            runs += 1;
        }
    }
    runs
}
