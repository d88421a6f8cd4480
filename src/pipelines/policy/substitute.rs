//! Puts values into an embedded spec. A value is data: whatever it holds, it becomes one string (or one number) of the spec,
//! never a reference, a variable or structure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::places::{Embedded, Place, each_string, map_strings};
use super::references::{Piece, Reference, only_reference, pieces};

/// Most bytes of text that one step's spec may hold with its values. A reference is short and its value may be long, so this
/// is checked before anything is built.
pub const MOST_TEXT: usize = 1_024 * 1_024;

/// What references of one run stand for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    /// The PipelineRun's name.
    pub run: String,
    /// Each parameter's value: the argument given, else the default.
    pub parameters: BTreeMap<String, Value>,
    /// What each step that succeeded reported, by step and output.
    pub outputs: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Values {
    fn get(&self, reference: Reference<'_>) -> Option<Cow<'_, Value>> {
        match reference {
            Reference::Parameter(name) => self.parameters.get(name).map(Cow::Borrowed),
            Reference::Output { step, output } => self.outputs.get(step)?.get(output).map(Cow::Borrowed),
            Reference::RunName => Some(Cow::Owned(Value::from(self.run.as_str()))),
        }
    }
}

/// Why values cannot be put into a spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A reference has no value.
    #[error("{path}: {reference} has no value: the step did not succeed")]
    NoValue {
        /// Path of the string below the embedded spec, as in `spec.containers[0].args[1]`.
        path: String,
        /// The reference.
        reference: String,
    },
    /// The spec would hold more than [`MOST_TEXT`] bytes of text.
    #[error(
        "{path}: with its values, the text of the step is longer than {MOST_TEXT} bytes up to here: pass what is long in a file, \
         or refer to it less often"
    )]
    TooLong {
        /// Path of the string that is one too many.
        path: String,
    },
}

/// The spec with every reference replaced by its value.
///
/// A string that is nothing but a reference becomes the value itself where the field does not hold text, so that
/// `replicas: $(params.replicas)` is a number; everywhere else a value becomes text.
///
/// # Errors
/// The first reference that has no value, or the string with which the spec becomes too long.
pub fn substitute(spec: &Value, embedded: Embedded, values: &Values) -> Result<Value, Unfit> {
    measure(spec, embedded, values)?;
    map_strings(spec, embedded, &mut |path, place, text| {
        let value = |reference: Reference<'_>| {
            values.get(reference).ok_or_else(|| Unfit::NoValue { path: path.told(), reference: reference.to_string() })
        };
        if let (Place::Typed, Some(reference)) = (place, only_reference(text)) {
            return value(reference).map(Cow::into_owned);
        }
        let mut replaced = String::with_capacity(text.len());
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) | Piece::Malformed(text) => replaced.push_str(text),
                // The kubelet takes one of the two dollar signs away where it expands; elsewhere that is ours to do.
                Piece::Escaped(text) if place == Place::Expanded => replaced.push_str(text),
                Piece::Escaped(text) => replaced.push_str(&text[1..]),
                Piece::Reference(reference) => {
                    let value = value(reference)?;
                    let written = written(&value);
                    // Doubled, it reaches the program as it was: "$(RANK)" in a value is no variable.
                    match place {
                        Place::Expanded => replaced.push_str(&written.replace('$', "$$")),
                        Place::Typed | Place::Text => replaced.push_str(&written),
                    }
                }
            }
        }
        Ok(Value::String(replaced))
    })
}

