//! `when`: a CEL expression that decides whether a step runs.
//!
//! Every reference in it is checked before the run starts. Types are checked by evaluating its parts with a value of the right
//! type in place of each reference, both sides of `&&`, `||` and `?:` too. Loops are refused: without them the cost of an
//! expression is bounded by its length.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::objects::ValueType as CelType;
use cel::parser::PrattParser;
use cel::{Context, Env, ExecutionError, Value as CelValue};
use serde_json::Value;

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

/// CEL's standard functions, looked up once.
static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// An expression that can be evaluated.
#[derive(Debug)]
pub struct When {
    text: String,
    expression: IdedExpr,
    used: Used,
}

/// What an expression refers to, and the types of that. Only this is looked up for it: a run may have hundreds of steps.
#[derive(Clone, Debug, Default)]
struct Used {
    parameters: Types,
    steps: BTreeMap<String, Types>,
}

impl When {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn new(text: &str, scope: &Scope) -> Result<When, String> {
        if text.len() > MAX_WHEN {
            return Err(format!("{} bytes: write at most {MAX_WHEN}", text.len()));
        }
        let parser = PrattParser::new().max_recursion_depth(DEEPEST).max_expression_node_count(MOST_NODES);
        let expression = parser.parse(text).map_err(|errors| {
            let first = errors.errors.first().map(|error| error.msg.clone()).unwrap_or_default();
            format!("write a CEL expression, such as steps.evaluate.outputs.accuracy >= 0.95: {first}")
        })?;
        let mut used = Used::default();
        check_references(&expression, scope, &mut used)?;
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
        Ok(When { text: text.to_owned(), expression, used })
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// Why it cannot be said: a division by zero, an output that was not reported.
    pub fn holds(&self, facts: &Facts) -> Result<bool, String> {
        match CelValue::resolve(&self.expression, &self.used.context(facts)) {
            Ok(CelValue::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it is neither true nor false, but {}", named(&other.type_of()))),
            Err(ExecutionError::NoSuchKey(key)) => {
                Err(format!("{key} was not reported: ask for steps.NAME.state == 'Succeeded' first"))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The names after the variable that a chain of selections begins with: `steps.a["b"]` gives steps, a and b.
fn names(expression: &Expr) -> Option<Vec<&str>> {
    match expression {
        Expr::Ident(name) => Some(vec![name]),
        Expr::Select(select) => {
            let mut names = names(&select.operand.expr)?;
            names.push(&select.field);
            Some(names)
        }
        Expr::Call(CallExpr { func_name, target: None, args }) if func_name == operators::INDEX => {
            let [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }] = args.as_slice() else {
                return None;
            };
            let mut names = names(&operand.expr)?;
            names.push(name.inner());
            Some(names)
        }
        _ => None,
    }
}

fn check_references(expression: &IdedExpr, scope: &Scope, used: &mut Used) -> Result<(), String> {
    if let Some(names) = names(&expression.expr) {
        return check_path(&names, scope, used);
    }
    let mut check = |part: &IdedExpr| check_references(part, scope, used);
    match &expression.expr {
        Expr::Comprehension(_) => {
            Err("loops (all, exists, exists_one, map, filter) are not allowed: remove it".to_owned())
        }
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).try_for_each(check),
        Expr::Select(select) => check(&select.operand),
        Expr::List(list) => list.elements.iter().try_for_each(check),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => check(&entry.key).and_then(|()| check(&entry.value)),
            EntryExpr::StructField(_) => Ok(()),
        }),
        Expr::Struct(_) => Err("messages are not allowed: use params and steps only".to_owned()),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Ok(()),
    }
}

/// Looks a reference up, and takes note of it.
fn check_path(names: &[&str], scope: &Scope, used: &mut Used) -> Result<(), String> {
    let ended = |step: &str| {
        scope.step(step).ok_or_else(|| {
            let known = || scope.steps.keys().filter(|name| (scope.has_ended)(name));
            let hint = in_brackets("steps", step, known());
            format!("steps.{step}: no such step has ended by then: name it in dependsOn; {}{hint}", one_of(known()))
        })
    };
    match names {
        ["params", name] => {
            let type_ = scope.parameters.get(*name).ok_or_else(|| {
                let known = || scope.parameters.keys();
                let hint = in_brackets("params", name, known());
                format!("params.{name}: there is no such parameter: {}{hint}", one_of(known()))
            })?;
            used.parameters.insert((*name).to_owned(), *type_);
        }
        ["steps", step, "state"] => {
            ended(step)?;
            used.steps.entry((*step).to_owned()).or_default();
        }
        ["steps", step, "outputs", output] => {
            let outputs = ended(step)?;
            let type_ = outputs.get(*output).ok_or_else(|| {
                let known = one_of(outputs.keys());
                format!("steps.{step}.outputs.{output}: the step declares no such output: {known}")
            })?;
            used.steps.entry((*step).to_owned()).or_default().insert((*output).to_owned(), *type_);
        }
        ["params" | "steps", ..] => {
            let written = names.join(".");
            let hint = match names {
                ["steps", step] => in_brackets("steps", step, scope.steps.keys()),
                _ => String::new(),
            };
            return Err(format!("{written}: write params.NAME, steps.STEP.outputs.NAME or steps.STEP.state{hint}"));
        }
        [other, ..] => return Err(format!("{other}: there is no such variable: use params and steps")),
        [] => {}
    }
    Ok(())
}

/// What to write where a name with a hyphen was taken for a subtraction.
fn in_brackets<'a>(variable: &str, name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let begun = format!("{name}-");
    let meant = known.into_iter().find(|known| known.starts_with(&begun));
    meant.map(|meant| format!("; a name with '-' stands in brackets: {variable}['{meant}']")).unwrap_or_default()
}

/// Names that there are, as many as help.
fn one_of<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.take(10).map(String::as_str).collect();
    if names.is_empty() { "there are none".to_owned() } else { format!("there are {}", names.join(", ")) }
}

