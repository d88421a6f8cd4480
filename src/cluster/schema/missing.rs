//! Which fields of one schema another one lacks.

use serde_json::Value;

const PRESERVES: &str = "x-kubernetes-preserve-unknown-fields";

/// Paths of the fields that `ours` has and `served` drops, both OpenAPI v3 schemas; of an object that is dropped as a whole,
/// its own path only. `[]` stands for the items of a list and `*` for the values of a map, or for whatever a schema allows
/// that declares no more.
pub(super) fn missing_fields(ours: &Value, served: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    compare("", ours, served, &mut missing);
    missing
}

fn compare(path: &str, ours: &Value, served: &Value, missing: &mut Vec<String>) {
    // What refers to another schema is Kubernetes' own, such as metadata.
    if keeps_everything(served) || served.get("$ref").is_some() || served.get("allOf").is_some() {
        return;
    }
    if keeps_everything(ours) {
        missing.push(below(path, "*"));
    }
    for (name, field) in ours["properties"].as_object().into_iter().flatten() {
        let path = below(path, name);
        match served["properties"].get(name).or_else(|| values(served)) {
            Some(served) => compare(&path, field, served, missing),
            None => missing.push(path),
        }
    }
    if let Some(ours) = values(ours) {
        match values(served) {
            Some(served) => compare(&below(path, "*"), ours, served, missing),
            None => missing.push(below(path, "*")),
        }
    }
    if ours["items"].is_object() {
        compare(&format!("{path}[]"), &ours["items"], &served["items"], missing);
    }
}

fn keeps_everything(schema: &Value) -> bool {
    schema[PRESERVES] == true || schema["additionalProperties"] == true
}

/// The schema of a map's values.
fn values(schema: &Value) -> Option<&Value> {
    schema.get("additionalProperties").filter(|values| values.is_object())
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_dropped_is_told_by_its_path() {
        let text = json!({"type": "string"});
        let object = |properties: Value| json!({"type": "object", "properties": properties});
        let anything = json!({"type": "object", PRESERVES: true});
        let map = |values: Value| json!({"type": "object", "additionalProperties": values});
        let list = |items: Value| json!({"type": "array", "items": items});
        let cases: [(&str, Value, Value, &[&str]); 15] = [
            ("the same", object(json!({"a": text})), object(json!({"a": text})), &[]),
            ("more is served", object(json!({})), object(json!({"a": text})), &[]),
            ("a field", object(json!({"a": text, "b": text})), object(json!({"a": text})), &["b"]),
            (
                "a nested field",
                object(json!({"spec": object(json!({"rollout": object(json!({"undoTo": text}))}))})),
                object(json!({"spec": object(json!({"rollout": object(json!({}))}))})),
                &["spec.rollout.undoTo"],
            ),
            ("a whole object", object(json!({"a": object(json!({"b": text}))})), object(json!({})), &["a"]),
            ("nothing at all", object(json!({"spec": text, "status": text})), json!({}), &["spec", "status"]),
            ("everything is kept", object(json!({"a": object(json!({"b": text}))})), anything.clone(), &[]),
            (
                "everything is kept below",
                object(json!({"a": object(json!({"b": text}))})),
                object(json!({"a": anything})),
                &[],
            ),
            (
                "not everything is kept",
                object(json!({"a": anything})),
                object(json!({"a": object(json!({}))})),
                &["a.*"],
            ),
            ("in a list", list(object(json!({"a": text}))), list(object(json!({}))), &["[].a"]),
            ("a list of anything", list(object(json!({"a": text}))), list(anything.clone()), &[]),
            ("in a map", map(object(json!({"a": text}))), map(object(json!({}))), &["*.a"]),
            ("a map of old", map(object(json!({"a": text}))), object(json!({})), &["*"]),
            ("a map where fields are declared", object(json!({"a": text})), map(text.clone()), &[]),
            (
                "a schema of Kubernetes' own",
                object(json!({"metadata": object(json!({"name": text}))})),
                object(json!({"metadata": {"allOf": [{"$ref": "#/components/schemas/ObjectMeta"}]}})),
                &[],
            ),
        ];
        for (name, ours, served, expected) in cases {
            assert_eq!(missing_fields(&ours, &served), expected, "{name}");
        }
    }

    #[test]
    fn each_kind_has_all_of_its_own_fields() {
        for crd in crate::api::crds() {
            let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            assert_eq!(missing_fields(schema, schema), [""; 0]);
            assert_eq!(missing_fields(schema, &Value::Null), ["spec", "status"]);
        }
    }
}
