//! Tests of the simulation itself, by toy operators whose faults are known.

use std::collections::BTreeSet;

use super::operator::SimulatedOperator;
use super::scenario::{MenuOf, run_seed};

/// What the oracle said of the seeds that go wrong, up to the first of which it says `words`.
pub(crate) fn complaints_until<O: SimulatedOperator>(menu: &MenuOf<O>, words: &str) -> BTreeSet<String> {
    let mut complaints = BTreeSet::new();
    for failure in (0..240).filter_map(|seed| run_seed::<O>(seed, menu).err()) {
        let found = failure.what.contains(words);
        complaints.insert(failure.what);
        if found {
            break;
        }
    }
    complaints
}

/// The tests that each toy has: the sound one must pass, whatever happens to it, and of each of the others the oracle must
/// say the words.
macro_rules! toy_tests {
    (
        $toy:ident, $menu:expr, $calm:expr, crashes in $scenarios:expr,
        $($test:ident: $mistake:ident => $words:literal,)*
    ) => {
        #[test]
        fn a_sound_operator_passes_random_runs() {
            crate::testing::scenario::random_runs::<$toy<SOUND>>(crate::testing::scenario::seeds(), &$menu);
        }

        #[test]
        fn a_sound_operator_survives_a_death_at_each_of_its_writes() {
            let crashes = |seed| crate::testing::scenario::exhaustive_crashes::<$toy<SOUND>>(seed, &$calm);
            let runs: u64 = $scenarios.map(crashes).sum();
            assert!(runs > 50, "only {runs} runs: the scenarios do too little");
        }

        #[test]
        fn a_run_follows_from_its_seed() {
            let run = |seed| {
                crate::testing::scenario::run_seed::<$toy<SOUND>>(seed, &$menu).expect("the sound one passes")
            };
            assert_eq!(run(3), run(3));
            assert_ne!(run(3), run(4));
        }

        $(
            #[test]
            fn $test() {
                let complaints = crate::testing::toys::complaints_until::<$toy<$mistake>>(&$menu, $words);
                assert!(complaints.iter().any(|what| what.contains($words)), "{complaints:#?}");
            }
        )*
    };
}

pub(crate) use toy_tests;
