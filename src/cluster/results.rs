//! What a program reports of itself: one JSON object in the termination message of its container.

use std::collections::BTreeMap;

use serde_json::Value;

/// The kubelet keeps at most this many bytes of a termination message, and cuts off the rest.
const LONGEST: usize = 4096;

/// Why a termination message is not taken as results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It fills the whole space and does not parse: its end was cut off.
    Truncated,
    /// It is no JSON object.
    NotAnObject,
}

/// Reads the termination message; an empty one reports nothing.
pub fn results(message: &str) -> Result<Option<BTreeMap<String, Value>>, Refused> {
    if message.trim().is_empty() {
        return Ok(None);
    }
    match serde_json::from_str::<BTreeMap<String, Value>>(message) {
        Ok(results) => Ok(Some(results)),
        Err(_) if message.len() >= LONGEST => Err(Refused::Truncated),
        Err(_) => Err(Refused::NotAnObject),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_object_is_taken() {
        assert_eq!(results(" \n"), Ok(None));
        assert_eq!(results(r#"{"accuracy": 0.97}"#).unwrap().unwrap()["accuracy"], 0.97);
        for (message, refused) in [
            ("done", Refused::NotAnObject),
            ("[1]", Refused::NotAnObject),
            (r#"{"a": 1} {"b": 2}"#, Refused::NotAnObject),
            (r#"{"a": "#, Refused::NotAnObject),
        ] {
            assert_eq!(results(message), Err(refused), "{message}");
        }
        let long = format!(r#"{{"losses": "{}"#, "1".repeat(LONGEST));
        assert_eq!(results(&long[..LONGEST]), Err(Refused::Truncated));
    }
}
