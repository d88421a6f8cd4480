//! The steps of a pipeline, one by one: what each does, when, and with what values.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::embedded::Subject;
use super::{
    Findings, MOST_PROBLEMS, ValidStep, Work, embedded, filled_in, in_order, shape, types_of_outputs,
    types_of_parameters, work_of,
};
use crate::api::Duration;
use crate::api::pipeline_step::{PipelineDefinition, Step};
use crate::cluster::problem::Problem;
use crate::pipelines::policy::graph::Graph;
use crate::pipelines::policy::parameters::sample;
use crate::pipelines::policy::when::{Scope, Types, When};

/// Reads the steps of a pipeline whose graph is known.
pub(super) struct Reader<'a> {
    definition: &'a PipelineDefinition,
    path: &'a str,
    /// Types of the parameters.
    parameters: Types,
    /// Parameters to check specs with: those of the run as far as they are known, else samples.
    samples: BTreeMap<String, Value>,
    /// What each step reports.
    outputs: BTreeMap<String, Types>,
    findings: &'a mut Findings,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        definition: &'a PipelineDefinition,
        path: &'a str,
        values: Option<&BTreeMap<String, Value>>,
        findings: &'a mut Findings,
    ) -> Self {
        let parameters = definition.parameters.iter();
        let samples = parameters.clone().map(|parameter| {
            let known = values.and_then(|values| values.get(&parameter.name)).cloned();
            (parameter.name.clone(), known.unwrap_or_else(|| sample(parameter)))
        });
        Reader {
            definition,
            path,
            samples: samples.collect(),
            parameters: types_of_parameters(definition),
            outputs: types_of_outputs(definition),
            findings,
        }
    }

    pub(super) fn read_all(&mut self, steps: &[Step], graph: &Graph, is_final: bool) -> Vec<ValidStep> {
        let field = if is_final { "finally" } else { "steps" };
        let read = |position: usize, has_ended: &dyn Fn(&str) -> bool| {
            if self.findings.problems.len() >= MOST_PROBLEMS {
                return None;
            }
            self.read(&steps[position], &format!("{field}[{position}]"), is_final, has_ended)
        };
        in_order(steps, graph, is_final, read)
    }

    fn read(
        &mut self,
        step: &Step,
        below: &str,
        is_final: bool,
        has_ended: &dyn Fn(&str) -> bool,
    ) -> Option<ValidStep> {
        let Step { name, depends_on: _, when, run, train, deploy, outputs, retries, timeout, failure_logs } = step;
        let path = format!("{}.{below}", self.path);
        let before = self.findings.problems.len();
        shape::check_time(&format!("{path}.timeout"), *timeout, &mut self.findings.problems);
        shape::check_outputs(outputs, &path, &mut self.findings.problems);
        let scope = Scope { parameters: &self.parameters, steps: &self.outputs, has_ended };
        let mut work = work_of(step);
        if work.is_none() {
            let given = [("run", run.is_some()), ("train", train.is_some()), ("deploy", deploy.is_some())];
            let given: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(field, _)| *field).collect();
            let value = if given.is_empty() { "nothing to do".to_owned() } else { given.join(" and ") };
            let remedy = "give exactly one of run, train and deploy";
            self.findings.problems.push(Problem::new(&path, value, remedy));
        }
        if let Some(Work::Deploy(_)) = work {
            shape::check_deploy(step, &path, &mut self.findings.problems);
        }
        if failure_logs.is_some() && run.is_none() {
            let remedy = "set it in the spec of train or deploy: failureLogs of a step is for run";
            self.findings.problems.push(Problem::new(&format!("{path}.failureLogs"), "given", remedy));
        }
        let when = when.as_ref().and_then(|text| {
            let refused = |remedy: String| Problem::new(&format!("{path}.when"), text, &remedy);
            When::new(text, &scope).map_err(|remedy| self.findings.problems.push(refused(remedy))).ok()
        });
        if let Some(work) = &mut work {
            let (parameters, files) = (&self.samples, self.definition.files.as_ref());
            let subject = Subject { name, path: &path, scope, parameters, files };
            let used = embedded::check(work, &subject, self.findings);
            if is_final {
                self.warn_of_steps_that_may_not_run(&used, when.as_ref(), &path);
            }
        }
        let (limit, backoff) = retries.clone().map_or((0, None), |retries| (retries.limit, retries.backoff));
        let backoff = backoff.unwrap_or_default();
        if !(0..=100).contains(&limit) {
            let field = format!("{path}.retries.limit");
            self.findings.problems.push(Problem::new(&field, limit, "set a number from 0 to 100"));
        }
        for (field, time) in [("initial", backoff.initial), ("max", backoff.max)] {
            if time.is_some_and(Duration::is_negative) {
                let field = format!("{path}.retries.backoff.{field}");
                self.findings.problems.push(Problem::new(&field, "a negative time", "set a time such as 10s or 5m"));
            }
        }
        if self.findings.problems.len() > before {
            return None;
        }
        Some(filled_in(step, is_final, when, work?))
    }

    /// A step of `finally` runs whatever became of the others, but what they report is there only if they succeeded.
    fn warn_of_steps_that_may_not_run(&mut self, used: &BTreeSet<String>, when: Option<&When>, path: &str) {
        let others = &self.definition.steps;
        let is_of_others = |step: &&String| others.iter().any(|other| other.name == **step);
        let is_asked_for = |step: &str| when.is_some_and(|when| when.asks_for(step));
        for step in used.iter().filter(is_of_others).filter(|step| !is_asked_for(step)) {
            let value = format!("it uses outputs of step {step}, which it has only if that succeeds");
            let remedy = format!("add when: steps['{step}'].state == 'Succeeded', or do without them");
            self.findings.warnings.push(Problem::new(path, value, &remedy));
        }
    }
}
