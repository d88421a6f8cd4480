//! The values of a run's parameters: arguments, else defaults, each of them checked.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use crate::api::ValueType;
use crate::api::pipeline_run::Argument;
use crate::api::pipeline_step::Parameter;
use crate::cluster::problem::Problem;

/// Longest text of one value, in bytes: values stand in the run's status and in the specs of its pods.
const LONGEST_VALUE: usize = 4_096;

/// Most bytes that all values of a run may have.
const MOST_BYTES: usize = 64 * 1_024;

/// Whether a value is of a type. A whole number is a number too; a number that is whole by value, as 3.0, is no integer.
pub fn is_of(type_: ValueType, value: &Value) -> bool {
    match type_ {
        ValueType::String => value.is_string(),
        ValueType::Integer => value.is_i64(),
        ValueType::Number => value.is_number(),
        ValueType::Boolean => value.is_boolean(),
    }
}

/// The type in words, for remedies.
pub fn describe(type_: ValueType) -> &'static str {
    match type_ {
        ValueType::String => "text (numbers in quotes)",
        ValueType::Integer => "a whole number, without quotes",
        ValueType::Number => "a number, without quotes",
        ValueType::Boolean => "true or false, without quotes",
    }
}

/// What a value of a parameter must be other than it is; nothing if it is as it should be.
fn remedy(parameter: &Parameter, value: &Value) -> Option<String> {
    let type_ = parameter.type_.unwrap_or_default();
    if !is_of(type_, value) {
        return Some(format!("give {}", describe(type_)));
    }
    if !parameter.allowed.is_empty() && !parameter.allowed.iter().any(|allowed| same(allowed, value)) {
        let allowed: Vec<String> = parameter.allowed.iter().map(ToString::to_string).collect();
        return Some(format!("give one of {}", allowed.join(", ")));
    }
    let number = value.as_f64();
    if let (Some(minimum), Some(number)) = (parameter.minimum, number)
        && number < minimum
    {
        return Some(format!("give at least {minimum}"));
    }
    if let (Some(maximum), Some(number)) = (parameter.maximum, number)
        && number > maximum
    {
        return Some(format!("give at most {maximum}"));
    }
    if value.as_str().is_some_and(|text| text.len() > LONGEST_VALUE) {
        return Some(format!("give at most {LONGEST_VALUE} bytes, or a file's name"));
    }
    // A pattern that does not compile is told of where it stands.
    let pattern = parameter.pattern.as_deref().and_then(|pattern| Some((pattern, Regex::new(pattern).ok()?)));
    match (pattern, value.as_str()) {
        (Some((pattern, compiled)), Some(text)) if !compiled.is_match(text) => {
            Some(format!("give text that matches {pattern}"))
        }
        _ => None,
    }
}

/// Equal as numbers, 1 and 1.0 too, or equal.
fn same(one: &Value, other: &Value) -> bool {
    // Large whole numbers that differ may be one as doubles.
    let is_whole = |value: &Value| value.is_i64() || value.is_u64();
    one == other
        || !(is_whole(one) && is_whole(other))
            && one.as_f64().zip(other.as_f64()).is_some_and(|(one, other)| one == other)
}

/// Checks the declaration of a parameter at `path`.
pub fn check_declaration(parameter: &Parameter, path: &str, problems: &mut Vec<Problem>) {
    let type_ = parameter.type_.unwrap_or_default();
    let is_number = matches!(type_, ValueType::Integer | ValueType::Number);
    for (field, set) in [("minimum", parameter.minimum), ("maximum", parameter.maximum)] {
        if let Some(bound) = set.filter(|_| !is_number) {
            let remedy = "remove it, or set type: integer or number: only numbers have a range";
            problems.push(Problem::new(&format!("{path}.{field}"), bound, remedy));
        }
    }
    if let (Some(minimum), Some(maximum)) = (parameter.minimum, parameter.maximum)
        && minimum > maximum
    {
        problems.push(Problem::new(
            &format!("{path}.minimum"),
            minimum,
            &format!("set at most the maximum, {maximum}"),
        ));
    }
    if let Some(pattern) = &parameter.pattern {
        let field = format!("{path}.pattern");
        if type_ != ValueType::String {
            problems.push(Problem::new(&field, pattern, "remove it: only text has a pattern"));
        } else if let Err(error) = Regex::new(pattern) {
            // The parser draws its finding over several lines; the last one says what it is.
            let words = error.to_string();
            let last = words.lines().last().unwrap_or_default().trim_start_matches("error: ");
            problems.push(Problem::new(&field, pattern, &format!("write a regular expression (regex syntax): {last}")));
        }
    }
    for (index, allowed) in parameter.allowed.iter().enumerate() {
        if !is_of(type_, allowed) {
            problems.push(Problem::new(
                &format!("{path}.enum[{index}]"),
                allowed,
                &format!("give {}", describe(type_)),
            ));
        }
    }
    if let Some(default) = &parameter.default
        && let Some(remedy) = remedy(parameter, default)
    {
        problems.push(Problem::new(&format!("{path}.default"), default, &remedy));
    }
}

