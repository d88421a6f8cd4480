//! Tests of the simulation itself, by operators whose faults are known.

use std::collections::BTreeSet;

use super::toy::*;
use super::{Jobs, Menu};
use crate::cluster::port::Resource;
use crate::testing::operator::SimulatedOperator;
use crate::testing::scenario::{exhaustive_crashes, random_runs, run_seed, seeds};

/// What the toy can do. It believes in its cache of pods.
fn toy_menu() -> Menu {
    let rewound = &[Resource::TrainingJob];
    Menu { frameworks: &["none"], timers: false, suspends: false, rewound, ..Menu::everything() }
}

/// What the oracle said of the seeds that go wrong, up to the first of which it says `words`.
fn complaints_until<O: SimulatedOperator<Subject = Jobs>>(words: &str) -> BTreeSet<String> {
    let mut complaints = BTreeSet::new();
    for failure in (0..240).filter_map(|seed| run_seed::<O>(seed, &toy_menu()).err()) {
        let found = failure.what.contains(words);
        complaints.insert(failure.what);
        if found {
            break;
        }
    }
    complaints
}

#[test]
fn a_sound_operator_passes_random_runs() {
    random_runs::<Toy<SOUND>>(seeds(), &toy_menu());
}

#[test]
fn a_sound_operator_survives_a_death_at_each_of_its_writes() {
    let menu = Menu { frameworks: &["none"], ..Menu::calm() };
    let runs: u64 = (0..5).map(|seed| exhaustive_crashes::<Toy<SOUND>>(seed, &menu)).sum();
    assert!(runs > 50, "only {runs} runs: the scenarios do too little");
}

#[test]
fn a_run_follows_from_its_seed() {
    let run = |seed| run_seed::<Toy<SOUND>>(seed, &toy_menu()).expect("the sound one passes");
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

macro_rules! mistakes {
    ($($test:ident: $mistake:ident => $words:literal,)*) => { $(
        #[test]
        fn $test() {
            let complaints = complaints_until::<Toy<$mistake>>($words);
            assert!(complaints.iter().any(|what| what.contains($words)), "{complaints:#?}");
        }
    )* };
}

mistakes! {
    two_attempts_at_a_time_are_found: UNFENCED => "is live while pods of attempt",
    pods_by_a_stale_cache_are_found: CREDULOUS => "was created: its job is",
    a_status_that_never_rests_is_found: RESTLESS => "its status was written",
    more_restarts_than_allowed_are_found: SPENDTHRIFT => "allowed",
    writes_to_other_peoples_objects_are_found: RUDE => "somebody else's",
    giving_up_early_is_found: HASTY => "Failed after 0 of",
    a_success_on_sigterm_is_found: GULLIBLE => "in no attempt did every pod end well",
    sidecars_left_over_are_found: NEGLIGENT => "pods are live",
    forgetting_a_failure_is_found: FORGETFUL => "its outcome is lost",
}
