//! The values of a run's parameters: arguments, else defaults, each of them checked.

use std::collections::{BTreeMap, BTreeSet};

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::api::pipeline_run::Argument;
use crate::api::pipeline_step::{MAX_ENUM, MAX_PARAMETERS, MAX_PATTERN, Parameter};
use crate::api::{MAX_TEXT, Scalar, ValueType};
use crate::cluster::problem::Problem;
use crate::text::shorten;

/// Most bytes that all values of a run may have.
const MOST_BYTES: usize = 64 * 1_024;
/// Largest compiled pattern, in bytes: what it takes to compile and to match is bounded by its size.
const LARGEST_PATTERN: usize = 256 * 1_024;
/// Allowed values and names that a remedy lists.
const MOST_LISTED: usize = 20;

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

/// A parameter with its pattern compiled once, to check values against.
struct Checker<'a> {
    parameter: &'a Parameter,
    type_: ValueType,
    pattern: Option<Regex>,
}

impl<'a> Checker<'a> {
    /// A pattern that cannot be used is left out: that is reported where it is declared.
    fn new(parameter: &'a Parameter) -> Self {
        let pattern = parameter.pattern.as_deref().and_then(|pattern| compile(pattern).ok());
        Checker { parameter, type_: parameter.type_.unwrap_or_default(), pattern }
    }

    /// The value as JSON.
    ///
    /// # Errors
    /// What must be given instead.
    fn check(&self, scalar: &Scalar) -> Result<Value, String> {
        let Checker { parameter, type_, pattern } = self;
        if let Scalar::TooLong(_) = scalar {
            return Err(format!("give at most {MAX_TEXT} bytes, or a file's name"));
        }
        let value = scalar.json().filter(|value| is_of(*type_, value));
        let value = value.ok_or_else(|| format!("give {}", describe(*type_)))?;
        let allowed = &parameter.allowed;
        if !allowed.is_empty() && !allowed.iter().filter_map(Scalar::json).any(|allowed| same(&allowed, &value)) {
            return Err(format!("give one of {}", listed(allowed.iter())));
        }
        let number = value.as_f64();
        if let (Some(minimum), Some(number)) = (parameter.minimum, number)
            && number < minimum
        {
            return Err(format!("give at least {minimum}"));
        }
        if let (Some(maximum), Some(number)) = (parameter.maximum, number)
            && number > maximum
        {
            return Err(format!("give at most {maximum}"));
        }
        match (pattern, value.as_str()) {
            (Some(pattern), Some(text)) if !pattern.is_match(text) => {
                Err(format!("give text that matches {}", pattern.as_str()))
            }
            _ => Ok(value),
        }
    }
}

/// Compiles a pattern.
///
/// # Errors
/// What to do about it.
fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > MAX_PATTERN {
        return Err(format!("{} bytes: write at most {MAX_PATTERN}", pattern.len()));
    }
    RegexBuilder::new(pattern).size_limit(LARGEST_PATTERN).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "write a smaller one: it repeats too many characters too often; [0-9] and \
             [a-zA-Z0-9_] are far smaller than \\d and \\w, which hold every script's"
            .to_owned(),
        error => {
            // The parser draws its finding over several lines; the last one says what it is.
            let words = error.to_string();
            let last = words.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("write a regular expression (RE2 syntax): {}", shorten(last, 200))
        }
    })
}

/// Equal as numbers, 1 and 1.0 too, or equal.
fn same(one: &Value, other: &Value) -> bool {
    // Large whole numbers that differ may be one as doubles.
    let is_whole = |value: &Value| value.is_i64() || value.is_u64();
    one == other
        || !(is_whole(one) && is_whole(other))
            && one.as_f64().zip(other.as_f64()).is_some_and(|(one, other)| one == other)
}

