//! What a simulated cluster is about: one kind of object of ours, all that moves beneath it, and what is true of it.
//!
//! The simulation itself (world, watches, crashes, scenarios) knows nothing of any kind. Each kind has a folder with its
//! [`Subject`]: [`super::jobs`], [`super::serving`].

use std::fmt::Debug;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::dice::Dice;
use super::options::SimOptions;
use super::script::Action;
use super::story::Change;
use super::watch::{Source, Watches};
use super::world::World;
use crate::cluster::port::{ObjectId, Resource};

/// One kind of object of ours in the simulated cluster.
pub(crate) trait Subject: 'static {
    /// The kind.
    const KIND: Resource;
    /// All kinds of ours that the operator reconciles.
    const RECONCILED: &'static [Resource] = &[Self::KIND];
    /// What its controllers watch.
    const WATCHED: &'static [Source];
    /// Longer than any of an operator's timers that rings while a shorter one keeps ringing: so long nothing must have
    /// happened to an object before it is at rest.
    const PATIENCE: SignedDuration;
    /// What may occur in a scenario, so that an operator that knows less can be tested as well.
    type Menu: Clone + Debug;
    /// How likely its pods behave in which way.
    type Odds: Clone + Debug;
    /// What runs its pods.
    type Machinery: Machinery<Odds = Self::Odds>;
    /// What knows what must be true of it.
    type Oracle: Oracle;
    /// What a run comes to for one object.
    type Outcome: Clone + Debug + PartialEq;

    /// Makes up a scenario.
    fn invent(dice: &mut Dice, menu: &Self::Menu) -> Plot<Self::Odds>;

    /// Whether scenarios of this menu have the same outcomes whatever the operator suffers.
    fn outcomes_are_fixed(menu: &Self::Menu) -> bool;

    /// What it came to for an object.
    fn outcome(object: &Value) -> Self::Outcome;
}

/// What a scenario is given: what may happen by chance, and what users and the cluster do, each so long after the
/// beginning.
#[derive(Clone, Debug)]
pub(crate) struct Plot<Odds> {
    /// What may happen by chance.
    pub(crate) options: SimOptions,
    /// How pods behave.
    pub(crate) odds: Odds,
    /// What users and the cluster do.
    pub(crate) script: Vec<(SignedDuration, Action)>,
}

/// What moves in the cluster of its own accord, the garbage collector aside: schedulers, kubelets, Kubernetes' own
/// controllers.
pub(crate) trait Machinery {
    /// How likely its pods behave in which way.
    type Odds;

    /// Machinery whose pods behave as the seed and the odds say.
    fn new(seed: u64, odds: Self::Odds) -> Self;

    /// When there is something to do next.
    fn next_due(&mut self, world: &World) -> Option<Timestamp>;

    /// Does one thing that is due; answers whether there was one.
    fn step(&mut self, world: &World, dice: &mut Dice) -> bool;
}

/// What an oracle says: nothing, or what is wrong.
pub(crate) type Verdict = Result<(), String>;

/// Fails with a message unless something holds.
pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

/// Looks at every change, and judges the end. It knows nothing of the controller: labels, ownerReferences, statuses, and
/// what happened when.
pub(crate) trait Oracle {
    /// An oracle of a run with these options.
    fn new(options: &SimOptions) -> Self;

    /// Looks at one change; every change comes once, in order. `watches` tell how much of the past the operator has been
    /// shown when it was made.
    fn take_in(&mut self, world: &World, watches: &Watches, change: &Change) -> Verdict;

    /// Whether an object waits for something that stands in its way by the scenario's doing.
    fn is_waiting(&self, world: &World, object: &ObjectId) -> bool;

    /// Judges a run that has come to rest.
    fn judge_the_end(&self, world: &World) -> Verdict;
}
