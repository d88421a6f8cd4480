//! How pods of the simulated cluster serve. What a pod is like follows from its image, so that a revision that is gone back
//! to behaves as it did before.

use jiff::SignedDuration;
use rand::RngExt;

use crate::testing::dice::{Dice, up_to_millis};

/// What pods of an image are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Character {
    /// Ready within seconds, and then for good.
    Good,
    /// Ready after minutes.
    Slow,
    /// Ready within seconds; loses its readiness for a while now and then.
    Flaky,
    /// Ready for a few seconds again and again, never for as long as it takes to count.
    Flapping,
    /// Its container ends again and again, and is never ready.
    Crashing,
    /// Its image cannot be pulled.
    Unpullable,
    /// No node has room for it.
    Unschedulable,
}

impl Character {
    /// What pods of an image such as `example/slow:3` are like.
    pub(crate) fn of_image(image: &str) -> Self {
        let word = image.split(['/', ':']).nth(1).unwrap_or_default();
        match word {
            "slow" => Character::Slow,
            "flaky" => Character::Flaky,
            "flaps" => Character::Flapping,
            "crashes" => Character::Crashing,
            "unpullable" => Character::Unpullable,
            "unschedulable" => Character::Unschedulable,
            _ => Character::Good,
        }
    }

    /// Whether such pods serve sooner or later.
    pub(crate) fn can_serve(self) -> bool {
        matches!(self, Character::Good | Character::Slow | Character::Flaky)
    }
}

/// A pod's life, written before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// What it is like.
    pub(crate) character: Character,
    /// From creation until the scheduler looks at it.
    pub(crate) scheduled_after: SignedDuration,
    /// From being bound to a node until its containers start.
    pub(crate) started_after: SignedDuration,
    /// From the start of its containers until they are ready, or end.
    pub(crate) ready_after: SignedDuration,
    /// So often it loses its readiness, or crashes; after that it stays as it is.
    pub(crate) relapses: u32,
    /// From one relapse to the next.
    pub(crate) relapses_after: SignedDuration,
    /// How long a relapse takes.
    pub(crate) recovers_after: SignedDuration,
    /// When, counted from being ready, its node throws it out, if it does.
    pub(crate) thrown_out_after: Option<(SignedDuration, Exit)>,
    /// From the request to delete it until its containers have stopped.
    pub(crate) stops_after: SignedDuration,
}

/// How a pod has to leave its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The kubelet ends it: phase Failed, and it stays like that.
    Evicted,
    /// The node is drained: it is deleted.
    Drained,
    /// The node is lost, and with it the pod at once.
    Lost,
}

/// How often nodes throw out pods.
#[derive(Clone, Debug)]
pub(crate) struct Odds {
    /// Probability that a pod's node throws it out one day.
    pub(crate) thrown_out: f64,
    /// So many pods and no more: a run must be able to come to rest.
    pub(crate) thrown_out_at_most: u32,
}

impl Odds {
    /// Nodes are reliable.
    pub(crate) fn calm() -> Self {
        Odds { thrown_out: 0.0, thrown_out_at_most: 0 }
    }

    /// They are not.
    pub(crate) fn stormy() -> Self {
        Odds { thrown_out: 0.2, thrown_out_at_most: 8 }
    }

    /// Writes one pod's life.
    pub(crate) fn draw(&self, character: Character, dice: &mut Dice) -> Behaviour {
        let most_until_ready = if character == Character::Slow { 400_000 } else { 8_000 };
        let most_between_relapses = match character {
            Character::Flaky => 200_000,
            Character::Flapping => 8_000,
            _ => 20_000,
        };
        let most_until_recovered = if character == Character::Flapping { 5_000 } else { 45_000 };
        let relapses = match character {
            Character::Flaky => dice.random_range(0..=2),
            Character::Flapping => dice.random_range(5..=20),
            Character::Crashing => dice.random_range(1..=3),
            _ => 0,
        };
        let exits = [Exit::Evicted, Exit::Drained, Exit::Lost];
        let thrown_out = dice.random_bool(self.thrown_out);
        let thrown_out_after = (up_to_millis(dice, 600_000), exits[dice.random_range(0..3)]);
        Behaviour {
            character,
            scheduled_after: up_to_millis(dice, 1_500),
            started_after: up_to_millis(dice, 3_000),
            ready_after: up_to_millis(dice, most_until_ready),
            relapses,
            relapses_after: up_to_millis(dice, most_between_relapses),
            recovers_after: up_to_millis(dice, most_until_recovered),
            thrown_out_after: thrown_out.then_some(thrown_out_after),
            stops_after: up_to_millis(dice, 30_000),
        }
    }
}
