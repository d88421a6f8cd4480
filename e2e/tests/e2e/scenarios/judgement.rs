//! What the whole run has shown: rights, silence, counts, and that no two attempts ever met.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::release::without_pods;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::audit::AuditLog;
use crate::manifest::{Job, Serving};
use crate::metrics::Samples;
use crate::space::Space;
use crate::wait::eventually;

const SILENCE: Duration = Duration::from_secs(10);
/// Progress is written every 5 s at most; what is not silent by then never is.
const SILENT_WITHIN: Duration = Duration::from_secs(40);

/// Rights that a run need not use, with the reason.
const UNUSED: [(&str, &str); 9] = [
    ("list trainyard.dev/trainingjobs", STREAMED),
    ("list trainyard.dev/modeldeployments", STREAMED),
    ("list trainyard.dev/pipelines", STREAMED),
    ("list trainyard.dev/pipelineruns", STREAMED),
    ("list apps/deployments", STREAMED),
    ("list policy/poddisruptionbudgets", STREAMED),
    ("list /services", STREAMED),
    ("list /persistentvolumeclaims", STREAMED),
    ("patch apps/deployments", "for an edit of minReadySeconds while a revision is on its way"),
];
const STREAMED: &str = "where the apiserver streams lists (Kubernetes 1.34 and later), a watch brings the list too";

pub(crate) async fn metrics_count_what_a_job_took(space: Space) -> Result<()> {
    let before = samples(&space).await?;
    space.submit(&Job::torch("counted", 3)).await?;
    space.until_state("counted", "Succeeded").await?;
    let requests = "trainyard_api_requests_total";
    let ok = |verb, resource| [("verb", verb), ("resource", resource), ("outcome", "Ok")];
    eventually("everything is counted", async || {
        let after = samples(&space).await?;
        let grown = |family: &str, labels: &[(&str, &str)]| after.sum(family, labels) - before.sum(family, labels);
        for (verb, resource, wanted) in
            [("Create", "Pod", 3.0), ("Create", "Service", 1.0), ("Create", "EndpointSlice", 1.0)]
        {
            let counted = grown(requests, &ok(verb, resource));
            ensure!(counted == wanted, "{verb} {resource}: {counted} instead of {wanted}");
        }
        let written = grown(requests, &ok("PatchStatus", "TrainingJob"));
        ensure!((1.0..=4.0).contains(&written), "{written} writes of status");
        ensure!(
            grown("trainyard_reconciles_total", &[("kind", "TrainingJob"), ("outcome", "Changed")]) >= 2.0,
            "changed"
        );
        ensure!(grown("trainyard_reconcile_duration_seconds_count", &[]) >= 2.0, "durations of reconciles");
        ensure!(grown("trainyard_api_request_duration_seconds_count", &[("verb", "Create")]) >= 5.0, "of requests");
        ensure!(grown(requests, &[("outcome", "Refused")]) == 0.0, "something was refused");
        ensure!(after.sum("trainyard_queue_depth", &[("kind", "TrainingJob")]) == 0.0, "the queue is not empty");
        ensure!(after.sum("trainyard_leader", &[]) == 1.0, "it does not lead");
        let unreadable = after.sum("trainyard_unreadable_objects_total", &[("kind", "Lease")]);
        ensure!(unreadable == 0.0, "{unreadable} Leases could not be read");
        ensure!(after.sum("trainyard_build_info", &[]) == 1.0, "no build");
        Ok(())
    })
    .await
}

pub(crate) async fn metrics_count_what_a_deployment_took(space: Space) -> Result<()> {
    let before = samples(&space).await?;
    space.submit(&Serving::new("counted", 2)).await?;
    space.until_serving("counted").await?;
    let requests = "trainyard_api_requests_total";
    eventually("everything is counted", async || {
        let after = samples(&space).await?;
        let grown = |family: &str, labels: &[(&str, &str)]| after.sum(family, labels) - before.sum(family, labels);
        for resource in ["ControllerRevision", "Deployment", "Service", "PodDisruptionBudget"] {
            let counted = grown(requests, &[("verb", "Create"), ("resource", resource), ("outcome", "Ok")]);
            ensure!(counted == 1.0, "{resource}: {counted} creations");
        }
        let written = grown(requests, &[("verb", "PatchStatus"), ("resource", "ModelDeployment"), ("outcome", "Ok")]);
        ensure!((1.0..=3.0).contains(&written), "{written} writes of status");
        let changed = [("kind", "ModelDeployment"), ("outcome", "Changed")];
        ensure!(grown("trainyard_reconciles_total", &changed) >= 2.0, "changed");
        ensure!(after.sum("trainyard_queue_depth", &[("kind", "ModelDeployment")]) == 0.0, "the queue is not empty");
        Ok(())
    })
    .await
}

async fn samples(space: &Space) -> Result<Samples> {
    let operator = space.suite.operator().await;
    Ok(Samples::parse(&operator.as_ref().context("no operator runs")?.metrics().await?))
}

