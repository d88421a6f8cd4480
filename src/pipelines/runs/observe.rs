//! What a decision is made from, besides the run itself: its children as the caches have them, and what this process
//! remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::ahead::Ahead;
use super::facts::{JobFacts, ServingFacts};
use super::hidden::Hidden;
use super::launch::{Secret, is_ours};
use crate::api::{Pipeline, PipelineRunStatus};
use crate::cluster::ending::Endings;
use crate::cluster::index::{Child, ChildMeta};
use crate::cluster::managed::Remembers;
use crate::cluster::plan::{Action, Check};
use crate::cluster::pod::PodFacts;
use crate::cluster::port::{ObjectId, Resource};
use crate::cluster::problem::Problem;
use crate::cluster::refusal::{Refusal, RefusalKind};
use crate::cluster::retry::wait_before;
use crate::cluster::workload::RevisionFacts;
use crate::cluster::writes::Writes;
use crate::names::LABEL_STEP;
use crate::pipelines::build::record::Record;
use crate::pipelines::definitions::facts::RunFacts;
use crate::pipelines::validate::{ValidPipeline, recorded};

/// A Pipeline that is missing or invalid is looked at again after this long, and after the first few times twice as long each
/// further time.
const PIPELINE_INTERVAL: SignedDuration = SignedDuration::from_secs(5);
/// So often it is looked at again without a longer pause: an invalid run is given up soon.
const SOON: i32 = 6;
/// What the cluster itself said of an object is asked again after this long.
const DOUBT: SignedDuration = SignedDuration::from_secs(2);
/// The longest that a Pipeline is not looked for.
const LONGEST_PIPELINE_INTERVAL: SignedDuration = SignedDuration::from_secs(40);

/// The children of a run, as the caches have them; each cache may lag behind the cluster, and behind the others.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Its pods.
    pub pods: Vec<Arc<PodFacts>>,
    /// Its TrainingJobs.
    pub jobs: Vec<Arc<JobFacts>>,
    /// ModelDeployments that it deployed and no later run has.
    pub deployments: Vec<Arc<ServingFacts>>,
    /// Its record.
    pub record: Option<Arc<RevisionFacts>>,
    /// The claim that was made for it.
    pub claim: Option<Arc<ChildMeta>>,
    /// If it has finished: all runs of the namespace that have finished and belong to no Pipeline.
    pub of_no_pipeline: Vec<Arc<RunFacts>>,
}

/// The child of that name.
pub fn named<'a, T: Child>(children: &'a [Arc<T>], name: &str) -> Option<&'a Arc<T>> {
    // The caches answer in order of names.
    let at = children.binary_search_by(|child| child.meta().name.as_str().cmp(name)).ok()?;
    children.get(at)
}

impl Observed {
    /// The ModelDeployment of that name, if that step was the last to deploy it.
    pub fn deployed(&self, step: &str, name: &str) -> Option<&Arc<ServingFacts>> {
        named(&self.deployments, name).filter(|deployment| deployment.step == step)
    }

    fn children(&self) -> impl Iterator<Item = (Resource, &ChildMeta)> {
        let pods = self.pods.iter().map(|pod| (Resource::Pod, &pod.meta));
        let jobs = self.jobs.iter().map(|job| (Resource::TrainingJob, &job.meta));
        let deployments = self.deployments.iter().map(|child| (Resource::ModelDeployment, &child.meta));
        let record = self.record.iter().map(|child| (Resource::ControllerRevision, &child.meta));
        let claim = self.claim.iter().map(|child| (Resource::PersistentVolumeClaim, child.as_ref()));
        pods.chain(jobs).chain(deployments).chain(record).chain(claim)
    }
}

/// What the process remembers of one run between reconciles. Losing it costs a few requests; and a pod that vanished
/// meanwhile is made again instead of being counted as lost.
#[derive(Debug, Default)]
pub struct Memory {
    /// Our own recent writes.
    pub writes: Writes,
    /// Pods and jobs that the caches have shown and that were made for the attempt on record: one that is missing is lost.
    pub seen: BTreeSet<String>,
    /// Children that are there and that no cache shows.
    pub hidden: Hidden,
    /// What the tokens of children follow from.
    pub secret: Secret,
    /// The Pipeline that the run names, as it was last read; only before the run starts.
    pub pipeline: Option<PipelineRead>,
    /// What the apiserver said of fields that the operator does not know; only before the run starts.
    pub asked: Option<Asked>,
    /// Steps whose ModelDeployment was made, or changed, as they want it, or that the caches have shown so.
    pub deployed: BTreeSet<String>,
    /// Children that were refused for a reason that passes: they are asked for again in their own time, and hold up no other.
    pub late: BTreeMap<ObjectId, Refusal>,
    /// Objects about which the cluster itself said other than the caches, and until when that is taken for granted.
    pub doubtful: BTreeMap<ObjectId, Timestamp>,
    /// Pods that are ending by themselves.
    pub ending: Endings,
    /// What was looked up before the start.
    pub ahead: Option<Ahead>,
    /// What became of reading the record.
    pub record: Option<RecordRead>,
}

/// What became of reading a record, which never changes: it may be as long as an object can be, and is read once.
#[derive(Clone, Debug)]
pub struct RecordRead {
    /// The record's UID.
    pub uid: String,
    /// What it holds; nothing if it cannot be read.
    pub prepared: Option<Arc<Prepared>>,
}

/// What the apiserver said of the fields of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// UID of the Pipeline, if it is not the run's own, and the generation that was asked about.
    pub about: (Option<String>, Option<i64>),
    /// Fields that it does not know either.
    pub problems: Vec<Problem>,
}

