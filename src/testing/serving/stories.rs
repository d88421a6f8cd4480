//! Stories of ModelDeployments, made up from a seed.

use jiff::SignedDuration;
use rand::RngExt;
use serde_json::{Value, json};

use super::behaviour::Odds;
use super::{Serving, acts};
use crate::cluster::port::{ObjectId, Resource};
use crate::testing::dice::{Dice, up_to_millis};
use crate::testing::json;
use crate::testing::scenario::{chance_mishaps, random_options, spells};
use crate::testing::script::Action;
use crate::testing::subject::{Plot, Subject};

/// What may occur in a scenario, so that an operator that knows less can be tested as well.
#[derive(Clone, Debug)]
pub(crate) struct Menu {
    /// Images; how their pods behave is in their names.
    pub(crate) images: &'static [&'static str],
    /// Most ModelDeployments.
    pub(crate) most_deployments: usize,
    /// Most replicas of each.
    pub(crate) most_replicas: u32,
    /// Edits of the rollout's room, of its deadline, and of the history's length.
    pub(crate) settings: bool,
    /// Going back to earlier revisions by number.
    pub(crate) undo: bool,
    /// Models in claims, which may be missing for a while or for good.
    pub(crate) models: bool,
    /// People who delete pods, children and deployments, scale children by hand, and make deployments again.
    pub(crate) people: bool,
    /// Quota spells, refusals, and somebody else's Services under our names.
    pub(crate) obstacles: bool,
    /// Errors of the apiserver, relists, frozen watches, kills by chance, a wrong clock; nodes that throw out pods.
    pub(crate) mishaps: bool,
    /// Kinds of objects whose lists may show the past. Of lists that kube makes by default none does; Deployments and
    /// records are left out, since what was known of them is what capacity and numbers depend upon.
    pub(crate) rewound: &'static [Resource],
}

impl Menu {
    /// All there is.
    pub(crate) fn everything() -> Self {
        Menu {
            images: &[
                "example/good:1",
                "example/good:2",
                "example/good:3",
                "example/slow:4",
                "example/flaky:5",
                "example/flaps:9",
                "example/crashes:6",
                "example/unpullable:7",
                "example/unschedulable:8",
            ],
            most_deployments: 2,
            most_replicas: 5,
            settings: true,
            undo: true,
            models: true,
            people: true,
            obstacles: true,
            mishaps: true,
            rewound: &[Resource::Pod, Resource::Service, Resource::PodDisruptionBudget],
        }
    }

    /// One deployment whose pods serve or fail for good, edited so seldom that every edit has its effect before the next:
    /// whatever the operator suffers, the outcome is the same.
    pub(crate) fn calm() -> Self {
        Menu {
            images: &["example/good:1", "example/good:2", "example/crashes:6", "example/unpullable:7"],
            most_deployments: 1,
            most_replicas: 3,
            settings: false,
            undo: false,
            models: false,
            people: false,
            obstacles: false,
            mishaps: false,
            rewound: &[],
        }
    }

    /// Whether the same must come of every run of a scenario.
    pub(super) fn is_calm(&self) -> bool {
        !(self.settings || self.undo || self.models || self.people || self.obstacles || self.mishaps)
    }
}

/// When the last of a script's obstacles goes, in seconds.
const LAST_ACT: i64 = 2_700;
/// Between two edits of a calm scenario, in seconds: longer than a rollout takes, or its giving up and going back.
const CALM_PAUSE: i64 = 1_500;
/// Within so many milliseconds of its creation a deployment is edited.
const EDITED_WITHIN: i64 = 2_400_000;
const CLAIMS: [&str; 2] = ["models", "more-models"];

