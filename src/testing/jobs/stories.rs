//! Stories of TrainingJobs, made up from a seed.

use jiff::SignedDuration;
use rand::RngExt;
use serde_json::{Value, json};

use super::behaviour::Odds;
use super::{Jobs, WATCHED, acts};
use crate::cluster::port::{ObjectId, Resource};
use crate::testing::dice::{Dice, up_to_millis};
use crate::testing::json;
use crate::testing::scenario::{LAST_ACT, chance_mishaps, random_options, spells};
use crate::testing::script::Action;
use crate::testing::subject::{Plot, Subject};

/// What may occur in a scenario, so that an operator that knows less can be tested as well.
#[derive(Clone, Debug)]
pub(crate) struct Menu {
    /// Values of `spec.framework`.
    pub(crate) frameworks: &'static [&'static str],
    /// Most jobs, and most nodes of each.
    pub(crate) most_jobs: usize,
    /// Most nodes of a job.
    pub(crate) most_nodes: u32,
    /// Deadlines, and removal of pods and jobs some time after the end.
    pub(crate) timers: bool,
    /// Containers beside the primary one.
    pub(crate) sidecars: bool,
    /// Suspended jobs, and edits of them.
    pub(crate) suspends: bool,
    /// People who delete pods and jobs, and make jobs again.
    pub(crate) people: bool,
    /// People who make pods under names of a job's children, and who edit the hashes of its pods.
    pub(crate) forgers: bool,
    /// Quota spells, refusals, and somebody else's objects under our names.
    pub(crate) obstacles: bool,
    /// Errors of the apiserver, relists, frozen watches, kills by chance, a wrong clock.
    pub(crate) mishaps: bool,
    /// Kinds of objects whose lists may show the past. Lists that kube makes by default are consistent reads, so for
    /// pods this is more than a real cluster does; only a look at the cluster itself tells then whether one is lost.
    pub(crate) rewound: &'static [Resource],
}

impl Menu {
    /// All there is.
    pub(crate) fn everything() -> Self {
        Menu {
            frameworks: &["torch", "none"],
            most_jobs: 4,
            most_nodes: 8,
            timers: true,
            sidecars: true,
            suspends: true,
            people: true,
            forgers: true,
            obstacles: true,
            mishaps: true,
            rewound: &WATCHED,
        }
    }

    /// Two small jobs whose fate depends on their pods alone: whatever the operator suffers, their outcome is the same.
    pub(crate) fn calm() -> Self {
        Menu {
            most_jobs: 2,
            most_nodes: 3,
            timers: false,
            suspends: false,
            people: false,
            forgers: false,
            obstacles: false,
            mishaps: false,
            rewound: &[],
            ..Menu::everything()
        }
    }
}

/// Makes up a scenario.
pub(super) fn invent(dice: &mut Dice, menu: &Menu) -> Plot<Odds> {
    let odds = if dice.random_bool(0.5) { Odds::calm() } else { Odds::stormy() };
    let odds = if menu.people { odds } else { odds.without_vanishing() };
    let options = random_options(dice, menu.mishaps, menu.rewound);
    let mut script = Vec::new();
    for number in 0..dice.random_range(1..=menu.most_jobs) {
        let manifest = random_job(dice, menu, number);
        let job = json::id(Resource::TrainingJob, &manifest);
        let begin = up_to_millis(dice, 60_000);
        script.push((begin, Action::create(Resource::TrainingJob, manifest)));
        script.extend(acts_upon(dice, menu, &job, begin));
    }
    if menu.obstacles {
        script.extend(spells(dice));
    }
    if menu.mishaps {
        script.extend(chance_mishaps(dice, Jobs::WATCHED));
    }
    Plot { options, odds, script }
}

