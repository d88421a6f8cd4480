//! Asking the apiserver about fields of pod templates that the operator does not know: it alone can tell a newer field from a
//! mistake. One dry run answers for a whole pipeline, since all that is sent is where the fields are, each of them null; it has no
//! containers that could run, so it could not become a pod even by accident. A pipeline without such fields, as almost all are,
//! costs no request.

use serde_json::{Map, Value, json};

use super::validate::fields::UnknownField;
use crate::cluster::port::{ApiError, ApiServer, Resource};
use crate::cluster::problem::Problem;

/// Name of what is sent; nothing of that name is ever made.
const NAME: &str = "trainyard-unknown-fields";

/// The problems with those fields that the cluster does not know either.
///
/// # Errors
/// Why the apiserver could not be asked, if it is worth another try soon.
pub async fn ask<A: ApiServer>(api: &A, namespace: &str, fields: &[UnknownField]) -> Result<Vec<Problem>, ApiError> {
    if fields.is_empty() {
        return Ok(Vec::new());
    }
    match api.dry_run_create(Resource::Pod, namespace, &build_probe(namespace, fields)).await {
        Err(ApiError::Refused(answer)) => Ok(read_answer(&answer, fields)),
        Err(error @ (ApiError::Unavailable(_) | ApiError::NotLeader)) => Err(error),
        // Whatever else is wrong with what was sent, its fields are known.
        Ok(()) | Err(_) => Ok(Vec::new()),
    }
}

/// An object that has the fields and nothing else.
fn build_probe(namespace: &str, fields: &[UnknownField]) -> Value {
    let mut pod = json!({});
    for field in fields {
        put_null(&mut pod, &field.in_pod);
    }
    pod["apiVersion"] = Resource::Pod.api_version().into();
    pod["kind"] = Resource::Pod.kind().into();
    pod["metadata"]["name"] = NAME.into();
    pod["metadata"]["namespace"] = namespace.into();
    pod
}

/// Items of a list, whichever they are, are all its first here.
fn put_null(value: &mut Value, path: &[Option<String>]) {
    match path {
        [] => {}
        [Some(name), below @ ..] => {
            if !value.is_object() {
                *value = Value::Object(Map::new());
            }
            put_null(&mut value[name.as_str()], below);
        }
        [None, below @ ..] => {
            if !value.is_array() {
                *value = json!([null]);
            }
            put_null(&mut value[0], below);
        }
    }
}

/// What a refusal says of the fields: `strict decoding error: unknown field "spec.containers[0].imagee", unknown field "..."`
/// (k8s.io/apimachinery/pkg/runtime, `NewStrictDecodingError`). Any other refusal says nothing of them.
fn read_answer(answer: &str, fields: &[UnknownField]) -> Vec<Problem> {
    if !answer.contains("strict decoding error") {
        return Vec::new();
    }
    let is_named = |field: &&UnknownField| answer.contains(&format!("unknown field \"{}\"", told(&field.in_pod)));
    fields.iter().filter(is_named).map(UnknownField::problem).collect()
}

fn told(path: &[Option<String>]) -> String {
    path.iter().fold(String::new(), |mut told, segment| {
        match segment {
            Some(name) if told.is_empty() => told.push_str(name),
            Some(name) => told.extend([".", name]),
            None => told.push_str("[0]"),
        }
        told
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::problem;

    fn field(at: &str, in_pod: &[&str], meant: Option<&'static str>) -> UnknownField {
        let segment = |segment: &&str| (!segment.is_empty()).then(|| (*segment).to_owned());
        UnknownField { at: at.to_owned(), in_pod: in_pod.iter().map(segment).collect(), meant }
    }

    fn fields() -> [UnknownField; 3] {
        [
            field("spec.steps[0].run.spec.containers[2].imagee", &["spec", "containers", "", "imagee"], Some("image")),
            field("spec.steps[0].run.spec.ofTomorrow", &["spec", "ofTomorrow"], None),
            field("spec.steps[7].run.spec.containers[0].imagee", &["spec", "containers", "", "imagee"], Some("image")),
        ]
    }

    #[test]
    fn what_is_sent_has_the_fields_and_no_values() {
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME, "namespace": "ml"},
            "spec": {"containers": [{"imagee": null}], "ofTomorrow": null},
        });
        assert_eq!(build_probe("ml", &fields()), expected);
    }

    #[test]
    fn only_fields_that_the_apiserver_names_are_problems() {
        let told = |answer: &str| problem::told(&read_answer(answer, &fields()));
        let strict = r#"Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.containers[0].imagee""#;
        assert_eq!(
            told(strict),
            "spec.steps[0].run.spec.containers[2].imagee: there is no such field: rename it to image, or remove it; \
             spec.steps[7].run.spec.containers[0].imagee: there is no such field: rename it to image, or remove it"
        );
        assert_eq!(told(r#"pods "x" is forbidden: exceeded quota"#), "");
        assert_eq!(told(r#"Pod "x" is invalid: spec.containers[0].image: Required value"#), "");
    }
}
