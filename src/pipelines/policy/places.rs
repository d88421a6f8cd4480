//! Where in an embedded spec a string stands: who reads it decides how a value may be put into it.

use serde_json::Value;

use super::fields::{Kind, fields};

/// Longest path that is written out, in bytes: a name of a field may be as long as the whole spec.
pub const LONGEST_PATH: usize = 256;

/// What is embedded in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embedded {
    /// A pod template.
    PodTemplate,
    /// The spec of a TrainingJob, whose `template` is a pod template.
    TrainingJob,
    /// The spec of a ModelDeployment, whose `template` is a pod template.
    ModelDeployment,
}

/// Who reads a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A field that holds a number, true or false, or that is not known here: `runAsUser: $(params.uid)` must become a number.
    Typed,
    /// A field that holds text, which is used as it is.
    Text,
    /// Text in which the kubelet expands `$(NAME)` and takes `$$` for one `$`.
    Expanded,
}

/// A step of the way to a string: a field or an item of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment<'a> {
    /// A field of an object.
    Field(&'a str),
    /// An item of a list.
    Item(usize),
}

/// The way from an embedded spec to what is in it.
#[derive(Debug)]
pub struct Path<'a> {
    embedded: Embedded,
    segments: Vec<Segment<'a>>,
}

impl<'a> Path<'a> {
    /// The way to the embedded spec itself.
    pub fn new(embedded: Embedded) -> Self {
        Path { embedded, segments: Vec::new() }
    }

    /// Looks at what is one segment further down.
    pub fn within<T>(&mut self, segment: Segment<'a>, look: impl FnOnce(&mut Self) -> T) -> T {
        self.segments.push(segment);
        let found = look(self);
        self.segments.pop();
        found
    }

    /// As Kubernetes writes it, `spec.containers[0].args[1]`; of a long one the beginning.
    pub fn told(&self) -> String {
        let mut told = String::new();
        for segment in &self.segments {
            match segment {
                Segment::Field(field) if told.is_empty() => told.push_str(crate::text::shorten(field, LONGEST_PATH)),
                Segment::Field(field) => told.extend([".", crate::text::shorten(field, LONGEST_PATH)]),
                Segment::Item(index) => told.push_str(&format!("[{index}]")),
            }
            if told.len() > LONGEST_PATH {
                told.truncate(told.floor_char_boundary(LONGEST_PATH));
                break;
            }
        }
        told
    }

    /// The way below the pod template, if it leads there.
    pub fn in_template(&self) -> Option<&[Segment<'a>]> {
        match (self.embedded, self.segments.as_slice()) {
            (Embedded::PodTemplate, segments) => Some(segments),
            (_, [Segment::Field("template"), inside @ ..]) => Some(inside),
            _ => None,
        }
    }

    /// The kubelet expands commands, arguments, values of variables, `subPathExpr`
    /// (kubernetes.io/docs/tasks/inject-data-application) and the commands of probes, but no other string.
    fn place(&self, kind: Option<&Kind>) -> Place {
        use Segment::{Field, Item};
        if !matches!(kind, Some(Kind::Text(_) | Kind::Time)) {
            return Place::Typed;
        }
        let Some([Field("spec"), Field("containers" | "initContainers"), Item(_), inside @ ..]) = self.in_template()
        else {
            return Place::Text;
        };
        match inside {
            [Field("command" | "args"), Item(_)]
            | [Field("env"), Item(_), Field("value")]
            | [Field("volumeMounts"), Item(_), Field("subPathExpr")]
            | [Field("livenessProbe" | "readinessProbe" | "startupProbe"), Field("exec"), Field("command"), Item(_)] => {
                Place::Expanded
            }
            _ => Place::Text,
        }
    }
}

/// Looks at each string of a spec, with its path and place. Names of fields are no strings in this sense.
///
/// # Errors
/// The first that `look` returns.
pub fn each_string<'a, E>(
    spec: &'a Value,
    embedded: Embedded,
    look: &mut impl FnMut(&Path<'a>, Place, &'a str) -> Result<(), E>,
) -> Result<(), E> {
    each(spec, Some(fields(embedded)), &mut Path::new(embedded), look)
}

fn each<'a, E>(
    value: &'a Value,
    kind: Option<&Kind>,
    path: &mut Path<'a>,
    look: &mut impl FnMut(&Path<'a>, Place, &'a str) -> Result<(), E>,
) -> Result<(), E> {
    match value {
        Value::Object(object) => object.iter().try_for_each(|(name, value)| {
            let kind = kind.and_then(|kind| kind.field(name));
            path.within(Segment::Field(name), |path| each(value, kind, path, look))
        }),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(index, item)| {
            let kind = kind.and_then(Kind::item);
            path.within(Segment::Item(index), |path| each(item, kind, path, look))
        }),
        Value::String(text) => look(path, path.place(kind), text),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// Rebuilds a spec with each string replaced by what `replace` makes of it, given the string's path and place.
///
/// # Errors
/// The first that `replace` returns.
pub fn map_strings<'a, E>(
    spec: &'a Value,
    embedded: Embedded,
    replace: &mut impl FnMut(&Path<'a>, Place, &'a str) -> Result<Value, E>,
) -> Result<Value, E> {
    map(spec, Some(fields(embedded)), &mut Path::new(embedded), replace)
}

