//! What became of a step that is on record as running, by its child.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::View;
use super::work::{self, Creation};
use crate::api::pipeline_run::StopReason;
use crate::api::{FailureLogs, StepStatus};
use crate::cluster::container::{ContainerState, with_last_line};
use crate::cluster::plan::{Action, Check, earliest};
use crate::cluster::pod::PodFacts;
use crate::cluster::pod_state::{PodState, by_name, lost, pod_state};
use crate::cluster::port::{ObjectId, Resource};
use crate::cluster::refusal::RefusalKind;
use crate::cluster::results::longest_message;
use crate::cluster::waiting;
use crate::pipelines::build::deployment::marks;
use crate::pipelines::build::job::build_stop;
use crate::pipelines::policy::outputs::{from_message, from_results};
use crate::pipelines::runs::facts::{JobFacts, JobProgress, ServingFacts, ServingProgress};
use crate::pipelines::runs::observe::{Prepared, named};
use crate::pipelines::runs::status::why_stopped;
use crate::pipelines::validate::{ValidStep, Work};

/// What became of a step.
pub(super) enum Verdict {
    /// It has not ended; the words say what holds it up.
    GoesOn(Option<String>),
    /// Its time ran out before it could begin, and does not count as long as something of the attempt before goes on; the
    /// words say so.
    BeginsLater(String),
    /// What it had to wait for is over: its time begins.
    Begins,
    /// It ended well.
    Succeeded(BTreeMap<String, Value>),
    /// It ended badly; final if it would again.
    Failed {
        /// Why.
        message: String,
        /// Whether another attempt is useless.
        is_final: bool,
    },
    /// It was stopped with the run.
    Stopped(String),
}

/// A verdict, and what has to be checked and done about it.
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    /// What must be so before the verdict is put on record.
    pub(super) checks: Vec<Check>,
    /// What has to be stopped.
    pub(super) action: Option<Action>,
    /// What has to be made.
    pub(super) creation: Option<Creation>,
    /// When to look again.
    pub(super) wake_at: Option<Timestamp>,
}

impl Finding {
    fn of(verdict: Verdict) -> Self {
        Finding { verdict, checks: Vec::new(), action: None, creation: None, wake_at: None }
    }

    fn goes_on() -> Self {
        Finding::of(Verdict::GoesOn(None))
    }

    fn held_up(message: String) -> Self {
        Finding::of(Verdict::GoesOn(Some(message)))
    }

    /// It failed, and would again.
    fn failed_for_good(message: String) -> Self {
        Finding::of(Verdict::Failed { message, is_final: true })
    }

    fn failed(message: String) -> Self {
        Finding::of(Verdict::Failed { message, is_final: false })
    }

    fn acting(self, action: Option<Action>) -> Self {
        Finding { action, ..self }
    }
}

/// How far one attempt may go.
struct Limits {
    /// Why it has to stop, if it has to.
    stop: Option<String>,
    /// Whether that is because the whole run is stopped.
    with_run: bool,
}

impl Limits {
    /// The verdict on an attempt that was stopped and is over.
    fn stopped(&self) -> Option<Finding> {
        let why = self.stop.clone()?;
        Some(match self.with_run {
            true => Finding::of(Verdict::Stopped(why)),
            false => Finding::failed(why),
        })
    }
}

/// Looks at a step that is on record as running. `stopped` says why it is to be stopped with the run; without `has_room`,
/// nothing is made for it this time.
pub(super) fn look(
    view: &View,
    prepared: &Prepared,
    step: &ValidStep,
    present: &StepStatus,
    stopped: Option<StopReason>,
    has_room: bool,
) -> Finding {
    let attempt = present.attempts.unwrap_or(1);
    let name = work::child_name(view, step, attempt);
    let waits = attempt > 1 && present.retry_time.is_none();
    let began = present.retry_time.as_ref().or(present.start_time.as_ref()).map(|time| time.0).filter(|_| !waits);
    let deadline = step.timeout.zip(began).and_then(|(timeout, began)| began.checked_add(timeout).ok());
    let limits = if let Some(reason) = stopped {
        Limits { stop: Some(why_stopped(reason).to_owned()), with_run: true }
    } else if deadline.is_some_and(|deadline| deadline <= view.now) {
        let limit = step.timeout.unwrap_or_default();
        Limits { stop: Some(format!("not finished {limit:#} after its start (timeout)")), with_run: false }
    } else {
        Limits { stop: None, with_run: false }
    };
    let found = match &step.work {
        Work::Run { container, .. } => {
            named(&view.observed.pods, &name).map(|pod| look_at_pod(view, step, pod, container, &limits))
        }
        Work::Train(_) => named(&view.observed.jobs, &name).map(|job| look_at_job(step, job, &limits)),
        Work::Deploy(_) => {
            let deployed = view.observed.deployed(&step.name, &name);
            deployed.map(|deployment| look_at_deployment(deployment, &limits))
        }
    };
    if waits && stopped.is_none() {
        let is_held_up = found.is_none() && !work::is_alone(view, step, attempt);
        return Finding::of(if is_held_up { Verdict::BeginsLater(waits_for(attempt - 1)) } else { Verdict::Begins });
    }
    let mut finding = found.unwrap_or_else(|| look_for(view, prepared, step, attempt, &limits, has_room));
    let ahead = [deadline, present.retry_time.as_ref().map(|time| time.0)].into_iter().flatten();
    for at in ahead.filter(|at| *at > view.now) {
        finding.wake_at = earliest(finding.wake_at, Some(at));
    }
    finding
}

