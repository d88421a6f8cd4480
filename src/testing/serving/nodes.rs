//! The scheduler and the nodes of the simulated cluster: they move the pods of ModelDeployments along.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::behaviour::{Behaviour, Character, Exit, Odds};
use crate::cluster::port::{ObjectId, Resource};
use crate::names::{LABEL_DEPLOYMENT, LABEL_REVISION};
use crate::testing::dice::{Dice, dice};
use crate::testing::json;
use crate::testing::pod_status::{self, End};
use crate::testing::pods::{self, Pods};
use crate::testing::story::Actor;
use crate::testing::world::World;

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    /// The claim that it mounts does not exist.
    AwaitingClaim,
    Placed,
    /// Its containers run and are not ready.
    Started,
    Ready,
    /// It crashed, or stays as it is for ever.
    Down,
    /// All containers have ended; what is left is its object.
    Ended,
}

struct Course {
    id: ObjectId,
    behaviour: Behaviour,
    stage: Stage,
    relapses: u32,
    due: Option<Timestamp>,
    /// When its node throws it out.
    out_due: Option<(Timestamp, Exit)>,
    /// When its end, asked for by a deletion, takes its next step.
    stop_due: Option<Timestamp>,
}

impl pods::Course for Course {
    fn due(&self) -> Option<Timestamp> {
        [self.due, self.out_due.map(|(at, _)| at), self.stop_due].into_iter().flatten().min()
    }

    fn asked_to_stop(&mut self, at: Timestamp) {
        if self.stop_due.is_none() {
            self.stop_due = Some(at + self.behaviour.stops_after);
            (self.due, self.out_due) = (None, None);
        }
    }
}

/// The scheduler and all kubelets.
pub(super) struct Nodes {
    seed: u64,
    odds: Odds,
    claims_seen: usize,
    pods: Pods<Course>,
    /// How many pods there were of one revision: each lives a life of its own.
    lives: BTreeMap<(String, String, String), u32>,
    thrown_out: u32,
    addresses: u32,
}

impl Nodes {
    /// Nodes whose pods behave as the seed and the odds say.
    pub(super) fn new(seed: u64, odds: Odds) -> Self {
        Nodes { seed, odds, claims_seen: 0, pods: Pods::default(), lives: BTreeMap::new(), thrown_out: 0, addresses: 0 }
    }

    /// When there is something to do next.
    pub(super) fn next_due(&mut self, world: &World) -> Option<Timestamp> {
        self.look(world);
        self.pods.next_due()
    }

    /// Moves one pod that is due; answers whether there was one.
    pub(super) fn step(&mut self, world: &World, dice: &mut Dice) -> bool {
        self.look(world);
        let now = world.now();
        let is_due = |due: Option<Timestamp>| due.is_some_and(|due| due <= now);
        let Some((uid, mut course)) = self.pods.take_due(now, dice) else { return false };
        let stays = if is_due(course.stop_due) {
            stop(&mut course, world)
        } else if is_due(course.out_due.map(|(at, _)| at)) {
            throw_out(&mut course, world)
        } else {
            self.live(&mut course, world);
            true
        };
        if stays {
            self.pods.put_back(uid, course);
        }
        true
    }

    /// Takes note of pods that came, are to go, or went, and of claims that came.
    fn look(&mut self, world: &World) {
        let mut pods = std::mem::take(&mut self.pods);
        let news = pods.look(world, |change| self.take_on(change.id.clone(), &change.object, change.at));
        self.pods = pods;
        if news.is_none() {
            return;
        }
        let claims = world.feed_length(Resource::PersistentVolumeClaim);
        if std::mem::replace(&mut self.claims_seen, claims) != claims {
            for course in self.pods.values_mut().filter(|course| course.stage == Stage::AwaitingClaim) {
                course.due = Some(world.now());
            }
        }
    }

    /// Begins the course of a new pod; pods of nobody's are none of our business.
    fn take_on(&mut self, id: ObjectId, pod: &Value, now: Timestamp) -> Option<Course> {
        json::controller_uid(pod)?;
        let (owner, revision) = (json::label(pod, LABEL_DEPLOYMENT)?, json::label(pod, LABEL_REVISION)?);
        let life = self.lives.entry((id.namespace.clone(), owner.to_owned(), revision.to_owned())).or_insert(0);
        *life += 1;
        let character = Character::of_image(json::image(pod).unwrap_or_default());
        let purpose = format!("serving pod {}/{owner} {revision} {life}", id.namespace);
        let mut behaviour = self.odds.draw(character, &mut dice(self.seed, &purpose));
        if behaviour.thrown_out_after.is_some() {
            self.thrown_out += 1;
            behaviour.thrown_out_after.take_if(|_| self.thrown_out > self.odds.thrown_out_at_most);
        }
        let due = Some(now + behaviour.scheduled_after);
        Some(Course { id, behaviour, stage: Stage::New, relapses: 0, due, out_due: None, stop_due: None })
    }

