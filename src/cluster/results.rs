//! What a program reports of itself: one JSON object in the termination message of its container.
//!
//! It becomes part of a status, so each value must come back from the apiserver as it was sent: otherwise the status would be
//! written again and again. What cannot is not kept, and named.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

/// Most bytes that the kubelet keeps of one container's termination message.
const LONGEST: usize = 4096;
/// Most bytes that it keeps of all messages of a pod: each container has an equal share, init containers too
/// (`normalizeStatus` in kubernetes/pkg/kubelet/status/status_manager.go).
const LONGEST_OF_POD: usize = 12 * 1024;
/// Deepest nesting of a value: the parsers of clients, ours too, give up at some depth.
const DEEPEST: usize = 16;
/// Begins the text that stands for a token that is no JSON, or would lose its value, until it is named.
const MARK: &str = "\u{0}trainyard:";
/// The same as it is written in JSON.
const WRITTEN_MARK: &str = "\\u0000trainyard:";

/// Most bytes of each termination message in a pod of so many containers, init containers included.
pub fn longest_message(containers: usize) -> usize {
    LONGEST.min(LONGEST_OF_POD / containers.max(1))
}

/// What a message reports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reported {
    /// Values that are kept.
    pub values: BTreeMap<String, Value>,
    /// Keys whose values are not kept, and for each why and what to do.
    pub unkept: BTreeMap<String, String>,
}

impl Reported {
    /// What to say of the keys that are not kept.
    pub fn complaint(&self) -> Option<String> {
        let each: Vec<String> = self.unkept.iter().map(|(key, why)| format!("{key}: {why}")).collect();
        (!each.is_empty()).then(|| each.join("; "))
    }
}

/// Why a termination message is not taken as results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It fills the whole space and does not parse: the kubelet cut it off, at this many bytes.
    Truncated(usize),
    /// It is no JSON object.
    NotAnObject,
}

/// Reads a termination message, of which the kubelet kept at most `longest` bytes; an empty one reports nothing.
///
/// # Errors
/// Why nothing of it is taken.
pub fn results(message: &str, longest: usize) -> Result<Option<Reported>, Refused> {
    if message.trim().is_empty() {
        return Ok(None);
    }
    let Ok(object) = serde_json::from_str::<BTreeMap<String, Value>>(&marked(message)) else {
        return Err(if message.len() >= longest { Refused::Truncated(message.len()) } else { Refused::NotAnObject });
    };
    let mut reported = Reported::default();
    for (key, value) in object {
        match loss(&value, 0) {
            Some(why) => drop(reported.unkept.insert(key, why)),
            None => drop(reported.values.insert(key, canonical(value))),
        }
    }
    Ok(Some(reported))
}

/// The message with every number that JSON does not have, or that Kubernetes does not keep, replaced by a string that is
/// found again.
fn marked(message: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let mut marked = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(first) = rest.find(|c: char| c == '"' || is_word(c)) {
        let (between, token) = rest.split_at(first);
        marked.push_str(between);
        let end = match token.starts_with('"') {
            true => string_end(token),
            false => token.find(|c: char| !is_word(c)).unwrap_or(token.len()),
        };
        let (token, after) = token.split_at(end);
        match is_lost(token) {
            true => marked.extend(["\"", WRITTEN_MARK, token, "\""]),
            false => marked.push_str(token),
        }
        rest = after;
    }
    marked.push_str(rest);
    marked
}

/// Length of the JSON string that a text begins with.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Whether a token is a number whose value would be lost: none of JSON's (Python writes NaN, Infinity and -Infinity), or a
/// whole number that Kubernetes, which has 64 bits with a sign for it, would round.
fn is_lost(token: &str) -> bool {
    let digits = token.strip_prefix('-').unwrap_or(token);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match is_whole {
        true => token.parse::<i64>().is_err(),
        false => token.parse::<f64>().is_ok_and(|number| !number.is_finite()),
    }
}

