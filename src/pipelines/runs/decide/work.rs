//! Making what a step runs as: a pod, a TrainingJob, or a ModelDeployment.

use std::collections::BTreeMap;

use serde_json::Value;

use super::View;
use crate::api::pipeline_run::StepState;
use crate::api::pipeline_step::Deploy;
use crate::api::{ModelDeployment, PipelineRunStatus, TrainingJob};
use crate::cluster::plan::{Action, Check};
use crate::cluster::port::{ObjectId, Resource};
use crate::cluster::problem::told;
use crate::pipelines::build::Attempt;
use crate::pipelines::build::deployment::build_deployment;
use crate::pipelines::build::job::build_job;
use crate::pipelines::build::pod::build_pod;
use crate::pipelines::policy::places::{Embedded, each_string};
use crate::pipelines::policy::references::{Piece, Reference, pieces};
use crate::pipelines::policy::substitute::{Values, substitute};
use crate::pipelines::runs::facts::JobProgress;
use crate::pipelines::runs::observe::{Prepared, named};
use crate::pipelines::validate::embedded::{check_object, check_template};
use crate::pipelines::validate::{ValidStep, Work};
use crate::{names, serving, training};

/// A child to be made, and what must hold before.
pub(super) struct Creation {
    pub(super) action: Action,
    pub(super) check: Option<Check>,
}

/// Kind of a step's child.
pub(super) fn resource(step: &ValidStep) -> Resource {
    match step.work {
        Work::Run { .. } => Resource::Pod,
        Work::Train(_) => Resource::TrainingJob,
        Work::Deploy(_) => Resource::ModelDeployment,
    }
}

/// Name of a step's child in an attempt.
pub(super) fn child_name(view: &View, step: &ValidStep, attempt: u32) -> String {
    match &step.work {
        Work::Deploy(deploy) => deploy.name.clone(),
        Work::Run { .. } | Work::Train(_) => {
            names::step_child(view.maker().name, view.maker().uid, &step.name, attempt)
        }
    }
}

/// What the status says of the token of an attempt's child; nothing of a ModelDeployment, which belongs to nobody.
pub(super) fn on_record(view: &View, step: &ValidStep, attempt: u32) -> Option<String> {
    let is_owned = resource(step) != Resource::ModelDeployment;
    is_owned.then(|| view.memory.secret.on_record(&child_name(view, step, attempt)))
}

/// A reference to an output of a step that did not succeed, and so has none.
pub(super) fn missing_output(step: &ValidStep, status: &PipelineRunStatus) -> Option<String> {
    let (spec, embedded) = match &step.work {
        Work::Run { template, .. } => (template.parse(), Embedded::PodTemplate),
        Work::Train(spec) => (spec.parse(), Embedded::TrainingJob),
        Work::Deploy(deploy) => (deploy.spec.parse(), Embedded::ModelDeployment),
    };
    let missing = |piece| {
        let Piece::Reference(reference @ Reference::Output { step, .. }) = piece else { return None };
        let state = status.steps.get(step).map(|step| step.state).filter(|state| *state != StepState::Succeeded)?;
        Some(format!("{reference} has no value: step {step} is {}", state.as_str()))
    };
    each_string(&spec, embedded, &mut |_, _, text| pieces(text).find_map(missing).map_or(Ok(()), Err)).err()
}

/// What is to be made for an attempt whose child is not there, and was not; `None` if its time has not come.
///
/// # Errors
/// Why it cannot be made: the values do not fit.
pub(super) fn creation(
    view: &View,
    prepared: &Prepared,
    step: &ValidStep,
    attempt: u32,
) -> Result<Option<Creation>, String> {
    let retry_time = view.status.steps.get(&step.name).and_then(|step| step.retry_time.as_ref());
    if retry_time.is_some_and(|at| view.now < at.0) || !is_alone(view, step, attempt) {
        return Ok(None);
    }
    let action = action(view, prepared, step, attempt)?;
    Ok(Some(Creation { action, check: before_retry(view, step, attempt) }))
}

/// Whether the child of a step was there once, as far as this process has seen.
pub(super) fn has_seen(view: &View, step: &ValidStep, name: &str) -> bool {
    match step.work {
        Work::Run { .. } | Work::Train(_) => view.memory.has_seen(name),
        Work::Deploy(_) => view.memory.deployed.contains(&step.name),
    }
}

/// Whether nothing of the attempt before runs any more, as far as the caches show.
pub(super) fn is_alone(view: &View, step: &ValidStep, attempt: u32) -> bool {
    if attempt <= 1 {
        return true;
    }
    let before = child_name(view, step, attempt - 1);
    match step.work {
        Work::Run { .. } => named(&view.observed.pods, &before).is_none_or(|pod| pod.is_terminal()),
        Work::Train(_) => named(&view.observed.jobs, &before).is_none_or(|job| {
            let is_over = match job.progress {
                JobProgress::Complete | JobProgress::Failed | JobProgress::Stopped => true,
                // One that nobody stops may begin after all.
                JobProgress::Stalled => job.is_asked_to_stop,
                JobProgress::Underway => false,
            };
            is_over && !job.is_deleted
        }),
        Work::Deploy(_) => true,
    }
}

