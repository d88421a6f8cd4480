//! One reconcile of the toy.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::cluster::port::{ApiError, ApiServer};
use crate::testing::serving::oracle::{Room, is_valid};

/// One reconcile.
pub(super) struct Visit<'a, const MISTAKE: u8> {
    pub(super) api: &'a World,
    pub(super) key: &'a ObjectId,
    pub(super) owner: &'a Value,
    pub(super) caches: &'a BTreeMap<ObjectId, Value>,
    pub(super) reconciles: u64,
    pub(super) now: Timestamp,
}

/// Children of one kind, by the number of their revision.
type Numbered = BTreeMap<u64, Value>;

/// What is to be done, and what was.
struct Aim {
    /// What the spec, or undoTo, asks for.
    goal: u64,
    stable: Option<u64>,
    /// `status.rollout`.
    rollout: Value,
    /// The revision that is to have all pods.
    target: u64,
    /// When the goal's time is over.
    deadline: Timestamp,
}

impl<const MISTAKE: u8> Visit<'_, MISTAKE> {
    pub(super) async fn run(&self) -> Result<Option<Timestamp>, ApiError> {
        let mut records = self.children(Resource::ControllerRevision).await?;
        let mut deployments = self.children(Resource::Deployment).await?;
        if MISTAKE == CREDULOUS {
            deployments = self.cached(Resource::Deployment);
        }
        let undo = json::number(self.owner, "/spec/rollout/undoTo");
        let before = json::number(self.owner, "/status/revision").filter(|before| records.contains_key(before));
        let (own, is_invalid) = match (is_valid(self.owner), before) {
            (true, _) => (self.number_of_spec(&mut records, &deployments).await?, false),
            (false, Some(before)) => (before, true),
            (false, None) => return self.report_invalid(&deployments).await,
        };
        let (goal, is_invalid) = match (undo.filter(|_| !is_invalid), before) {
            (Some(undo), _) if records.contains_key(&undo) => (undo, false),
            (Some(_), _) if MISTAKE == OBSTINATE => (own, false),
            (Some(_), Some(before)) => (before, true),
            (Some(_), None) => return self.report_invalid(&deployments).await,
            (None, _) => (own, is_invalid),
        };
        let aim = self.aim(goal, &records, &deployments);
        let obstacle = self.serve().await?;
        let known = &self.owner["status"]["rollout"];
        let is_known = json::number(known, "/revision") == Some(goal) && !known["failed"].is_null();
        // That it is given up is on record before anything is done about it.
        if is_known || aim.rollout["failed"].is_null() {
            self.scale(&aim, &records, &mut deployments).await?;
            self.forget(&aim, own, undo, &records, &deployments).await?;
        }
        let said = if is_invalid { goal } else { own };
        self.tell(&aim, said, is_invalid, obstacle, &records, &deployments).await
    }

    async fn report_invalid(&self, deployments: &Numbered) -> Result<Option<Timestamp>, ApiError> {
        let status = json!({ "message": "it makes no sense" });
        self.publish(&[("Stalled", "Invalid")], status, deployments).await.map(|()| None)
    }

    fn room(&self) -> Room {
        Room::of(self.owner)
    }

    fn cached(&self, resource: Resource) -> Numbered {
        let of_kind = self.caches.iter().filter(|(id, _)| id.resource == resource);
        self.numbered(of_kind.map(|(_, object)| object.clone()))
    }

    async fn children(&self, resource: Resource) -> Result<Numbered, ApiError> {
        let (namespace, name) = (&self.key.namespace, &self.key.name);
        let listed = ApiServer::list(self.api, resource, namespace, names::LABEL_DEPLOYMENT, name, json::tree).await?;
        Ok(self.numbered(listed.into_iter()))
    }

    fn numbered(&self, objects: impl Iterator<Item = Value>) -> Numbered {
        let ours = objects.filter(|object| json::controller_uid(object) == Some(json::uid(self.owner)));
        let number = |object: &Value| json::label_number(object, names::LABEL_REVISION).map(u64::from);
        ours.filter_map(|object| number(&object).map(|number| (number, object))).collect()
    }

    /// The number of what the spec says; a new one, with its record, if it has none.
    async fn number_of_spec(&self, records: &mut Numbered, deployments: &Numbered) -> Result<u64, ApiError> {
        let content = build::content(self.owner);
        if MISTAKE == FORGETFUL {
            let newest = records.iter().next_back().filter(|(_, record)| record["data"] == content);
            if let Some((number, _)) = newest {
                return Ok(*number);
            }
        } else if let Some((number, _)) = records.iter().find(|(_, record)| record["data"] == content) {
            return Ok(*number);
        }
        let hash = build::hash(&content);
        let annotation = |one: &Value| one["metadata"]["annotations"][names::ANNOTATION_REVISION_HASH] == hash.as_str();
        let known = deployments.iter().find(|(number, one)| annotation(one) && !records.contains_key(number));
        let latest = json::number(self.owner, "/status/latestRevision");
        let latest = [latest, records.keys().last().copied(), deployments.keys().last().copied()];
        let next = latest.into_iter().flatten().max().unwrap_or(0) + 1;
        let number = match known {
            _ if MISTAKE == RECYCLING => records.len() as u64 + 1,
            Some((number, _)) => *number,
            None => next,
        };
        let record = build::record(self.owner, number, &content);
        self.create(Resource::ControllerRevision, &record).await?;
        records.insert(number, record);
        Ok(number)
    }

    /// Brings the record of the rollout up to date, and decides whether to go on with it.
    fn aim(&self, goal: u64, records: &Numbered, deployments: &Numbered) -> Aim {
        let known = &self.owner["status"]["rollout"];
        let mut rollout = known.clone();
        let served = deployments.get(&goal).map_or(0, |one| self.proven(one));
        if json::number(known, "/revision") != Some(goal) {
            let now = json::seconds(self.now);
            rollout = json!({ "revision": goal, "startTime": &now, "progressTime": &now, "progress": served, "failed": null });
        } else if served > json::number(known, "/progress").unwrap_or(0) {
            rollout["progress"] = served.into();
            rollout["progressTime"] = json::seconds(self.now).into();
        }
        let patience = json::duration(self.owner, "/spec/rollout/progressDeadline");
        let patience = patience.unwrap_or(SignedDuration::from_mins(10));
        let deadline = json::time(&rollout, "/progressTime").unwrap_or(self.now) + patience;
        let mut stable = json::number(self.owner, "/status/stableRevision");
        let failed = !rollout["failed"].is_null();
        let complete = served >= self.room().replicas && !failed;
        if complete || (MISTAKE == OPTIMISTIC && deployments.contains_key(&goal)) {
            stable = Some(goal);
        }
        let is_left = |number: &u64| records.contains_key(number) || deployments.contains_key(number);
        let other = stable.filter(|stable| *stable != goal && is_left(stable));
        let over = self.now >= deadline && MISTAKE != STUBBORN || MISTAKE == HASTY && deployments.contains_key(&goal);
        if other.is_some() && over {
            rollout["failed"] = "no progress".into();
        }
        let failed = !rollout["failed"].is_null();
        let target = if failed && MISTAKE != RESIGNED { stable.unwrap_or(goal) } else { goal };
        Aim { goal, stable, rollout, target, deadline }
    }

    /// Pods of a Deployment that serve.
    fn serving(&self, deployment: &Value) -> u64 {
        let field = if MISTAKE == TRUSTING { "/status/replicas" } else { "/status/readyReplicas" };
        json::number(deployment, field).unwrap_or(0).min(wanted(deployment))
    }

    /// Pods of a Deployment that have served for long enough to count.
    fn proven(&self, deployment: &Value) -> u64 {
        let field = match MISTAKE {
            TRUSTING => "/status/replicas",
            GULLIBLE => "/status/readyReplicas",
            _ => "/status/availableReplicas",
        };
        json::number(deployment, field).unwrap_or(0).min(wanted(deployment))
    }

    /// Makes the Service and the PodDisruptionBudget; answers what is in the way.
    async fn serve(&self) -> Result<Option<String>, ApiError> {
        let namespace = &self.key.namespace;
        let id = ObjectId::new(Resource::Service, namespace, &self.key.name);
        let mut service = build::service(self.owner);
        if MISTAKE == NOSTALGIC {
            service["spec"]["selector"] = json!({ names::LABEL_DEPLOYMENT: &self.key.name });
        }
        match self.api.read(&id).await? {
            None => self.create(Resource::Service, &service).await?,
            Some(present) if json::controller_uid(&present) == Some(json::uid(self.owner)) => {}
            // A leftover of a past life goes by itself.
            Some(present) if json::controller_uid(&present).is_some() => return Ok(Some("a leftover".to_owned())),
            Some(present) => {
                if MISTAKE == RUDE {
                    self.api.delete(&id, json::uid(&present), None).await?;
                }
                return Ok(Some(id.to_string()));
            }
        }
        let budget = build::budget(self.owner);
        let id = json::id(Resource::PodDisruptionBudget, &budget);
        let id = ObjectId::new(id.resource, namespace, &id.name);
        match self.api.read(&id).await? {
            None if self.room().replicas > 1 => self.create(id.resource, &budget).await?,
            Some(present) if self.room().replicas <= 1 => self.api.delete(&id, json::uid(&present), None).await?,
            _ => {}
        }
        Ok(None)
    }

    /// Moves pods one step from the others to the revision that they should go to.
    async fn scale(&self, aim: &Aim, records: &Numbered, deployments: &mut Numbered) -> Result<(), ApiError> {
        let between = |number: &u64| *number != aim.target && Some(*number) != aim.stable;
        let in_between = deployments.iter().any(|(number, one)| between(number) && wanted(one) > 0);
        let is_left = |number: &u64| records.contains_key(number) || deployments.contains_key(number);
        let heading = match aim.stable {
            Some(stable)
                if in_between
                    && MISTAKE != LEAPFROGGING
                    && is_left(&stable)
                    && deployments.get(&stable).is_some_and(|one| wanted(one) > 0) =>
            {
                stable
            }
            _ => aim.target,
        };
        if MISTAKE == GREEDY {
            self.raise(heading, self.room().replicas, records, deployments).await?;
        }
        let counted = |(number, one): (&u64, &Value)| match *number == heading {
            true => self.proven(one),
            false => self.serving(one),
        };
        let mut spare = deployments.iter().map(counted).sum::<u64>().saturating_sub(self.room().fewest);
        if MISTAKE == ABRUPT {
            spare = u64::MAX;
        }
        // What came between goes before what is stable.
        let mut others: Vec<u64> = deployments.keys().copied().filter(|number| *number != heading).collect();
        others.sort_by_key(|number| Some(*number) == aim.stable);
        for number in others {
            let serving = self.serving(&deployments[&number]);
            let taken = serving.min(spare);
            spare -= taken;
            self.set_replicas(number, serving - taken, deployments).await?;
        }
        let elsewhere: u64 =
            deployments.iter().filter(|(number, _)| **number != heading).map(|(_, one)| wanted(one)).sum();
        let room = self.room().most.saturating_sub(elsewhere).min(self.room().replicas);
        self.raise(heading, room, records, deployments).await
    }

    /// Gives a revision so many pods; makes its Deployment if need be.
    async fn raise(
        &self,
        number: u64,
        replicas: u64,
        records: &Numbered,
        deployments: &mut Numbered,
    ) -> Result<(), ApiError> {
        if MISTAKE == VIOLENT && self.reconciles.is_multiple_of(16) {
            let (namespace, label) = (&self.key.namespace, names::LABEL_DEPLOYMENT);
            let pods = self.api.list(Resource::Pod, namespace, label, &self.key.name, json::tree).await?;
            if let Some(pod) = pods.first() {
                self.api.delete(&json::id(Resource::Pod, pod), json::uid(pod), None).await?;
            }
        }
        if deployments.contains_key(&number) {
            let others: u64 =
                deployments.iter().filter(|(other, _)| **other != number).map(|(_, one)| self.serving(one)).sum();
            // Fewer only as far as enough others serve, and none of those that serve for lack of room.
            let least = self.serving(&deployments[&number]).min(self.room().fewest.saturating_sub(others));
            return self.set_replicas(number, replicas.max(least), deployments).await;
        }
        let Some(content) = records.get(&number).map(|record| &record["data"]) else { return Ok(()) };
        let deployment = build::deployment(self.owner, number, content, replicas);
        self.create(Resource::Deployment, &deployment).await?;
        deployments.insert(number, deployment);
        Ok(())
    }

    async fn create(&self, resource: Resource, object: &Value) -> Result<(), ApiError> {
        let id = ObjectId::new(resource, &self.key.namespace, &json::id(resource, object).name);
        self.api.create(&id, object.to_string()).await.map(drop)
    }

    async fn set_replicas(&self, number: u64, replicas: u64, deployments: &mut Numbered) -> Result<(), ApiError> {
        let present = deployments.get_mut(&number).expect("it was just found");
        if wanted(present) == replicas {
            return Ok(());
        }
        let id = json::id(Resource::Deployment, present);
        let mut spec = json!({ "replicas": replicas });
        if MISTAKE == MUTATING {
            spec["template"] = json!({ "spec": self.owner["spec"]["template"]["spec"] });
        }
        self.api.apply(id.resource, &id.namespace, &build::change(&id, present, spec)).await?;
        present["spec"]["replicas"] = replicas.into();
        Ok(())
    }

    /// Deletes what is not in use and beyond the limit.
    async fn forget(
        &self,
        aim: &Aim,
        own: u64,
        undo: Option<u64>,
        records: &Numbered,
        deployments: &Numbered,
    ) -> Result<(), ApiError> {
        let before = json::number(self.owner, "/status/stableRevision");
        let mut used: BTreeSet<u64> =
            [Some(aim.goal), aim.stable, before, Some(own), undo].into_iter().flatten().collect();
        if MISTAKE == WASTEFUL {
            used = [aim.goal].into();
        }
        let has_pods =
            |one: &Value| wanted(one) > 0 || json::number(one, "/status/replicas").is_some_and(|count| count > 0);
        let unused: Vec<u64> = records
            .keys()
            .copied()
            .filter(|number| {
                !used.contains(number) && (MISTAKE == WASTEFUL || !deployments.get(number).is_some_and(has_pods))
            })
            .collect();
        let limit = json::number(self.owner, "/spec/revisionHistoryLimit").unwrap_or(10) as usize;
        let outdated = if MISTAKE == HOARDING { 0 } else { unused.len().saturating_sub(limit) };
        for number in &unused[..outdated] {
            for (resource, present) in
                [(Resource::Deployment, deployments.get(number)), (Resource::ControllerRevision, records.get(number))]
            {
                let Some(present) = present else { continue };
                self.api.delete(&json::id(resource, present), json::uid(present), None).await?;
            }
        }
        Ok(())
    }

    /// Says how it is; answers when to look again.
    async fn tell(
        &self,
        aim: &Aim,
        own: u64,
        is_invalid: bool,
        obstacle: Option<String>,
        records: &Numbered,
        deployments: &Numbered,
    ) -> Result<Option<Timestamp>, ApiError> {
        let latest = [json::number(self.owner, "/status/latestRevision"), records.keys().last().copied()];
        let status = json!({
            "revision": own, "stableRevision": aim.stable, "rollout": aim.rollout, "message": obstacle,
            "latestRevision": latest.into_iter().flatten().max(),
        });
        let serving = deployments.get(&aim.goal).map_or(0, |one| self.proven(one));
        let over = self.now >= aim.deadline;
        let state = match &obstacle {
            _ if is_invalid => ("Stalled", "Invalid"),
            Some(_) => ("Stalled", "NameTaken"),
            None if self.room().replicas == 0 => ("Ready", "Asleep"),
            None if !aim.rollout["failed"].is_null() => ("Stalled", "Failed"),
            None if serving >= self.room().replicas => ("Ready", "Serving"),
            None if over => ("Stalled", "NotServing"),
            None => ("Reconciling", "Replacing"),
        };
        self.publish(&[state], status, deployments).await?;
        if MISTAKE == OVERBEARING && json::at(self.owner, "/spec/revisionHistoryLimit").is_none() {
            let live = self.api.read(self.key).await?.unwrap_or_default();
            let change = build::change(self.key, &live, json!({ "revisionHistoryLimit": 10 }));
            self.api.apply(self.key.resource, &self.key.namespace, &change).await?;
        }
        let waits = (state.0 == "Reconciling" || is_invalid) && !over;
        Ok(obstacle.map(|_| self.now + SignedDuration::from_secs(60)).or_else(|| waits.then_some(aim.deadline)))
    }

    /// Sets the condition that is True, and Available, all others False, and further fields; writes only what differs.
    async fn publish(&self, states: &[(&str, &str)], further: Value, deployments: &Numbered) -> Result<(), ApiError> {
        let serving: u64 = deployments.values().map(|one| self.serving(one)).sum();
        let enough = serving >= self.room().fewest;
        let is_changed = |one: &Value| {
            let templates = json::annotation(one, "deployment.kubernetes.io/revision");
            wanted(one) > 0 && templates.is_some_and(|templates| templates != "1")
        };
        let changed = deployments.values().any(is_changed);
        let of = |kind: &&str| {
            let state = states.iter().find(|(known, _)| known == kind);
            let holds = state.is_some() || *kind == "Available" && enough || *kind == "RevisionChanged" && changed;
            let reason = states.first().map_or("", |(_, reason)| reason);
            json!({ "type": kind, "status": if holds { "True" } else { "False" }, "reason": reason })
        };
        let mut status = further;
        status["conditions"] =
            ["Ready", "Reconciling", "Stalled", "Available", "RevisionChanged"].iter().map(of).collect();
        status["observedGeneration"] = self.owner["metadata"]["generation"].clone();
        status["availableReplicas"] = serving.into();
        if MISTAKE == RESTLESS {
            status["reconciles"] = self.reconciles.into();
        }
        let mut wanted = self.owner["status"].clone();
        json_patch::merge(&mut wanted, &status);
        if wanted == self.owner["status"] {
            return Ok(());
        }
        let metadata = json!({ "resourceVersion": &self.owner["metadata"]["resourceVersion"] });
        self.api.patch_status(self.key, &json!({ "metadata": metadata, "status": status })).await.map(drop)
    }
}

fn wanted(deployment: &Value) -> u64 {
    json::number(deployment, "/spec/replicas").unwrap_or(0)
}
