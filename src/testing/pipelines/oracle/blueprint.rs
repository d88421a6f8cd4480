//! What a run is to do, read from the JSON of its record, and the few rules that can be told from that alone. Nothing here
//! asks the controller.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::testing::json;

/// The record of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blueprint<'a>(pub(super) &'a Value);

/// One step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    /// As it is written.
    pub(super) value: &'a Value,
    /// Whether it is one of those that run at the end.
    pub(super) is_final: bool,
}

/// The states of steps and what they reported, as a status has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a>(pub(super) &'a Value);

impl<'a> Blueprint<'a> {
    /// All steps.
    pub(super) fn steps(self) -> impl Iterator<Item = Step<'a>> {
        let list = |field: &str| self.0["spec"][field].as_array().map(Vec::as_slice).unwrap_or_default().iter();
        let (steps, finally) = (list("steps"), list("finally"));
        let all = steps.map(|value| (value, false)).chain(finally.map(|value| (value, true)));
        all.map(|(value, is_final)| Step { value, is_final })
    }

    /// The step of that name.
    pub(super) fn step(self, name: &str) -> Option<Step<'a>> {
        self.steps().find(|step| step.name() == name)
    }

    /// The value of a parameter.
    pub(super) fn parameter(self, name: &str) -> &'a Value {
        &self.0["parameters"][name]
    }

    /// The value that each parameter must have, by declarations and arguments.
    pub(super) fn expected_parameters(self, run: &Value) -> BTreeMap<String, Value> {
        let declared = self.0["spec"]["parameters"].as_array().into_iter().flatten();
        let given = || run["spec"]["arguments"].as_array().into_iter().flatten();
        let value = |parameter: &Value| {
            let argument = given().find(|argument| argument["name"] == parameter["name"]);
            argument.map_or(parameter["default"].clone(), |argument| argument["value"].clone())
        };
        let name = |parameter: &Value| parameter["name"].as_str().unwrap_or_default().to_owned();
        declared.map(|parameter| (name(parameter), value(parameter))).collect()
    }
}

impl<'a> Step<'a> {
    /// Its name.
    pub(super) fn name(self) -> &'a str {
        self.value["name"].as_str().unwrap_or_default()
    }

    /// What it depends on.
    pub(super) fn depends_on(self) -> impl Iterator<Item = &'a str> {
        self.value["dependsOn"].as_array().into_iter().flatten().filter_map(Value::as_str)
    }

    /// How many attempts it may have.
    pub(super) fn most_attempts(self) -> u64 {
        1 + json::number(self.value, "/retries/limit").unwrap_or(0)
    }

    /// Name of what it deploys.
    pub(super) fn deploys(self) -> Option<&'a str> {
        json::text(self.value, "/deploy/name")
    }

    /// The outputs that it declares, as it would have to report them in what it reported; nothing if that does not fit.
    pub(super) fn outputs_of(self, reported: &Value) -> Option<Value> {
        let declared = self.value["outputs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut outputs = serde_json::Map::new();
        for output in declared {
            let value = reported.get(output["name"].as_str()?)?;
            let fits = if output["type"] == "number" { value.is_number() } else { value.is_string() };
            outputs.insert(output["name"].as_str()?.to_owned(), fits.then(|| value.clone())?);
        }
        Some(outputs.into())
    }

    /// Whether its `when` holds; `None` if that cannot be said. Of CEL, the scenarios use comparisons of one reference with
    /// one literal.
    pub(super) fn when_holds(self, blueprint: Blueprint, standing: Standing) -> Option<bool> {
        let Some(when) = self.value["when"].as_str() else { return Some(true) };
        let plain = when.replace("['", ".").replace("']", "");
        let [reference, operator, literal] = plain.split(' ').collect::<Vec<_>>()[..] else {
            panic!("this oracle cannot read {when}");
        };
        let value = match reference.split('.').collect::<Vec<_>>()[..] {
            ["params", name] => blueprint.parameter(name).clone(),
            ["steps", step, "state"] => standing.state(step)?.into(),
            ["steps", step, "outputs", output] => standing.output(step, output)?.clone(),
            _ => panic!("this oracle cannot read {when}"),
        };
        Some(match (operator, literal.parse::<f64>()) {
            (">=", Ok(number)) => value.as_f64()? >= number,
            ("==", Err(_)) => value.as_str()? == literal.trim_matches('\''),
            ("!=", Err(_)) => value.as_str()? != literal.trim_matches('\''),
            _ => panic!("this oracle cannot read {when}"),
        })
    }

    /// A string of its template with values in place of references; nothing if one of them has none.
    pub(super) fn filled(self, text: &str, run: &str, blueprint: Blueprint, standing: Standing) -> Option<String> {
        let written = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let (mut filled, mut rest) = (String::new(), text);
        while let Some(start) = rest.find("$(") {
            let end = start + rest[start..].find(')')?;
            filled += &rest[..start];
            filled += &match rest[start + 2..end].split('.').collect::<Vec<_>>()[..] {
                ["run", "name"] => run.to_owned(),
                ["params", name] => written(blueprint.parameter(name)),
                ["steps", step, "outputs", output] => written(standing.output(step, output)?),
                _ => panic!("this oracle cannot read {text}"),
            };
            rest = &rest[end + 1..];
        }
        Some(filled + rest)
    }

    /// Whether all that its arguments refer to has a value.
    pub(super) fn has_values(self, run: &str, blueprint: Blueprint, standing: Standing) -> bool {
        let template =
            if self.value["run"].is_object() { &self.value["run"] } else { &self.value["train"]["template"] };
        let containers = json::at(template, "/spec/containers").and_then(Value::as_array).into_iter().flatten();
        let args = containers.flat_map(|container| container["args"].as_array().into_iter().flatten());
        args.filter_map(Value::as_str).all(|arg| self.filled(arg, run, blueprint, standing).is_some())
    }

    /// Whether values fit, so that something can be made of it.
    pub(super) fn can_be_made(self, run: &str, blueprint: Blueprint, standing: Standing) -> bool {
        let no_nodes = json::text(self.value, "/train/nodes").is_some() && *blueprint.parameter("level") == 0;
        self.has_values(run, blueprint, standing) && !no_nodes
    }
}

impl<'a> Standing<'a> {
    /// The state of a step that has one.
    pub(super) fn state(self, step: &str) -> Option<&'a str> {
        self.0["steps"][step]["state"].as_str()
    }

    /// The attempt in force, or the last, if it was ever started.
    pub(super) fn attempts(self, step: &str) -> Option<u64> {
        json::number(&self.0["steps"][step], "/attempts")
    }

    /// What a step that succeeded reported.
    pub(super) fn output(self, step: &str, output: &str) -> Option<&'a Value> {
        self.0["steps"][step]["outputs"].get(output)
    }

    /// Whether a step has come to its end.
    pub(super) fn has_ended(self, step: &str) -> bool {
        self.state(step).is_some_and(|state| state != "Running")
    }

    /// Why the run was stopped, if it was.
    pub(super) fn stopped(self) -> Option<&'a str> {
        json::text(self.0, "/stopped/reason")
    }
}