/// Why a value cannot be kept, if it cannot.
fn loss(value: &Value, depth: usize) -> Option<String> {
    match value {
        _ if depth > DEEPEST => Some(format!("nested more than {DEEPEST} levels deep: write it to a file")),
        Value::Null => Some("null is not kept in a status: leave it out".to_owned()),
        Value::String(text) => {
            let token = text.strip_prefix(MARK)?;
            Some(match token.ends_with(|c: char| c.is_ascii_digit()) && !token.contains(['e', 'E', '.']) {
                true => format!("{token} has more digits than Kubernetes keeps of a number: write it as text"),
                false => format!("{token} is not a number in JSON: write a finite number, or text, or leave it out"),
            })
        }
        Value::Array(items) => items.iter().find_map(|item| loss(item, depth + 1)),
        Value::Object(fields) => fields.values().find_map(|field| loss(field, depth + 1)),
        Value::Bool(_) | Value::Number(_) => None,
    }
}

/// A value as it comes back from the apiserver, which keeps a number as an integer of 64 bits or a double and writes the
/// shortest digits: 3.0 comes back as 3, and -0.0 as 0.
fn canonical(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(canonical_number(number)),
        Value::Array(items) => items.into_iter().map(canonical).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, field)| (name, canonical(field))).collect(),
        other => other,
    }
}

