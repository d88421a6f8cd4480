//! What a step reported, against what it declares.

use std::collections::BTreeMap;

use serde_json::Value;

use super::parameters::{describe, is_of};
use crate::api::pipeline_step::Output;
use crate::cluster::results::{Refused, Reported, results};

/// Longest value of one output as JSON, in bytes: it stands in the run's status, beside hundreds of others.
const LONGEST: usize = 1_024;

/// Reads the declared outputs from a termination message, of which the kubelet kept at most `longest` bytes; what else it holds
/// is not kept.
///
/// # Errors
/// What is wrong with the message or the first output, and what to do.
pub fn from_message(declared: &[Output], message: &str, longest: usize) -> Result<BTreeMap<String, Value>, String> {
    if declared.is_empty() {
        return Ok(BTreeMap::new());
    }
    match results(message, longest) {
        Ok(reported) => {
            let Reported { values, unkept } = reported.unwrap_or_default();
            match declared.iter().find_map(|output| unkept.get_key_value(&output.name)) {
                Some((name, why)) => Err(format!("outputs.{name}: {why}")),
                None => from_results(declared, &values),
            }
        }
        Err(Refused::Truncated(bytes)) => Err(format!(
            "outputs: the termination message was cut off at {bytes} bytes, all that the kubelet keeps of it in this pod: \
             write a smaller JSON object, and what is large to a file"
        )),
        Err(Refused::NotAnObject) => {
            Err("outputs: the termination message is not one JSON object: write one to /dev/termination-log".to_owned())
        }
    }
}

/// Reads the declared outputs from what was reported.
///
/// # Errors
/// What is wrong with the first output, and what to do.
pub fn from_results(
    declared: &[Output],
    reported: &BTreeMap<String, Value>,
) -> Result<BTreeMap<String, Value>, String> {
    let mut outputs = BTreeMap::new();
    for Output { name, type_ } in declared {
        let type_ = type_.unwrap_or_default();
        let Some(value) = reported.get(name) else {
            return Err(format!(
                "outputs.{name}: missing: write it to /dev/termination-log, as in {{\"{name}\": ...}}, or do not declare it"
            ));
        };
        let written = value.to_string();
        if !is_of(type_, value) {
            let start = crate::text::shorten(&written, 100);
            return Err(format!("outputs.{name}: {start}: report {}", describe(type_)));
        }
        if written.len() > LONGEST {
            let length = written.len();
            return Err(format!(
                "outputs.{name}: {length} bytes: report at most {LONGEST}, and write what is large to a file"
            ));
        }
        outputs.insert(name.clone(), value.clone());
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn declared_outputs_are_there_and_of_their_type() {
        let declared: Vec<Output> =
            serde_json::from_value(json!([{"name": "accuracy", "type": "number"}, {"name": "note"}])).unwrap();
        let good = from_message(&declared, r#"{"accuracy": 0.97, "note": "n", "other": NaN}"#, 4_096).unwrap();
        assert_eq!(json!(good), json!({"accuracy": 0.97, "note": "n"}));
        assert_eq!(from_message(&[], "no JSON at all", 4_096), Ok(BTreeMap::new()));
        let long = format!(r#"{{"accuracy": 1, "note": "{}"}}"#, "n".repeat(1_100));
        let cut = format!(r#"{{"accuracy": "{}"#, "1".repeat(4_096));
        for (message, expected) in [
            ("", "outputs.accuracy: missing: write it"),
            (r#"{"accuracy": 0.9}"#, "outputs.note: missing: write it"),
            (r#"{"accuracy": "high", "note": "n"}"#, "outputs.accuracy: \"high\": report a number"),
            ("done", "outputs: the termination message is not one JSON object"),
            (&long, "outputs.note: 1102 bytes: report at most 1024"),
            (&cut[..4_096], "outputs: the termination message was cut off at 4096 bytes"),
            (&cut[..3_072], "outputs: the termination message was cut off at 3072 bytes"),
            (
                r#"{"accuracy": NaN, "note": "n"}"#,
                "outputs.accuracy: NaN is not a number in JSON: write a finite number, or text, or leave it out",
            ),
            (r#"{"accuracy": 1, "note": null}"#, "outputs.note: null is not kept in a status"),
            (
                r#"{"accuracy": 12345678901234567890, "note": ""}"#,
                "outputs.accuracy: 12345678901234567890 has more digits",
            ),
        ] {
            let error = from_message(&declared, message, 3_072).unwrap_err();
            assert!(error.starts_with(expected), "{message}: {error}");
        }
    }
}
