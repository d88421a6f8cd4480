//! What must be true of ModelDeployments at every moment, and at the end.
//!
//! Written against the objects alone, change by change: a plan that is wrong for the time between two of its writes is
//! found as well as one that ends wrong.

mod ending;
mod giving_up;
mod life;
mod records;
mod scaling;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use self::life::{Life, View};
pub(super) use self::life::{Room, is_valid, min_ready};
use crate::cluster::port::{ObjectId, Resource};
use crate::names::{self, LABEL_REVISION};
use crate::testing::json;
use crate::testing::options::SimOptions;
use crate::testing::story::{Actor, Change};
use crate::testing::subject::{Oracle, Verdict, ensure};
use crate::testing::watch::Watches;
use crate::testing::world::World;

/// Status writes that need no event: timers, and what the cluster's moods bring about.
const STATUS_WRITES_FOR_NOTHING: u64 = 10;

/// Looks at every change of ModelDeployments and their children, and judges the end.
pub(crate) struct ServingOracle {
    /// How many changes of each kind there were: positions in their feeds.
    positions: BTreeMap<Resource, usize>,
    lives: BTreeMap<String, Life>,
    /// By the UID of a ReplicaSet, that of the ModelDeployment above it.
    replica_sets: BTreeMap<String, String>,
    /// UIDs of objects that a person put in the operator's way.
    strangers: BTreeSet<String>,
    /// Whether pods were ever refused.
    pods_were_refused: bool,
    /// So many calls may go wrong in all.
    faults: u32,
}

impl Oracle for ServingOracle {
    fn new(options: &SimOptions) -> Self {
        ServingOracle {
            positions: BTreeMap::new(),
            lives: BTreeMap::new(),
            replica_sets: BTreeMap::new(),
            strangers: BTreeSet::new(),
            pods_were_refused: false,
            faults: options.faults.at_most,
        }
    }

    fn take_in(&mut self, world: &World, watches: &Watches, change: &Change) -> Verdict {
        let position = self.positions.entry(change.id.resource).or_insert(0);
        *position += 1;
        let position = *position;
        self.pods_were_refused |= world.refuses_pods();
        let view = View::of(watches);
        let verdict = match change.id.resource {
            Resource::ModelDeployment => self.owner_changed(world, &view, change, position),
            Resource::Pod => self.pod_changed(change),
            _ => self.child_changed(&view, change, position),
        };
        verdict.map_err(|what| format!("{}: {what}", change.id))
    }

    fn is_waiting(&self, world: &World, deployment: &ObjectId) -> bool {
        world.refuses_pods() || world.planted().values().any(|blocked| blocked == deployment)
    }

    fn judge_the_end(&self, world: &World) -> Verdict {
        let mut living = BTreeSet::new();
        for (id, owner) in world.objects(Resource::ModelDeployment) {
            living.insert(json::uid(&owner).to_owned());
            let life = self.lives.get(json::uid(&owner)).ok_or_else(|| format!("{id} is unknown to the oracle"))?;
            ending::judge(life, world, &id, &owner).map_err(|what| format!("at the end, {id}: {what}"))?;
        }
        let deployments = world.objects(Resource::Deployment);
        living.extend(deployments.iter().map(|(_, deployment)| json::replica_set_uid(json::uid(deployment))));
        let children = [
            Resource::Pod,
            Resource::Service,
            Resource::Deployment,
            Resource::ControllerRevision,
            Resource::PodDisruptionBudget,
        ];
        for (id, child) in children.into_iter().flat_map(|resource| world.objects(resource)) {
            let orphan = json::controller_uid(&child).is_some_and(|owner| !living.contains(owner));
            ensure(!orphan, || format!("at the end, {id} is an orphan"))?;
        }
        Ok(())
    }
}

impl ServingOracle {
    fn owner_changed(&mut self, world: &World, view: &View, change: &Change, position: usize) -> Verdict {
        let life = self.lives.entry(json::uid(&change.object).to_owned()).or_default();
        let old = life.object.clone();
        if change.by == Actor::Operator {
            ensure(!change.removed && !change.created, || "the operator made or deleted it".to_owned())?;
            let same = old.as_ref().is_some_and(|old| old["spec"] == change.object["spec"]);
            ensure(same, || "the operator changed its spec".to_owned())?;
            let excused = self.pods_were_refused || life.meddled_with;
            giving_up::check_given_up(life, old.as_deref(), change, excused)?;
            scaling::check_stable(life, view, old.as_deref(), &change.object)?;
            scaling::check_reported(life, view, &change.object)?;
        }
        life.owner_changed(change, position);
        let (written, stimuli) = (life.status_writes, life.stimuli);
        // A call that went wrong may be told, and that it no longer does.
        let faults = 2 * u64::from(self.faults - world.faults_left());
        ensure(written <= stimuli + faults + STATUS_WRITES_FOR_NOTHING, || {
            format!("its status was written {written} times, although only {stimuli} things happened")
        })
    }

