//! The simulation's loop: draws what happens next, drives the operator, and has the oracle look at all of it.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use jiff::{SignedDuration, Timestamp};
use rand::RngExt;

use super::dice::{Dice, dice, up_to_millis, weighted};
use super::faults::CrashPoint;
use super::operator::{Delivery, SimulatedOperator};
use super::options::{Failure, SimOptions, story_lines};
use super::script::{Action, Deed};
use super::story::Line;
use super::subject::{Machinery, Oracle, Subject};
use super::watch::{Batch, Source, Watches};
use super::world::World;
use crate::cluster::port::ObjectId;

/// When a key is to be reconciled.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Timestamp,
    /// Whether the operator asked for it itself, and no event did.
    by_timer: bool,
}

/// How often in a row a key's timer rang, or its reconcile failed, while nothing happened in the cluster.
#[derive(Clone, Copy, Debug, Default)]
struct Idle {
    happenings: usize,
    since: Timestamp,
    rounds: u32,
    errors: u32,
}

/// Failures of a key in a row, with nothing new happening or being delivered, after which it will never succeed: more
/// than there are faults in a scenario.
const HOPELESS: u32 = 40;

/// What the operator is the operator of.
type SubjectOf<O> = <O as SimulatedOperator>::Subject;

/// A run of the simulated cluster with one operator.
pub(crate) struct Simulation<O: SimulatedOperator> {
    world: World,
    operator: O,
    machinery: <SubjectOf<O> as Subject>::Machinery,
    watches: Watches,
    queue: BTreeMap<ObjectId, Due>,
    idle: BTreeMap<ObjectId, Idle>,
    script: VecDeque<(Timestamp, Action)>,
    oracle: <SubjectOf<O> as Subject>::Oracle,
    /// So many changes has the oracle seen.
    looked_at: usize,
    dice: Dice,
    options: SimOptions,
}

/// What a step may do.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Deliver(Source),
    Reconcile,
    Machinery,
    Garbage,
    Script,
    PassTime,
}

impl<O: SimulatedOperator> Simulation<O> {
    /// An empty cluster and an operator that has just started.
    pub(crate) fn new(seed: u64, options: SimOptions, odds: <SubjectOf<O> as Subject>::Odds) -> Self {
        let world = World::new(seed, options.faults.clone());
        let mut operator = O::default();
        operator.set_active(options.active);
        Simulation {
            operator,
            machinery: Machinery::new(seed, odds),
            watches: Watches::new(O::Subject::WATCHED, &world),
            queue: BTreeMap::new(),
            idle: BTreeMap::new(),
            script: VecDeque::new(),
            oracle: Oracle::new(&options),
            looked_at: 0,
            dice: dice(seed, "simulation"),
            world,
            options,
        }
    }

    /// The cluster.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// Has something done when its time comes, counted from now.
    pub(crate) fn schedule(&mut self, after: SignedDuration, action: Action) {
        let at = self.world.now() + after;
        let place = self.script.partition_point(|(other, _)| *other <= at);
        self.script.insert(place, (at, action));
    }

    /// Has the operator die at one of its writes.
    pub(crate) fn crash_at(&mut self, point: Option<CrashPoint>) {
        self.world.set_crash_point(point);
    }

    /// Has something done right after the operator's n-th write, before the operator hears of that write's answer.
    pub(crate) fn after_write(&mut self, number: u64, deed: Deed) {
        self.world.set_after_write(number, deed);
    }

    /// Does one random thing that is possible now, or lets time pass until something is.
    pub(crate) fn step(&mut self) -> Result<(), Failure> {
        self.world.begin_step();
        self.suffer_mishap();
        let choices = self.choices();
        let weights: Vec<u32> = choices.iter().map(|(weight, _)| *weight).collect();
        match choices[weighted(&mut self.dice, &weights)].1 {
            Choice::Deliver(source) => self.deliver(source),
            Choice::Reconcile => self.reconcile_one(),
            Choice::Machinery => drop(self.machinery.step(&self.world, &mut self.dice)),
            Choice::Garbage => drop(self.world.collect_garbage()),
            Choice::Script => self.perform_next_action(),
            Choice::PassTime => self.pass_time(),
        }
        self.let_oracle_look()
    }

    fn let_oracle_look(&mut self) -> Result<(), Failure> {
        let changes = self.world.changes_since(self.looked_at);
        self.looked_at += changes.len();
        for change in changes {
            self.oracle.take_in(&self.world, &self.watches, &change).map_err(|what| self.failure(what))?;
        }
        Ok(())
    }

    /// Goes on until nothing more will happen of itself: all is delivered, no pod will move, the script is at its end,
    /// and the operator's own timers change nothing any more.
    pub(crate) fn run_until_quiet(&mut self, limit_steps: u64) -> Result<(), Failure> {
        let last = self.world.step() + limit_steps;
        while !self.is_quiet() {
            if self.world.step() >= last {
                return Err(self.failure(format!("not quiet after {limit_steps} steps")));
            }
            self.step()?;
        }
        Ok(())
    }

