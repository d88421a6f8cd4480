//! Ending what still runs of attempts that are over: sidecars go on when the container that counts has ended, and a job that
//! stalled may begin after all.

use std::collections::BTreeSet;

use super::View;
use super::child::stop_job;
use crate::api::PipelineRunStatus;
use crate::api::pipeline_run::StepState;
use crate::cluster::plan::{Action, Plan};
use crate::cluster::port::Resource;
use crate::pipelines::runs::facts::JobProgress;

/// Adds to a plan the end of pods and jobs that still run although what they did is on record as over. Pods that end by
/// themselves are kept, for their logs.
pub(super) fn tidy(view: &View, plan: Plan<PipelineRunStatus>) -> Plan<PipelineRunStatus> {
    let running = view.status.steps.values().filter(|step| step.state == StepState::Running);
    let in_force: BTreeSet<&str> = running.filter_map(|step| step.child.as_deref()).collect();
    let is_in_force = |child: &String| in_force.contains(child.as_str());
    let pods = view.observed.pods.iter().filter(|pod| {
        let ends = pod.delete_asked_at.is_some() || view.memory.ending.ends_by_itself(pod, view.now);
        !ends && !is_in_force(&pod.meta.name)
    });
    let deletions = pods.map(|pod| Action::delete(Resource::Pod, &pod.meta));
    let jobs = view.observed.jobs.iter().filter(|job| {
        let may_run = matches!(job.progress, JobProgress::Underway | JobProgress::Stalled);
        may_run && !is_in_force(&job.meta.name) && !view.memory.writes.awaits(Resource::TrainingJob, &job.meta)
    });
    let mut plan = plan.waking_at(view.memory.ending.at_the_latest(view.now));
    let endings: Vec<Action> = deletions.chain(jobs.filter_map(|job| stop_job(job))).collect();
    if !endings.is_empty() {
        // An old status says nothing of attempts that have been put on record since.
        plan.checks.push(view.run_is_current());
    }
    plan.actions.extend(endings);
    plan
}
