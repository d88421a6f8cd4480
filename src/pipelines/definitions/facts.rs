//! Runs as far as their Pipeline looks at them.

use jiff::Timestamp;

use crate::api::{Pipeline, PipelineRun};
use crate::cluster::guard::Guarded;
use crate::cluster::index::{Child, ChildMeta, Owner};
use crate::cluster::managed::Remembers;
use crate::cluster::port::{ApiError, ApiServer, Resource};
use crate::cluster::problem::Problem;
use crate::cluster::writes::Writes;
use crate::pipelines::probe::ask;
use crate::pipelines::runs::status::{State, is_finished};
use crate::pipelines::validate::validate;

/// Owner of the runs that have finished and belong to no Pipeline: those that brought their own, and those that never found
/// the one that they name. No Pipeline can have this name.
pub const NO_PIPELINE: &str = "(none)";

/// What is kept of a run: it is found under the Pipeline that it names, which does not own it. A Pipeline that was deleted and
/// made again under its name has the runs of its earlier life.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunFacts {
    /// Identity, and the Pipeline.
    pub meta: ChildMeta,
    /// How and when it finished.
    pub finished: Option<Finished>,
    /// Whether it is being deleted.
    pub is_deleted: bool,
}

/// How a run finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// When.
    pub at: Timestamp,
    /// Succeeded, Cancelled, or Failed for whatever reason.
    pub result: State,
}

impl Child for RunFacts {
    fn meta(&self) -> &ChildMeta {
        &self.meta
    }
}

impl From<PipelineRun> for RunFacts {
    fn from(run: PipelineRun) -> Self {
        let mut meta = ChildMeta::new(&run.metadata);
        let status = run.status.unwrap_or_default();
        let state = State::of(&status);
        let finished = is_finished(&status).then(|| Finished {
            at: status.finish_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            result: state.filter(|state| matches!(state, State::Succeeded | State::Cancelled)).unwrap_or(State::Failed),
        });
        let never_found = finished.is_some() && state == Some(State::PipelineNotFound);
        meta.owner = match run.spec.pipeline_ref.map(|named| named.name).filter(|_| !never_found) {
            // Runs that have not started know no UID, and the index knows owners by UID.
            Some(name) => Some(Owner { kind: Resource::Pipeline.kind().to_owned(), uid: name.clone(), name }),
            None => finished.map(|_| Owner {
                kind: Resource::PipelineRun.kind().to_owned(),
                name: meta.name.clone(),
                uid: NO_PIPELINE.to_owned(),
            }),
        };
        let is_deleted = run.metadata.deletion_timestamp.is_some();
        RunFacts { meta, finished, is_deleted }
    }
}

/// A run that cannot be read is nobody's.
impl From<Guarded<PipelineRun>> for RunFacts {
    fn from(run: Guarded<PipelineRun>) -> Self {
        match run.0 {
            Ok(run) => RunFacts::from(run),
            Err(unreadable) => RunFacts {
                meta: ChildMeta { owner: None, ..ChildMeta::new(&unreadable.metadata) },
                ..RunFacts::default()
            },
        }
    }
}

/// What the process remembers of one Pipeline between reconciles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Our own recent writes.
    pub writes: Writes,
    /// What is known of the spec since it was checked last: every news of a run leads to a reconcile, and a pipeline may have
    /// hundreds of steps.
    pub checked: Option<Checked>,
}

/// What a check of a pipeline's spec found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    /// The generation that was checked.
    pub generation: Option<i64>,
    /// Why it cannot be run.
    pub problems: Vec<Problem>,
    /// What may go wrong when it is.
    pub warnings: Vec<Problem>,
}

impl Memory {
    /// Checks the spec if it is not the one that was checked last.
    ///
    /// # Errors
    /// Why the apiserver could not be asked about fields that the operator does not know.
    pub async fn check<A: ApiServer>(&mut self, api: &A, pipeline: &Pipeline) -> Result<(), ApiError> {
        let generation = pipeline.metadata.generation;
        if self.checked.as_ref().is_some_and(|checked| checked.generation == generation) {
            return Ok(());
        }
        let (problems, warnings) = match validate(&pipeline.spec.definition, "spec", None) {
            Ok(valid) => {
                let namespace = pipeline.metadata.namespace.as_deref().unwrap_or_default();
                (ask(api, namespace, &valid.unknown_fields).await?, valid.warnings)
            }
            Err(problems) => (problems, Vec::new()),
        };
        self.checked = Some(Checked { generation, problems, warnings });
        Ok(())
    }
}

impl<S> Remembers<S> for Memory {
    fn writes(&mut self) -> &mut Writes {
        &mut self.writes
    }
}
