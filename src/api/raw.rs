//! A part of a spec that is kept as the user wrote it.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::Value;
use serde_json::value::RawValue;

/// Longest text of a pod template, or of the spec of a step, in bytes of compact JSON. As a tree it takes up to ninety times as
/// much memory, and the operator has some hundred megabytes in all.
pub const LONGEST_TEMPLATE: usize = 256 * 1024;

/// A JSON object as text.
///
/// Text, because a typed PodSpec of one Kubernetes version would drop the fields of a newer one, and because ten
/// thousand idle jobs should cost their templates' bytes and not their trees. It is parsed where it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawObject(Arc<str>);

impl RawObject {
    /// Keeps an object; its keys come out sorted, so that equal objects are equal text.
    pub fn new(object: &Value) -> Self {
        RawObject(object.to_string().into())
    }

    /// The object as a tree. Its length is to be checked first; what was too long to be looked at when it was read, and
    /// is no JSON object, is null.
    pub fn parse(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// Whether it is longer than a template may be.
    pub fn is_too_long(&self) -> bool {
        self.length() > LONGEST_TEMPLATE
    }

    /// Its length in bytes, as the user wrote it.
    pub fn length(&self) -> usize {
        written_length(&self.0)
    }

    /// The object as canonical JSON text, for hashing.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for RawObject {
    /// One that is too long stays as it is: it is never parsed.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        if written_length(text.get()) > LONGEST_TEMPLATE {
            return Ok(RawObject(text.get().into()));
        }
        let object: Value = serde_json::from_str(text.get()).map_err(de::Error::custom)?;
        if !object.is_object() {
            return Err(de::Error::custom("a pod template, or the spec of a step, must be an object"));
        }
        Ok(RawObject::new(&object))
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(&self.0).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

/// Length of a JSON text with one character in place of each that the apiserver escapes though JSON need not: programs in Go
/// write `<`, `>` and `&` in six bytes, and two line separators likewise.
/// <https://pkg.go.dev/encoding/json#HTMLEscape>
fn written_length(text: &str) -> usize {
    let (bytes, mut saved, mut at) = (text.as_bytes(), 0, 0);
    while let Some(byte) = bytes.get(at) {
        if *byte != b'\\' {
            at += 1;
            continue;
        }
        let short = match bytes.get(at + 1..at + 6) {
            Some(b"u003c" | b"u003e" | b"u0026") => 1,
            Some(b"u2028" | b"u2029") => 3,
            // Any other escape stays; the character after the backslash belongs to it, which may be a backslash too.
            _ => {
                at += 2;
                continue;
            }
        };
        saved += 6 - short;
        at += 6;
    }
    text.len() - saved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Spec {
        template: RawObject,
    }

    fn read(template: &str) -> Result<RawObject, serde_json::Error> {
        serde_json::from_str::<Spec>(&format!(r#"{{"template": {template}}}"#)).map(|spec| spec.template)
    }

    #[test]
    fn an_object_is_written_as_it_is_kept() {
        let kept = read(r#"{ "b": 1, "a": {"x": null} }"#).unwrap();
        assert_eq!(serde_json::to_string(&kept).unwrap(), kept.text());
        assert_eq!(serde_json::json!(kept), serde_json::json!({"a": {"x": null}, "b": 1}));
    }

    #[test]
    fn a_template_that_is_too_long_is_kept_and_never_parsed() {
        let short = read(r#"{"b": 1, "a": {}}"#).unwrap();
        assert_eq!((short.text(), short.is_too_long()), (r#"{"a":{},"b":1}"#, false));
        for short in ["[]", "1", "null", r#""text""#] {
            assert!(read(short).is_err(), "{short}");
        }

        let deep = format!(r#"{{"b": {}1{}}}"#, "[".repeat(LONGEST_TEMPLATE), "]".repeat(LONGEST_TEMPLATE));
        let long = read(&deep).unwrap();
        assert_eq!((long.text() == deep, long.is_too_long()), (true, true));
        assert_eq!(long.parse(), Value::Null);

        let padded = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length - 8));
        assert!(!read(&padded(LONGEST_TEMPLATE)).unwrap().is_too_long());
        assert!(read(&padded(LONGEST_TEMPLATE + 1)).unwrap().is_too_long());
    }

    #[test]
    fn what_the_apiserver_escapes_counts_as_the_user_wrote_it() {
        let filled = |part: &str, length: usize| {
            let count = LONGEST_TEMPLATE / length;
            format!(r#"{{"a":"{}"}}"#, part.repeat(count - 8))
        };
        for (escaped, length) in [(r"\u003c", 1), (r"\u003e", 1), (r"\u0026", 1), (r"\u2028", 3), (r"\u2029", 3)] {
            let text = filled(escaped, length);
            let kept = read(&text).unwrap();
            assert!(!kept.is_too_long() && text.len() > LONGEST_TEMPLATE, "{escaped}: {}", kept.length());
            assert_eq!(kept.length(), kept.text().len(), "{escaped}");
        }
        // A backslash and letters; a character that needs no six bytes, and that Go writes in one.
        for (written, length) in [(r"\\u003c", 7), (r"\u0041", 6), (r"\n", 2), (r"\\\u003c", 3)] {
            assert_eq!(written_length(written), length, "{written}");
        }
        assert_eq!(written_length(r"\"), 1);
        assert!(read(&filled(r"\u0041", 1)).unwrap().is_too_long());
    }
}