/// Deletes the pod of the attempt before, if it has ended and holds claims of generic ephemeral volumes: quota and storage that
/// this attempt needs.
pub(super) fn holds_claims(view: &View, step: &ValidStep, attempt: u32) -> Option<Action> {
    let before = child_name(view, step, attempt.checked_sub(1)?);
    let pod = named(&view.observed.pods, &before).filter(|pod| pod.has_claims && pod.is_terminal())?;
    let id = ObjectId::new(Resource::Pod, &pod.meta.namespace, &pod.meta.name);
    pod.delete_asked_at.is_none().then(|| Action::Delete { id, uid: pod.meta.uid.clone(), version: None })
}

/// Whether the cluster itself said a moment ago that something of the attempt before goes on.
pub(super) fn is_doubtful(view: &View, step: &ValidStep, attempt: u32) -> bool {
    attempt > 1 && view.memory.doubtful.contains_key(&view.id(resource(step), &child_name(view, step, attempt - 1)))
}

/// That nothing of the attempt before runs any more, past all caches.
pub(super) fn before_retry(view: &View, step: &ValidStep, attempt: u32) -> Option<Check> {
    if attempt <= 1 {
        return None;
    }
    let before = child_name(view, step, attempt - 1);
    match step.work {
        Work::Run { .. } => Some(Check::PodHasEnded { id: view.id(Resource::Pod, &before) }),
        Work::Train(_) => {
            // Of a job that somebody deleted, pods may go on until the garbage collector comes, and the job may be there again.
            Some(Check::PodsAreGone {
                owner: view.id(Resource::TrainingJob, &before),
                owner_uid: None,
                below_attempt: u32::MAX,
                absent: Vec::new(),
            })
        }
        Work::Deploy(_) => None,
    }
}

fn action(view: &View, prepared: &Prepared, step: &ValidStep, number: u32) -> Result<Action, String> {
    let run = view.maker();
    let name = child_name(view, step, number);
    let token = view.memory.secret.token(&name);
    let attempt = Attempt { run, pipeline: &prepared.pipeline, step: &step.name, number, token: &token };
    let create = |resource, name: &str, object: Value| Action::Create {
        id: ObjectId::new(resource, run.namespace, name),
        owner_uid: run.uid.to_owned(),
        object: object.into(),
    };
    match &step.work {
        Work::Run { template, container } => {
            let template = filled(view, &template.parse(), Embedded::PodTemplate)?;
            let problems = check_template(&template);
            if !problems.is_empty() {
                return Err(told(&problems));
            }
            Ok(create(Resource::Pod, &name, build_pod(attempt, &template, container, step.failure_logs)))
        }
        Work::Train(spec) => {
            let spec = filled(view, &spec.parse(), Embedded::TrainingJob)?;
            let problems =
                check_object::<TrainingJob>("TrainingJob", &name, &spec, |job| training::validate::validate(job).err());
            if !problems.is_empty() {
                return Err(told(&problems));
            }
            Ok(create(Resource::TrainingJob, &name, build_job(attempt, spec)))
        }
        Work::Deploy(deploy) => deploy_action(view, prepared, step, deploy),
    }
}

fn deploy_action(view: &View, prepared: &Prepared, step: &ValidStep, deploy: &Deploy) -> Result<Action, String> {
    let run = view.maker();
    let spec = filled(view, &deploy.spec.parse(), Embedded::ModelDeployment)?;
    let problems = check_object::<ModelDeployment>("ModelDeployment", &deploy.name, &spec, |deployment| {
        serving::validate::validate(deployment).err()
    });
    if !problems.is_empty() {
        return Err(told(&problems));
    }
    let pipeline_uid = prepared.record.pipeline.uid.as_deref().unwrap_or(run.uid);
    Ok(Action::Put {
        id: view.id(Resource::ModelDeployment, &deploy.name),
        object: build_deployment(run, &step.name, &deploy.name, pipeline_uid, spec),
        mark: names::ANNOTATION_PIPELINE_UID,
        adopts: deploy.adopt == Some(true),
    })
}

/// A spec with its values: those of the run, and what the status on record says that steps reported.
fn filled(view: &View, spec: &Value, embedded: Embedded) -> Result<Value, String> {
    let succeeded = view.status.steps.iter().filter(|(_, step)| step.state == StepState::Succeeded);
    let values = Values {
        run: view.maker().name.to_owned(),
        parameters: view.status.parameters.clone(),
        outputs: succeeded.map(|(name, step)| (name.clone(), step.outputs.clone())).collect::<BTreeMap<_, _>>(),
    };
    substitute(spec, embedded, &values).map_err(|unfit| unfit.to_string())
}
