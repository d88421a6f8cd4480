//! What changed from one revision to the next, for a person.
//!
//! Templates are the user's: the comparison takes one pass over both, lists item by item, and stops when enough was found.

use serde_json::Value;

use crate::text::shorten;

/// Most fields that are named.
const MOST_FIELDS: usize = 8;
/// Most differences that are counted.
const MOST_COUNTED: usize = 100;
/// Longest value that is quoted, in bytes.
const LONGEST_VALUE: usize = 60;
/// Longest account, in bytes; fifty of them stand in a status.
const LONGEST: usize = 512;

/// Names each field that differs, with what it was and is: `template.spec.containers[0].image: a:1 -> a:2`.
pub fn change(old: &Value, new: &Value) -> String {
    let mut differences = Differences::default();
    differences.collect(&mut String::new(), Some(old), Some(new));
    let Differences { mut told, count } = differences;
    match count.checked_sub(told.len()) {
        Some(more) if more > 0 && count == MOST_COUNTED => told.push(format!("and at least {more} more")),
        Some(more) if more > 0 => told.push(format!("and {more} more")),
        _ => {}
    }
    shorten(&told.join("; "), LONGEST).to_owned()
}

/// What was found so far.
#[derive(Default)]
struct Differences {
    /// The first of them, in words.
    told: Vec<String>,
    /// All of them.
    count: usize,
}

impl Differences {
    /// Adds the fields below `path` that differ. A list of words, a command for instance, is one field.
    fn collect(&mut self, path: &mut String, old: Option<&Value>, new: Option<&Value>) {
        if self.count >= MOST_COUNTED {
            return;
        }
        match (old, new) {
            (Some(Value::Object(was)), Some(Value::Object(is))) => {
                let added = is.iter().filter(|(key, _)| !was.contains_key(*key));
                let kept = was.iter().map(|(key, value)| (key, Some(value), is.get(key)));
                for (key, was, is) in kept.chain(added.map(|(key, value)| (key, None, Some(value)))) {
                    self.descend(path, &field(key, path.is_empty()), was, is);
                }
            }
            (Some(Value::Array(was)), Some(Value::Array(is))) if !(are_words(was) && are_words(is)) => {
                for index in 0..was.len().max(is.len()) {
                    if self.count >= MOST_COUNTED {
                        return;
                    }
                    self.descend(path, &format!("[{index}]"), was.get(index), is.get(index));
                }
            }
            (was, is) if was != is => {
                self.count += 1;
                if self.told.len() < MOST_FIELDS {
                    self.told.push(tell(path, was, is));
                }
            }
            _ => {}
        }
    }

    fn descend(&mut self, path: &mut String, step: &str, old: Option<&Value>, new: Option<&Value>) {
        let length = path.len();
        path.push_str(step);
        self.collect(path, old, new);
        path.truncate(length);
    }
}

fn are_words(list: &[Value]) -> bool {
    list.iter().all(|item| !item.is_object() && !item.is_array())
}

fn tell(field: &str, old: Option<&Value>, new: Option<&Value>) -> String {
    match (old.map(value), new.map(value)) {
        (Some(was), Some(is)) => format!("{field}: {was} -> {is}"),
        (Some(was), None) => format!("{field} removed (was {was})"),
        (None, Some(is)) => format!("{field} added: {is}"),
        (None, None) => field.to_owned(),
    }
}

/// A key as people write it within a path.
fn field(key: &str, is_first: bool) -> String {
    let key_shown = shorten(key, LONGEST_VALUE);
    match (key.contains(['/', '.']), is_first) {
        (true, _) => format!("[{key_shown}]"),
        (false, true) => key_shown.to_owned(),
        (false, false) => format!(".{key_shown}"),
    }
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

    /// As many words as fit into a template, and as many objects: each pair of items is looked at once, and no more than
    /// enough. A comparison of all pairs would take minutes here.
    #[test]
    fn long_lists_are_compared_in_one_pass() {
        let words = |word: &str| json!({"args": vec![word; 200_000]});
        let told = change(&words("a"), &words("b"));
        assert!(told.starts_with(r#"args: ["a","a""#) && told.len() <= LONGEST, "{told}");
        let items = |value: i32| json!({"env": vec![json!({"name": "n", "value": value}); 100_000]});
        let told = change(&items(1), &items(2));
        assert!(told.starts_with("env[0].value: 1 -> 2; ") && told.ends_with("and at least 92 more"), "{told}");
        let longer = change(&json!({"env": [{"name": "a"}]}), &json!({"env": [{"name": "a"}, {"name": "b"}]}));
        assert_eq!(longer, r#"env[1] added: {"name":"b"}"#);
    }
}
