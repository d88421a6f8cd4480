//! `when`: a CEL expression that decides whether a step runs.
//!
//! Every reference in it is checked before the run starts. Types are checked by evaluating its parts with a value of the right
//! type in place of each reference, both sides of `&&`, `||` and `?:` too. Loops and regular expressions are refused:
//! without them the cost of an expression is bounded by its length.

mod references;
mod types;
mod values;

use std::collections::BTreeMap;

use cel::common::ast::IdedExpr;
use cel::objects::ValueType as CelType;
use cel::parser::PrattParser;
use cel::{ExecutionError, Value as CelValue};
use serde_json::Value;

use references::{States, check_references};
use types::{check_types, named, tell_type_error};
use values::Used;

use crate::api::ValueType;
use crate::api::pipeline_step::MAX_WHEN;

/// Names and their types.
pub type Types = BTreeMap<String, ValueType>;

/// What may be referred to at a step.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// Parameters.
    pub parameters: &'a Types,
    /// All steps, and what each of them reports.
    pub steps: &'a BTreeMap<String, Types>,
    /// Whether the step of that name has ended by then.
    pub has_ended: &'a dyn Fn(&str) -> bool,
}

impl<'a> Scope<'a> {
    /// What a step reports that has ended by then.
    pub fn step(&self, name: &str) -> Option<&'a Types> {
        self.steps.get(name).filter(|_| (self.has_ended)(name))
    }
}

/// State of a step, and what it reported.
pub type StepFacts<'a> = (&'a str, &'a BTreeMap<String, Value>);

/// What an expression is evaluated with.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// Parameters.
    pub parameters: &'a BTreeMap<String, Value>,
    /// State of the step of that name, and what it reported if it succeeded.
    pub step: &'a dyn Fn(&str) -> Option<StepFacts<'a>>,
}

/// Deepest nesting of an expression. Parser and evaluation recurse, and no text of a user's may exhaust the stack.
const DEEPEST: u16 = 32;
/// Most operators, references and literals of an expression.
const MOST_NODES: usize = 250;

/// An expression that can be evaluated. It is kept as text, since its tree takes thirty times the memory, and evaluated once or
/// twice.
#[derive(Debug)]
pub struct When {
    text: String,
    used: Used,
    /// Why it cannot be evaluated, if it stands in a record of an operator that could.
    fault: Option<String>,
}

impl When {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn new(text: &str, scope: &Scope) -> Result<When, String> {
        let expression = parse(text)?;
        let mut used = Used::default();
        check_references(&expression, scope, &mut used, States::Known)?;
        let context = used.sample();
        check_types(&expression, &context)?;
        match CelValue::resolve(&expression, &context) {
            Ok(value) => match value.type_of() {
                CelType::Bool => {}
                other => {
                    return Err(format!("write an expression that is true or false: this one is {}", named(&other)));
                }
            },
            Err(error) => tell_type_error(&error)?,
        }
        Ok(When { text: text.to_owned(), used, fault: None })
    }

