//! What the demo applies: the samples that users read, as they are to be here.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Arguments;
use crate::images::Image;
use crate::install::objects;
use crate::operator::source_tree;

/// A claim, and a Pipeline that uses it.
pub(super) const PIPELINE: &str = "config/samples/digits-pipeline.yaml";
/// A run of that Pipeline.
pub(super) const RUN: &str = "config/samples/digits-run.yaml";
/// Where the embedded cluster has its images.
const LOCAL: &str = "localhost/trainyard";
/// Where it runs in a cluster of somebody else's.
const NAMESPACE: &str = "trainyard-demo";

/// The samples.
pub(super) struct Samples {
    pub(super) namespace: String,
    /// What is applied.
    pub(super) definition: Vec<Value>,
    /// What is created for each run.
    run: Value,
    /// Where the images are.
    registry: String,
}

impl Samples {
    pub(super) fn read(arguments: &Arguments) -> Result<Self> {
        let registry = match (&arguments.context, &arguments.registry) {
            (None, _) => LOCAL.to_owned(),
            (Some(_), Some(registry)) => registry.clone(),
            (Some(_), None) => anyhow::bail!(
                "with --context, --registry says where that cluster finds the images base:1, digits:1 and server:1; \
                 `cargo e2e images FOLDER` writes them to files to push"
            ),
        };
        let namespace = namespace(arguments).to_owned();
        let mut definition = stream(PIPELINE)?;
        let mut run = stream(RUN)?.pop().with_context(|| format!("{RUN} is empty"))?;
        for object in definition.iter_mut().chain([&mut run]) {
            object["metadata"]["namespace"] = namespace.as_str().into();
            visit_strings(object, &|text| {
                if let Some(name) = text.strip_prefix(LOCAL) {
                    *text = format!("{}{name}", registry.trim_end_matches('/'));
                }
            });
        }
        set_arguments(&mut run, &arguments.arguments);
        let mut samples = Self { namespace, definition, run, registry };
        if arguments.kill_operator > 0 {
            samples.slow_down()?;
        }
        Ok(samples)
    }

    /// The Pipeline.
    pub(super) fn pipeline(&self) -> Result<&Value> {
        let found = self.definition.iter().find(|object| object["kind"] == "Pipeline");
        found.with_context(|| format!("{PIPELINE} has no Pipeline"))
    }

    /// A run, with these arguments beside those that were given for all runs.
    pub(super) fn run(&self, arguments: &[(String, Value)]) -> Value {
        let mut run = self.run.clone();
        set_arguments(&mut run, arguments);
        run
    }

    /// Where that cluster finds an image.
    pub(super) fn image(&self, image: Image) -> String {
        image.reference_in(&self.registry)
    }

    /// Long enough for each operator to take over from the one before it, whose lease lasts 15 s.
    fn slow_down(&mut self) -> Result<()> {
        let pipelines = self.definition.iter_mut().filter(|object| object["kind"] == "Pipeline");
        let steps = pipelines.flat_map(|pipeline| pipeline["spec"]["steps"].as_array_mut().into_iter().flatten());
        let commands = steps.filter_map(|step| step.pointer_mut("/train/template/spec/containers/0/command"));
        let commands: Vec<_> = commands.filter_map(Value::as_array_mut).collect();
        ensure!(!commands.is_empty(), "{PIPELINE} trains nothing");
        commands.into_iter().for_each(|command| command.push("--pause=2".into()));
        Ok(())
    }
}

/// Where the demo runs: in a namespace of its own where the cluster is somebody else's.
pub(super) fn namespace(arguments: &Arguments) -> &'static str {
    if arguments.context.is_some() { NAMESPACE } else { "default" }
}

/// Reads `NAME=VALUE`; what is no number, no true and no false is text.
pub(super) fn argument(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as epochs=10")?;
    let parsed = serde_json::from_str(value).ok().filter(|value: &Value| value.is_number() || value.is_boolean());
    Ok((name.to_owned(), parsed.unwrap_or_else(|| value.into())))
}

/// Sets arguments of a run, in place of others of these names.
fn set_arguments(run: &mut Value, arguments: &[(String, Value)]) {
    let given = run["spec"]["arguments"].as_array().cloned().unwrap_or_default();
    let is_replaced = |one: &Value| arguments.iter().any(|(name, _)| one["name"] == name.as_str());
    let kept = given.into_iter().filter(|one| !is_replaced(one));
    let set = arguments.iter().map(|(name, value)| json!({"name": name, "value": value}));
    run["spec"]["arguments"] = kept.chain(set).collect();
}

fn stream(sample: &str) -> Result<Vec<Value>> {
    let path = source_tree().join(sample);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    objects(&text).with_context(|| format!("reading {sample}"))
}

fn visit_strings(value: &mut Value, edit: &impl Fn(&mut String)) {
    match value {
        Value::String(text) => edit(text),
        Value::Array(items) => items.iter_mut().for_each(|item| visit_strings(item, edit)),
        Value::Object(fields) => fields.values_mut().for_each(|field| visit_strings(field, edit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elsewhere() -> Samples {
        let arguments = Arguments {
            context: Some("theirs".to_owned()),
            registry: Some("registry.example.com/team/".to_owned()),
            kill_operator: 1,
            arguments: vec![argument("epochs=5").unwrap(), argument("least=0.5").unwrap()],
            ..Arguments::default()
        };
        Samples::read(&arguments).unwrap()
    }

    #[test]
    fn samples_fit_the_place() {
        let samples = elsewhere();
        let text = samples.definition.iter().map(Value::to_string).collect::<String>();
        assert!(text.contains("registry.example.com/team/digits:1") && !text.contains(LOCAL), "{text}");
        assert!(text.contains("--pause=2") && text.contains(NAMESPACE), "{text}");
        let arguments = Arguments { context: Some("theirs".to_owned()), ..Arguments::default() };
        assert!(Samples::read(&arguments).is_err_and(|error| error.to_string().contains("--registry")));
    }

    #[test]
    fn a_run_has_the_arguments_that_were_given_last() {
        let run = elsewhere().run(&[("epochs".to_owned(), 7.into()), ("hidden".to_owned(), 128.into())]);
        let expected = json!([
            {"name": "least", "value": 0.5}, {"name": "epochs", "value": 7}, {"name": "hidden", "value": 128},
        ]);
        assert_eq!(run["spec"]["arguments"], expected);
        assert_eq!(argument("note=a=b"), Ok(("note".to_owned(), "a=b".into())));
        assert!(argument("epochs").is_err());
    }
}
