//! When a revision may be given up.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::life::{Life, Wish, is_valid};
use crate::testing::json;
use crate::testing::serving::behaviour::Character;
use crate::testing::story::Change;
use crate::testing::subject::{Verdict, ensure};

/// The default of `spec.rollout.progressDeadline`.
const DEFAULT_DEADLINE: SignedDuration = SignedDuration::from_mins(10);
/// With this much time, what serves within seconds is not given up, whatever caches and apiserver do.
const PLENTY: SignedDuration = SignedDuration::from_mins(5);

/// The operator writes a status: if it gives up a revision, its time is over.
pub(super) fn check_given_up(life: &Life, old: Option<&Value>, change: &Change, excused: bool) -> Verdict {
    let new = &change.object;
    let Some(number) = given_up(new).filter(|number| Some(*number) != old.and_then(given_up)) else { return Ok(()) };
    let observed = json::number(new, "/status/observedGeneration").unwrap_or(0);
    let Some((began, deadline)) = began(life, observed) else { return Ok(()) };
    // Times in a status are whole seconds.
    let waited = change.at.duration_since(began) + SignedDuration::from_secs(1);
    ensure(waited >= deadline, || format!("revision {number} was given up after {waited:#}, of {deadline:#}"))?;
    let Some(record) = life.records.get(&number) else { return Ok(()) };
    let image = json::image(&record.data["template"]).unwrap_or_default();
    let good = Character::of_image(image) == Character::Good && json::at(&record.data, "/model/uri").is_none();
    ensure(!good || excused || deadline < PLENTY, || format!("revision {number} was given up, and its pods can serve"))
}

/// The revision that a status calls given up.
pub(super) fn given_up(owner: &Value) -> Option<u64> {
    json::at(owner, "/status/rollout/failed")?;
    json::number(owner, "/status/rollout/revision")
}

/// When the goal of a generation became the goal, and the shortest deadline since. What the operator need not have noticed
/// (it went by without the operator's saying so) is no beginning.
fn began(life: &Life, generation: u64) -> Option<(Timestamp, SignedDuration)> {
    let wishes: Vec<&Wish> = life.wishes.iter().filter(|wish| wish.generation <= generation).collect();
    // What is invalid changes no goal.
    let goal = Some(wishes.iter().rev().find_map(|wish| goal_of(life, &wish.object))?);
    let mut began = (wishes.last()?.at, deadline(&wishes.last()?.object));
    for wish in wishes.iter().rev() {
        let its_goal = goal_of(life, &wish.object);
        let shortest = began.1.min(deadline(&wish.object));
        if its_goal == goal {
            began = (wish.at, shortest);
        } else if its_goal.is_some() && life.acknowledged.contains(&wish.generation) {
            break;
        } else {
            began.1 = shortest;
        }
    }
    Some(began)
}

/// What a generation asks to serve; nothing if that is not possible, since then what was asked for before goes on.
fn goal_of(life: &Life, owner: &Value) -> Option<Value> {
    let own = json!({ "template": owner["spec"]["template"], "model": owner["spec"]["model"] });
    if !is_valid(owner) {
        return None;
    }
    let Some(undo) = json::number(owner, "/spec/rollout/undoTo") else { return Some(own) };
    let data = &life.records.get(&undo).filter(|record| record.exists)?.data;
    Some(json!({ "template": data["template"], "model": data.get("model").unwrap_or(&Value::Null) }))
}

fn deadline(owner: &Value) -> SignedDuration {
    json::duration(owner, "/spec/rollout/progressDeadline").unwrap_or(DEFAULT_DEADLINE)
}