/// A Pipeline as it was read.
#[derive(Clone, Debug)]
pub struct PipelineRead {
    /// The Pipeline; `Err` says why it cannot be read, `Ok(None)` that there is none.
    pub pipeline: Result<Option<Box<Pipeline>>, String>,
    /// When it was read.
    pub read_at: Timestamp,
    /// How often it has been.
    pub reads: i32,
    /// Whether the run's record was made from it: the run is what was read then, whatever the Pipeline becomes until it starts.
    pub is_recorded: bool,
}

impl PipelineRead {
    /// When to read it again.
    pub fn due_at(&self) -> Timestamp {
        self.read_at + wait_before(self.reads - SOON, PIPELINE_INTERVAL, LONGEST_PIPELINE_INTERVAL)
    }
}

/// What a run runs, ready to be decided upon.
#[derive(Debug)]
pub struct Prepared {
    /// What the record holds.
    pub record: Record,
    /// Its pipeline.
    pub pipeline: ValidPipeline,
}

impl Memory {
    /// Takes in what the caches show of a run with that status.
    pub fn catch_up(&mut self, status: Option<&PipelineRunStatus>, observed: &Observed, now: Timestamp) {
        self.writes.catch_up(observed.children(), now);
        self.ending.catch_up(observed.pods.iter().map(AsRef::as_ref), now);
        self.see(status, observed);
        self.deployed.extend(observed.deployments.iter().map(|deployment| deployment.step.clone()));
        let passes = |refusal: &&Refusal| {
            matches!(refusal.kind, RefusalKind::Quota | RefusalKind::Unanswered | RefusalKind::Awaited)
        };
        if let Some(refusal) = self.writes.refusal.as_ref().filter(passes) {
            self.late.insert(refusal.id.clone(), refusal.clone());
        }
        self.late.retain(|_, refusal| now < refusal.until);
        self.doubtful.retain(|_, until| now < *until);
        if let Some(read) = &mut self.pipeline {
            // A clock that was set back must not hold anything up.
            read.read_at = read.read_at.min(now);
        }
        let read = self.record.take();
        self.record = observed.record.as_ref().map(|record| {
            let known = read.filter(|read| read.uid == record.meta.uid);
            known
                .unwrap_or_else(|| RecordRead { uid: record.meta.uid.clone(), prepared: prepare(record).map(Arc::new) })
        });
    }

    /// What the run runs, if its record is there and can be read.
    pub fn prepared(&self) -> Option<&Arc<Prepared>> {
        self.record.as_ref()?.prepared.as_ref()
    }

    /// Why an object is not asked for now, if it was refused.
    pub fn refusal_of(&self, id: &ObjectId) -> Option<&Refusal> {
        self.writes.refusal.as_ref().filter(|refusal| refusal.id == *id).or_else(|| self.late.get(id))
    }

    /// When what is put off now is looked at again.
    pub fn put_off_until(&self) -> Option<Timestamp> {
        let refused = self.writes.refusal.iter().chain(self.late.values()).map(|refusal| refusal.until);
        refused.chain(self.doubtful.values().copied()).min()
    }

    /// Takes note of the children that are there of the attempts on record.
    fn see(&mut self, status: Option<&PipelineRunStatus>, observed: &Observed) {
        let pods = observed.pods.iter().map(|pod| (&pod.meta.name, &pod.launch_token));
        let jobs = observed.jobs.iter().map(|job| (&job.meta.name, &job.launch_token));
        let there: BTreeMap<&String, &String> = pods.chain(jobs).collect();
        for step in status.into_iter().flat_map(|status| status.steps.values()) {
            if let Some(child) = &step.child
                && let Some(token) = there.get(child).filter(|_| !self.seen.contains(child))
                && is_ours(step.launch.as_deref(), token)
            {
                self.seen.insert(child.clone());
            }
        }
    }

    /// Whether the pod or job of an attempt was there once.
    pub fn has_seen(&self, name: &str) -> bool {
        self.seen.contains(name)
    }
}

/// Reads a record. It was valid when it was written; an operator that cannot read it says so on the run.
fn prepare(facts: &RevisionFacts) -> Option<Prepared> {
    let record: Record = serde_json::from_str(&facts.data).ok()?;
    let pipeline = recorded(&record.spec)?;
    Some(Prepared { record, pipeline })
}

impl Remembers<PipelineRunStatus> for Memory {
    fn writes(&mut self) -> &mut Writes {
        &mut self.writes
    }

    fn acted(&mut self, actions: &[Action], _now: Timestamp) {
        for action in actions {
            if action.id().resource == Resource::ControllerRevision
                && let (Action::Create { .. }, Some(read)) = (action, &mut self.pipeline)
            {
                read.is_recorded = true;
            }
            if let Action::Put { object, .. } = action
                && let Some(step) = object["metadata"]["labels"][LABEL_STEP].as_str()
            {
                self.deployed.insert(step.to_owned());
            }
        }
    }

    /// What is left of one step must not hold up the others.
    fn doubted(&mut self, checks: &[Check], now: Timestamp) -> bool {
        let of_one_step = |check: &Check| match check {
            Check::IsAbsent { id, .. }
            | Check::IsInOtherHands { id, .. }
            | Check::PodHasEnded { id }
            | Check::PodsAreGone { owner: id, .. } => Some(id.clone()),
            _ => None,
        };
        let ids: Option<Vec<ObjectId>> = checks.iter().map(of_one_step).collect();
        let Some(ids) = ids else { return false };
        ids.iter().for_each(|id| self.hidden.note(id));
        self.doubtful.extend(ids.into_iter().map(|id| (id, now + DOUBT)));
        true
    }
}
