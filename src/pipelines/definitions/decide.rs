//! The decision about a Pipeline, as a pure function of what is known.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{Checked, Memory, RunFacts};
use super::history::surplus;
use super::status::{describe, differs_materially};
use crate::api::conditions::{Seen, whole_second};
use crate::api::pipeline::{LastRun, MAX_RUN_HISTORY, RunCounts};
use crate::api::{Pipeline, PipelineSpec, PipelineStatus};
use crate::cluster::plan::{Action, Plan, Publish};
use crate::cluster::port::Resource;
use crate::cluster::problem::Problem;
use crate::pipelines::runs::status::State;

const DEFAULT_HISTORY: i32 = 10;
/// How its runs go is written at most this often, so that fifty runs at once cost a few writes.
const PROGRESS_INTERVAL: SignedDuration = SignedDuration::from_secs(5);
/// Most runs deleted in one reconcile; more follow in the next.
const MOST_DELETIONS: usize = 50;

/// Decides what to do about a Pipeline with these runs.
pub fn decide(pipeline: &Pipeline, runs: &[Arc<RunFacts>], memory: &Memory, now: Timestamp) -> Plan<PipelineStatus> {
    let status = pipeline.status.clone().unwrap_or_default();
    if pipeline.metadata.deletion_timestamp.is_some() {
        return Plan::status_only(status, Publish::Now);
    }
    let PipelineSpec { definition: _, successful_runs_history_limit, failed_runs_history_limit } = &pipeline.spec;
    let Checked { mut problems, warnings, .. } = memory.checked.clone().unwrap_or_default();
    let mut limit = |field: &str, value: Option<i32>| {
        let value = value.unwrap_or(DEFAULT_HISTORY);
        if !(0..=MAX_RUN_HISTORY).contains(&value) {
            problems.push(Problem::new(&format!("spec.{field}"), value, "set a number from 0 to 1000"));
        }
        usize::try_from(value).ok()
    };
    let successful = limit("successfulRunsHistoryLimit", *successful_runs_history_limit);
    let failed = limit("failedRunsHistoryLimit", *failed_runs_history_limit);

    let mut new = status.clone();
    new.runs = Some(counts(runs));
    // Runs are deleted, and what the last one came to stays.
    let finish = |last: &Option<LastRun>| last.as_ref().map(|last| last.finish_time.0);
    let last = last_run(runs);
    if finish(&last) >= finish(&new.last_run) {
        new.last_run = last;
    }
    let is_told = |run: &RunFacts| {
        let is_last = new.last_run.as_ref().is_some_and(|last| last.name == run.meta.name);
        !is_last || new.last_run == status.last_run
    };
    let seen = Seen { now: whole_second(now), generation: pipeline.metadata.generation };
    // A limit that makes no sense deletes nothing.
    let limits = successful.zip(failed);
    let surplus = limits.map(|(successful, failed)| surplus(runs.iter().map(AsRef::as_ref), successful, failed));
    let surplus: Vec<&RunFacts> = surplus.into_iter().flatten().filter(|run| is_told(run)).collect();
    describe(&mut new, &problems, &warnings, seen);
    let last = memory.writes.published_at.or(memory.writes.noticed_at).unwrap_or(now);
    let publish = match differs_materially(&status, &new) {
        true => Publish::Now,
        false => Publish::By(last + PROGRESS_INTERVAL + memory.writes.extra_wait),
    };
    let mut plan = Plan::status_only(new, publish);
    plan = plan.waking_at((surplus.len() > MOST_DELETIONS).then_some(now));
    plan.actions = (surplus.into_iter().take(MOST_DELETIONS))
        .map(|run| Action::delete_unchanged(Resource::PipelineRun, &run.meta))
        .collect();
    plan
}

fn counts(runs: &[Arc<RunFacts>]) -> RunCounts {
    let mut counts = RunCounts::default();
    for run in runs.iter().filter(|run| !run.is_deleted) {
        match run.finished.map(|finished| finished.result) {
            None => counts.running += 1,
            Some(State::Succeeded) => counts.succeeded += 1,
            Some(_) => counts.failed += 1,
        }
    }
    counts
}

fn last_run(runs: &[Arc<RunFacts>]) -> Option<LastRun> {
    let finished = runs.iter().filter_map(|run| run.finished.map(|finished| (finished, run)));
    let (last, run) =
        finished.max_by(|(one, a), (other, b)| one.at.cmp(&other.at).then_with(|| a.meta.name.cmp(&b.meta.name)))?;
    Some(LastRun { name: run.meta.name.clone(), result: last.result.as_str().to_owned(), finish_time: Time(last.at) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PipelineRun;
    use crate::cluster::index::ChildMeta;
    use crate::pipelines::definitions::facts::Finished;
    use serde_json::json;

    fn run(name: &str, at: i64, result: State) -> Arc<RunFacts> {
        let finished = Some(Finished { at: Timestamp::from_second(at).unwrap(), result });
        let meta = ChildMeta { name: name.into(), namespace: "ns".into(), ..ChildMeta::default() };
        Arc::new(RunFacts { meta, finished, is_deleted: false })
    }

    #[test]
    fn what_the_last_run_came_to_is_told_before_it_is_deleted_and_stays() {
        let step = json!({"name": "a", "run": {"spec": {"containers": [{"name": "c"}]}}});
        let mut pipeline: Pipeline = serde_json::from_value(json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "Pipeline", "metadata": {"name": "p", "generation": 1},
            "spec": {"steps": [step], "failedRunsHistoryLimit": 0},
        }))
        .unwrap();
        let (memory, now) = (Memory::default(), Timestamp::from_second(100).unwrap());
        let last = |plan: &Plan<PipelineStatus>| plan.status.last_run.as_ref().map(|last| last.name.clone());
        let runs = [run("good", 1, State::Succeeded), run("bad", 2, State::Failed)];
        let plan = decide(&pipeline, &runs, &memory, now);
        assert_eq!((last(&plan).as_deref(), plan.actions.len()), (Some("bad"), 0));
        pipeline.status = Some(plan.status);
        assert_eq!(decide(&pipeline, &runs, &memory, now).actions.len(), 1);
        let plan = decide(&pipeline, &runs[..1], &memory, now);
        assert_eq!(last(&plan).as_deref(), Some("bad"), "an older success hides no failure");
    }

    #[test]
    fn runs_of_an_earlier_life_and_invalid_ones_are_found_under_the_pipelines_name() {
        let run = |status: serde_json::Value| -> PipelineRun {
            serde_json::from_value(json!({
                "apiVersion": "trainyard.dev/v1alpha1", "kind": "PipelineRun", "metadata": {"name": "r", "namespace": "ns"},
                "spec": {"pipelineRef": {"name": "p"}}, "status": status,
            }))
            .unwrap()
        };
        let ended = |reason: &str| {
            let condition = |type_: &str, status: &str| json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-05T09:00:00Z"});
            json!({"conditions": [condition("Ready", "False"), condition("Finished", "True")], "finishTime": "2026-01-05T09:00:00Z"})
        };
        let mut earlier = ended("Failed");
        earlier["pipeline"] = json!({"name": "p", "uid": "of an earlier life", "hash": "h"});
        for status in [json!({}), earlier, ended("Invalid")] {
            let facts = RunFacts::from(run(status.clone()));
            let owner = facts.meta.owner.unwrap();
            assert_eq!((owner.name.as_str(), owner.uid.as_str()), ("p", "p"), "{status}");
            assert!(facts.finished.is_none_or(|finished| finished.result == State::Failed));
        }
    }
}
