//! How a pod of the simulated cluster will behave.

use jiff::SignedDuration;
use rand::RngExt;

use crate::testing::dice::{Dice, up_to_millis, weighted};

/// How a pod ends when nobody deletes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its primary container exits.
    Exit(i32),
    /// Its primary container is killed for lack of memory: exit code 137, reason OOMKilled.
    OutOfMemory,
    /// The pod disappears without an end, as with a forced deletion.
    Vanishes,
    /// The node evicts it: Failed, without a word about its containers.
    Evicted,
    /// It makes room for a more important one, or its node is drained: announced by a condition, then deleted.
    Preempted,
    /// It runs until it is deleted.
    Never,
}

/// A pod's life, written before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// From creation until the scheduler looks at it.
    pub(crate) scheduled_after: SignedDuration,
    /// For how long no node has room for it; zero for not at all.
    pub(crate) unschedulable_for: SignedDuration,
    /// From being bound to a node until its containers start.
    pub(crate) started_after: SignedDuration,
    /// For how long its image cannot be pulled; zero for not at all.
    pub(crate) pull_stuck_for: SignedDuration,
    /// From start to end.
    pub(crate) runs_for: SignedDuration,
    /// How it ends.
    pub(crate) ending: Ending,
    /// Its termination message, if it is not an ordinary one.
    pub(crate) says: Option<String>,
    /// Whether its other containers go on when the primary one has ended.
    pub(crate) sidecars_go_on: bool,
    /// From the end of its last container until its phase says so.
    pub(crate) phase_after: SignedDuration,
    /// From the request to delete it until its containers have stopped.
    pub(crate) stops_after: SignedDuration,
    /// Exit code of containers that were asked to stop.
    pub(crate) stop_exit_code: i32,
    /// From its end until a pod that is being deleted is gone.
    pub(crate) removed_after: SignedDuration,
}

/// How often pods behave in which way. All but the weights are probabilities.
#[derive(Clone, Debug)]
pub(crate) struct Odds {
    /// Weights of ending well, with an exit code other than 0, out of memory, evicted, preempted, and vanished.
    pub(crate) endings: [u32; 6],
    /// No node has room for a while.
    pub(crate) unschedulable: f64,
    /// The image cannot be pulled for a while.
    pub(crate) pull_stuck: f64,
    /// Sidecars, where there are any, go on after the primary container's end.
    pub(crate) sidecars_go_on: f64,
    /// It stays Terminating for ten minutes and more, as on a lost node.
    pub(crate) long_goodbye: f64,
}

impl Odds {
    /// Nearly everything works.
    pub(crate) fn calm() -> Self {
        Odds {
            endings: [93, 3, 1, 1, 1, 1],
            unschedulable: 0.05,
            pull_stuck: 0.02,
            sidecars_go_on: 0.5,
            long_goodbye: 0.02,
        }
    }

    /// Hardly anything does.
    pub(crate) fn stormy() -> Self {
        Odds {
            endings: [68, 14, 4, 4, 4, 6],
            unschedulable: 0.2,
            pull_stuck: 0.2,
            sidecars_go_on: 0.8,
            long_goodbye: 0.15,
        }
    }

    /// Like this, but no pod vanishes: what becomes of a job then does not depend on who saw what when.
    pub(crate) fn without_vanishing(mut self) -> Self {
        self.endings[5] = 0;
        self
    }

    /// Writes one pod's life.
    pub(crate) fn draw(&self, dice: &mut Dice) -> Behaviour {
        let ending = match weighted(dice, &self.endings) {
            0 => Ending::Exit(0),
            1 => Ending::Exit([1, 1, 2, 75, 137, 139, 143, 255][dice.random_range(0..8)]),
            2 => Ending::OutOfMemory,
            3 => Ending::Evicted,
            4 => Ending::Preempted,
            _ => Ending::Vanishes,
        };
        let mut spell = |probability: f64, most: i64| {
            if dice.random_bool(probability) { up_to_millis(dice, most) } else { SignedDuration::ZERO }
        };
        let unschedulable_for = spell(self.unschedulable, 120_000);
        let pull_stuck_for = spell(self.pull_stuck, 60_000);
        let long_goodbye = dice.random_bool(self.long_goodbye);
        let stops_after = if long_goodbye { 600_000 } else { 0 } + dice.random_range(0..=30_000);
        let runs_for = if dice.random_bool(0.2) { 1_500 } else { 120_000 };
        Behaviour {
            scheduled_after: up_to_millis(dice, 1_500),
            unschedulable_for,
            started_after: up_to_millis(dice, 3_000),
            pull_stuck_for,
            runs_for: up_to_millis(dice, runs_for),
            ending,
            says: None,
            sidecars_go_on: dice.random_bool(self.sidecars_go_on),
            // A node that dies over it never says so, until the pod is deleted.
            phase_after: if long_goodbye { SignedDuration::from_hours(24) } else { up_to_millis(dice, 2_500) },
            stops_after: SignedDuration::from_millis(stops_after),
            stop_exit_code: if dice.random_bool(0.5) { 0 } else { 143 },
            removed_after: up_to_millis(dice, 2_000),
        }
    }
}