/// Names or values that there are, as many as help.
pub fn listed(items: impl ExactSizeIterator<Item = impl ToString>) -> String {
    let more = items.len().saturating_sub(MOST_LISTED);
    let short = |item: String| shorten(&item, 100).to_owned();
    let mut listed: Vec<String> = items.take(MOST_LISTED).map(|item| short(item.to_string())).collect();
    listed.extend((more > 0).then(|| format!("{more} more")));
    listed.join(", ")
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
        } else if let Err(remedy) = compile(pattern) {
            problems.push(Problem::new(&field, pattern, &remedy));
        }
    }
    if parameter.allowed.len() > MAX_ENUM {
        let remedy = format!("list at most {MAX_ENUM}");
        problems.push(Problem::new(&format!("{path}.enum"), format!("{} values", parameter.allowed.len()), &remedy));
        return;
    }
    for (index, allowed) in parameter.allowed.iter().enumerate() {
        if !allowed.json().is_some_and(|allowed| is_of(type_, &allowed)) {
            let remedy = format!("give {}", describe(type_));
            problems.push(Problem::new(&format!("{path}.enum[{index}]"), allowed, &remedy));
        }
    }
    if let Some(default) = &parameter.default
        && let Err(remedy) = Checker::new(parameter).check(default)
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
    for (field, count) in [("the pipeline's parameters", parameters.len()), ("spec.arguments", arguments.len())] {
        if count > MAX_PARAMETERS {
            let remedy = format!("give at most {MAX_PARAMETERS}");
            problems.push(Problem::new(field, format!("{count} of them"), &remedy));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut values = BTreeMap::new();
    let mut given = BTreeSet::new();
    for (index, Argument { name, value }) in arguments.iter().enumerate() {
        let path = format!("spec.arguments[{index}]");
        let Some(parameter) = parameters.iter().find(|parameter| parameter.name == *name) else {
            let remedy = match parameters {
                [] => "remove it: the pipeline takes no parameters".to_owned(),
                known => {
                    let known = listed(known.iter().map(|parameter| parameter.name.as_str()));
                    format!("remove it, or name one of the pipeline's parameters: {known}")
                }
            };
            problems.push(Problem::new(&format!("{path}.name"), name, &remedy));
            continue;
        };
        if !given.insert(name) {
            problems.push(Problem::new(&format!("{path}.name"), name, "give each argument once"));
        }
        match Checker::new(parameter).check(value) {
            Ok(value) => _ = values.insert(name.clone(), value),
            Err(remedy) => {
                let remedy = format!("{remedy} (parameter {name})");
                problems.push(Problem::new(&format!("{path}.value"), value, &remedy));
            }
        }
    }
    for parameter in parameters.iter().filter(|parameter| !given.contains(&parameter.name)) {
        match &parameter.default {
            // One that is not as it should be is reported where the parameter is declared.
            Some(default) => values.extend(default.json().map(|value| (parameter.name.clone(), value))),
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
    let declared = parameter.default.as_ref().or_else(|| parameter.allowed.first());
    let known = declared.and_then(Scalar::json);
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

    fn scalar(value: &Value) -> Scalar {
        serde_json::from_value(value.clone()).unwrap()
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
            (
                json!({}),
                json!("x".repeat(5_000)),
                "spec.arguments[0].value: text of 5000 bytes: give at most 4096 bytes",
            ),
            (json!({}), json!([{"a": 0}]), "spec.arguments[0].value: a list: give text"),
            (json!({"type": "number"}), json!({"a": 0}), "spec.arguments[0].value: an object: give a number"),
        ] {
            let argument = Argument { name: "p".into(), value: scalar(&value) };
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
        let argument = |name: &str, value: Value| Argument { name: name.into(), value: scalar(&value) };
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
        let arguments: Vec<Argument> = (0..20)
            .map(|index| Argument { name: format!("p{index}"), value: Scalar::Text("x".repeat(4_000)) })
            .collect();
        let message = told(effective(&parameters, &arguments).unwrap_err());
        assert!(message.starts_with("spec.arguments: 80040 bytes: give at most 65536 in all"), "{message}");
    }

    #[test]
    fn a_declaration_that_makes_no_sense_is_told() {
        for (declared, expected) in [
            (json!({"minimum": 1}), "x.minimum: 1: remove it"),
            (json!({"type": "integer", "minimum": 2, "maximum": 1}), "x.minimum: 2: set at most the maximum, 1"),
            (json!({"pattern": "("}), "x.pattern: (: write a regular expression (RE2 syntax): unclosed group"),
            (json!({"pattern": r"\w{999}"}), r"x.pattern: \w{999}: write a smaller one: it repeats too many"),
            (
                json!({"pattern": "(([a-z]{999}){999}){999}"}),
                "x.pattern: (([a-z]{999}){999}){999}: write a smaller one",
            ),
            (json!({"pattern": "a".repeat(513)}), &format!("x.pattern: {}: 513 bytes: write", "a".repeat(200))),
            (json!({"default": [1]}), "x.default: a list: give text"),
            (json!({"default": "x".repeat(4_097)}), "x.default: text of 4097 bytes: give at most 4096"),
            (json!({"enum": vec!["a"; 65]}), "x.enum: 65 values: list at most 64"),
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

    #[test]
    fn common_patterns_are_small_enough() {
        for pattern in
            [r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", r"^\d{4}-\d{2}-\d{2}$", r"^s3://[\w.-]+/.+$", "^(dev|prod)$"]
        {
            assert_eq!(compile(pattern).err(), None, "{pattern}");
        }
    }

    #[test]
    fn nothing_longer_than_its_limit_is_handed_out() {
        let long = parameter(json!({"default": "x".repeat(600_000)}));
        assert_eq!(sample(&long), "sample");
        assert_eq!(effective(&[long], &[]), Ok(BTreeMap::new()), "its declaration is refused before");
    }
}
