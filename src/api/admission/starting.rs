//! The policies that ask, where the person is known, whether they may start what a pipeline starts.
//!
//! The operator makes pods, TrainingJobs and ModelDeployments for whoever may create a pipeline. So that this gives nobody
//! a right that they lack, a step needs the right to what it makes. A run of a Pipeline is judged with the Pipeline; a run
//! that brings its own is judged like one.

use serde_json::{Value, json};

use super::{policy, rules_for};

/// What a step may do: its field, what it makes, and the right that this takes.
const STEPS: [(&str, &str, Right); 3] = [
    ("run", "a pod", Right { verb: "create", group: "", resource: "pods" }),
    ("train", "a TrainingJob", Right { verb: "create", group: "trainyard.dev", resource: "trainingjobs" }),
    ("deploy", "a ModelDeployment", Right { verb: "patch", group: "trainyard.dev", resource: "modeldeployments" }),
];

/// A right in the namespace of the request.
#[derive(Clone, Copy)]
struct Right {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
}

impl Right {
    /// CEL: whether whoever sends the request has it.
    fn is_given(self) -> String {
        let Right { verb, group, resource } = self;
        format!(
            "authorizer.group('{group}').resource('{resource}').namespace(request.namespace).check('{verb}').allowed()"
        )
    }

    /// As RBAC has it.
    fn in_words(self) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        format!("{} {}{dot}{}", self.verb, self.resource, self.group)
    }
}

/// The policy for Pipelines.
pub(super) fn pipelines_policy() -> Value {
    starting_policy(
        "trainyard-pipelines",
        "pipelines",
        "spec",
        &["CREATE", "UPDATE"],
        &json!([{
            // Metadata and status are no concern of this policy.
            "name": "spec-is-new",
            "expression": "oldObject == null || object.spec != oldObject.spec",
        }]),
        Vec::new(),
    )
}

/// The policy for runs that bring their own pipeline, which never changes afterwards.
pub(super) fn inline_runs_policy() -> Value {
    let right = Right { verb: "create", group: "trainyard.dev", resource: "pipelines" };
    let inline = validation("true", right, "'spec.pipeline: '", "a run that brings its own pipeline needs it");
    let has_its_own = json!([{"name": "has-its-own-pipeline", "expression": "has(object.spec.pipeline)"}]);
    starting_policy("trainyard-inline-runs", "pipelineruns", "spec.pipeline", &["CREATE"], &has_its_own, vec![inline])
}

fn starting_policy(
    name: &str,
    resource: &str,
    path: &str,
    operations: &[&str],
    conditions: &Value,
    first: Vec<Value>,
) -> Value {
    // Lists of names: steps and those of `finally` are of two types.
    let names = |list: &str, field: &str| {
        format!("(has(object.{path}.{list}) ? object.{path}.{list}.filter(s, has(s.{field})).map(s, s.name) : [])")
    };
    let variables = STEPS.map(|(field, _, _)| {
        json!({"name": field, "expression": format!("{} + {}", names("steps", field), names("finally", field))})
    });
    let steps = STEPS.map(|(field, made, right)| {
        let used = format!("size(variables.{field}) > 0");
        // The first alone: a message has room for 5 KiB.
        let place = format!("'{path}.steps: step ' + variables.{field}[0] + ': '");
        validation(&used, right, &place, &format!("a {field} step, which makes {made}, needs it"))
    });
    policy(
        name,
        json!({
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": rules_for(&[("trainyard.dev", &[resource])], operations)},
            "matchConditions": conditions,
            "variables": variables,
            "validations": first.into_iter().chain(steps).collect::<Vec<_>>(),
        }),
    )
}

/// If `used`, the right is needed. One question to the authorizer for each: it takes a third of what the apiserver lets one
/// expression cost. `place` is CEL.
fn validation(used: &str, right: Right, place: &str, why: &str) -> Value {
    let right_in_words = right.in_words();
    json!({
        "expression": format!("!({used}) || {}", right.is_given()),
        "messageExpression": format!(
            "{place} + request.userInfo.username + ' may not {right_in_words} in namespace ' + request.namespace + ': {why}: ask for this right'"
        ),
        "message": format!("{why}: the right to {right_in_words}"),
    })
}