fn map<'a, E>(
    value: &'a Value,
    kind: Option<&Kind>,
    path: &mut Path<'a>,
    replace: &mut impl FnMut(&Path<'a>, Place, &'a str) -> Result<Value, E>,
) -> Result<Value, E> {
    match value {
        Value::Object(object) => {
            let mapped = object.iter().map(|(name, value)| {
                let kind = kind.and_then(|kind| kind.field(name));
                let value = path.within(Segment::Field(name), |path| map(value, kind, path, replace))?;
                Ok((name.clone(), value))
            });
            mapped.collect::<Result<_, _>>().map(Value::Object)
        }
        Value::Array(items) => {
            let mapped = items.iter().enumerate().map(|(index, item)| {
                let kind = kind.and_then(Kind::item);
                path.within(Segment::Item(index), |path| map(item, kind, path, replace))
            });
            mapped.collect::<Result<_, _>>().map(Value::Array)
        }
        Value::String(text) => replace(path, path.place(kind), text),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use serde_json::json;

    use super::*;

    fn places(spec: &Value, embedded: Embedded) -> Vec<(String, Place)> {
        let (mut places, mut again) = (Vec::new(), Vec::new());
        let same = map_strings(spec, embedded, &mut |path, place, text| {
            places.push((path.told(), place));
            Ok::<_, Infallible>(Value::from(text))
        });
        assert_eq!(same.unwrap(), *spec, "nothing else changes");
        let all = each_string(spec, embedded, &mut |path, place, _| {
            again.push((path.told(), place));
            Ok::<_, Infallible>(())
        });
        assert_eq!((all, &again), (Ok(()), &places));
        places
    }

    #[test]
    fn each_string_is_read_by_somebody() {
        let container = json!({
            "name": "main", "image": "i", "command": ["c"], "args": ["a"], "workingDir": "/w",
            "env": [{"name": "E", "value": "v"}, {"name": "F", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "volumeMounts": [{"subPath": "p", "subPathExpr": "q"}],
            "lifecycle": {"preStop": {"exec": {"command": ["l"]}}},
            "livenessProbe": {"exec": {"command": ["p"]}, "periodSeconds": "3"},
            "ofTomorrow": "t",
        });
        let template =
            json!({"metadata": {"labels": {"l": "v"}}, "spec": {"containers": [container], "hostNetwork": "x"}});
        let found = places(&template, Embedded::PodTemplate);
        let of = |sought: Place| -> Vec<&str> {
            let mut found: Vec<&str> =
                found.iter().filter(|(_, place)| *place == sought).map(|(path, _)| path.as_str()).collect();
            found.sort_unstable();
            found
        };
        let expanded = [
            "spec.containers[0].args[0]",
            "spec.containers[0].command[0]",
            "spec.containers[0].env[0].value",
            "spec.containers[0].livenessProbe.exec.command[0]",
            "spec.containers[0].volumeMounts[0].subPathExpr",
        ];
        assert_eq!(of(Place::Expanded), expanded);
        let typed =
            ["spec.containers[0].livenessProbe.periodSeconds", "spec.containers[0].ofTomorrow", "spec.hostNetwork"];
        assert_eq!(of(Place::Typed), typed);
        assert!(of(Place::Text).contains(&"spec.containers[0].lifecycle.preStop.exec.command[0]"), "{found:?}");
        assert!(of(Place::Text).contains(&"metadata.labels.l"), "{found:?}");

        let job = json!({
            "nodes": "n", "activeDeadline": "1h",
            "template": {"spec": {"initContainers": [{"args": ["a"], "image": "i"}]}},
        });
        assert_eq!(
            places(&job, Embedded::TrainingJob),
            [
                ("activeDeadline".to_owned(), Place::Text),
                ("nodes".to_owned(), Place::Typed),
                ("template.spec.initContainers[0].args[0]".to_owned(), Place::Expanded),
                ("template.spec.initContainers[0].image".to_owned(), Place::Text),
            ]
        );
    }

    #[test]
    fn a_path_is_never_longer_than_its_limit() {
        for spec in [json!({"ü".repeat(1_000): "x"}), json!({"a": {"b".repeat(200): {"ü".repeat(200): ["x"]}}})] {
            let found = places(&spec, Embedded::PodTemplate);
            assert!(found.iter().all(|(path, _)| path.len() <= LONGEST_PATH), "{found:?}");
        }
    }
}
