//! What must be true of a ModelDeployment when everything has come to rest.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::giving_up::given_up;
use super::life::{History, Life, Room, is_valid, wanted};
use super::records;
use crate::cluster::port::{ObjectId, Resource};
use crate::names;
use crate::testing::json;
use crate::testing::serving::behaviour::Character;
use crate::testing::subject::{Verdict, ensure};
use crate::testing::world::World;

/// Judges one ModelDeployment.
pub(super) fn judge(life: &Life, world: &World, id: &ObjectId, owner: &Value) -> Verdict {
    if json::is_terminating(owner) {
        return Ok(());
    }
    judge_status(owner)?;
    let is = |condition| json::condition_is_true(owner, condition);
    let obstacle = world.planted().into_iter().find(|(_, blocked)| blocked == id);
    if let Some((obstacle, _)) = obstacle {
        let status = owner["status"].to_string();
        let named = status.contains(obstacle.resource.kind()) && status.contains(&obstacle.name);
        let is_invalid = life.goal(owner).is_none() && json::reason(owner, "Stalled") == Some("Invalid");
        ensure(json::at(owner, "/status/url").is_none(), || "somebody else's Service is called its own".to_owned())?;
        return ensure(is("Stalled") && (named || is_invalid), || {
            "somebody else's object is in its way, and it does not say so".to_owned()
        });
    }
    judge_changed(life, owner)?;
    let goal = life.goal(owner);
    let is_undone = json::at(owner, "/spec/rollout/undoTo").is_some();
    if goal.is_none() && (is_undone || !is_valid(owner)) {
        let said = is("Stalled") && json::reason(owner, "Stalled") == Some("Invalid");
        ensure(said, || "undoTo makes no sense, or the spec is invalid, and it does not say so".to_owned())?;
        return judge_followed(life, world, id, owner);
    }
    judge_service(world, id, owner)?;
    judge_budget(world, id, owner)?;
    records::judge_history(life, owner)?;
    let goal = goal.ok_or("what it asks for has no revision")?;
    let pods = Pods::of(life, world);
    judge_availability(owner, &pods)?;
    let said = json::number(owner, "/status/revision");
    ensure(said == life.revision_of_spec(owner) || said == Some(goal), || {
        format!("it says revision {said:?}, and asks for {goal}")
    })?;
    judge_capacity(life, world, owner, goal, &pods)
}

/// A spec that cannot be carried out: what was last asked for goes on, with as many pods as the spec says.
fn judge_followed(life: &Life, world: &World, id: &ObjectId, owner: &Value) -> Verdict {
    let said = json::number(owner, "/status/revision");
    let is_kept = |number: &u64| life.records.get(number).is_some_and(|record| record.exists);
    if !said.is_some_and(|said| is_kept(&said)) || life.meddled_with {
        return Ok(());
    }
    judge_service(world, id, owner)?;
    judge_budget(world, id, owner)?;
    let pods = Pods::of(life, world);
    judge_availability(owner, &pods)?;
    let (wanted, replicas) = (pods.wanted.values().sum::<u64>(), Room::of(owner).replicas);
    ensure(wanted == replicas, || format!("{replicas} pods are asked for, and {wanted} are wanted"))
}

/// A template that was changed after it was made is reported while it has pods.
fn judge_changed(life: &Life, owner: &Value) -> Verdict {
    let is_changed = |deployment: &Value| {
        let templates = json::annotation(deployment, "deployment.kubernetes.io/revision");
        wanted(deployment) > 0 && templates.is_some_and(|templates| templates != "1")
    };
    let changed = life.deployments.values().filter_map(History::newest).any(is_changed);
    let said = json::condition_is_true(owner, "RevisionChanged");
    ensure(said == changed, || format!("a template was changed: {changed}, and it says {said}"))
}