/// The value of each parameter in a run with these arguments.
///
/// # Errors
/// Every argument that no parameter takes, that is given twice or not what it should be, and every parameter without a
/// value.
pub fn effective(parameters: &[Parameter], arguments: &[Argument]) -> Result<BTreeMap<String, Value>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut values = BTreeMap::new();
    for (index, Argument { name, value }) in arguments.iter().enumerate() {
        let path = format!("spec.arguments[{index}]");
        let Some(parameter) = parameters.iter().find(|parameter| parameter.name == *name) else {
            let known: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
            let remedy = match known.as_slice() {
                [] => "remove it: the pipeline takes no parameters".to_owned(),
                known => format!("remove it, or name one of the pipeline's parameters: {}", known.join(", ")),
            };
            problems.push(Problem::new(&format!("{path}.name"), name, &remedy));
            continue;
        };
        if let Some(remedy) = remedy(parameter, value) {
            problems.push(Problem::new(&format!("{path}.value"), value, &format!("{remedy} (parameter {name})")));
        }
        if values.insert(name.clone(), value.clone()).is_some() {
            problems.push(Problem::new(&format!("{path}.name"), name, "give each argument once"));
        }
    }
    for parameter in parameters {
        if values.contains_key(&parameter.name) {
            continue;
        }
        match &parameter.default {
            Some(default) => _ = values.insert(parameter.name.clone(), default.clone()),
            None => {
                let remedy = format!("add an argument: {}", describe(parameter.type_.unwrap_or_default()));
                problems.push(Problem::new("spec.arguments", format!("{} is missing", parameter.name), &remedy));
            }
        }
    }
    let bytes: usize = values.values().map(|value| value.to_string().len()).sum();
    if bytes > MOST_BYTES {
        let remedy = format!("give at most {MOST_BYTES} in all: what is larger belongs in a file");
        problems.push(Problem::new("spec.arguments", format!("{bytes} bytes"), &remedy));
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}

/// A value that stands for a parameter of which none is known, to check what is made with it.
pub fn sample(parameter: &Parameter) -> Value {
    let type_ = parameter.type_.unwrap_or_default();
    let known = parameter.default.clone().or_else(|| parameter.allowed.first().cloned());
    known.filter(|value| is_of(type_, value)).unwrap_or_else(|| match (type_, parameter.minimum) {
        (ValueType::Number, Some(minimum)) => Value::from(minimum),
        #[allow(clippy::cast_possible_truncation, reason = "it saturates, which is as good a sample as any")]
        (ValueType::Integer, Some(minimum)) => Value::from(minimum.ceil() as i64),
        _ => sample_of(type_),
    })
}