/// Jobs in every state that can last, and then nothing but the lease.
pub(crate) async fn nothing_is_written_while_nothing_happens(space: Space) -> Result<()> {
    let typo = json!([{"name": "trainer", "image": "example/digits:1", "imagee": "x"}]);
    let jobs = [
        (Job::new("finished"), "Succeeded"),
        (Job::torch("running", 2).runs_for("never").set("spec.activeDeadline", "1h"), "Running"),
        (Job::torch("held-up", 2).fake("waiting-reason", "ImagePullBackOff"), "Waiting"),
        (Job::torch("suspended", 2).set("spec.suspend", true), "Suspended"),
        (Job::new("refused").set("spec.template.spec.containers", typo), "Refused"),
        (Job::new("failed").fake("exit-code", "1").set("spec.failurePolicy.maxRestarts", 0), "Failed"),
    ];
    for (job, _) in &jobs {
        space.submit(job).await?;
    }
    for (job, state) in &jobs {
        space.until_state(job.name(), state).await?;
    }
    deployments_at_rest(&space).await?;
    let audit = audit(&space)?;
    let (started, mut last, mut since) = (Instant::now(), audit.writes()?, Instant::now());
    while since.elapsed() < SILENCE {
        let now = audit.writes()?;
        if now != last {
            let news: Vec<_> = now.iter().filter(|(what, count)| last.get(*what) != Some(count)).collect();
            ensure!(started.elapsed() < SILENT_WITHIN, "still written: {news:?}");
            (last, since) = (now, Instant::now());
        }
        sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}

/// ModelDeployments in every state that can last.
async fn deployments_at_rest(space: &Space) -> Result<()> {
    let impatient = |name| Serving::new(name, 2).set("spec.rollout.progressDeadline", "3s");
    let stuck = |deployment: Serving| deployment.fake("waiting-reason", "ErrImagePull");
    let missing = Serving::new("without-claim", 1).set("spec.model.uri", "pvc://nowhere/x");
    let cases = [
        (Serving::new("serving", 3), "Serving"),
        (Serving::new("asleep", 0), "ScaledToZero"),
        (stuck(Serving::new("pulling", 1)), "ImageNotPulled"),
        (Serving::new("undone", 1).set("spec.rollout.undoTo", 9), "Invalid"),
        (missing, "ClaimNotFound"),
        (impatient("given-up"), "Serving"),
    ];
    for (deployment, _) in &cases {
        space.submit(deployment).await?;
    }
    for (deployment, state) in &cases {
        space.until_deployment(deployment.name(), state).await?;
    }
    space.change(&stuck(impatient("given-up"))).await?;
    space.until_deployment("given-up", "RolloutFailed").await.map(drop)
}

/// Every test is failed by attempts of one job that met in its namespace. Had the watch been blind, none would be.
pub(crate) async fn later_attempts_were_watched(space: Space) -> Result<()> {
    let (later, wanted) = (space.suite.fence.later_attempts(), if space.suite.complete { 8 } else { 0 });
    ensure!(later >= wanted, "only {later} later attempts were seen");
    Ok(())
}

pub(crate) async fn rights_suffice_and_are_all_used(space: Space) -> Result<()> {
    // A watch is in the log when it ends.
    space.suite.stop_operator().await?;
    let entries = audit(&space)?.entries()?;
    ensure!(!entries.is_empty(), "the audit log has nothing of the operator");
    let refused: BTreeSet<String> = entries
        .iter()
        .filter(|entry| !entry.allowed && !entry.uninstalled)
        .map(|entry| format!("{} {} {} ({})", entry.verb, entry.group, entry.resource, entry.path))
        .collect();
    ensure!(refused.is_empty(), "not allowed: {refused:#?}");
    for log in space.suite.logs().await {
        let complaint = log.lines().find(|line| line.contains("cannot") && line.contains("in API group"));
        ensure!(complaint.is_none(), "{complaint:?}");
    }
    if !space.suite.complete {
        println!("whether every right is used was not checked: only some tests run");
        return Ok(());
    }
    let used: BTreeSet<String> = entries.iter().flat_map(|entry| entry.rights()).collect();
    let excused: BTreeSet<String> = UNUSED.iter().map(|(right, _)| (*right).to_owned()).collect();
    let idle: Vec<String> =
        granted(&space).await?.into_iter().filter(|right| !used.contains(right) && !excused.contains(right)).collect();
    ensure!(idle.is_empty(), "granted and never used in this run: {idle:#?}");
    Ok(())
}

fn audit(space: &Space) -> Result<&AuditLog> {
    space.suite.audit.as_ref().context("no audit log")
}

/// Every right that the chart gives to the operator, as `verb group/resource`.
async fn granted(space: &Space) -> Result<BTreeSet<String>> {
    let rendered = space.suite.release.render(&without_pods()).await?;
    let is_role = |object: &&Value| matches!(object["kind"].as_str(), Some("Role" | "ClusterRole"));
    // The others are for people.
    let bound: Vec<&Value> = rendered.iter().map(|object| &object["roleRef"]).collect();
    let is_bound =
        |role: &&Value| bound.iter().any(|to| to["kind"] == role["kind"] && to["name"] == role["metadata"]["name"]);
    let mut granted = BTreeSet::new();
    for rule in rendered.iter().filter(is_role).filter(is_bound).flat_map(|role| list(&role["rules"])) {
        for group in list(&rule["apiGroups"]) {
            for resource in list(&rule["resources"]) {
                for verb in list(&rule["verbs"]) {
                    let [verb, group, resource] = [verb, group, resource].map(|text| text.as_str().unwrap_or_default());
                    granted.insert(format!("{verb} {group}/{resource}"));
                }
            }
        }
    }
    ensure!(!granted.is_empty(), "the chart gives the operator no rights");
    Ok(granted)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