fn judge_status(owner: &Value) -> Verdict {
    let generation = json::number(owner, "/metadata/generation");
    let observed = json::number(owner, "/status/observedGeneration");
    ensure(observed == generation, || format!("observedGeneration is {observed:?} of {generation:?}"))?;
    for condition in ["Ready", "Reconciling", "Stalled", "Available"] {
        ensure(json::condition(owner, condition).is_some(), || format!("it has no condition {condition}"))?;
    }
    let both = json::condition_is_true(owner, "Stalled") && json::condition_is_true(owner, "Ready");
    ensure(!both, || "Ready and Stalled at once".to_owned())
}

/// Pods of each revision.
struct Pods {
    wanted: BTreeMap<u64, u64>,
    serving: u64,
    serving_by_revision: BTreeMap<u64, u64>,
}

impl Pods {
    fn of(life: &Life, world: &World) -> Self {
        let (mut wanted_by, mut serving_by) = (BTreeMap::new(), BTreeMap::new());
        let pods = world.objects(Resource::Pod);
        for (number, deployment) in &life.deployments {
            let Some(deployment) = deployment.newest() else { continue };
            wanted_by.insert(*number, wanted(deployment));
            let replica_set = json::replica_set_uid(json::uid(deployment));
            let serves = |pod: &Value| {
                json::controller_uid(pod) == Some(&replica_set)
                    && json::condition_is_true(pod, "Ready")
                    && !json::is_terminating(pod)
            };
            serving_by.insert(*number, pods.iter().filter(|(_, pod)| serves(pod)).count() as u64);
        }
        Pods { wanted: wanted_by, serving: serving_by.values().sum(), serving_by_revision: serving_by }
    }

    /// Nothing unless a revision has all the pods, and no other any.
    fn check_only(&self, number: u64, replicas: u64) -> Verdict {
        let right = |(other, wanted): (&u64, &u64)| *wanted == if *other == number { replicas } else { 0 };
        let is_there = replicas == 0 || self.wanted.contains_key(&number);
        ensure(is_there && self.wanted.iter().all(right), || {
            format!("revision {number} should have {replicas} pods and no other any, but they have {:?}", self.wanted)
        })
    }

    /// Nothing unless a revision has all the pods; others may have some, as long as these serve.
    fn check_rest_serves(&self, number: u64, replicas: u64) -> Verdict {
        let serving = |number: &u64| self.serving_by_revision.get(number).copied().unwrap_or(0);
        let right = |(other, wanted): (&u64, &u64)| match *other == number {
            true => *wanted == replicas,
            false => *wanted <= serving(other),
        };
        ensure(self.wanted.iter().all(right), || {
            format!(
                "revision {number} should have {replicas} pods and others what serves, but they have {:?}",
                self.wanted
            )
        })
    }

    fn check_serving(&self, number: u64, replicas: u64) -> Verdict {
        let serving = self.serving_by_revision.get(&number).copied().unwrap_or(0);
        ensure(serving == replicas, || format!("{serving} of {replicas} pods of revision {number} serve"))
    }
}

fn judge_availability(owner: &Value, pods: &Pods) -> Verdict {
    let (room, says) = (Room::of(owner), json::condition_is_true(owner, "Available"));
    let holds = if says { pods.serving >= room.fewest } else { pods.serving < room.replicas };
    ensure(holds, || format!("Available is {says}, with {} of {} pods that serve", pods.serving, room.replicas))?;
    let said = json::number(owner, "/status/availableReplicas").unwrap_or(0);
    ensure(said == pods.serving, || format!("availableReplicas is {said}, and {} pods serve", pods.serving))
}

