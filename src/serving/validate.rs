//! Validation: what a spec must be before anything is decided from it.
//!
//! Admission (the CRD's rules and the ValidatingAdmissionPolicies) refuses most of this earlier; an apiserver may lack
//! them, so nothing downstream relies on that. Here defaults become values.

use jiff::SignedDuration;

use super::content::Content;
use crate::api::{
    Amount, Duration, EffectiveServing, FailureLogs, MAX_MIN_READY_SECONDS, MAX_REPLICAS, MAX_REVISION_HISTORY,
    ModelDeployment, ModelDeploymentSpec, Rollout,
};
use crate::cluster::problem::{Problem, check_name};

const DEFAULT_HISTORY: i32 = 10;
/// In seconds, as a Deployment's own.
const DEFAULT_PROGRESS_DEADLINE: u64 = 600;
/// In seconds: longer than a server takes to fail that becomes ready before it has loaded its model, and than two probes.
const DEFAULT_MIN_READY: i32 = 10;
/// Caches need a moment to show that anything has come further.
const SHORTEST_PROGRESS_DEADLINE: SignedDuration = SignedDuration::from_secs(1);
const DEFAULT_BUDGET: Amount = Amount::Count(1);

/// A ModelDeployment whose spec is valid, with every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidDeployment {
    /// Name of the deployment.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// Number of pods.
    pub replicas: i32,
    /// What its spec wants to be served.
    pub content: Content,
    /// Pods more than `replicas` while a revision is replaced.
    pub max_surge: i32,
    /// Pods fewer than `replicas` that may serve meanwhile.
    pub max_unavailable: i32,
    /// Seconds that a pod has to be ready before it counts for replacing others.
    pub min_ready: i32,
    /// Longest time without progress.
    pub progress_deadline: Duration,
    /// The revision that is to serve instead.
    pub undo_to: Option<i64>,
    /// Revisions kept besides those in use.
    pub history: usize,
    /// How many pods a drain may take at a time; `None` if no budget is wanted.
    pub budget: Option<Amount>,
    /// Whether log lines may appear in status.
    pub failure_logs: FailureLogs,
}

impl ValidDeployment {
    /// The values that hold, for status.
    pub fn effective(&self) -> EffectiveServing {
        EffectiveServing {
            container: self.content.container.clone(),
            max_surge: self.max_surge,
            max_unavailable: self.max_unavailable,
            min_ready_seconds: Some(self.min_ready),
            progress_deadline: self.progress_deadline,
        }
    }

    /// Longest time without progress, for arithmetic.
    pub fn patience(&self) -> SignedDuration {
        self.progress_deadline.signed()
    }

    /// The fewest pods that have to serve for the deployment to be available: one at least, if any are wanted.
    pub fn fewest_available(&self) -> i32 {
        (self.replicas - self.max_unavailable).max(self.replicas.min(1))
    }
}

/// Checks a deployment and fills in its defaults, or names every problem at once.
///
/// # Errors
/// Every problem of the spec.
pub fn validate(deployment: &ModelDeployment) -> Result<ValidDeployment, Vec<Problem>> {
    let mut problems = Vec::new();
    let content = Content::of_spec(&deployment.spec);
    let content = content.map_err(|further| problems.extend(further)).ok();
    let settings = settings(deployment, &mut problems);
    match content {
        Some(content) if problems.is_empty() => Ok(settings.with(deployment, content)),
        _ => Err(problems),
    }
}

/// What is followed of a spec that is invalid: its number of pods, and all else that is valid, with what an earlier
/// revision is made from. Where a value is invalid its default holds.
pub fn follow(deployment: &ModelDeployment, content: Content) -> ValidDeployment {
    let mut settings = settings(deployment, &mut Vec::new());
    settings.undo_to = None;
    settings.with(deployment, content)
}

/// All of a spec but model and template, with defaults filled in.
struct Settings {
    replicas: i32,
    max_surge: i32,
    max_unavailable: i32,
    min_ready: i32,
    progress_deadline: Duration,
    undo_to: Option<i64>,
    history: i32,
    budget: Amount,
    failure_logs: FailureLogs,
}

impl Settings {
    fn with(self, deployment: &ModelDeployment, content: Content) -> ValidDeployment {
        ValidDeployment {
            name: deployment.metadata.name.clone().unwrap_or_default(),
            namespace: deployment.metadata.namespace.clone().unwrap_or_default(),
            uid: deployment.metadata.uid.clone().unwrap_or_default(),
            replicas: self.replicas,
            content,
            max_surge: self.max_surge,
            max_unavailable: self.max_unavailable,
            min_ready: self.min_ready,
            progress_deadline: self.progress_deadline,
            undo_to: self.undo_to,
            history: usize::try_from(self.history).unwrap_or_default(),
            budget: Some(self.budget).filter(|budget| *budget != Amount::Percent(100)),
            failure_logs: self.failure_logs,
        }
    }
}