    /// The next step of a pod's own life.
    fn live(&mut self, course: &mut Course, world: &World) {
        let now = world.now();
        let behaviour = &course.behaviour;
        let change = |change: &mut dyn FnMut(&mut Value)| world.change(Actor::Node, &course.id, change);
        let (stage, wait) = match (course.stage, behaviour.character) {
            (Stage::New | Stage::AwaitingClaim, Character::Unschedulable) => {
                change(&mut |pod| pod_status::unschedulable(pod, now));
                (Stage::Down, None)
            }
            (Stage::New | Stage::AwaitingClaim, _) if !claims_exist(world, &course.id) => {
                change(&mut |pod| pod_status::claim_missing(pod, now));
                (Stage::AwaitingClaim, None)
            }
            (Stage::New | Stage::AwaitingClaim, _) => {
                change(&mut |pod| pod_status::placed(pod, "node-1", now));
                (Stage::Placed, Some(behaviour.started_after))
            }
            (Stage::Placed, Character::Unpullable) => {
                change(&mut pod_status::pull_stuck);
                (Stage::Down, None)
            }
            (Stage::Placed, _) => {
                self.addresses += 1;
                let address = format!("10.0.{}.{}", self.addresses / 250, self.addresses % 250 + 1);
                change(&mut |pod| {
                    pod_status::running(pod, &address, now);
                    pod_status::set_ready(pod, false, now);
                });
                (Stage::Started, Some(behaviour.ready_after))
            }
            (Stage::Started, Character::Crashing) => {
                change(&mut |pod| pod_status::crashed(pod, End::exit(3), now));
                course.relapses += 1;
                (Stage::Down, (course.relapses <= behaviour.relapses).then_some(behaviour.recovers_after))
            }
            (Stage::Down, Character::Crashing) => {
                change(&mut |pod| pod_status::restarted(pod, now));
                (Stage::Started, Some(behaviour.relapses_after))
            }
            (Stage::Started, Character::Flapping) if course.relapses >= behaviour.relapses => (Stage::Down, None),
            (Stage::Started | Stage::Down, _) => {
                change(&mut |pod| pod_status::set_ready(pod, true, now));
                let first = course.relapses == 0;
                course.out_due = behaviour
                    .thrown_out_after
                    .filter(|_| first)
                    .map(|(after, exit)| (now + after, exit))
                    .or(course.out_due);
                (Stage::Ready, (course.relapses < behaviour.relapses).then_some(behaviour.relapses_after))
            }
            (Stage::Ready, _) => {
                change(&mut |pod| pod_status::set_ready(pod, false, now));
                course.relapses += 1;
                (Stage::Started, Some(behaviour.recovers_after))
            }
            (Stage::Ended, _) => (Stage::Ended, None),
        };
        course.stage = stage;
        course.due = wait.map(|wait| now + wait);
    }
}

/// A pod's node throws it out; answers whether the pod is still there.
fn throw_out(course: &mut Course, world: &World) -> bool {
    let now = world.now();
    let exit = course.out_due.take().map(|(_, exit)| exit);
    course.due = None;
    match exit {
        Some(Exit::Evicted) => {
            world.change(Actor::Node, &course.id, |pod| pod_status::evicted(pod, now));
            course.stage = Stage::Ended;
        }
        Some(Exit::Drained) => {
            world.change(Actor::Node, &course.id, |pod| pod_status::disrupted(pod, "EvictionByEvictionAPI", now));
            world.delete_as(Actor::Node, &course.id);
        }
        Some(Exit::Lost) => {
            world.remove(Actor::Node, &course.id);
            return false;
        }
        None => {}
    }
    true
}

/// The end of a pod that is being deleted; answers whether it is still there.
fn stop(course: &mut Course, world: &World) -> bool {
    if course.stage == Stage::Ended {
        world.remove(Actor::Node, &course.id);
        return false;
    }
    let now = world.now();
    world.change(Actor::Node, &course.id, |pod| pod_status::stopped(pod, 0, now));
    course.stage = Stage::Ended;
    course.stop_due = Some(now);
    true
}

/// Whether all claims exist that a pod mounts.
fn claims_exist(world: &World, pod: &ObjectId) -> bool {
    let Some(object) = world.get(pod) else { return true };
    let claims = json::claims(&object);
    claims
        .iter()
        .all(|claim| world.get(&ObjectId::new(Resource::PersistentVolumeClaim, &pod.namespace, claim)).is_some())
}
