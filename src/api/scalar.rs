//! A single value that a user gives: text, a number, true or false.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Number, Value};

/// Longest text of one value, in bytes: values appear in the run's status and in the specs of its pods.
pub const MAX_TEXT: usize = 4_096;

/// The default or an allowed value of a parameter, or the value of an argument.
///
/// The schema cannot give these fields a type, so anything may be written there. What is no such value is not kept: a list
/// of a megabyte would take a hundred as a tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// Text of at most [`MAX_TEXT`] bytes.
    Text(String),
    /// A number.
    Number(Number),
    /// True or false.
    Boolean(bool),
    /// Text that is too long; its length in bytes.
    TooLong(usize),
    /// A list, an object or null: what it is, in words.
    NotScalar(&'static str),
}

impl Scalar {
    /// The value as JSON; `None` if it is none that may be given.
    pub fn json(&self) -> Option<Value> {
        match self {
            Scalar::Text(text) => Some(Value::from(text.as_str())),
            Scalar::Number(number) => Some(Value::Number(number.clone())),
            Scalar::Boolean(truth) => Some(Value::Bool(*truth)),
            Scalar::TooLong(_) | Scalar::NotScalar(_) => None,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::TooLong(length) => write!(f, "text of {length} bytes"),
            Scalar::NotScalar(what) => f.write_str(what),
            scalar => write!(f, "{}", scalar.json().unwrap_or_default()),
        }
    }
}

impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true or false")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
        Ok(Number::from_f64(value).map_or(Scalar::NotScalar("a number without a value"), Scalar::Number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(if text.len() <= MAX_TEXT { Scalar::Text(text.to_owned()) } else { Scalar::TooLong(text.len()) })
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::NotScalar("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::NotScalar("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Scalar, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::NotScalar("an object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_values_are_kept() {
        let long = format!("\"{}\"", "x".repeat(MAX_TEXT + 1));
        for (written, expected, shown) in [
            ("\"a\"", Scalar::Text("a".into()), "\"a\""),
            ("3", Scalar::Number(3.into()), "3"),
            ("0.5", Scalar::Number(Number::from_f64(0.5).unwrap()), "0.5"),
            ("true", Scalar::Boolean(true), "true"),
            ("null", Scalar::NotScalar("null"), "null"),
            ("[{\"a\": [1]}, 2]", Scalar::NotScalar("a list"), "a list"),
            ("{\"a\": {\"b\": 1}}", Scalar::NotScalar("an object"), "an object"),
            (&long, Scalar::TooLong(MAX_TEXT + 1), "text of 4097 bytes"),
        ] {
            let read: Scalar = serde_json::from_str(written).unwrap();
            assert_eq!((&read, read.to_string().as_str()), (&expected, shown));
            let again: Scalar = serde_json::from_value(serde_json::from_str(written).unwrap()).unwrap();
            assert_eq!(again, expected, "the same from a tree");
        }
    }
}