/// Makes up a scenario.
pub(super) fn invent(dice: &mut Dice, menu: &Menu) -> Plot<Odds> {
    let odds = if !menu.mishaps || dice.random_bool(0.5) { Odds::calm() } else { Odds::stormy() };
    let options = random_options(dice, menu.mishaps, menu.rewound);
    let mut script = Vec::new();
    for number in 0..dice.random_range(1..=menu.most_deployments) {
        let manifest = random_deployment(dice, menu, number);
        let id = json::id(Resource::ModelDeployment, &manifest);
        let begin = up_to_millis(dice, 60_000);
        script.push((begin, Action::create(Resource::ModelDeployment, manifest)));
        script.extend(edits(dice, menu, &id, begin));
        if menu.people {
            script.extend(meddling(dice, menu, &id, begin));
        }
        if menu.obstacles && dice.random_bool(0.15) {
            script.push((
                begin + up_to_millis(dice, 30_000) - SignedDuration::from_secs(5),
                acts::plant_service(&id, dice.random_bool(0.5)),
            ));
            if dice.random_bool(0.8) {
                script.push((SignedDuration::from_secs(LAST_ACT), Action::remove_planted()));
            }
        }
    }
    if menu.models {
        let begin = if dice.random_bool(0.5) { 0 } else { 1_500_000 };
        script.push((up_to_millis(dice, begin), acts::create_claim("team", CLAIMS[0])));
    }
    if menu.obstacles {
        script.extend(spells(dice));
    }
    if menu.mishaps {
        script.extend(chance_mishaps(dice, Serving::WATCHED));
    }
    Plot { options, odds, script }
}

/// A ModelDeployment such as a user writes.
fn random_deployment(dice: &mut Dice, menu: &Menu, number: usize) -> Value {
    const LONGEST: &str = "a-name-of-sixty-three-characters-which-is-the-most-a-service-has";
    let names = ["digits", if dice.random_bool(0.5) { "faces" } else { &LONGEST[..63] }];
    let port = json!({ "containerPort": 8080 });
    let container = json!({ "name": "server", "image": image(dice, menu), "ports": [port] });
    let mut spec = json!({ "template": { "spec": { "containers": [container] } } });
    if dice.random_bool(0.8) {
        spec["replicas"] = dice.random_range(0..=menu.most_replicas).into();
    }
    if menu.models && dice.random_bool(0.3) {
        spec["model"] = json!({ "uri": model(dice) });
    }
    if menu.settings {
        if dice.random_bool(0.5) {
            let (surge, unavailable) = room(dice);
            spec["rollout"] = json!({ "maxSurge": surge, "maxUnavailable": unavailable });
        }
        if dice.random_bool(0.3) {
            spec["rollout"]["progressDeadline"] = ["30s", "2m", "20m"][dice.random_range(0..3)].into();
        }
        if dice.random_bool(0.5) {
            spec["revisionHistoryLimit"] = dice.random_range(0..=2).into();
        }
    }
    json!({ "metadata": { "name": names[number % 2], "namespace": "team" }, "spec": spec })
}

fn image(dice: &mut Dice, menu: &Menu) -> &'static str {
    menu.images[dice.random_range(0..menu.images.len())]
}

fn model(dice: &mut Dice) -> Value {
    format!("pvc://{}/{}", CLAIMS[dice.random_range(0..2)], dice.random_range(1..=2)).into()
}

/// Room for a rollout, never none at all.
fn room(dice: &mut Dice) -> (Value, Value) {
    let rooms: [(Value, Value); 7] = [
        (1.into(), 0.into()),
        (2.into(), 0.into()),
        (0.into(), 1.into()),
        (0.into(), Value::Null),
        ("25%".into(), "25%".into()),
        ("100%".into(), 0.into()),
        (1.into(), 2.into()),
    ];
    rooms[dice.random_range(0..rooms.len())].clone()
}