/// That an attempt before goes on.
fn waits_for(attempt: u32) -> String {
    format!("pods of attempt {attempt} have not ended yet")
}

/// The child is not there: not made yet, refused, on its way into the cache, or lost.
fn look_for(
    view: &View,
    prepared: &Prepared,
    step: &ValidStep,
    attempt: u32,
    limits: &Limits,
    has_room: bool,
) -> Finding {
    let id = view.id(work::resource(step), &work::child_name(view, step, attempt));
    let (resource, name) = (id.resource, id.name.as_str());
    if view.memory.writes.has_created(resource, name) {
        return Finding::goes_on();
    }
    // A cache that lags may have forgotten a child, or not heard of it: the cluster itself is asked. A ModelDeployment may be
    // there, in other hands.
    let is_gone = || {
        let id = id.clone();
        match resource {
            Resource::ModelDeployment => Check::IsInOtherHands { id, marks: marks(view.maker(), &step.name) },
            _ => Check::IsAbsent { id },
        }
    };
    if view.memory.doubtful.contains_key(&id) {
        return Finding::held_up(format!("{} {name} is there, and not seen as a part of this run", resource.kind()));
    }
    match limits.stopped() {
        // The next attempt would not know of what goes on, since it asks for the one before it only.
        Some(_) if !limits.with_run && !work::is_alone(view, step, attempt) => {
            return Finding::of(Verdict::BeginsLater(waits_for(attempt - 1)));
        }
        Some(_) if !limits.with_run && work::is_doubtful(view, step, attempt) => {
            return Finding::held_up(waits_for(attempt - 1));
        }
        Some(finding) => {
            let others = work::before_retry(view, step, attempt).filter(|_| !limits.with_run);
            // A ModelDeployment goes on, whoever stops to wait for it.
            let checks = [Some(is_gone()), others].into_iter().flatten();
            return Finding { checks: checks.filter(|_| resource != Resource::ModelDeployment).collect(), ..finding };
        }
        None => {}
    }
    if work::has_seen(view, step, name) {
        let message = match resource {
            Resource::Pod => lost(&format!("pod {name}"), name, 0, view.now).message,
            Resource::TrainingJob => format!("TrainingJob {name} was deleted before it ended"),
            _ => format!(
                "ModelDeployment {name} was deployed by another run or step, or deleted, before it was Ready: run again if this \
                 run's model should serve"
            ),
        };
        return Finding { checks: vec![is_gone()], ..Finding::failed(message) };
    }
    if let Some(refused) = refused_claim(view, prepared, step) {
        return refused;
    }
    if let Some(refusal) = view.memory.refusal_of(&id) {
        return match (refusal.kind, &step.work) {
            (RefusalKind::Foreign, Work::Deploy(_)) => Finding::failed_for_good(format!(
                "deploy.name: {name}: this ModelDeployment was not made by this pipeline and is left untouched: set \
                 deploy.adopt: true, or give another name"
            )),
            (RefusalKind::Leftover, Work::Deploy(_)) => {
                Finding::held_up(format!("ModelDeployment {name} is being deleted; it is made again when it is gone"))
            }
            (RefusalKind::Content | RefusalKind::Overdue, _) => {
                Finding::failed(format!("the apiserver refuses {}", refusal.message))
            }
            (RefusalKind::Foreign, _) => Finding::failed(refusal.message.clone()),
            (RefusalKind::Quota | RefusalKind::Unanswered | RefusalKind::Leftover | RefusalKind::Awaited, _) => {
                Finding::held_up(refusal.told(""))
            }
        };
    }
    if work::is_doubtful(view, step, attempt) {
        return Finding::held_up(waits_for(attempt - 1));
    }
    if !has_room {
        return Finding::goes_on();
    }
    if let Some(spent) = work::holds_claims(view, step, attempt) {
        return Finding::goes_on().acting(Some(spent));
    }
    match work::creation(view, prepared, step, attempt) {
        Ok(creation) => Finding { creation, ..Finding::goes_on() },
        Err(message) => Finding::failed_for_good(message),
    }
}

