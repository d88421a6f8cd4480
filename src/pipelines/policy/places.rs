//! Where in an embedded spec a string stands: who reads it decides how a value may be put into it.

use serde_json::Value;

/// What is embedded in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embedded {
    /// A pod template.
    PodTemplate,
    /// The spec of a TrainingJob or ModelDeployment, whose `template` is a pod template.
    Spec,
}

/// Who reads a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A field of our own kinds, where `nodes: $(params.nodes)` must become a number.
    Field,
    /// A field of the pod template that is used as it stands.
    Template,
    /// A field of the pod template in which the kubelet expands `$(NAME)` and takes `$$` for one `$`.
    Expanded,
}

/// A step of the way to a string: a field or an item of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment<'a> {
    Field(&'a str),
    Item(usize),
}

/// Rebuilds a spec with each string replaced by what `replace` makes of it, given the string's path and place.
/// Names of fields are no strings in this sense.
///
/// # Errors
/// The first that `replace` returns.
pub fn map_strings<E>(
    spec: &Value,
    embedded: Embedded,
    replace: &mut impl FnMut(&dyn Fn() -> String, Place, &str) -> Result<Value, E>,
) -> Result<Value, E> {
    visit(spec, embedded, &mut Vec::new(), replace)
}

fn visit<'a, E>(
    value: &'a Value,
    embedded: Embedded,
    path: &mut Vec<Segment<'a>>,
    replace: &mut impl FnMut(&dyn Fn() -> String, Place, &str) -> Result<Value, E>,
) -> Result<Value, E> {
    let mut below = |segment, value| {
        path.push(segment);
        let replaced = visit(value, embedded, path, replace);
        path.pop();
        replaced
    };
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(field, value)| Ok((field.clone(), below(Segment::Field(field), value)?)))
            .collect::<Result<_, _>>()
            .map(Value::Object),
        Value::Array(items) => {
            let items = items.iter().enumerate().map(|(index, item)| below(Segment::Item(index), item));
            items.collect::<Result<_, _>>().map(Value::Array)
        }
        Value::String(text) => replace(&|| told(path), place(embedded, path), text),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
    }
}

/// A path as Kubernetes writes it: `spec.containers[0].args[1]`.
fn told(path: &[Segment<'_>]) -> String {
    let mut told = String::new();
    for segment in path {
        match segment {
            Segment::Field(field) if told.is_empty() => told.push_str(field),
            Segment::Field(field) => told.extend([".", *field]),
            Segment::Item(index) => told.push_str(&format!("[{index}]")),
        }
    }
    told
}

/// The kubelet expands commands, arguments, values of variables, `subPathExpr`
/// (kubernetes.io/docs/tasks/inject-data-application) and the commands of probes, but no other string.
fn place(embedded: Embedded, path: &[Segment<'_>]) -> Place {
    use Segment::{Field, Item};
    let inside = match (embedded, path) {
        (Embedded::PodTemplate, path) => path,
        (Embedded::Spec, [Field("template"), inside @ ..]) => inside,
        (Embedded::Spec, _) => return Place::Field,
    };
    let [Field("spec"), Field("containers" | "initContainers"), Item(_), inside @ ..] = inside else {
        return Place::Template;
    };
    match inside {
        [Field("command" | "args"), Item(_)]
        | [Field("env"), Item(_), Field("value")]
        | [Field("volumeMounts"), Item(_), Field("subPathExpr")]
        | [Field("livenessProbe" | "readinessProbe" | "startupProbe"), Field("exec"), Field("command"), Item(_)] => {
            Place::Expanded
        }
        _ => Place::Template,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use serde_json::json;

    use super::*;

    fn places(spec: &Value, embedded: Embedded) -> Vec<(String, Place)> {
        let mut places = Vec::new();
        let same = map_strings(spec, embedded, &mut |path, place, text| {
            places.push((path(), place));
            Ok::<_, Infallible>(Value::from(text))
        });
        assert_eq!(same.unwrap(), *spec, "nothing else changes");
        places
    }

    #[test]
    fn each_string_is_read_by_somebody() {
        let container = json!({
            "name": "main", "image": "i", "command": ["c"], "args": ["a"], "workingDir": "/w",
            "env": [{"name": "E", "value": "v"}, {"name": "F", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "volumeMounts": [{"subPath": "p", "subPathExpr": "q"}],
            "lifecycle": {"preStop": {"exec": {"command": ["l"]}}},
            "livenessProbe": {"exec": {"command": ["p"]}, "periodSeconds": 3},
        });
        let template = json!({"metadata": {"labels": {"l": "v"}}, "spec": {"containers": [container], "args": ["x"]}});
        let expanded = [
            "spec.containers[0].args[0]",
            "spec.containers[0].command[0]",
            "spec.containers[0].env[0].value",
            "spec.containers[0].livenessProbe.exec.command[0]",
            "spec.containers[0].volumeMounts[0].subPathExpr",
        ];
        let found = places(&template, Embedded::PodTemplate);
        let of = |sought: Place| -> Vec<&str> {
            found.iter().filter(|(_, place)| *place == sought).map(|(path, _)| path.as_str()).collect()
        };
        let mut found_expanded = of(Place::Expanded);
        found_expanded.sort_unstable();
        assert_eq!(found_expanded, expanded);
        assert_eq!(of(Place::Field), [""; 0]);
        assert!(of(Place::Template).contains(&"spec.containers[0].lifecycle.preStop.exec.command[0]"), "{found:?}");

        let job = json!({"nodes": "n", "template": {"spec": {"initContainers": [{"args": ["a"], "image": "i"}]}}});
        let mut found = places(&job, Embedded::Spec);
        found.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(
            found,
            [
                ("nodes".to_owned(), Place::Field),
                ("template.spec.initContainers[0].args[0]".to_owned(), Place::Expanded),
                ("template.spec.initContainers[0].image".to_owned(), Place::Template),
            ]
        );
    }
}