fn settings(deployment: &ModelDeployment, problems: &mut Vec<Problem>) -> Settings {
    // Without `..`, so that a new field does not compile until somebody has thought about it here.
    let ModelDeploymentSpec {
        model: _,
        replicas,
        template: _,
        rollout,
        revision_history_limit,
        disruption_budget,
        failure_logs,
    } = &deployment.spec;
    check_name(deployment.metadata.name.as_deref().unwrap_or_default(), "deployment", problems);
    if !(0..=MAX_REPLICAS).contains(replicas) {
        problems.push(Problem::new("spec.replicas", replicas, "set a number from 0 to 1000"));
    }
    let replicas = (*replicas).clamp(0, MAX_REPLICAS);
    let history = revision_history_limit.unwrap_or(DEFAULT_HISTORY);
    if !(0..=MAX_REVISION_HISTORY).contains(&history) {
        problems.push(Problem::new("spec.revisionHistoryLimit", history, "set a number from 0 to 50"));
    }
    let Rollout { max_surge, max_unavailable, min_ready_seconds, progress_deadline, undo_to } =
        rollout.clone().unwrap_or_default();
    let progress_deadline = progress_deadline.unwrap_or_else(|| Duration::from_secs(DEFAULT_PROGRESS_DEADLINE));
    let is_short = progress_deadline.is_negative() || progress_deadline.signed() < SHORTEST_PROGRESS_DEADLINE;
    if is_short {
        let remedy = "set a time of at least 1s, such as 90s, 10m or 1h";
        let value = if progress_deadline.is_negative() { "a negative time" } else { "less than 1s" };
        problems.push(Problem::new("spec.rollout.progressDeadline", value, remedy));
    }
    let progress_deadline = if is_short { Duration::from_secs(DEFAULT_PROGRESS_DEADLINE) } else { progress_deadline };
    let min_ready = min_ready(min_ready_seconds, progress_deadline, problems);
    if let Some(number) = undo_to.filter(|number| *number < 1) {
        problems.push(Problem::new("spec.rollout.undoTo", number, "name a revision: they are counted from 1"));
    }
    let budget = disruption_budget.clone().unwrap_or_default().max_unavailable.unwrap_or(DEFAULT_BUDGET);
    for (field, amount) in [
        ("spec.rollout.maxSurge", max_surge),
        ("spec.rollout.maxUnavailable", max_unavailable),
        ("spec.disruptionBudget.maxUnavailable", Some(budget)),
    ] {
        if let Some(amount) = amount.filter(|amount| amount.is_absurd()) {
            problems.push(Problem::new(field, amount, "set a number of pods, or a percentage from 0% to 100%"));
        }
    }
    if max_surge.is_some_and(Amount::is_nothing) && max_unavailable.is_some_and(Amount::is_nothing) {
        let remedy = "leave maxUnavailable out, or set it or maxSurge to 1: otherwise no pod can ever be replaced";
        problems.push(Problem::new("spec.rollout", "maxSurge 0 and maxUnavailable 0", remedy));
    }
    let sensible = |amount: &Amount| !amount.is_absurd();
    let (max_surge, max_unavailable) = room(max_surge.filter(sensible), max_unavailable.filter(sensible), replicas);
    Settings {
        replicas,
        max_surge,
        max_unavailable,
        min_ready,
        progress_deadline,
        undo_to,
        history: history.clamp(0, MAX_REVISION_HISTORY),
        budget: if sensible(&budget) { budget } else { DEFAULT_BUDGET },
        failure_logs: failure_logs.unwrap_or(FailureLogs::Tail),
    }
}

/// For how many seconds a pod has to be ready before it counts. What is to be reached within the deadline has to be shorter.
fn min_ready(asked: Option<i32>, deadline: Duration, problems: &mut Vec<Problem>) -> i32 {
    const FIELD: &str = "spec.rollout.minReadySeconds";
    let deadline = deadline.signed().as_secs();
    let default = DEFAULT_MIN_READY.min(i32::try_from(deadline / 2).unwrap_or(i32::MAX));
    match asked {
        None => default,
        Some(seconds) if !(0..=MAX_MIN_READY_SECONDS).contains(&seconds) => {
            problems.push(Problem::new(FIELD, seconds, "set a number of seconds from 0 to 3600"));
            default
        }
        Some(seconds) if i64::from(seconds) >= deadline.max(1) => {
            let remedy = format!("make it less than progressDeadline, which is {deadline}s, or raise that");
            problems.push(Problem::new(FIELD, seconds, &remedy));
            default
        }
        Some(seconds) => seconds,
    }
}