/// Evaluates the parts that evaluation of the whole may pass by, and both sides of comparisons, which CEL lets be of any types.
fn check_types(expression: &IdedExpr, context: &Context) -> Result<(), String> {
    let Expr::Call(call) = &expression.expr else { return Ok(()) };
    call.target.iter().map(AsRef::as_ref).chain(&call.args).try_for_each(|part| check_types(part, context))?;
    let type_of = |part: &IdedExpr| match CelValue::resolve(part, context) {
        Ok(value) => Ok(Some(value.type_of())),
        Err(error) => tell_type_error(&error).map(|()| None),
    };
    match (call.func_name.as_str(), call.args.as_slice()) {
        (operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT, parts) => {
            for part in parts {
                if let Some(type_) = type_of(part)?.filter(|type_| !matches!(type_, CelType::Bool)) {
                    return Err(format!("{} is neither true nor false: compare it with something", named(&type_)));
                }
            }
        }
        (operators::CONDITIONAL, parts) => {
            for part in parts {
                type_of(part)?;
            }
        }
        (operators::EQUALS | operators::NOT_EQUALS, [one, other]) => {
            if let (Some(one), Some(other)) = (type_of(one)?, type_of(other)?)
                && !is_comparable(&one, &other)
            {
                let (one, other) = (named(&one), named(&other));
                return Err(format!("{one} is compared with {other}: they are never equal"));
            }
        }
        _ => _ = type_of(expression)?,
    }
    Ok(())
}

fn is_comparable(one: &CelType, other: &CelType) -> bool {
    let is_number = |type_: &CelType| matches!(type_, CelType::Int | CelType::UInt | CelType::Float);
    (is_number(one) && is_number(other)) || named(one) == named(other)
}

fn named(type_: &CelType) -> &'static str {
    match type_ {
        CelType::Int | CelType::UInt => "a whole number",
        CelType::Float => "a number",
        CelType::String => "text",
        CelType::Bool => "true or false",
        CelType::List => "a list",
        CelType::Map => "a map",
        CelType::Null => "null",
        _ => "of another type",
    }
}

/// An error that comes from types, and not from the values that were taken for a sample.
fn tell_type_error(error: &ExecutionError) -> Result<(), String> {
    match error {
        ExecutionError::DivisionByZero(_)
        | ExecutionError::RemainderByZero(_)
        | ExecutionError::Overflow(..)
        | ExecutionError::IndexOutOfBounds(_)
        | ExecutionError::NoSuchKey(_)
        | ExecutionError::DuplicateKey(_)
        | ExecutionError::FunctionError { .. } => Ok(()),
        error => Err(format!("its types do not fit: {error}")),
    }
}

impl Used {
    /// A context in which everything that is referred to has a value of its type.
    fn sample(&self) -> Context<'static, 'static> {
        let sample = |types: &Types| -> BTreeMap<String, Value> {
            types.iter().map(|(name, type_)| (name.clone(), super::parameters::sample_of(*type_))).collect()
        };
        let parameters = sample(&self.parameters);
        let outputs: BTreeMap<String, _> =
            self.steps.iter().map(|(step, outputs)| (step.clone(), sample(outputs))).collect();
        let step = |name: &str| outputs.get(name).map(|outputs| ("Succeeded", outputs));
        self.context(&Facts { parameters: &parameters, step: &step })
    }

    /// A context with what is referred to.
    fn context(&self, facts: &Facts) -> Context<'static, 'static> {
        let typed = |types: &Types, values: &BTreeMap<String, Value>| -> BTreeMap<String, CelValue> {
            let value =
                |(name, type_): (&String, &ValueType)| Some((name.clone(), cel_value(*type_, values.get(name)?)));
            types.iter().filter_map(value).collect()
        };
        let steps = self.steps.iter().filter_map(|(name, types)| {
            let (state, outputs) = (facts.step)(name)?;
            let state = CelValue::String(state.to_owned().into());
            let fields = [("state".to_owned(), state), ("outputs".to_owned(), as_map(typed(types, outputs)))];
            Some((name.clone(), as_map(fields.into())))
        });
        let mut context = Context::with_env(STANDARD.clone());
        context.add_variable_from_value("params", as_map(typed(&self.parameters, facts.parameters)));
        context.add_variable_from_value("steps", as_map(steps.collect()));
        context
    }
}

fn as_map(fields: BTreeMap<String, CelValue>) -> CelValue {
    fields.into_iter().collect::<std::collections::HashMap<String, CelValue>>().into()
}

/// A number is a double even where it was written without a point, so that its type is what is declared.
fn cel_value(type_: ValueType, value: &Value) -> CelValue {
    match (type_, value) {
        (ValueType::Number, Value::Number(number)) => CelValue::Float(number.as_f64().unwrap_or(f64::NAN)),
        (_, Value::Number(number)) => match number.as_i64() {
            Some(whole) => CelValue::Int(whole),
            None => CelValue::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        (_, Value::String(text)) => CelValue::String(text.clone().into()),
        (_, Value::Bool(truth)) => CelValue::Bool(*truth),
        _ => CelValue::Null,
    }
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
            ("params.absent == 'x'", "params.absent: there is no such parameter: there are "),
            ("params", "params: write params.NAME"),
            ("steps.deploy.outputs.url == ''", "steps.deploy: no such step has ended by then: name it in dependsOn"),
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