/// What users edit, some time after the deployment came into being; in a calm scenario, one thing after the other.
fn edits(dice: &mut Dice, menu: &Menu, id: &ObjectId, begin: SignedDuration) -> Vec<(SignedDuration, Action)> {
    let mut acts = Vec::new();
    let count = dice.random_range(0..=if menu.is_calm() { 3 } else { 8 });
    // Often enough the next edit comes before the last has had its effect.
    let hurry = dice.random_bool(0.5);
    let mut at = begin;
    for _ in 0..count {
        at += match (menu.is_calm(), hurry) {
            (true, _) => SignedDuration::from_secs(CALM_PAUSE),
            (_, true) => up_to_millis(dice, 60_000),
            (_, false) => up_to_millis(dice, EDITED_WITHIN / i64::from(count)),
        };
        let edit = match dice.random_range(0..10) {
            0..5 => acts::set_image(id, image(dice, menu)),
            5..7 => acts::set(id, "/replicas", dice.random_range(0..=menu.most_replicas)),
            8 if menu.settings && dice.random_bool(0.4) => acts::set_ports(id, dice.random_bool(0.5)),
            7 if menu.models => {
                acts::set(id, "/model", if dice.random_bool(0.3) { Value::Null } else { json!({ "uri": model(dice) }) })
            }
            8 if menu.undo => {
                let number = if dice.random_bool(0.4) { Value::Null } else { dice.random_range(1..=4).into() };
                acts::set(id, "/rollout/undoTo", number)
            }
            9 if menu.settings => setting(dice, id),
            _ => continue,
        };
        acts.push((at, edit));
    }
    if menu.undo && dice.random_bool(0.7) {
        acts.push((SignedDuration::from_secs(LAST_ACT), acts::set(id, "/rollout/undoTo", Value::Null)));
    }
    acts
}

fn setting(dice: &mut Dice, id: &ObjectId) -> Action {
    match dice.random_range(0..4) {
        3 => acts::set(
            id,
            "/rollout/minReadySeconds",
            [json!(0), json!(20), Value::Null][dice.random_range(0..3)].clone(),
        ),
        0 => {
            let (surge, unavailable) = room(dice);
            acts::set(id, "/rollout", json!({ "maxSurge": surge, "maxUnavailable": unavailable }))
        }
        1 => acts::set(id, "/rollout/progressDeadline", ["1m", "10m"][dice.random_range(0..2)]),
        _ => acts::set(id, "/revisionHistoryLimit", dice.random_range(0..=2)),
    }
}

/// What people do by hand.
fn meddling(dice: &mut Dice, menu: &Menu, id: &ObjectId, begin: SignedDuration) -> Vec<(SignedDuration, Action)> {
    let mut acts = Vec::new();
    let mut at = |dice: &mut Dice, action: Action| acts.push((begin + up_to_millis(dice, EDITED_WITHIN), action));
    for _ in 0..dice.random_range(0..=2) {
        let nth = dice.random_range(0..4);
        at(dice, acts::delete_nth_pod(id, nth));
    }
    for _ in 0..dice.random_range(0..=1) {
        let nth = dice.random_range(0..3);
        let replicas = dice.random_range(0..=menu.most_replicas);
        at(dice, acts::scale_nth_deployment(id, nth, replicas));
    }
    if dice.random_bool(0.2) {
        let nth = dice.random_range(0..3);
        at(dice, acts::mutate_nth_deployment(id, nth));
    }
    if dice.random_bool(0.3) {
        let kinds =
            [Resource::Service, Resource::Deployment, Resource::ControllerRevision, Resource::PodDisruptionBudget];
        let (kind, nth) = (kinds[dice.random_range(0..kinds.len())], dice.random_range(0..3));
        at(dice, acts::delete_nth_child(id, kind, nth));
    }
    match dice.random_range(0..10) {
        0 => at(dice, Action::delete(id)),
        1 => at(dice, Action::delete_in_foreground(id)),
        2 | 3 => at(dice, Action::recreate(id)),
        4 | 5 => at(dice, acts::forge_record(id)),
        _ => {}
    }
    acts
}
