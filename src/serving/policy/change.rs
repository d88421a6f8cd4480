//! What changed from one revision to the next, for a person.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::text::shorten;

/// Most fields that are named.
const MOST_FIELDS: usize = 8;
/// Longest value that is quoted, in bytes.
const LONGEST_VALUE: usize = 60;
/// Longest account, in bytes; fifty of them stand in a status.
const LONGEST: usize = 512;

/// Names each field that differs, with what it was and is: `template.spec.containers[0].image: a:1 -> a:2`.
pub fn change(old: &Value, new: &Value) -> String {
    let mut pointers: Vec<String> = Vec::new();
    for operation in &json_patch::diff(old, new).0 {
        let pointer = whole(operation, old, new);
        if !pointers.contains(&pointer) {
            pointers.push(pointer);
        }
    }
    let mut told: Vec<String> = pointers.iter().take(MOST_FIELDS).map(|pointer| tell(pointer, old, new)).collect();
    if let Some(more) = pointers.len().checked_sub(MOST_FIELDS).filter(|more| *more > 0) {
        told.push(format!("and {more} more"));
    }
    shorten(&told.join("; "), LONGEST).to_owned()
}

/// The field that an operation changes; a command is one field, however many of its words differ.
fn whole(operation: &PatchOperation, old: &Value, new: &Value) -> String {
    let pointer = operation.path().to_string();
    let words = |value: Option<&Value>| {
        value
            .and_then(Value::as_array)
            .is_some_and(|list| list.iter().all(|item| !item.is_object() && !item.is_array()))
    };
    match pointer.rsplit_once('/') {
        Some((list, _)) if words(old.pointer(list)) && words(new.pointer(list)) => list.to_owned(),
        _ => pointer,
    }
}

fn tell(pointer: &str, old: &Value, new: &Value) -> String {
    let field = field(pointer);
    match (old.pointer(pointer).map(value), new.pointer(pointer).map(value)) {
        (Some(was), Some(is)) => format!("{field}: {was} -> {is}"),
        (Some(was), None) => format!("{field} removed (was {was})"),
        (None, Some(is)) => format!("{field} added: {is}"),
        (None, None) => field,
    }
}

/// A JSON pointer (RFC 6901) as people write paths.
fn field(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")) {
        let is_index = step.chars().all(|c| c.is_ascii_digit());
        if is_index || step.contains(['/', '.']) {
            path.push_str(&format!("[{step}]"));
        } else {
            path.push_str(if path.is_empty() { "" } else { "." });
            path.push_str(&step);
        }
    }
    path
}

fn value(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let short = shorten(&text, LONGEST_VALUE);
    if short.len() < text.len() { format!("{short}...") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_person_reads_what_changed() {
        let template = |image: &str, extra: Value| {
            let mut data = json!({"template": {"spec": {"containers": [{"name": "c", "image": image}]}}});
            json_patch::merge(&mut data, &extra);
            data
        };
        let old = template("a:1", json!({"model": {"uri": "pvc://m/1"}}));
        let cases = [
            (template("a:2", json!({"model": {"uri": "pvc://m/1"}})), "template.spec.containers[0].image: a:1 -> a:2"),
            (template("a:1", json!({"model": {"uri": "pvc://m/2"}})), "model.uri: pvc://m/1 -> pvc://m/2"),
            (template("a:1", json!({})), r#"model removed (was {"uri":"pvc://m/1"})"#),
            (
                template(
                    "a:1",
                    json!({"model": {"uri": "pvc://m/1"}, "template": {"metadata": {"annotations": {"x.y/z": "1"}}}}),
                ),
                r#"template.metadata added: {"annotations":{"x.y/z":"1"}}"#,
            ),
        ];
        for (new, expected) in cases {
            assert_eq!(change(&old, &new), expected);
        }
        let command = |command: Value| json!({"command": command});
        assert_eq!(
            change(&command(json!(["python3", "serve.py"])), &command(json!(["sh", "-c", "serve"]))),
            r#"command: ["python3","serve.py"] -> ["sh","-c","serve"]"#
        );
        let many: Value = (0..20).map(|n| (format!("f{n:02}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
        assert!(change(&json!({}), &many).ends_with("and 12 more"));
        assert!(change(&json!({"a": "x".repeat(5_000)}), &json!({"a": 1})).len() < 200);
    }
}
