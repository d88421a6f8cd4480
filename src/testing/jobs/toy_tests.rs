//! Tests of the simulation itself, by operators whose faults are known.

use super::Menu;
use super::toy::*;
use crate::cluster::port::Resource;
use crate::testing::toys::toy_tests;

/// What the toy can do. It believes in its cache of pods.
fn toy_menu() -> Menu {
    let rewound = &[Resource::TrainingJob];
    Menu { frameworks: &["none"], timers: false, suspends: false, forgers: false, rewound, ..Menu::everything() }
}

fn calm_menu() -> Menu {
    Menu { frameworks: &["none"], ..Menu::calm() }
}

toy_tests! {
    Toy, toy_menu(), calm_menu(), crashes in 0..5,
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