/// The claim for files that the step needs was refused.
fn refused_claim(view: &View, prepared: &Prepared, step: &ValidStep) -> Option<Finding> {
    let files = prepared.pipeline.files.as_ref().filter(|_| work::resource(step) != Resource::ModelDeployment)?;
    let claim = view.id(Resource::PersistentVolumeClaim, &view.maker().claim_name(files));
    let refusal = view.memory.refusal_of(&claim)?;
    Some(match refusal.kind {
        RefusalKind::Content => Finding::failed_for_good(format!("files: the apiserver refuses {}", refusal.message)),
        RefusalKind::Foreign => Finding::failed_for_good(format!("files: {}", refusal.message)),
        _ => Finding::held_up(refusal.told("")),
    })
}

fn look_at_pod(view: &View, step: &ValidStep, pod: &PodFacts, container: &str, limits: &Limits) -> Finding {
    match pod_state(pod, container, by_name, &view.memory.ending, view.now) {
        PodState::Succeeded => {
            let message = match pod.container(container).map(|container| &container.state) {
                Some(ContainerState::Ended(ended)) => ended.message.as_deref().unwrap_or_default(),
                _ => "",
            };
            match from_message(&step.outputs, message, longest_message(pod.container_count)) {
                Ok(outputs) => Finding::of(Verdict::Succeeded(outputs)),
                Err(message) => Finding::failed(message),
            }
        }
        // Asked to end, by whomever, and not ended yet: another attempt beside it could do harm.
        _ if pod.delete_asked_at.is_some() && !pod.is_terminal() => Finding::held_up("its pod is ending".to_owned()),
        // A moment later the kubelet says whether it ended the pod, and why.
        PodState::Failed(failure) if failure.may_change => {
            Finding { wake_at: view.memory.ending.at_the_latest(view.now), ..Finding::goes_on() }
        }
        PodState::Failed(failure) => match limits.stopped().filter(|_| pod.delete_asked_at.is_some()) {
            Some(stopped) => stopped,
            None => {
                let log = failure.log_tail.as_deref().filter(|_| step.failure_logs == FailureLogs::Tail);
                Finding::failed(with_last_line(&failure.message, log))
            }
        },
        state => {
            if let Some(why) = &limits.stop {
                let delete = Action::delete(Resource::Pod, &pod.meta);
                return Finding::held_up(format!("{why}: its pod is being stopped")).acting(Some(delete));
            }
            match waiting::reason(pod).filter(|_| state == PodState::Waiting) {
                Some(why) => Finding::held_up(format!("its pod is {why}")),
                None => Finding { wake_at: view.memory.ending.at_the_latest(view.now), ..Finding::goes_on() },
            }
        }
    }
}

/// Stops a job, unless it is about to stop already.
pub(super) fn stop_job(job: &JobFacts) -> Option<Action> {
    let id = ObjectId::new(Resource::TrainingJob, &job.meta.namespace, &job.meta.name);
    (!job.is_asked_to_stop && !job.is_deleted).then(|| Action::Apply { id, object: build_stop(&job.meta) })
}

fn look_at_job(step: &ValidStep, job: &JobFacts, limits: &Limits) -> Finding {
    match job.progress {
        JobProgress::Complete => match from_results(&step.outputs, &job.results) {
            Ok(outputs) => Finding::of(Verdict::Succeeded(outputs)),
            Err(message) if job.results_refused => {
                Finding::failed(format!("TrainingJob {}: {message}; {}", job.meta.name, job.message))
            }
            Err(message) => Finding::failed(format!("TrainingJob {}: {message}", job.meta.name)),
        },
        JobProgress::Failed => Finding::failed(format!("TrainingJob {}: {}", job.meta.name, job.message)),
        JobProgress::Stalled => Finding::failed(format!("TrainingJob {}: {}", job.meta.name, job.message)),
        JobProgress::Stopped if limits.stop.is_some() => limits.stopped().unwrap_or_else(Finding::goes_on),
        _ if job.is_deleted => Finding::held_up("its TrainingJob is being deleted".to_owned()),
        JobProgress::Stopped => Finding::held_up("its TrainingJob is suspended".to_owned()),
        JobProgress::Underway => match &limits.stop {
            Some(why) => Finding::held_up(format!("{why}: its TrainingJob is being stopped")).acting(stop_job(job)),
            None => Finding::goes_on(),
        },
    }
}

fn look_at_deployment(deployment: &ServingFacts, limits: &Limits) -> Finding {
    match deployment.progress {
        ServingProgress::Ready => {
            let outputs = [
                ("url".to_owned(), Value::from(deployment.url.as_str())),
                ("revision".to_owned(), Value::from(deployment.revision)),
            ];
            Finding::of(Verdict::Succeeded(outputs.into()))
        }
        ServingProgress::Stalled => {
            Finding::failed(format!("ModelDeployment {}: {}", deployment.meta.name, deployment.message))
        }
        // It belongs to nobody: what it does from here on is its own affair.
        ServingProgress::Underway => limits.stopped().unwrap_or_else(Finding::goes_on),
    }
}