    fn pod_changed(&mut self, change: &Change) -> Verdict {
        ensure(change.by != Actor::Operator, || "the operator made, changed or deleted a pod".to_owned())?;
        let replica_set = json::controller_uid(&change.object).unwrap_or_default();
        if let Some(life) = self.replica_sets.get(replica_set).and_then(|owner| self.lives.get_mut(owner)) {
            life.child_changed(change);
        }
        Ok(())
    }

    fn child_changed(&mut self, view: &View, change: &Change, position: usize) -> Verdict {
        let (object, by_operator) = (&change.object, change.by == Actor::Operator);
        let Some(owner) = json::controller_uid(object) else {
            // What has no owner of ours is not ours.
            if change.created && change.by == Actor::Person {
                self.strangers.insert(json::uid(object).to_owned());
            }
            return ensure(!by_operator, || {
                let whose = if self.strangers.contains(json::uid(object)) { "somebody else's" } else { "an ownerless" };
                format!("the operator wrote {whose} object")
            });
        };
        let life = self.lives.entry(owner.to_owned()).or_default();
        if by_operator {
            check_due_to_owner(life, view, change)?;
        }
        let number = json::label_number(object, LABEL_REVISION);
        if number.is_none() && json::label(object, LABEL_REVISION).is_some() {
            // Somebody has made it: no revision ever has such a number.
            return Ok(());
        }
        let number = u64::from(number.unwrap_or(0));
        match change.id.resource {
            Resource::Deployment => {
                self.replica_sets.insert(json::replica_set_uid(json::uid(object)), owner.to_owned());
                let old = life.deployments.get(&number).and_then(|history| history.newest());
                if by_operator && change.removed {
                    records::check_dismissed(life, view, number, life.deployments.get(&number))?;
                } else if by_operator {
                    records::check_template(life, number, old, object)?;
                    scaling::check_scaled(life, view, number, old, object)?;
                }
                life.deployment_changed(number, change, position);
            }
            Resource::ControllerRevision => {
                records::check_record(life, view, number, change)?;
                life.record_changed(number, change);
            }
            resource => {
                let never = resource == Resource::Service && change.removed && by_operator;
                ensure(!never, || "the operator deleted a Service".to_owned())?;
                life.child_changed(change);
            }
        }
        Ok(())
    }
}

/// The operator makes, changes and deletes the children of a ModelDeployment that it believes to exist and to stay, and
/// gives them the names that they have to have.
fn check_due_to_owner(life: &Life, view: &View, change: &Change) -> Verdict {
    let known_gone = life.gone.is_some_and(|position| position <= view.owners);
    ensure(!known_gone, || "the operator wrote a child of what it knows to be gone".to_owned())?;
    let leaving = life.object.is_some() && life.possible_owners(view).all(json::is_terminating);
    ensure(!leaving || change.removed, || "the operator wrote a child of what it knows to be deleted".to_owned())?;
    let Some(owner) = life.versions.newest() else { return Ok(()) };
    let (name, uid) = (json::text(owner, "/metadata/name").unwrap_or_default(), json::uid(owner));
    let expected = match change.id.resource {
        Resource::Service => name.to_owned(),
        Resource::PodDisruptionBudget => names::family(name, uid),
        _ => {
            let number =
                json::label_number(&change.object, LABEL_REVISION).ok_or("it has no label for its revision")?;
            names::revision(name, uid, number.into())
        }
    };
    ensure(change.id.name == expected, || format!("it should be named {expected}"))?;
    let labels = [(names::LABEL_DEPLOYMENT, name.to_owned()), (names::LABEL_INCARNATION, names::incarnation(uid))];
    let labelled = |object: &Value| labels.iter().all(|(key, value)| json::label(object, key) == Some(value));
    ensure(labelled(&change.object), || format!("it lacks one of the labels {labels:?}"))
}
