//! Fields of an embedded spec that its kind does not have, or that hold something else than they should: reported before
//! anything runs, instead of by the apiserver when the step's time has come.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::Value;

use crate::api::{Duration, ValueType};
use crate::cluster::problem::Problem;
use crate::pipelines::policy::fields::{Kind, fields};
use crate::pipelines::policy::parameters::{describe, listed};
use crate::pipelines::policy::places::{Embedded, Path, Segment};

/// Longest name of a field that Kubernetes might have, in bytes.
const LONGEST_NAME: usize = 64;

#[cfg(test)]
thread_local! {
    /// How often [`meant`] compared a name, for tests that count the work.
    pub(super) static ASKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Something about a field.
pub(super) enum Finding<'a> {
    /// The kind has no such field.
    Unknown {
        /// Its name.
        name: &'a str,
        /// The fields that the kind has.
        known: &'static BTreeMap<String, Arc<Kind>>,
        /// Whether the cluster may know it all the same.
        open: bool,
    },
    /// A field that must be there is not.
    Missing(&'static Kind),
    /// A field holds what it cannot.
    Wrong {
        /// What it holds.
        value: &'a Value,
        /// What to do.
        remedy: String,
        /// Whether another value of the same type would do.
        depends_on_value: bool,
    },
}

/// Compares a spec with its kind, until `found` has heard enough. Null stands for a field that is left out.
pub(super) fn compare<'a>(
    spec: &'a Value,
    embedded: Embedded,
    found: &mut impl FnMut(&Path<'a>, Finding<'a>) -> ControlFlow<()>,
) {
    // Whether everything was looked at does not matter.
    _ = visit(spec, fields(embedded), &mut Path::new(embedded), found);
}

fn visit<'a>(
    value: &'a Value,
    kind: &'static Kind,
    path: &mut Path<'a>,
    found: &mut impl FnMut(&Path<'a>, Finding<'a>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    match (kind, value) {
        (_, Value::Null) => ControlFlow::Continue(()),
        (Kind::Object { fields, required, open }, Value::Object(object)) => {
            for (name, value) in object {
                path.within(Segment::Field(name), |path| match fields.get(name) {
                    Some(kind) => visit(value, kind, path, found),
                    None => {
                        found(path, Finding::Unknown { name, known: fields, open: *open && name.len() <= LONGEST_NAME })
                    }
                })?;
            }
            for name in required.iter().filter(|name| object.get(*name).is_none_or(Value::is_null)) {
                if let Some(kind) = fields.get(name) {
                    path.within(Segment::Field(name), |path| found(path, Finding::Missing(kind)))?;
                }
            }
            ControlFlow::Continue(())
        }
        (Kind::Map(kind), Value::Object(object)) => object
            .iter()
            .try_for_each(|(name, value)| path.within(Segment::Field(name), |path| visit(value, kind, path, found))),
        (Kind::List(kind), Value::Array(items)) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| path.within(Segment::Item(index), |path| visit(item, kind, path, found))),
        (kind, value) => match differs(kind, value) {
            Some(depends_on_value) => {
                found(path, Finding::Wrong { value, remedy: format!("give {}", wanted(kind)), depends_on_value })
            }
            None => ControlFlow::Continue(()),
        },
    }
}

/// Whether a value is not what a field holds, and if so, whether another of its type would be.
fn differs(kind: &Kind, value: &Value) -> Option<bool> {
    let is_right = match (kind, value) {
        (Kind::Any, _) | (Kind::NumberOrText, Value::Number(_) | Value::String(_)) => true,
        (Kind::Text(allowed), Value::String(text)) => allowed.is_empty() || allowed.contains(text),
        (Kind::Time, Value::String(_)) => serde_json::from_value::<Duration>(value.clone()).is_ok(),
        (Kind::Integer { wide }, Value::Number(number)) => {
            number.as_i64().is_some_and(|number| *wide || i32::try_from(number).is_ok())
        }
        (Kind::Number, Value::Number(_)) | (Kind::Boolean, Value::Bool(_)) => true,
        _ => return Some(false),
    };
    (!is_right).then_some(true)
}

/// What a field holds, in words.
pub(super) fn wanted(kind: &Kind) -> String {
    match kind {
        Kind::Object { .. } | Kind::Map(_) => "an object, with fields of its own".to_owned(),
        Kind::List(_) => "a list".to_owned(),
        Kind::Text(allowed) if allowed.is_empty() => {
            "text, in quotes where YAML takes it for something else".to_owned()
        }
        Kind::Text(allowed) => {
            let quoted: Vec<String> = allowed.iter().map(|value| format!("\"{value}\"")).collect();
            format!("one of {}", listed(quoted.iter()))
        }
        Kind::Time => "a time such as 90s, 10m or 24h".to_owned(),
        Kind::Integer { wide: true } => describe(ValueType::Integer).to_owned(),
        Kind::Integer { wide: false } => format!("{}, at most {}", describe(ValueType::Integer), i32::MAX),
        Kind::Number => describe(ValueType::Number).to_owned(),
        Kind::Boolean => describe(ValueType::Boolean).to_owned(),
        Kind::NumberOrText => "a number or text".to_owned(),
        Kind::Any => "a value".to_owned(),
    }
}

/// The field that a misspelt name is nearest to, if one is near. It is compared with each: only for what is reported.
pub(super) fn meant(name: &str, known: &'static BTreeMap<String, Arc<Kind>>) -> Option<&'static str> {
    if name.len() > LONGEST_NAME {
        return None;
    }
    #[cfg(test)]
    ASKED.with(|asked| asked.set(asked.get() + 1));
    let furthest = (name.len() / 3).clamp(1, 3);
    let distance = |known: &str| strsim::osa_distance(&name.to_lowercase(), &known.to_lowercase());
    let near = known.keys().map(|known| (distance(known), known)).filter(|(distance, _)| *distance <= furthest);
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known.as_str())
}

/// A field of a pod template that the operator does not know: a newer one of the cluster's, or a mistake. Only the apiserver
/// can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField {
    /// Its path in the pipeline.
    pub at: String,
    /// Its path in a pod, with `None` for an item of a list.
    pub in_pod: Vec<Option<String>>,
    /// The field that is probably meant.
    pub meant: Option<&'static str>,
}

impl UnknownField {
    /// The field at a path, which the pipeline has at `at`; `None` if it is not within a pod template.
    pub(super) fn new(path: &Path<'_>, at: String, meant: Option<&'static str>) -> Option<UnknownField> {
        let segment = |segment: &Segment<'_>| match segment {
            Segment::Field(name) => Some((*name).to_owned()),
            Segment::Item(_) => None,
        };
        Some(UnknownField { at, in_pod: path.in_template()?.iter().map(segment).collect(), meant })
    }

    /// The problem, if the cluster does not know the field either.
    pub fn problem(&self) -> Problem {
        unknown(&self.at, self.meant)
    }
}

/// The problem with a field that the kind does not have.
pub(super) fn unknown(at: &str, meant: Option<&str>) -> Problem {
    let remedy = match meant {
        Some(meant) => format!("rename it to {meant}, or remove it"),
        None => "remove it".to_owned(),
    };
    Problem::new(at, "there is no such field", &remedy)
}