    /// Runs until quiet, then has the oracle judge the end: outcomes, leftovers, and that a second plan is empty.
    pub(crate) fn run_to_the_end(&mut self, limit_steps: u64) -> Result<(), Failure> {
        self.run_until_quiet(limit_steps)?;
        self.oracle.judge_the_end(&self.world).map_err(|what| self.failure(what))?;
        let changes = self.world.change_count();
        for (key, _) in O::Subject::RECONCILED.iter().flat_map(|kind| self.world.objects(*kind)).collect::<Vec<_>>() {
            let writes = self.world.write_count();
            let stands_still = !self.oracle.is_waiting(&self.world, &key);
            self.reconcile(&key);
            // What waits for the scenario to clear its way may ask again; everything else is at rest.
            if stands_still && self.world.write_count() != writes {
                return Err(self.failure(format!("{key} is at rest, yet another reconcile of it writes")));
            }
        }
        if self.world.change_count() != changes {
            return Err(self.failure("a reconcile after the end changed something".to_owned()));
        }
        Ok(())
    }

    /// Kills the operator and starts a new one, which knows nothing until its lists have come.
    pub(crate) fn crash(&mut self) {
        self.world.note("-- the operator is killed and starts again");
        self.operator = O::default();
        self.operator.set_active(self.options.active);
        self.world.operator_restarted();
        self.queue.clear();
        self.idle.clear();
        self.watches = Watches::new(O::Subject::WATCHED, &self.world);
        for source in O::Subject::WATCHED {
            self.relist(*source);
        }
    }

    fn relist(&mut self, source: Source) {
        let rewinds = self.options.rewound.contains(&source.of) && self.dice.random_bool(0.5);
        let rewind = if rewinds { self.dice.random_range(1..=20) } else { 0 };
        self.world.note(format!("-- the watch of {source} starts over, {rewind} changes ago"));
        self.watches.of(source).relist(&self.world, rewind);
    }

    /// Now and then something breaks between two steps.
    fn suffer_mishap(&mut self) {
        if self.options.mishaps == 0 {
            return;
        }
        let now = self.world.now();
        let watched = O::Subject::WATCHED;
        let source = watched[self.dice.random_range(0..watched.len())];
        if self.dice.random_bool(self.options.relist) {
            self.relist(source);
        } else if self.dice.random_bool(self.options.freeze) {
            self.world.note(format!("-- the watch of {source} hangs"));
            self.watches.of(source).freeze(now, &mut self.dice);
        } else if self.dice.random_bool(self.options.crash) {
            self.crash();
        } else {
            return;
        }
        self.options.mishaps -= 1;
    }

    fn choices(&mut self) -> Vec<(u32, Choice)> {
        let now = self.world.now();
        let is_due = |due: Option<Timestamp>| due.is_some_and(|due| due <= now);
        let mut choices = Vec::with_capacity(9);
        for (source, watch) in self.watches.iter() {
            if watch.is_behind(&self.world) && watch.frozen_until(now).is_none() {
                choices.push((watch.pace(), Choice::Deliver(source)));
            }
        }
        if self.watches.are_ready() && is_due(self.queue.values().map(|due| due.at).min()) {
            choices.push((12, Choice::Reconcile));
        }
        if is_due(self.machinery.next_due(&self.world)) {
            choices.push((6, Choice::Machinery));
        }
        if is_due(self.world.garbage_due()) {
            choices.push((3, Choice::Garbage));
        }
        if is_due(self.script.front().map(|(at, _)| *at)) {
            choices.push((8, Choice::Script));
        }
        choices.push((1, Choice::PassTime));
        choices
    }

    /// The next moment at which something happens of itself, after now.
    fn next_moment(&mut self) -> Option<Timestamp> {
        let now = self.world.now();
        let frozen = self.watches.iter().filter_map(|(_, watch)| watch.frozen_until(now)).min();
        let reconcile = self.queue.values().map(|due| due.at).min();
        let script = self.script.front().map(|(at, _)| *at);
        let moments = [frozen, reconcile, script, self.machinery.next_due(&self.world), self.world.garbage_due()];
        moments.into_iter().flatten().filter(|moment| *moment > now).min()
    }

    fn pass_time(&mut self) {
        let now = self.world.now();
        let busy = self.choices().len() > 1;
        let goal = match self.next_moment() {
            // A little while goes by although there is something to do: it takes time.
            _ if busy => now + up_to_millis(&mut self.dice, 700),
            Some(moment) if self.dice.random_bool(0.8) => moment,
            Some(moment) => moment + up_to_millis(&mut self.dice, 500),
            None => now + SignedDuration::from_secs(1),
        };
        self.world.advance_to(goal);
    }

