//! Tests of the simulation itself, by operators whose faults are known.

use super::*;
use crate::testing::scenario::exhaustive_recreations;
use crate::testing::serving::Menu;
use crate::testing::toys::toy_tests;

#[test]
fn a_sound_operator_does_not_mix_up_two_lives() {
    let runs: u64 = (0..4).map(|seed| exhaustive_recreations::<Toy<SOUND>>(seed, &Menu::calm())).sum();
    assert!(runs > 25, "only {runs} runs: the scenarios do too little");
}

toy_tests! {
    Toy, Menu::everything(), Menu::calm(), crashes in 0..4,
    all_at_once_is_found: ABRUPT => "serving pods to",
    pods_taken_for_serving_are_found: TRUSTING => "called stable, but",
    too_many_pods_are_found: GREEDY => "pods, of at most",
    a_third_before_the_second_is_gone_is_found: LEAPFROGGING => "still has pods",
    never_giving_up_is_found: STUBBORN => "does not say so",
    giving_up_early_is_found: HASTY => "was given up after",
    a_second_number_for_the_same_is_found: FORGETFUL => " again",
    a_number_used_twice_is_found: RECYCLING => "was used for another revision",
    a_history_without_end_is_found: HOARDING => "are kept and unused",
    a_forgotten_revision_in_use_is_found: WASTEFUL => "it is in use",
    writes_to_other_peoples_objects_are_found: RUDE => "somebody else's",
    a_changed_template_is_found: MUTATING => "was changed",
    a_status_that_never_rests_is_found: RESTLESS => "its status was written",
    stable_before_it_serves_is_found: OPTIMISTIC => "called stable, but",
    a_written_spec_is_found: OVERBEARING => "changed its spec",
    an_undo_that_makes_no_sense_is_found: OBSTINATE => "undoTo makes no sense",
    a_service_for_pods_of_a_past_life_is_found: NOSTALGIC => "its Service selects",
    too_many_pods_by_a_stale_cache_are_found: CREDULOUS => "pods, of at most",
    deleted_pods_are_found: VIOLENT => "deleted a pod",
    one_ready_moment_that_counts_is_found: GULLIBLE => "serving pods to",
    a_stable_revision_that_is_not_restored_is_found: RESIGNED => "should have",
}
