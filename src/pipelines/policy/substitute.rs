//! Puts values into an embedded spec. A value is data: whatever it holds, it becomes one string (or one number) of the spec,
//! never a reference, a variable or structure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::places::{Embedded, Place, map_strings};
use super::references::{Piece, Reference, pieces};

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
    fn get(&self, reference: &Reference) -> Option<Value> {
        match reference {
            Reference::Parameter(name) => self.parameters.get(name).cloned(),
            Reference::Output { step, output } => self.outputs.get(step)?.get(output).cloned(),
            Reference::RunName => Some(Value::from(self.run.as_str())),
        }
    }
}

/// A place in a spec and what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// Path of the string below the embedded spec, as in `spec.containers[0].args[1]`.
    pub path: String,
    /// What the string holds there.
    pub what: T,
}

/// All references of a spec in its order, and as errors what looks like one and names nothing.
pub fn references(spec: &Value, embedded: Embedded) -> Vec<Found<Result<Reference, String>>> {
    let mut found = Vec::new();
    let mut note = |path: &dyn Fn() -> String, _: Place, text: &str| {
        for piece in pieces(text) {
            let what = match piece {
                Piece::Reference(reference) => Ok(reference),
                Piece::Malformed(text) => Err(text.to_owned()),
                Piece::Text(_) | Piece::Escaped(_) => continue,
            };
            found.push(Found { path: path(), what });
        }
        Ok::<_, std::convert::Infallible>(Value::Null)
    };
    let _ = map_strings(spec, embedded, &mut note);
    found
}

/// The spec with every reference replaced by its value.
///
/// A string of one of our own kinds' fields that is nothing but a reference becomes the value itself, so that
/// `replicas: $(params.replicas)` is a number; everywhere else a value becomes text.
///
/// # Errors
/// The first reference that has no value.
pub fn substitute(spec: &Value, embedded: Embedded, values: &Values) -> Result<Value, Found<Reference>> {
    map_strings(spec, embedded, &mut |path, place, text| {
        let pieces = pieces(text);
        let value = |reference: &Reference| {
            values.get(reference).ok_or_else(|| Found { path: path(), what: reference.clone() })
        };
        if let (Place::Field, [Piece::Reference(reference)]) = (place, &pieces[..]) {
            return value(reference);
        }
        let mut replaced = String::with_capacity(text.len());
        for piece in &pieces {
            match piece {
                Piece::Text(text) | Piece::Malformed(text) => replaced.push_str(text),
                // The kubelet takes one of the two dollar signs away where it expands; elsewhere that is ours to do.
                Piece::Escaped(text) if place == Place::Expanded => replaced.push_str(text),
                Piece::Escaped(text) => replaced.push_str(&text[1..]),
                Piece::Reference(reference) => {
                    let written = written(&value(reference)?);
                    // Doubled, it reaches the program as it was: "$(RANK)" in a value is no variable.
                    replaced.push_str(&if place == Place::Expanded { written.replace('$', "$$") } else { written });
                }
            }
        }
        Ok(Value::String(replaced))
    })
}

/// A value as text: strings as they are, without quotes; the rest as JSON writes it.
fn written(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
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

    /// One string as it comes out in a field of our own, in an image, and in an argument.
    fn three_ways(text: &str) -> [Value; 3] {
        let spec = json!({"x": text, "template": {"spec": {"containers": [{"image": text, "args": [text]}]}}});
        let spec = substitute(&spec, Embedded::Spec, &values()).unwrap();
        let container = &spec["template"]["spec"]["containers"][0];
        [spec["x"].clone(), container["image"].clone(), container["args"][0].clone()]
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
    fn a_reference_without_a_value_is_named() {
        let template = json!({"spec": {"containers": [{"args": ["$(params.text)", "$(steps.train.outputs.loss)"]}]}});
        let missing = substitute(&template, Embedded::PodTemplate, &values()).unwrap_err();
        assert_eq!(
            (missing.path.as_str(), missing.what.to_string().as_str()),
            ("spec.containers[0].args[1]", "$(steps.train.outputs.loss)")
        );
    }

    #[test]
    fn references_are_listed_with_their_places() {
        let spec =
            json!({"nodes": "$(params.nodes)", "template": {"spec": {"hostname": "$(params.)", "x": "$$(params.y)"}}});
        let found: Vec<_> =
            references(&spec, Embedded::Spec).into_iter().map(|found| (found.path, found.what)).collect();
        assert_eq!(
            found,
            [
                ("nodes".to_owned(), Ok(Reference::Parameter("nodes".to_owned()))),
                ("template.spec.hostname".to_owned(), Err("$(params.)".to_owned())),
            ]
        );
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
