//! A number of pods, as Kubernetes writes `maxSurge`: `2`, or `25%`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

/// A number of pods, or a percentage of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// A number of pods.
    Count(i32),
    /// A percentage.
    Percent(i32),
}

impl Amount {
    /// The number out of all pods, a percentage rounded up.
    pub fn rounded_up(self, of: i32) -> i32 {
        self.of(of, 99)
    }

    /// The number out of all pods, a percentage rounded down.
    pub fn rounded_down(self, of: i32) -> i32 {
        self.of(of, 0)
    }

    fn of(self, all: i32, round: i64) -> i32 {
        match self {
            Amount::Count(count) => count,
            Amount::Percent(percent) => {
                i32::try_from((i64::from(all) * i64::from(percent) + round) / 100).unwrap_or(i32::MAX)
            }
        }
    }

    /// Whether it is 0, of however many.
    pub fn is_nothing(self) -> bool {
        matches!(self, Amount::Count(0) | Amount::Percent(0))
    }

    /// Whether it is below zero or more than everything; admission refuses it, an apiserver without our schema does not.
    pub fn is_absurd(self) -> bool {
        match self {
            Amount::Count(count) => count < 0,
            Amount::Percent(percent) => !(0..=100).contains(&percent),
        }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Amount::Count(count) => write!(f, "{count}"),
            Amount::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Amount::Count(count) => serializer.serialize_i32(*count),
            Amount::Percent(percent) => serializer.collect_str(&format_args!("{percent}%")),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let count = || value.as_i64().and_then(|count| i32::try_from(count).ok()).map(Amount::Count);
        let percent = || value.as_str()?.strip_suffix('%')?.parse().ok().map(Amount::Percent);
        count()
            .or_else(percent)
            .ok_or_else(|| de::Error::custom(format!("{value} is neither a number nor such as 25%")))
    }
}

impl JsonSchema for Amount {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 4,
            "x-kubernetes-validations": [{
                "rule": "type(self) == int ? (self >= 0 && self <= 1000) : self.matches('^([0-9]|[1-9][0-9]|100)%$')",
                "message": "must be a number from 0 to 1000, or a percentage such as 25%, at most 100%",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_are_rounded_as_asked() {
        let cases = [(json!(2), 10, 2, 2), (json!("25%"), 10, 3, 2), (json!("100%"), 3, 3, 3), (json!("1%"), 0, 0, 0)];
        for (value, of, up, down) in cases {
            let amount: Amount = serde_json::from_value(value.clone()).unwrap();
            assert_eq!((amount.rounded_up(of), amount.rounded_down(of)), (up, down), "{value}");
            assert_eq!(serde_json::to_value(amount).unwrap(), value);
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_or_told() {
        for value in [json!("25"), json!("a%"), json!(1.5), json!(null), json!(9_999_999_999_u64)] {
            assert!(serde_json::from_value::<Amount>(value.clone()).is_err(), "{value}");
        }
        assert!(Amount::Count(-1).is_absurd() && Amount::Percent(101).is_absurd() && !Amount::Percent(0).is_absurd());
    }
}