/// A TrainingJob such as a user writes.
fn random_job(dice: &mut Dice, menu: &Menu, number: usize) -> Value {
    const NAMES: [&str; 4] = ["digits", "faces", "a-name-of-thirty-one-characters", "digits"];
    let framework = menu.frameworks[dice.random_range(0..menu.frameworks.len())];
    let mut containers = vec![json!({ "name": "trainer", "image": "example/digits:1", "command": ["train"] })];
    let mut template = json!({});
    if menu.sidecars && dice.random_bool(0.3) {
        containers.insert(dice.random_range(0..=1), json!({ "name": "logs", "image": "example/logs:1" }));
        template["metadata"] = json!({ "annotations": { "kubectl.kubernetes.io/default-container": "trainer" } });
    }
    template["spec"] = json!({ "containers": containers });
    let mut spec = json!({ "framework": framework, "template": template });
    if dice.random_bool(0.8) {
        spec["nodes"] = dice.random_range(1..=menu.most_nodes).into();
    }
    if dice.random_bool(0.7) {
        spec["failurePolicy"] = json!({ "maxRestarts": dice.random_range(0..=3) });
        if dice.random_bool(0.5) {
            spec["failurePolicy"]["backoff"] = json!({ "initial": "2s", "max": "1m" });
        }
    }
    if menu.suspends && dice.random_bool(0.1) {
        spec["suspend"] = true.into();
    }
    if menu.timers {
        let timers = [
            ("activeDeadline", ["30s", "5m"]),
            ("podsAfterFinished", ["0s", "10m"]),
            ("deleteAfterFinished", ["1s", "2h"]),
        ];
        for (field, values) in timers {
            if dice.random_bool(0.2) {
                spec[field] = values[dice.random_range(0..2)].into();
            }
        }
    }
    // Jobs of the same name in two namespaces have nothing to do with each other.
    let namespace = if number < 2 { "team" } else { "other-team" };
    json!({ "metadata": { "name": NAMES[number % NAMES.len()], "namespace": namespace }, "spec": spec })
}

/// What users do to one job, some time after it came into being. Whatever stands in its way goes in the end.
fn acts_upon(dice: &mut Dice, menu: &Menu, job: &ObjectId, begin: SignedDuration) -> Vec<(SignedDuration, Action)> {
    let mut acts = Vec::new();
    let mut at = |dice: &mut Dice, most: i64, action: Action| acts.push((begin + up_to_millis(dice, most), action));
    if menu.suspends {
        for _ in 0..dice.random_range(0..=2) {
            at(dice, 200_000, acts::suspend(job, true));
            let nodes = dice.random_range(1..=menu.most_nodes);
            at(dice, 200_000, acts::set_nodes(job, nodes));
            at(dice, 200_000, acts::suspend(job, false));
        }
    }
    if menu.timers && dice.random_bool(0.3) {
        at(dice, 600_000, acts::set_failure_logs(job));
    }
    if menu.people {
        for _ in 0..dice.random_range(0..=1) {
            let nth = dice.random_range(0..4);
            at(dice, 200_000, acts::delete_nth_pod(job, nth));
        }
        match dice.random_range(0..10) {
            0 => at(dice, 200_000, Action::delete(job)),
            1 => at(dice, 200_000, Action::delete_in_foreground(job)),
            2 | 3 => at(dice, 200_000, Action::recreate(job)),
            _ => {}
        }
    }
    if menu.forgers {
        for _ in 0..dice.random_range(0..=2) {
            let forgery = acts::Forgery::ALL[dice.random_range(0..acts::Forgery::ALL.len())];
            let with_hash = dice.random_bool(0.5);
            at(dice, 200_000, acts::forge(job, forgery, with_hash));
        }
        if dice.random_bool(0.2) {
            let hash = ["", "5jhxpgtgb2", "v2:rbgxprjftibqmjzj"][dice.random_range(0..3)];
            at(dice, 200_000, acts::rewrite_hashes(job, hash));
        }
    }
    if menu.obstacles && dice.random_bool(0.15) {
        let kinds = [Resource::Pod, Resource::Service, Resource::EndpointSlice];
        let (resource, attempt) = (kinds[dice.random_range(0..3)], dice.random_range(1..=2));
        let with_labels = dice.random_bool(0.5);
        at(dice, 30_000, acts::plant(resource, job, attempt, with_labels));
        if dice.random_bool(0.8) {
            acts.push((SignedDuration::from_secs(LAST_ACT), Action::remove_planted()));
        }
    }
    if menu.suspends && dice.random_bool(0.9) {
        acts.push((SignedDuration::from_secs(LAST_ACT), acts::suspend(job, false)));
    }
    acts
}