/// Adds up the text of the spec with its values, until there is too much of it. Each value is measured once.
fn measure(spec: &Value, embedded: Embedded, values: &Values) -> Result<(), Unfit> {
    let mut total: usize = 0;
    let mut lengths: BTreeMap<Reference<'_>, usize> = BTreeMap::new();
    each_string(spec, embedded, &mut |path, _, text| {
        for piece in pieces(text) {
            total += match piece {
                Piece::Text(text) | Piece::Malformed(text) | Piece::Escaped(text) => text.len(),
                Piece::Reference(reference) => *lengths.entry(reference).or_insert_with(|| {
                    let value = values.get(reference);
                    value.map_or(0, |value| written(&value).bytes().map(|byte| 1 + usize::from(byte == b'$')).sum())
                }),
            };
            if total > MOST_TEXT {
                return Err(Unfit::TooLong { path: path.told() });
            }
        }
        Ok(())
    })
}

/// A value as text: strings as they are, without quotes; the rest as JSON writes it.
fn written(value: &Value) -> Cow<'_, str> {
    value.as_str().map_or_else(|| Cow::Owned(value.to_string()), Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn values() -> Values {
        let parameters =
            json!({"nodes": 2, "rate": 0.5, "fast": true, "text": "plain", "odd": "a$(params.nodes)\n\"'$$: -"});
        Values {
            run: "digits-7".to_owned(),
            parameters: serde_json::from_value(parameters).unwrap(),
            outputs: serde_json::from_value(json!({"train": {"accuracy": 0.97}})).unwrap(),
        }
    }

    /// One string as it comes out in a field that holds a number, in an image, and in an argument.
    fn three_ways(text: &str) -> [Value; 3] {
        let spec = json!({"nodes": text, "template": {"spec": {"containers": [{"image": text, "args": [text]}]}}});
        let spec = substitute(&spec, Embedded::TrainingJob, &values()).unwrap();
        let container = &spec["template"]["spec"]["containers"][0];
        [spec["nodes"].clone(), container["image"].clone(), container["args"][0].clone()]
    }

    #[test]
    fn a_value_takes_its_place() {
        for (text, field, template, expanded) in [
            ("$(params.nodes)", json!(2), "2", "2"),
            ("$(params.fast)", json!(true), "true", "true"),
            ("$(steps.train.outputs.accuracy)", json!(0.97), "0.97", "0.97"),
            ("n=$(params.nodes)/$(params.rate)", json!("n=2/0.5"), "n=2/0.5", "n=2/0.5"),
            ("$(run.name)-$(RANK)", json!("digits-7-$(RANK)"), "digits-7-$(RANK)", "digits-7-$(RANK)"),
            ("$$(params.nodes)", json!("$(params.nodes)"), "$(params.nodes)", "$$(params.nodes)"),
            ("$$HOME", json!("$$HOME"), "$$HOME", "$$HOME"),
            (
                "$(params.odd)",
                json!("a$(params.nodes)\n\"'$$: -"),
                "a$(params.nodes)\n\"'$$: -",
                "a$$(params.nodes)\n\"'$$$$: -",
            ),
        ] {
            assert_eq!(three_ways(text), [field, json!(template), json!(expanded)], "{text}");
        }
    }

    #[test]
    fn a_value_alone_is_of_the_type_that_its_field_wants() {
        let template = json!({
            "metadata": {"labels": {"nodes": "$(params.nodes)"}, "annotations": {"fast": "$(params.fast)"}},
            "spec": {
                "hostNetwork": "$(params.fast)",
                "securityContext": {"runAsUser": "$(params.nodes)"},
                "ofTomorrow": "$(params.nodes)",
                "nodeSelector": {"size": "$(params.nodes)"},
                "containers": [{
                    "name": "c",
                    "env": [{"name": "N", "value": "$(params.nodes)"}],
                    "args": ["$(params.nodes)", "$(params.fast)"],
                    "ports": [{"containerPort": "$(params.nodes)", "hostPort": "8$(params.nodes)"}],
                    "resources": {"limits": {"cpu": "$(params.rate)", "memory": "$(params.nodes)Gi"}},
                    "readinessProbe": {"httpGet": {"port": "$(params.nodes)", "path": "$(params.nodes)"}},
                }],
            },
        });
        let filled = substitute(&template, Embedded::PodTemplate, &values()).unwrap();
        let expected = json!({
            "metadata": {"labels": {"nodes": "2"}, "annotations": {"fast": "true"}},
            "spec": {
                "hostNetwork": true,
                "securityContext": {"runAsUser": 2},
                "ofTomorrow": 2,
                "nodeSelector": {"size": "2"},
                "containers": [{
                    "name": "c",
                    "env": [{"name": "N", "value": "2"}],
                    "args": ["2", "true"],
                    "ports": [{"containerPort": 2, "hostPort": "82"}],
                    "resources": {"limits": {"cpu": 0.5, "memory": "2Gi"}},
                    "readinessProbe": {"httpGet": {"port": 2, "path": "2"}},
                }],
            },
        });
        assert_eq!(filled, expected);
        let deployment = json!({"model": {"uri": "$(params.nodes)"}, "rollout": {"maxSurge": "$(params.nodes)"}});
        let filled = substitute(&deployment, Embedded::ModelDeployment, &values()).unwrap();
        assert_eq!(filled, json!({"model": {"uri": "2"}, "rollout": {"maxSurge": 2}}));
    }

    #[test]
    fn a_reference_without_a_value_is_named() {
        let template = json!({"spec": {"containers": [{"args": ["$(params.text)", "$(steps.train.outputs.loss)"]}]}});
        let missing = substitute(&template, Embedded::PodTemplate, &values()).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "spec.containers[0].args[1]: $(steps.train.outputs.loss) has no value: the step did not succeed"
        );
    }

    #[test]
    fn what_becomes_too_long_is_refused_before_it_is_built() {
        let mut values = values();
        let fits = MOST_TEXT / 4_096;
        for (value, references, is_fit) in [
            ("x".repeat(4_096), fits, true),
            ("x".repeat(4_096), fits + 1, false),
            // Each dollar sign is doubled for the kubelet.
            ("$".repeat(4_096), fits / 2, true),
            ("$".repeat(4_096), fits, false),
            ("x".repeat(4_096), 20_000, false),
        ] {
            values.parameters.insert("a".to_owned(), value.into());
            let template = json!({"spec": {"containers": [{"args": ["$(params.a)".repeat(references)]}]}});
            let filled = substitute(&template, Embedded::PodTemplate, &values);
            assert_eq!(filled.is_ok(), is_fit, "{references}");
            if let Ok(filled) = filled {
                assert!(filled.to_string().len() <= MOST_TEXT + 200);
            }
        }
    }

    /// The kubelet's expansion without any variable defined (third_party/forked/golang/expansion in Kubernetes): `$$` gives `$`,
    /// a variable that is not defined stays as written.
    fn kubelet(text: &str) -> String {
        let (mut out, mut chars) = (String::new(), text.chars().peekable());
        while let Some(c) = chars.next() {
            out.push(c);
            if c == '$' {
                chars.next_if_eq(&'$');
            }
        }
        out
    }

    proptest! {
        #[test]
        fn a_value_reaches_the_program_as_it_was(value in r"([$()]|params\.nodes|RANK|[^$]){0,10}") {
            let mut values = values();
            values.parameters.insert("any".to_owned(), Value::from(value.as_str()));
            let template = json!({"spec": {"containers": [{"args": ["<$(params.any)>"], "image": "<$(params.any)>"}]}});
            let template = substitute(&template, Embedded::PodTemplate, &values).unwrap();
            let container = &template["spec"]["containers"][0];
            let expected = format!("<{value}>");
            prop_assert_eq!(&kubelet(container["args"][0].as_str().unwrap()), &expected);
            prop_assert_eq!(container["image"].as_str().unwrap(), &expected);
            let doubled = container["args"][0].as_str().unwrap().replace("$$", "");
            prop_assert!(!doubled.contains('$'), "no dollar sign is left for the kubelet to expand");
        }
    }
}