/// Which revision has the pods, and what is said of it.
fn judge_capacity(life: &Life, world: &World, owner: &Value, goal: u64, pods: &Pods) -> Verdict {
    let Room { replicas, .. } = Room::of(owner);
    let is = |condition| json::condition_is_true(owner, condition);
    let stable = json::number(owner, "/status/stableRevision");
    // Without anything to go back to, nothing is given up for good.
    let failed = given_up(owner) == Some(goal) && stable.is_some_and(|stable| stable != goal);
    if replicas == 0 {
        // With no pods wanted nothing proves itself, and nothing is forgiven: what was stable stays so.
        pods.check_only(goal, replicas)?;
        ensure(stable.is_some(), || "no revision is called stable".to_owned())?;
        return ensure(is("Ready"), || "no pods are wanted, and it is not Ready".to_owned());
    }
    if !failed && can_serve(life, world, owner, goal) {
        pods.check_only(goal, replicas)?;
        pods.check_serving(goal, replicas)?;
        ensure(stable == Some(goal), || format!("revision {goal} has all pods, and {stable:?} is called stable"))?;
        return ensure(is("Ready"), || "all pods serve, and it is not Ready".to_owned());
    }
    ensure(!is("Ready"), || format!("revision {goal} does not serve, and it is Ready"))?;
    match stable {
        // What was stable once cannot serve any more: there is nothing to go back to.
        Some(stable) if stable == goal => pods.check_rest_serves(goal, replicas),
        Some(stable) => {
            ensure(is("Stalled"), || format!("revision {goal} failed, and it is not Stalled"))?;
            ensure(failed, || format!("revision {goal} failed, and status.rollout does not say so"))?;
            // Without its record, it can only be kept as it is.
            let kept = life.records.get(&stable).is_some_and(|record| record.exists);
            if kept || !life.meddled_with {
                pods.check_only(stable, replicas)?;
            }
            if kept && can_serve(life, world, owner, stable) {
                pods.check_serving(stable, replicas)?;
            }
            Ok(())
        }
        None => {
            ensure(is("Stalled"), || format!("revision {goal} does not serve, and it is not Stalled"))?;
            let tried = pods.wanted.get(&goal).copied().unwrap_or(0);
            ensure(tried > 0, || format!("revision {goal} is all there is, and it is not tried"))
        }
    }
}

/// Whether pods of a revision serve, sooner or later.
fn can_serve(life: &Life, world: &World, owner: &Value, number: u64) -> bool {
    let Some(record) = life.records.get(&number) else { return false };
    let image = json::image(&record.data["template"]).unwrap_or_default();
    let claim = json::text(&record.data, "/model/uri").and_then(|uri| uri.strip_prefix("pvc://")?.split('/').next());
    let claim_exists = claim.is_none_or(|claim| {
        let namespace = json::text(owner, "/metadata/namespace").unwrap_or_default();
        world.get(&ObjectId::new(Resource::PersistentVolumeClaim, namespace, claim)).is_some()
    });
    claim_exists && Character::of_image(image).can_serve()
}

/// The labels that pods of all revisions of this life have.
fn selector(owner: &Value) -> Value {
    let name = &owner["metadata"]["name"];
    json!({ names::LABEL_DEPLOYMENT: name, names::LABEL_INCARNATION: names::incarnation(json::uid(owner)) })
}

fn judge_service(world: &World, id: &ObjectId, owner: &Value) -> Verdict {
    let service = world.get(&ObjectId::new(Resource::Service, &id.namespace, &id.name)).ok_or("it has no Service")?;
    ensure(json::controller_uid(&service) == Some(json::uid(owner)), || "its Service is not its own".to_owned())?;
    let selected = &service["spec"]["selector"];
    ensure(*selected == selector(owner), || format!("its Service selects {selected}"))?;
    ensure(json::at(&service, "/spec/ports/0/port").is_some(), || "its Service has no port".to_owned())
}

fn judge_budget(world: &World, id: &ObjectId, owner: &Value) -> Verdict {
    let name = names::family(&id.name, json::uid(owner));
    let budget = world.get(&ObjectId::new(Resource::PodDisruptionBudget, &id.namespace, &name));
    let wanted = Room::of(owner).replicas > 1;
    ensure(budget.is_some() == wanted, || {
        format!("a PodDisruptionBudget is {}there", if wanted { "not " } else { "" })
    })?;
    let Some(budget) = budget else { return Ok(()) };
    let selected = &budget["spec"]["selector"]["matchLabels"];
    ensure(*selected == selector(owner), || format!("its PodDisruptionBudget selects {selected}"))
}