fn canonical_number(number: Number) -> Number {
    match number.as_f64().filter(|_| number.is_f64()) {
        None => number,
        Some(0.0) => 0.into(),
        // Without an exponent, as Go writes all but the largest and smallest.
        Some(double) => double.to_string().parse().unwrap_or(number),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::cluster::publish::status_patch;

    fn taken(message: &str) -> Reported {
        results(message, LONGEST).unwrap().unwrap()
    }

    #[test]
    fn only_a_whole_object_is_taken() {
        assert_eq!(results(" \n", LONGEST), Ok(None));
        assert_eq!(taken(r#"{"accuracy": 0.97}"#).values["accuracy"], 0.97);
        for (message, refused) in [
            ("done", Refused::NotAnObject),
            ("loss: NaN", Refused::NotAnObject),
            ("[1]", Refused::NotAnObject),
            (r#"{"a": 1} {"b": 2}"#, Refused::NotAnObject),
            (r#"{"a": "#, Refused::NotAnObject),
            (r#"{"a": "\"#, Refused::NotAnObject),
        ] {
            assert_eq!(results(message, LONGEST), Err(refused), "{message}");
        }
    }

    #[test]
    fn a_message_that_was_cut_off_is_told_from_one_that_is_wrong() {
        let message = format!(r#"{{"losses": "{}"}}"#, "1".repeat(5_000));
        for (containers, kept) in [(1, 4096), (3, 4096), (4, 3072), (8, 1536), (0, 4096)] {
            let longest = longest_message(containers);
            assert_eq!(longest, kept, "{containers} containers");
            assert_eq!(results(&message[..kept], longest), Err(Refused::Truncated(kept)));
            assert_eq!(results(&message[..kept - 1], longest), Err(Refused::NotAnObject));
        }
        let whole = format!(r#"{{"a":"{}"}}"#, "1".repeat(3_072 - 8));
        assert!(results(&whole, 3_072).is_ok(), "it fills the space, and is whole");
    }

    #[test]
    fn every_key_is_kept_or_named() {
        let reported = taken(
            r#"{"best": null, "epochs": 3.0, "seed": 12345678901234567890, "tiny": 1e-7, "zero": -0.0, "loss": NaN, "n": 1}"#,
        );
        assert_eq!(json!(reported.values), json!({"epochs": 3, "tiny": 1e-7, "zero": 0, "n": 1}));
        assert_eq!(
            reported.complaint().unwrap(),
            "best: null is not kept in a status: leave it out; \
             loss: NaN is not a number in JSON: write a finite number, or text, or leave it out; \
             seed: 12345678901234567890 has more digits than Kubernetes keeps of a number: write it as text"
        );
        for (message, words) in [
            (r#"{"a": -Infinity}"#, "a: -Infinity is not a number in JSON"),
            (r#"{"a": [1, {"b": nan}]}"#, "a: nan is not a number in JSON"),
            (r#"{"a": 1e999}"#, "a: 1e999 is not a number in JSON"),
            (r#"{"a": {"b": [null]}}"#, "a: null is not kept"),
            (r#"{"a": -99999999999999999999}"#, "a: -99999999999999999999 has more digits"),
        ] {
            assert!(taken(message).complaint().unwrap().starts_with(words), "{message}");
        }
        let deep = |levels: usize| format!(r#"{{"a": {}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert_eq!(taken(&deep(16)).complaint(), None);
        assert!(taken(&deep(17)).complaint().unwrap().contains("16 levels"));
        for kept in [r#""NaN""#, r#""say \"NaN\", 12345678901234567890""#, "9223372036854775807", "-1.5e3", "[true]"] {
            assert_eq!(taken(&format!(r#"{{"a": {kept}}}"#)).complaint(), None, "{kept}");
        }
    }

    /// What the apiserver makes of a value: a number is an integer of 64 bits if it is written as one, else a double; nulls
    /// are lost in the merge patch.
    fn stored(value: &Value) -> Value {
        match value {
            Value::Number(number) => {
                let text = number.to_string();
                let written = text.parse::<i64>().map(|whole| whole.to_string()).unwrap_or_else(|_| {
                    let double: f64 = text.parse().unwrap();
                    let plain = double == 0.0 || (1e-6..1e21).contains(&double.abs());
                    if plain { double.to_string() } else { format!("{double:e}") }
                });
                serde_json::from_str(&written).unwrap()
            }
            Value::Array(items) => items.iter().map(stored).collect(),
            Value::Object(fields) => {
                let kept = fields.iter().filter(|(_, field)| !field.is_null());
                kept.map(|(name, field)| (name.clone(), stored(field))).collect()
            }
            other => other.clone(),
        }
    }

    /// Texts of values as programs write them.
    fn text() -> impl Strategy<Value = String> {
        let number = prop_oneof![
            any::<f64>().prop_map(|number| format!("{number:?}")),
            any::<f64>().prop_map(|number| number.to_string()),
            any::<i64>().prop_map(|number| number.to_string()),
            any::<u64>().prop_map(|number| number.to_string()),
            (any::<u64>(), 0..30i32).prop_map(|(digits, exponent)| format!("{digits}e-{exponent}")),
            (0..40usize).prop_map(|zeros| format!("1{}.0", "0".repeat(zeros))),
            prop::sample::select(
                &["-0.0", "-0", "3.0", "1e19", "18446744073709549568.0", "NaN", "Infinity", "1E400"][..]
            )
            .prop_map(str::to_owned),
        ];
        let leaf = prop_oneof![
            4 => number,
            1 => Just("null".to_owned()),
            1 => any::<String>().prop_map(|text| json!(text).to_string()),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
                prop::collection::vec(("[a-c]", inner), 0..4).prop_map(|fields| {
                    let fields: Vec<String> =
                        fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
                    format!("{{{}}}", fields.join(", "))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back_as_it_was_sent(value in text()) {
            let reported = results(&format!(r#"{{"a": {value}}}"#), LONGEST).unwrap().unwrap();
            prop_assert_eq!(reported.values.len() + reported.unkept.len(), 1, "kept or named");
            let sent = json!({"results": reported.values});
            let returned = stored(&serde_json::from_str(&sent.to_string()).unwrap());
            prop_assert_eq!(status_patch(&returned, &sent, "u", "1"), None, "from {}", value);
        }

        #[test]
        fn no_message_does_harm(message in any::<String>(), json in r#"[{}\[\]":,\\aN0-9.e-]{0,40}"#) {
            let _ = (results(&message, LONGEST), results(&json, LONGEST));
        }
    }
}