    fn deliver(&mut self, source: Source) {
        let mut keys = Vec::new();
        match self.watches.of(source).next(&self.world, &mut self.dice) {
            Batch::List(mut objects) => {
                objects.retain(|object| O::selects(source, object));
                self.world.note(format!("deliver a list of {} {source}", objects.len()));
                keys.extend(self.operator.deliver(source, Delivery::Listed(&objects)));
            }
            Batch::Changes(changes) => {
                self.world.tell(Line::Deliver(source, changes.len()));
                for change in changes.iter().filter(|change| O::selects(source, &change.object)) {
                    let news = if change.removed { Delivery::Deleted } else { Delivery::Applied };
                    keys.extend(self.operator.deliver(source, news(&change.object)));
                }
            }
        }
        let now = self.world.now();
        for key in keys {
            let at = self.queue.get(&key).map_or(now, |due| due.at.min(now));
            self.idle.remove(&key);
            self.queue.insert(key, Due { at, by_timer: false });
        }
    }

    fn reconcile_one(&mut self) {
        let now = self.world.now();
        let due: Vec<&ObjectId> = self.queue.iter().filter(|(_, due)| due.at <= now).map(|(key, _)| key).collect();
        let key = due[self.dice.random_range(0..due.len())].clone();
        self.reconcile(&key);
    }

    fn reconcile(&mut self, key: &ObjectId) {
        let now = self.world.now();
        self.world.tell(Line::Reconcile(key.clone()));
        let by_timer = self.queue.remove(key).is_some_and(|due| due.by_timer);
        let its_now = now + self.options.clock_error;
        let result = {
            let Simulation { operator, world, machinery, script, dice, .. } = self;
            let mut reconcile = pin!(operator.reconcile(world, key, its_now));
            let mut context = Context::from_waker(Waker::noop());
            loop {
                match reconcile.as_mut().poll(&mut context) {
                    Poll::Ready(result) => break result,
                    Poll::Pending => meanwhile(world, machinery, script, dice),
                }
            }
        };
        if self.world.operator_is_dead() {
            self.world.set_crash_point(None);
            self.crash();
            return;
        }
        let happenings = self.world.happenings();
        let idle = self.idle.entry(key.clone()).or_default();
        if idle.happenings != happenings {
            *idle = Idle { happenings, since: now, ..Idle::default() };
        }
        let next = match result {
            Ok(wake) => {
                idle.rounds += u32::from(by_timer);
                idle.errors = 0;
                wake.map(|wake| wake - self.options.clock_error)
            }
            Err(error) => {
                self.world.note(format!("reconcile {key} failed: {error}"));
                idle.errors += 1;
                let backoff = SignedDuration::from_millis(100 << idle.errors.min(11));
                Some(now + backoff)
            }
        };
        if let Some(at) = next {
            self.queue.insert(key.clone(), Due { at, by_timer: true });
        }
    }

    fn perform_next_action(&mut self) {
        let Some((_, action)) = self.script.pop_front() else { return };
        match action {
            Action::Relist(source) => self.relist(source),
            Action::Crash => self.crash(),
            Action::InCluster(deed) => deed.perform(&self.world),
        }
    }

    /// A key whose timer keeps ringing is at rest when three rounds of it changed nothing, for long enough, or when it
    /// failed hopelessly often.
    fn is_quiet(&mut self) -> bool {
        let happenings = self.world.happenings();
        let now = self.world.now();
        let at_rest = |(key, due): (&ObjectId, &Due)| {
            let idle = self.idle.get(key).copied().unwrap_or_default();
            let rang_in_vain = idle.rounds >= 3 && idle.since + O::Subject::PATIENCE <= now;
            due.at > now && idle.happenings == happenings && (rang_in_vain || idle.errors >= HOPELESS)
        };
        self.script.is_empty()
            && self.watches.are_ready()
            && self.watches.iter().all(|(_, watch)| !watch.is_behind(&self.world))
            && self.queue.iter().all(at_rest)
            && self.world.garbage_due().is_none()
            && self.machinery.next_due(&self.world).is_none()
    }

    fn failure(&self, what: String) -> Failure {
        Failure { what, account: self.world.account(story_lines()) }
    }
}

/// What happens in the cluster while a request is under way.
fn meanwhile(
    world: &World,
    machinery: &mut impl Machinery,
    script: &mut VecDeque<(Timestamp, Action)>,
    dice: &mut Dice,
) {
    world.advance_to(world.now() + up_to_millis(dice, 50));
    let is_due = |(at, action): &(Timestamp, Action)| *at <= world.now() && matches!(action, Action::InCluster(_));
    if let Some((_, Action::InCluster(deed))) = script.pop_front_if(|next| is_due(next)) {
        deed.perform(world);
    } else if !machinery.step(world, dice) {
        world.collect_garbage();
    }
}
