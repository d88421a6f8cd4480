//! Runs as far as their Pipeline looks at them.

use jiff::Timestamp;

use crate::api::{Pipeline, PipelineRun};
use crate::cluster::guard::Guarded;
use crate::cluster::index::{Child, ChildMeta, Owner};
use crate::cluster::managed::Remembers;
use crate::cluster::port::Resource;
use crate::cluster::problem::Problem;
use crate::cluster::writes::Writes;
use crate::pipelines::runs::status::{State, is_finished};
use crate::pipelines::validate::validate;

/// What is kept of a run: it is found under the Pipeline that its status names, which does not own it.
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
    /// Succeeded, Failed or Cancelled.
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
        let pipeline = status.pipeline.clone().unwrap_or_default();
        meta.owner = pipeline.name.zip(pipeline.uid).map(|(name, uid)| {
            let kind = Resource::Pipeline.kind().to_owned();
            Owner { kind, name, uid }
        });
        let finished = (is_finished(&status)).then(|| {
            let at = status.finish_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            State::of(&status).map(|result| Finished { at, result })
        });
        let is_deleted = run.metadata.deletion_timestamp.is_some();
        RunFacts { meta, finished: finished.flatten(), is_deleted }
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
    /// A generation of the spec and what is wrong with it: every news of a run leads to a reconcile, and a pipeline may have
    /// hundreds of steps.
    pub checked: Option<(Option<i64>, Vec<Problem>)>,
}

impl Memory {
    /// Checks the spec if it is not the one that was checked last.
    pub fn check(&mut self, pipeline: &Pipeline) {
        let generation = pipeline.metadata.generation;
        if self.checked.as_ref().is_none_or(|(checked, _)| *checked != generation) {
            let problems = validate(&pipeline.spec.definition, "spec", None).err().unwrap_or_default();
            self.checked = Some((generation, problems));
        }
    }
}

impl<S> Remembers<S> for Memory {
    fn writes(&mut self) -> &mut Writes {
        &mut self.writes
    }
}
