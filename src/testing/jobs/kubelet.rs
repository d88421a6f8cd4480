//! The scheduler and the nodes of the simulated cluster: they move the pods of jobs along.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::behaviour::{Behaviour, Ending, Odds};
use super::fates::Identity;
use crate::cluster::port::{ObjectId, Resource};
use crate::testing::dice::{Dice, dice};
use crate::testing::json;
use crate::testing::pod_status::{self, End};
use crate::testing::pods::{self, Pods};
use crate::testing::story::Actor;
use crate::testing::subject::Machinery;
use crate::testing::world::World;

/// Which pod of which attempt of which job; the same in every run of a scenario, whatever happens to the operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    /// Namespace and name of the job, or of the run.
    pub(crate) job: (String, String),
    /// Rank of the pod.
    pub(crate) rank: u32,
    /// Attempt of the pod.
    pub(crate) attempt: u32,
}

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Unschedulable,
    Placed,
    PullStuck,
    Running,
    /// It has done its work, and waits for its peers to have met.
    AwaitingPeers,
    /// The primary container has ended, others go on.
    SidecarsOnly,
    /// All containers have ended, and the phase does not say so yet.
    Ending,
    Ended,
}

struct Course {
    id: ObjectId,
    owner: String,
    part: Part,
    /// Whether it has to find others by name before it can do its work.
    has_peers: bool,
    behaviour: Behaviour,
    stage: Stage,
    due: Option<Timestamp>,
    /// When its end, asked for by a deletion, takes its next step.
    stop_due: Option<Timestamp>,
    address: Option<String>,
}

impl pods::Course for Course {
    fn due(&self) -> Option<Timestamp> {
        [self.due, self.stop_due].into_iter().flatten().min()
    }

    fn asked_to_stop(&mut self, at: Timestamp) {
        self.stop_due.get_or_insert(at + self.behaviour.stops_after);
    }
}

/// The scheduler and all kubelets.
pub(crate) struct Kubelet {
    seed: u64,
    odds: Odds,
    fixed: BTreeMap<Part, Behaviour>,
    pods: Pods<Course>,
    /// How many pods there were of one name: a job made again under the same name has new chances.
    lives: BTreeMap<String, u32>,
    /// Attempts, by owner, whose pods all ran at once and could find rank 0 by name.
    met: BTreeSet<(String, u32)>,
    free_addresses: VecDeque<String>,
    addresses: u32,
}

impl Machinery for Kubelet {
    type Odds = Odds;

    fn new(seed: u64, odds: Odds) -> Self {
        Kubelet {
            seed,
            odds,
            fixed: BTreeMap::new(),
            pods: Pods::default(),
            lives: BTreeMap::new(),
            met: BTreeSet::new(),
            free_addresses: VecDeque::new(),
            addresses: 0,
        }
    }

    fn next_due(&mut self, world: &World) -> Option<Timestamp> {
        self.look(world);
        self.pods.next_due()
    }

    fn step(&mut self, world: &World, dice: &mut Dice) -> bool {
        self.look(world);
        let now = world.now();
        let is_due = |due: Option<Timestamp>| due.is_some_and(|due| due <= now);
        let Some((uid, mut course)) = self.pods.take_due(now, dice) else { return false };
        let goes_on =
            if is_due(course.stop_due) { self.stop(&mut course, world) } else { self.live(&mut course, world) };
        if goes_on {
            self.pods.put_back(uid, course);
        } else {
            self.free(&mut course);
        }
        true
    }
}

impl Kubelet {
    /// Says how a pod will behave, in each of its lives.
    pub(crate) fn fix(&mut self, part: Part, behaviour: Behaviour) {
        self.fixed.insert(part, behaviour);
    }

    /// Takes note of pods that came, are to go, or went.
    fn look(&mut self, world: &World) {
        let mut pods = std::mem::take(&mut self.pods);
        let gone = pods.look(world, |change| self.take_on(world, change.id.clone(), &change.object, change.at));
        self.pods = pods;
        let Some(gone) = gone else { return };
        for mut course in gone {
            self.free(&mut course);
        }
        self.let_peers_meet(world);
    }