    /// Reads an expression of a run that has begun. It was checked by the rules of its time; what cannot be evaluated by today's
    /// fails its step when that is due.
    pub fn recorded(text: &str, scope: &Scope) -> When {
        let mut used = Used::default();
        let read = parse(text).and_then(|expression| check_references(&expression, scope, &mut used, States::Any));
        When { text: text.to_owned(), used, fault: read.err() }
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it looks at what became of the step of that name.
    pub fn asks_for(&self, step: &str) -> bool {
        self.used.steps.contains_key(step)
    }

    /// Names of the steps whose outputs it uses.
    pub fn uses_outputs_of(&self) -> impl Iterator<Item = &str> {
        self.used.steps.iter().filter(|(_, outputs)| !outputs.is_empty()).map(|(step, _)| step.as_str())
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// Why it cannot be said: a division by zero, an output that was not reported.
    pub fn holds(&self, facts: &Facts) -> Result<bool, String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        match CelValue::resolve(&parse(&self.text)?, &self.used.context(facts)) {
            Ok(CelValue::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it is neither true nor false, but {}", named(&other.type_of()))),
            Err(ExecutionError::NoSuchKey(key)) => {
                Err(format!("{key} was not reported: ask for steps.NAME.state == 'Succeeded' first"))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

fn parse(text: &str) -> Result<IdedExpr, String> {
    if text.len() > MAX_WHEN {
        return Err(format!("{} bytes: write at most {MAX_WHEN}", text.len()));
    }
    let parser = PrattParser::new().max_recursion_depth(DEEPEST).max_expression_node_count(MOST_NODES);
    parser.parse(text).map_err(|errors| {
        let first = errors.errors.first().map(|error| error.msg.clone()).unwrap_or_default();
        format!("write a CEL expression, such as steps.evaluate.outputs.accuracy >= 0.95: {first}")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use serde_json::json;

    /// Reads an expression of a step before which `evaluate` and `train` have ended, and `deploy` has not.
    fn read(text: &str) -> Result<When, String> {
        let types = |pairs: &[(&str, ValueType)]| {
            pairs.iter().map(|(name, type_)| ((*name).to_owned(), *type_)).collect::<Types>()
        };
        let parameters = types(&[
            ("least", ValueType::Number),
            ("epochs", ValueType::Integer),
            ("env", ValueType::String),
            ("learning-rate", ValueType::Number),
            ("fast", ValueType::Boolean),
        ]);
        let steps = BTreeMap::from([
            ("evaluate".to_owned(), types(&[("accuracy", ValueType::Number), ("note", ValueType::String)])),
            ("train".to_owned(), types(&[])),
            ("deploy".to_owned(), types(&[("url", ValueType::String)])),
            ("smoke-test".to_owned(), types(&[])),
        ]);
        When::new(text, &Scope { parameters: &parameters, steps: &steps, has_ended: &|name| name != "deploy" })
    }

    #[test]
    fn an_expression_decides() {
        let parameters = json!({"least": 1, "epochs": 3, "env": "prod", "learning-rate": 0.5, "fast": false});
        let parameters: BTreeMap<String, Value> = serde_json::from_value(parameters).unwrap();
        let outputs: BTreeMap<String, Value> =
            serde_json::from_value(json!({"accuracy": 1, "note": "it's \"fine\""})).unwrap();
        let none = BTreeMap::new();
        let step = |name: &str| match name {
            "evaluate" => Some(("Succeeded", &outputs)),
            "train" => Some(("Failed", &none)),
            _ => None,
        };
        let facts = Facts { parameters: &parameters, step: &step };
        for (text, expected) in [
            ("steps.evaluate.outputs.accuracy >= 0.95", true),
            ("steps.evaluate.outputs.accuracy >= 1", true),
            ("steps.evaluate.outputs.accuracy >= params.least", true),
            ("params.epochs > 3", false),
            ("params['learning-rate'] < 1.0 && params.env == 'prod'", true),
            ("params.env in ['dev', 'test']", false),
            ("!params.fast && params.env.startsWith('pr')", true),
            ("steps.train.state == 'Failed' || steps.evaluate.outputs.accuracy > 2.0", true),
            ("size(params.env) == 4 ? params.epochs == 3 : false", true),
            ("has(steps.evaluate.outputs.note)", true),
            ("params.epochs == 3.0", true),
            ("true", true),
        ] {
            let when = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(when.holds(&facts), Ok(expected), "{text}");
        }
        let divided = read("1 / (params.epochs - 3) > 0").unwrap();
        assert!(divided.holds(&facts).is_err());
        let facts = Facts { step: &|_| Some(("Skipped", &none)), ..facts };
        let missing = read("steps.evaluate.outputs.accuracy > 0.5").unwrap();
        assert!(missing.holds(&facts).unwrap_err().contains("was not reported"));
        let asked = read("steps.evaluate.state == 'Succeeded' && steps.evaluate.outputs.accuracy > 0.5");
        assert_eq!(asked.unwrap().holds(&facts), Ok(false));
    }

    #[test]
    fn what_is_wrong_is_told_before_anything_runs() {
        let long = format!("params.fast || {}", "true || ".repeat(200) + "true");
        for (text, expected) in [
            ("params.epochs >", "write a CEL expression"),
            ("", "write a CEL expression"),
            ("params.epochs", "write an expression that is true or false: this one is a whole number"),
            ("params.env == 3", "text is compared with a whole number"),
            ("params.epochs == '3'", "a whole number is compared with text"),
            ("params.env > 3", "its types do not fit"),
            ("params.fast || params.env > 3", "its types do not fit"),
            ("true || params.env", "text is neither true nor false"),
            ("params.fast ? params.env > 3 : true", "its types do not fit"),
            ("[1, 2].all(x, x > 0)", "loops"),
            ("params.env.exists(x, true)", "loops"),
            ("params.absent == 'x'", "params.absent: there is no such parameter: there are env, "),
            ("params", "params: write params.NAME"),
            (
                "steps.deploy.outputs.url == ''",
                "steps.deploy: no such step has ended by then: name it in dependsOn; there are evaluate, ",
            ),
            ("steps.evaluate.outputs.f1 > 0.5", "steps.evaluate.outputs.f1: the step declares no such output"),
            ("steps.evaluate.accuracy > 0.5", "steps.evaluate.accuracy: write params.NAME, steps.STEP"),
            ("accuracy > 0.5", "accuracy: there is no such variable"),
            (
                "params.learning-rate > 0.5",
                "params.learning: there is no such parameter: there are env, epochs, fast, learning-rate, least; a name with '-' \
                 stands in brackets: params['learning-rate']",
            ),
            (
                "steps.smoke-test.state == 'Failed'",
                "steps.smoke: write params.NAME, steps.STEP.outputs.NAME or steps.STEP.state; a name with '-' stands in \
                 brackets: steps['smoke-test']",
            ),
            ("params.env.shout() == 'X'", "its types do not fit"),
            (r"''.matches(r'\w{999}')", "regular expressions are not allowed: use =="),
            ("true || matches(params.env, 'a')", "regular expressions are not allowed"),
            (
                "steps.train.state == 'succeeded'",
                "steps.train.state is never 'succeeded': compare it with one of 'Succeeded', ",
            ),
            ("'Success' != steps.train.state", "steps.train.state is never 'Success'"),
            ("params.fast || steps['train'].state in ['Succeeded', 'Running']", "steps.train.state is never 'Running'"),
            (&long, "1619 bytes: write at most 1024"),
        ] {
            let error = read(text).map(|_| ()).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(parts in prop::collection::vec(prop_oneof![
            "[ -~]{1,3}", Just("params.env".to_owned()), Just("(".to_owned()), Just("[".to_owned()), Just(" && ".to_owned()),
            Just("!".to_owned()), Just("-".to_owned()), Just("'é'".to_owned()), Just("9223372036854775808".to_owned()),
        ], 0..40)) {
            let _ = read(&parts.concat());
        }
    }

    #[test]
    fn depth_makes_no_overflow() {
        for open in ["(", "[", "!", "-", "{", "a.b(", "1+("] {
            let _ = read(&open.repeat(MAX_WHEN / open.len()));
            let closed = open.repeat(200) + "1" + &")".repeat(200);
            let _ = read(&closed);
        }
    }
}
