//! What became of a step that is on record as running, by its child.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::View;
use super::work::{self, Creation};
use crate::api::pipeline_run::StopReason;
use crate::api::pipeline_step::Deploy;
use crate::api::{FailureLogs, StepStatus};
use crate::cluster::container::{ContainerState, with_last_line};
use crate::cluster::index::ChildMeta;
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
use crate::pipelines::runs::launch::is_ours;
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
    /// The token on record is of a process that has ended, and nothing was made with it: this process' own comes first.
    Relaunches,
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

/// What is said of an attempt that is being stopped, after the reason.
const STOPPING: &str = "; it is being stopped";
/// An object that somebody else made under the name of an attempt's child may be in the way for this long.
const LONGEST_OBSTRUCTION: SignedDuration = SignedDuration::from_mins(1);

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
    let limit = if let Some(reason) = stopped {
        Some(why_stopped(reason).to_owned())
    } else if deadline.is_some_and(|deadline| deadline <= view.now) {
        Some(format!("not finished {:#} after its start (timeout)", step.timeout.unwrap_or_default()))
    } else {
        None
    };
    let stop = limit.map(|limit| match stopped {
        Some(StopReason::Cancelled) => limit,
        _ => with_cause(limit, present, || cause(view, step, &name)),
    });
    let limits = Limits { stop, with_run: stopped.is_some() };
    let is_ours = |token: &str| is_ours(present.launch.as_deref(), token);
    let found = match &step.work {
        Work::Run { container, .. } => named(&view.observed.pods, &name).map(|pod| match is_ours(&pod.launch_token) {
            true => look_at_pod(view, step, pod, container, &limits),
            false => look_at_foreign(view, &pod.meta, Resource::Pod, pod.delete_asked_at.is_some(), began, &limits),
        }),
        Work::Train(_) => named(&view.observed.jobs, &name).map(|job| match is_ours(&job.launch_token) {
            true => look_at_job(step, job, &limits),
            false => look_at_foreign(view, &job.meta, Resource::TrainingJob, job.is_deleted, began, &limits),
        }),
        Work::Deploy(deploy) => {
            let deployed = view.observed.deployed(&step.name, &name);
            deployed.map(|deployment| look_at_deployment(deploy, deployment, &limits))
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

/// A limit that ends an attempt, with what held the attempt up until then: the limit must not hide it.
fn with_cause(limit: String, present: &StepStatus, cause: impl FnOnce() -> Option<String>) -> String {
    match &present.message {
        // It is on record since the attempt is being stopped.
        Some(said) if said.starts_with(&limit) => said.strip_suffix(STOPPING).unwrap_or(said).to_owned(),
        said => match cause().as_ref().or(said.as_ref()) {
            Some(cause) => format!("{limit}; {cause}"),
            None => limit,
        },
    }
}

/// What holds up a step, as far as its child or the apiserver says.
fn cause(view: &View, step: &ValidStep, name: &str) -> Option<String> {
    let refusal = || view.memory.refusal_of(&view.id(work::resource(step), name));
    let said = match &step.work {
        Work::Run { .. } => named(&view.observed.pods, name).and_then(|pod| held_up_by(pod)),
        Work::Train(_) => named(&view.observed.jobs, name).filter(|job| job.waits).map(|job| job_says(job)),
        Work::Deploy(_) => {
            let deployed = view.observed.deployed(&step.name, name).filter(|deployed| !deployed.message.is_empty());
            deployed.map(|deployed| format!("ModelDeployment {name}: {}", deployed.message))
        }
    };
    said.or_else(|| refusal().map(|refusal| refusal.message.clone()))
}

/// Why a pod has not started, if that is out of the ordinary.
fn held_up_by(pod: &PodFacts) -> Option<String> {
    waiting::reason(pod).map(|why| format!("its pod is {why}"))
}

fn job_says(job: &JobFacts) -> String {
    format!("TrainingJob {}: {}", job.meta.name, job.message)
}

/// An object that names this run as its owner and was not made by the operator: it counts for nothing and is removed, so
/// that the step's own child can be made.
fn look_at_foreign(
    view: &View,
    child: &ChildMeta,
    resource: Resource,
    is_deleted: bool,
    began: Option<Timestamp>,
    limits: &Limits,
) -> Finding {
    if let Some(stopped) = limits.stopped() {
        return stopped;
    }
    let (kind, name) = (resource.kind(), &child.name);
    let given_up = began.and_then(|began| began.checked_add(LONGEST_OBSTRUCTION).ok());
    if given_up.is_some_and(|at| at <= view.now) {
        return Finding::failed(format!(
            "{kind} {name} was made by somebody else, and its name did not become free within \
             {LONGEST_OBSTRUCTION:#}: find out who makes it, and create the run again"
        ));
    }
    let delete = (!is_deleted).then(|| Action::delete(resource, child));
    let checks = delete.iter().map(|_| view.run_is_current()).collect();
    let why = format!("{kind} {name} was made by somebody else, counts for nothing and is being removed");
    Finding { checks, wake_at: given_up, ..Finding::held_up(why) }.acting(delete)
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
            _ => Check::IsAbsent { id, owner_uid: view.maker().uid.to_owned() },
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
    let on_record = view.status.steps.get(&step.name).and_then(|step| step.launch.as_ref());
    if resource != Resource::ModelDeployment && on_record != Some(&view.memory.secret.on_record(name)) {
        return Finding { checks: vec![is_gone()], ..Finding::of(Verdict::Relaunches) };
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
                return Finding::held_up(format!("{why}{STOPPING}")).acting(Some(delete));
            }
            match held_up_by(pod).filter(|_| state == PodState::Waiting) {
                Some(why) => Finding::held_up(why),
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
        JobProgress::Failed | JobProgress::Stalled => Finding::failed(job_says(job)),
        JobProgress::Stopped if limits.stop.is_some() => limits.stopped().unwrap_or_else(Finding::goes_on),
        _ if job.is_deleted => Finding::held_up("its TrainingJob is being deleted".to_owned()),
        JobProgress::Stopped => Finding::held_up("its TrainingJob is suspended".to_owned()),
        JobProgress::Underway => match &limits.stop {
            Some(why) => Finding::held_up(format!("{why}{STOPPING}")).acting(stop_job(job)),
            None if job.waits => Finding::held_up(job_says(job)),
            None => Finding::goes_on(),
        },
    }
}

fn look_at_deployment(deploy: &Deploy, deployment: &ServingFacts, limits: &Limits) -> Finding {
    let succeeded = || {
        let outputs = [
            ("url".to_owned(), Value::from(deployment.url.as_str())),
            ("revision".to_owned(), Value::from(deployment.revision)),
        ];
        Finding::of(Verdict::Succeeded(outputs.into()))
    };
    match deployment.progress {
        ServingProgress::Ready => succeeded(),
        ServingProgress::Undone if undoes(deploy) => succeeded(),
        // A person has set it, and what the step applies leaves it as it is.
        ServingProgress::Undone => limits.stopped().unwrap_or_else(|| {
            let (name, revision) = (&deployment.meta.name, deployment.revision);
            Finding::held_up(format!(
                "ModelDeployment {name} serves revision {revision}, which its rollout.undoTo names, and not what this step \
                 has deployed: remove spec.rollout.undoTo from it"
            ))
        }),
        ServingProgress::Stalled => {
            Finding::failed(format!("ModelDeployment {}: {}", deployment.meta.name, deployment.message))
        }
        // It belongs to nobody: what it does from here on is its own affair.
        ServingProgress::Underway => limits.stopped().unwrap_or_else(Finding::goes_on),
    }
}

/// Whether the step itself asks for an earlier revision.
fn undoes(deploy: &Deploy) -> bool {
    !deploy.spec.parse()["rollout"]["undoTo"].is_null()
}