    /// Begins the course of a new pod; pods of nobody's are none of our business.
    fn take_on(&mut self, world: &World, id: ObjectId, pod: &Value, now: Timestamp) -> Option<Course> {
        let owner = json::controller_uid(pod)?.to_owned();
        let identity = Identity::of(world, &id, pod)?;
        let life = self.lives.entry(identity.name.clone()).or_insert(0);
        *life += 1;
        let drawn = || self.odds.draw(&mut dice(self.seed, &format!("pod {} {life}", identity.name)));
        let behaviour = self.fixed.get(&identity.part).cloned().unwrap_or_else(|| identity.fated(drawn()));
        let due = Some(now + behaviour.scheduled_after);
        let Identity { part, has_peers, .. } = identity;
        let course =
            Course { id, owner, part, has_peers, behaviour, stage: Stage::New, due, stop_due: None, address: None };
        Some(course)
    }

    /// The next step of a pod's own life; answers whether it is still there.
    fn live(&mut self, course: &mut Course, world: &World) -> bool {
        let now = world.now();
        let behaviour = &course.behaviour;
        let (stage, wait) = match course.stage {
            Stage::New if behaviour.unschedulable_for.is_positive() => {
                world.change(Actor::Node, &course.id, |pod| pod_status::unschedulable(pod, now));
                (Stage::Unschedulable, Some(behaviour.unschedulable_for))
            }
            Stage::New | Stage::Unschedulable => {
                let node = format!("node-{}", course.part.rank % 3);
                world.change(Actor::Node, &course.id, |pod| pod_status::placed(pod, &node, now));
                (Stage::Placed, Some(behaviour.started_after))
            }
            Stage::Placed if behaviour.pull_stuck_for.is_positive() => {
                world.change(Actor::Node, &course.id, pod_status::pull_stuck);
                (Stage::PullStuck, Some(behaviour.pull_stuck_for))
            }
            Stage::Placed | Stage::PullStuck => {
                let wait = (behaviour.ending != Ending::Never).then_some(behaviour.runs_for);
                let address = self.take_address();
                world.change(Actor::Node, &course.id, |pod| pod_status::running(pod, &address, now));
                course.address = Some(address);
                (Stage::Running, wait)
            }
            Stage::Running | Stage::AwaitingPeers => return self.end(course, world),
            Stage::Ending => {
                world.change(Actor::Node, &course.id, |pod| pod_status::settle_phase(pod, now));
                self.free(course);
                (Stage::Ended, None)
            }
            Stage::SidecarsOnly | Stage::Ended => (course.stage, None),
        };
        course.stage = stage;
        course.due = wait.map(|wait| now + wait);
        true
    }

    /// A pod's own end; answers whether it is still there.
    fn end(&mut self, course: &mut Course, world: &World) -> bool {
        let now = world.now();
        course.due = None;
        let end = match course.behaviour.ending {
            Ending::Never => return true,
            Ending::Vanishes => {
                world.remove(Actor::Node, &course.id);
                return false;
            }
            Ending::Evicted => {
                world.change(Actor::Node, &course.id, |pod| pod_status::evicted(pod, now));
                course.stage = Stage::Ended;
                self.free(course);
                return true;
            }
            Ending::Preempted => {
                let reason = "PreemptionByScheduler";
                world.change(Actor::Node, &course.id, |pod| pod_status::disrupted(pod, reason, now));
                world.delete_as(Actor::Node, &course.id);
                return true;
            }
            Ending::Exit(0) if course.has_peers && !self.met.contains(&(course.owner.clone(), course.part.attempt)) => {
                course.stage = Stage::AwaitingPeers;
                return true;
            }
            Ending::Exit(code) => End::exit(code),
            Ending::OutOfMemory => End::out_of_memory(),
        };
        let end = End { message: course.behaviour.says.as_deref().unwrap_or(end.message), ..end };
        let all = !course.behaviour.sidecars_go_on;
        world.change(Actor::Node, &course.id, |pod| pod_status::primary_ended(pod, end, all, now));
        let ended = world.get(&course.id).is_none_or(|pod| pod_status::all_ended(&pod));
        course.stage = if ended { Stage::Ending } else { Stage::SidecarsOnly };
        course.due = ended.then(|| now + course.behaviour.phase_after);
        true
    }

