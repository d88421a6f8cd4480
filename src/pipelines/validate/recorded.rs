//! Reading the pipeline of a record: a run that has begun goes on by what was valid when it started, whatever rules came later.

use crate::api::pipeline_step::{MAX_FINALLY, MAX_STEPS, PipelineDefinition, Step};
use crate::cluster::problem::primary_container;
use crate::pipelines::policy::when::{Scope, When};

use super::{
    Duration, Graph, ValidPipeline, ValidStep, Work, check_files, filled_in, in_order, order, types_of_outputs,
    types_of_parameters, work_of,
};

/// Reads the pipeline of a record; `None` if its steps cannot be put in order or do not say what to do.
///
/// Only the structure has to hold. What is wrong with one step by the rules of today fails that step when it is due, in the
/// words of whoever refuses it.
pub fn recorded(definition: &PipelineDefinition) -> Option<ValidPipeline> {
    let PipelineDefinition { parameters: _, steps, finally, timeout, files } = definition;
    // Without bounds that have always been, a record of somebody else's could take any amount of work.
    if steps.len() > MAX_STEPS || finally.len() > MAX_FINALLY {
        return None;
    }
    let (graph, finals) = (order(steps).ok()?, order(finally).ok()?);
    let (parameters, outputs) = (types_of_parameters(definition), types_of_outputs(definition));
    let read_all = |steps: &[Step], graph: &Graph, is_final: bool| {
        in_order(steps, graph, is_final, |position, has_ended| {
            let step = &steps[position];
            let scope = Scope { parameters: &parameters, steps: &outputs, has_ended };
            let when = step.when.as_ref().map(|text| When::recorded(text, &scope));
            Some(filled_in(step, is_final, when, with_container(work_of(step)?)))
        })
    };
    let mut read: Vec<ValidStep> = read_all(steps, &graph, false);
    read.extend(read_all(finally, &finals, true));
    let is_complete = !steps.is_empty() && read.len() == steps.len() + finally.len();
    is_complete.then(|| ValidPipeline {
        steps: read,
        timeout: timeout.map(Duration::signed),
        files: files.as_ref().map(|files| check_files(files, "", &mut Vec::new())),
        warnings: Vec::new(),
        unknown_fields: Vec::new(),
    })
}

/// The work with the container that counts, which no value decides.
fn with_container(work: Work) -> Work {
    match work {
        Work::Run { template, .. } => {
            let container = primary_container(&template.parse(), "", &mut Vec::new());
            Work::Run { template, container }
        }
        work => work,
    }
}