/// Surge and unavailability in pods. Both may come out as 0, of parts of few pods; then one pod at a time may be missing,
/// as with a Deployment.
fn room(surge: Option<Amount>, unavailable: Option<Amount>, replicas: i32) -> (i32, i32) {
    let surge = surge.unwrap_or(Amount::Count(1)).rounded_up(replicas).min(MAX_REPLICAS);
    let unavailable = unavailable.unwrap_or(Amount::Count(0)).rounded_down(replicas).min(MAX_REPLICAS);
    (surge, if surge == 0 { unavailable.max(1) } else { unavailable })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn deployment(spec: Value) -> ModelDeployment {
        let mut object = json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelDeployment",
            "metadata": {"name": "d", "namespace": "ns", "uid": "u"},
            "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 8080}]}]}}},
        });
        json_patch::merge(&mut object["spec"], &spec);
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn defaults_become_values() {
        let valid = validate(&deployment(json!({}))).unwrap();
        assert_eq!((valid.replicas, valid.max_surge, valid.max_unavailable), (1, 1, 0));
        assert_eq!((valid.history, valid.budget), (10, Some(Amount::Count(1))));
        assert_eq!(valid.patience(), SignedDuration::from_mins(10));
        let cases = [
            (json!({"maxSurge": 0}), (0, 1)),
            (json!({"maxSurge": "25%", "maxUnavailable": "25%"}), (2, 1)),
            (json!({"maxSurge": "0%", "maxUnavailable": "10%"}), (0, 1)),
            (json!({"maxUnavailable": 2}), (1, 2)),
        ];
        for (rollout, expected) in cases {
            let valid = validate(&deployment(json!({"replicas": 5, "rollout": rollout}))).unwrap();
            assert_eq!((valid.max_surge, valid.max_unavailable), expected, "{rollout}");
        }
        for (rollout, expected) in [
            (json!({}), 10),
            (json!({"progressDeadline": "5s"}), 2),
            (json!({"progressDeadline": "1s"}), 0),
            (json!({"minReadySeconds": 0}), 0),
            (json!({"minReadySeconds": 599}), 599),
        ] {
            let valid = validate(&deployment(json!({"rollout": rollout}))).unwrap();
            assert_eq!(valid.min_ready, expected, "{rollout}");
            assert_eq!(valid.effective().min_ready_seconds, Some(expected));
        }
        let none = validate(&deployment(json!({"disruptionBudget": {"maxUnavailable": "100%"}}))).unwrap();
        assert_eq!(none.budget, None);
    }

    #[test]
    fn each_problem_names_field_value_and_remedy() {
        let container = |container: Value| json!({"template": {"spec": {"containers": [container]}}});
        let cases = [
            (json!({"replicas": -1}), "spec.replicas: -1: set a number from 0"),
            (json!({"revisionHistoryLimit": 99}), "spec.revisionHistoryLimit: 99: "),
            (json!({"rollout": {"undoTo": 0}}), "spec.rollout.undoTo: 0: name a revision"),
            (json!({"rollout": {"maxSurge": -1}}), "spec.rollout.maxSurge: -1: "),
            (
                json!({"rollout": {"maxSurge": 0, "maxUnavailable": "0%"}}),
                "spec.rollout: maxSurge 0 and maxUnavailable 0: ",
            ),
            (json!({"rollout": {"progressDeadline": "-1s"}}), "spec.rollout.progressDeadline: a negative time: "),
            (
                json!({"rollout": {"minReadySeconds": 90, "progressDeadline": "90s"}}),
                "spec.rollout.minReadySeconds: 90: make it less than progressDeadline, which is 90s",
            ),
            (
                json!({"rollout": {"minReadySeconds": 3601, "progressDeadline": "3h"}}),
                "spec.rollout.minReadySeconds: 3601: set",
            ),
            (json!({"disruptionBudget": {"maxUnavailable": "101%"}}), "spec.disruptionBudget.maxUnavailable: 101%: "),
            (container(json!({"name": "c"})), "spec.template.spec.containers[0].ports: missing: add the port"),
            (
                container(json!({"name": "c", "ports": [{"containerPort": 1}], "env": [{"name": "TRAINYARD_X"}]})),
                "spec.template.spec.containers[0].env: TRAINYARD_X: remove it",
            ),
            (
                json!({"template": {"metadata": {"labels": {"trainyard.dev/revision": "9"}}}}),
                "spec.template.metadata.labels: trainyard.dev/revision: remove it",
            ),
            (
                json!({"template": {"spec": {"restartPolicy": "Never"}}}),
                "spec.template.spec.restartPolicy: \"Never\": ",
            ),
        ];
        for (spec, expected) in cases {
            let problems = validate(&deployment(spec.clone())).unwrap_err();
            assert!(problems[0].to_string().starts_with(expected), "{spec}: {}", problems[0]);
        }
    }

    #[test]
    fn what_is_valid_of_an_invalid_spec_is_followed() {
        let spec = json!({
            "replicas": 4, "rollout": {"maxSurge": -1, "progressDeadline": "-1s", "undoTo": 0},
            "disruptionBudget": {"maxUnavailable": 2},
        });
        let content = validate(&deployment(json!({}))).unwrap().content;
        let valid = follow(&deployment(spec), content);
        assert_eq!((valid.replicas, valid.max_surge, valid.undo_to), (4, 1, None));
        assert_eq!((valid.patience(), valid.budget), (SignedDuration::from_mins(10), Some(Amount::Count(2))));
    }
}
