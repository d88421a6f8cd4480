//! Hashes of what users set, which tell an edit from other words for the same.
//!
//! A hash is kept on children and in records, and a later release compares it with its own. So it is made of canonical JSON
//! (sorted keys, one form for each number, no fields that are null), never of text that depends on this program's types,
//! and it names the version of these rules. A hash of another version says nothing.

use serde_json::{Number, Value};

use crate::names;

/// The rules below, and what callers put into a hash. Hashes of 0.1.0 had no version.
const VERSION: &str = "v1:";
/// Characters after the version: 80 bits.
const LENGTH: usize = 16;
/// The largest whole number up to which a double has them all.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The hash of a JSON value: equal for values that are equal in canonical form.
pub fn hash(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    format!("{VERSION}{}", names::short_hash(text.as_bytes(), LENGTH))
}

/// Whether a hash that was kept says that something else is asked for now. One that is missing or of another version does
/// not: an upgrade must not take what runs for edited.
pub fn differs(kept: &str, now: &str) -> bool {
    kept.starts_with(VERSION) && kept != now
}

/// Appends a value in canonical form. A field that is null is one that is not set, as in Kubernetes.
fn write(value: &Value, into: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
            // Sorted whatever features serde_json is built with.
            fields.sort_by_key(|(name, _)| *name);
            write_all(fields, ['{', '}'], into, |(name, value), into| {
                into.push_str(&Value::from(name.as_str()).to_string());
                into.push(':');
                write(value, into);
            });
        }
        Value::Array(items) => write_all(items, ['[', ']'], into, write),
        Value::Number(number) => into.push_str(&canonical_number(number)),
        other => into.push_str(&other.to_string()),
    }
}

fn write_all<T>(
    items: impl IntoIterator<Item = T>,
    [open, close]: [char; 2],
    into: &mut String,
    write_one: impl Fn(T, &mut String),
) {
    into.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            into.push(',');
        }
        write_one(item, into);
    }
    into.push(close);
}

/// `1`, `1.0` and `1e0` are one number, and so are `0` and `-0.0`.
fn canonical_number(number: &Number) -> String {
    match number.as_f64() {
        Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() <= EXACT => {
            #[allow(clippy::cast_possible_truncation, reason = "a whole number that fits")]
            let whole = double as i64;
            whole.to_string()
        }
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        hash(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn other_words_for_the_same_have_the_same_hash() {
        let same = [
            (r#"{"a": 1, "b": [1, 2]}"#, r#"{"b":[1.0,2e0],"a":1}"#),
            (r#"{"a": {"c": 0.5, "b": null}}"#, r#"{"a": {"c": 5e-1}}"#),
            (r#"{"a": -0.0}"#, r#"{"a": 0}"#),
            (r#"{"a": "\u0041"}"#, r#"{"a": "A"}"#),
            ("1e3", "1000"),
        ];
        for (one, other) in same {
            assert_eq!(of(one), of(other), "{one} and {other}");
        }
        let different = [
            (r#"{"a": 1}"#, r#"{"a": "1"}"#),
            ("[1, 2]", "[2, 1]"),
            ("[null]", "[]"),
            (r#"{"a": {}}"#, "{}"),
            (r#"{"a": false}"#, "{}"),
            (r#"{"a": ""}"#, "{}"),
            ("1.5", "1"),
            ("9007199254740993", "9007199254740992"),
            (r#"{"a": {"b": 1}, "c": 2}"#, r#"{"a": {"b": 1, "c": 2}}"#),
            (r#"["a,b"]"#, r#"["a","b"]"#),
        ];
        for (one, other) in different {
            assert_ne!(of(one), of(other), "{one} and {other}");
        }
    }

    /// Later releases compare with hashes that this one has written: these must never change under this version.
    #[test]
    fn a_hash_stays_what_it_is() {
        assert_eq!(of("{}"), "v1:iqjw7i2vwntyuekg");
        assert_eq!(
            of(r#"{"template": {"spec": {"containers": [{"name": "c", "cpu": 1.50}]}}, "nodes": 2}"#),
            "v1:f6dcu5zn525almbo"
        );
    }

    #[test]
    fn an_unknown_version_says_nothing() {
        let now = of("{}");
        assert!(differs(&of("[]"), &now));
        for kept in [now.as_str(), "", "zsqb7kqr5m", "v2:iqjw7i2vwntyuekg", "v12:a"] {
            assert!(!differs(kept, &now), "{kept}");
        }
    }
}