/// Any value of a type.
pub fn sample_of(type_: ValueType) -> Value {
    match type_ {
        ValueType::String => Value::from("sample"),
        ValueType::Integer => Value::from(1),
        ValueType::Number => Value::from(1.0),
        ValueType::Boolean => Value::from(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parameter(declared: Value) -> Parameter {
        let mut all = json!({"name": "p"});
        json_patch::merge(&mut all, &declared);
        serde_json::from_value(all).unwrap()
    }

    fn told(problems: Vec<Problem>) -> String {
        crate::cluster::problem::told(&problems)
    }

    #[test]
    fn a_value_is_checked_against_its_parameter() {
        for (declared, value, expected) in [
            (json!({}), json!("x"), ""),
            (json!({}), json!(3), "spec.arguments[0].value: 3: give text (numbers in quotes) (parameter p)"),
            (json!({"type": "integer"}), json!(3), ""),
            (json!({"type": "integer"}), json!("3"), "spec.arguments[0].value: \"3\": give a whole number"),
            (json!({"type": "integer"}), json!(3.5), "spec.arguments[0].value: 3.5: give a whole number"),
            (json!({"type": "number", "minimum": 0, "maximum": 1}), json!(1), ""),
            (json!({"type": "number", "maximum": 1}), json!(1.5), "spec.arguments[0].value: 1.5: give at most 1"),
            (json!({"type": "number", "minimum": 0.1}), json!(0), "spec.arguments[0].value: 0: give at least 0.1"),
            (json!({"type": "boolean"}), json!("true"), "spec.arguments[0].value: \"true\": give true or false"),
            (json!({"enum": ["a", "b"]}), json!("c"), "spec.arguments[0].value: \"c\": give one of \"a\", \"b\""),
            (json!({"type": "number", "enum": [1, 2]}), json!(1.0), ""),
            (json!({"pattern": "^[a-z]+$"}), json!("abc"), ""),
            (
                json!({"pattern": "^[a-z]+$"}),
                json!("a1"),
                "spec.arguments[0].value: \"a1\": give text that matches ^[a",
            ),
            (json!({}), json!("x".repeat(5_000)), "spec.arguments[0].value: \"xxxxxx"),
        ] {
            let argument = Argument { name: "p".into(), value: value.clone() };
            let message = effective(&[parameter(declared.clone())], &[argument]).err().map(told).unwrap_or_default();
            assert!(
                message.starts_with(expected) && message.is_empty() == expected.is_empty(),
                "{declared}: {message}"
            );
        }
    }

    #[test]
    fn every_parameter_has_one_value_and_every_argument_a_parameter() {
        let parameters = [parameter(json!({"default": "d"})), parameter(json!({"name": "q", "type": "integer"}))];
        let argument = |name: &str, value: Value| Argument { name: name.into(), value };
        let values = effective(&parameters, &[argument("q", json!(2))]).unwrap();
        assert_eq!(json!(values), json!({"p": "d", "q": 2}));
        let problems =
            effective(&parameters, &[argument("r", json!(2)), argument("p", json!("1")), argument("p", json!("2"))]);
        assert_eq!(
            told(problems.unwrap_err()),
            "spec.arguments[0].name: r: remove it, or name one of the pipeline's parameters: p, q; \
             spec.arguments[2].name: p: give each argument once; \
             spec.arguments: q is missing: add an argument: a whole number, without quotes"
        );
    }

    #[test]
    fn all_values_together_fit_into_a_status() {
        let parameters: Vec<Parameter> = (0..20).map(|index| parameter(json!({"name": format!("p{index}")}))).collect();
        let arguments: Vec<Argument> =
            (0..20).map(|index| Argument { name: format!("p{index}"), value: "x".repeat(4_000).into() }).collect();
        let message = told(effective(&parameters, &arguments).unwrap_err());
        assert!(message.starts_with("spec.arguments: 80040 bytes: give at most 65536 in all"), "{message}");
    }

    #[test]
    fn a_declaration_that_makes_no_sense_is_told() {
        for (declared, expected) in [
            (json!({"minimum": 1}), "x.minimum: 1: remove it"),
            (json!({"type": "integer", "minimum": 2, "maximum": 1}), "x.minimum: 2: set at most the maximum, 1"),
            (json!({"pattern": "("}), "x.pattern: (: write a regular expression (regex syntax): unclosed group"),
            (json!({"type": "integer", "pattern": "a"}), "x.pattern: a: remove it"),
            (json!({"enum": ["a", 1]}), "x.enum[1]: 1: give text"),
            (json!({"enum": ["a"], "default": "b"}), "x.default: \"b\": give one of \"a\""),
            (json!({"type": "integer", "default": "b"}), "x.default: \"b\": give a whole number"),
        ] {
            let mut problems = Vec::new();
            check_declaration(&parameter(declared.clone()), "x", &mut problems);
            assert!(told(problems.clone()).starts_with(expected), "{declared}: {problems:?}");
        }
    }
}