    /// The next step of a pod that is being deleted; answers whether it is still there.
    fn stop(&mut self, course: &mut Course, world: &World) -> bool {
        let now = world.now();
        if course.stage == Stage::Ended {
            world.remove(Actor::Node, &course.id);
            return false;
        }
        let exit_code = course.behaviour.stop_exit_code;
        world.change(Actor::Node, &course.id, |pod| pod_status::stopped(pod, exit_code, now));
        course.stage = Stage::Ended;
        course.due = None;
        course.stop_due = Some(now + course.behaviour.removed_after);
        self.free(course);
        true
    }

    /// Finds attempts all of whose pods run at once while the name of rank 0 leads to its address; those of their pods
    /// that waited for it may end. A job whose names never resolve hangs, as it would in real life.
    fn let_peers_meet(&mut self, world: &World) {
        let waiting: BTreeSet<(String, u32)> = self
            .pods
            .values()
            .filter(|course| course.has_peers && matches!(course.stage, Stage::Running | Stage::AwaitingPeers))
            .map(|course| (course.owner.clone(), course.part.attempt))
            .filter(|attempt| !self.met.contains(attempt))
            .collect();
        for attempt in waiting {
            if self.can_meet(&attempt, world) {
                self.met.insert(attempt);
            }
        }
        let now = world.now();
        for course in self.pods.values_mut().filter(|course| course.stage == Stage::AwaitingPeers) {
            if course.due.is_none() && self.met.contains(&(course.owner.clone(), course.part.attempt)) {
                course.due = Some(now);
            }
        }
    }

    fn can_meet(&self, attempt: &(String, u32), world: &World) -> bool {
        let peers = || {
            let of_attempt = |course: &&Course| (&course.owner, course.part.attempt) == (&attempt.0, attempt.1);
            self.pods.values().filter(of_attempt)
        };
        let Some(job) = peers().next().and_then(|course| job_of(&course.part, &course.owner, world)) else {
            return false;
        };
        let up = peers().filter(|course| matches!(course.stage, Stage::Running | Stage::AwaitingPeers));
        let ranks: BTreeSet<u32> = up.map(|course| course.part.rank).collect();
        if (ranks.len() as u64) < json::number(&job, "/spec/nodes").unwrap_or(1) {
            return false;
        }
        let leader = peers().find(|course| course.part.rank == 0).and_then(|course| course.address.as_deref());
        leader.is_some_and(|address| {
            let slices = world.objects(Resource::EndpointSlice);
            slices.iter().any(|(_, slice)| {
                json::controller_uid(slice) == Some(&attempt.0) && addresses(slice).any(|each| each == address)
            })
        })
    }

    /// The address that has been free longest, or a new one: addresses come again, as in real life.
    fn take_address(&mut self) -> String {
        let reused = if self.free_addresses.len() > 2 { self.free_addresses.pop_front() } else { None };
        reused.unwrap_or_else(|| {
            self.addresses += 1;
            format!("10.0.{}.{}", self.addresses / 250, self.addresses % 250 + 1)
        })
    }

    fn free(&mut self, course: &mut Course) {
        self.free_addresses.extend(course.address.take());
    }
}

/// All addresses in an EndpointSlice.
pub(crate) fn addresses(slice: &Value) -> impl Iterator<Item = &str> {
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    endpoints.flat_map(|endpoint| endpoint["addresses"].as_array().into_iter().flatten()).filter_map(Value::as_str)
}

/// The job of a part, if it is still the one that owns the pod.
pub(super) fn job_of(part: &Part, owner: &str, world: &World) -> Option<Arc<Value>> {
    let (namespace, name) = &part.job;
    let job = world.get(&ObjectId::new(Resource::TrainingJob, namespace, name))?;
    (json::uid(&job) == owner).then_some(job)
}
