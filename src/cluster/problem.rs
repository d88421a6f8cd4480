//! Problems of a spec: field, value, remedy; and the checks that every kind with a pod template needs.

use std::fmt;

use serde_json::Value;

use crate::api::{LONGEST_TEMPLATE, RawObject};
use crate::names;
use crate::text::shorten;

/// Longest part of a wrong value that is quoted, in bytes: it may be a whole tree.
const LONGEST_VALUE: usize = 200;

/// Why a spec cannot be carried out: field, value, remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, as in `spec.template.spec.hostname`.
    pub field: String,
    /// What it holds.
    pub value: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.field, self.value, self.remedy)
    }
}

impl Problem {
    /// A problem with a field.
    pub fn new(field: &str, value: impl ToString, remedy: &str) -> Self {
        let value = shorten(&value.to_string(), LONGEST_VALUE).to_owned();
        Problem { field: field.to_owned(), value, remedy: remedy.to_owned() }
    }

    /// The same problem where a spec is embedded in another: a field below `from` is named below `to`.
    pub fn moved(mut self, from: &str, to: &str) -> Self {
        if let Some(below) = self.field.strip_prefix(from) {
            self.field = format!("{to}{below}");
        }
        self
    }
}

/// Several problems in one message.
pub fn told(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Checks that host names and Services can be made from an object's name; `noun` says what the object is.
pub fn check_name(name: &str, noun: &str, problems: &mut Vec<Problem>) {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(inner)
        && !name.ends_with('-');
    if !fits {
        let remedy =
            format!("rename the {noun}: a letter first, then at most 62 of a-z, 0-9 and '-', not ending in '-'");
        problems.push(Problem::new("metadata.name", name, &remedy));
    }
}

/// Checks that a template, or the spec of a step, is short enough to be parsed; `field` is its path. What is too long must
/// not be looked at further.
pub fn check_length(field: &str, object: &RawObject, problems: &mut Vec<Problem>) {
    if object.is_too_long() {
        let value = format!("{} bytes", object.length());
        let remedy =
            format!("make it at most {LONGEST_TEMPLATE} bytes: keep long values in a ConfigMap, or in the image");
        problems.push(Problem::new(field, value, &remedy));
    }
}

/// Checks that a template's metadata holds labels and annotations of the user's, and nothing else.
pub fn check_template_metadata(metadata: &Value, noun: &str, problems: &mut Vec<Problem>) {
    for (field, value) in metadata.as_object().into_iter().flatten() {
        let path = format!("spec.template.metadata.{field}");
        match field.as_str() {
            "labels" | "annotations" => {
                for key in value.as_object().into_iter().flat_map(|map| map.keys()) {
                    if key.starts_with(names::RESERVED_PREFIX) {
                        problems.push(Problem::new(&path, key, "remove it: keys of trainyard.dev/ are the operator's"));
                    }
                }
            }
            // kubectl and client libraries write this one on their own, as null.
            "creationTimestamp" if value.is_null() => {}
            "namespace" => {
                let remedy = format!("remove it: pods run in the namespace of their {noun}, never in another");
                problems.push(Problem::new(&path, value, &remedy));
            }
            _ => problems.push(Problem::new(&path, value, "remove it: only labels and annotations may be set")),
        }
    }
}

/// Name of the container that a person means: the one that the template's annotation names, or the only one. `does`
/// says what it does, as in "the container that serves".
pub fn primary_container(template: &Value, does: &str, problems: &mut Vec<Problem>) -> String {
    const FIELD: &str = "spec.template.metadata.annotations[kubectl.kubernetes.io/default-container]";
    let containers = template["spec"]["containers"].as_array();
    let names: Vec<&str> = containers.into_iter().flatten().filter_map(|each| each["name"].as_str()).collect();
    let named = template["metadata"]["annotations"][names::ANNOTATION_DEFAULT_CONTAINER].as_str();
    match (named, names.as_slice()) {
        (_, []) => {
            let remedy = format!("add the container that {does}");
            problems.push(Problem::new("spec.template.spec.containers", "[]", &remedy));
        }
        (Some(name), _) if names.contains(&name) => return name.to_owned(),
        (Some(name), _) => {
            let remedy = format!("name one of the containers: {}", names.join(", "));
            problems.push(Problem::new(FIELD, name, &remedy));
        }
        (None, [only]) => return (*only).to_owned(),
        (None, _) => {
            let remedy = format!("name the container that {does}, one of: {}", names.join(", "));
            problems.push(Problem::new(FIELD, format!("missing, with {} containers", names.len()), &remedy));
        }
    }
    String::new()
}

/// Checks that a container sets no variable that the operator sets; `setting` says for what it does.
pub fn check_env(
    container: &Value,
    index: usize,
    is_reserved: &dyn Fn(&str) -> bool,
    setting: &str,
    problems: &mut Vec<Problem>,
) {
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or_default();
        if is_reserved(name) {
            let field = format!("spec.template.spec.containers[{index}].env");
            problems.push(Problem::new(&field, name, &format!("remove it: the operator sets it for {setting}")));
        }
    }
}
