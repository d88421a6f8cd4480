//! A length of time as Kubernetes writes it: `90s`, `1h30m`.

use std::borrow::Cow;
use std::time;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// A positive length of time in the format of Go's `time.ParseDuration`, as `metav1.Duration` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Duration(kube::core::Duration);

/// Digits that a number in a duration may have. kube's parser panics where a product overflows; with ten digits, a
/// million years of hours, none does.
const MOST_DIGITS: usize = 10;

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > MOST_DIGITS) {
            return Err(de::Error::custom(format!("{text:?} is too long a time: use at most {MOST_DIGITS} digits")));
        }
        text.parse()
            .map(Duration)
            .map_err(|error| de::Error::custom(format!("{text:?} is no time such as 90s: {error}")))
    }
}

impl Duration {
    /// Pattern of the text, as the schema has it.
    pub const PATTERN: &str = "^([0-9]{1,10}(\\.[0-9]{1,9})?(ms|s|m|h))+$";

    /// A whole number of seconds.
    pub fn from_secs(seconds: u64) -> Self {
        Duration(time::Duration::from_secs(seconds).into())
    }

    /// For arithmetic with timestamps; capped at 100 years, so that no sum overflows.
    pub fn signed(self) -> SignedDuration {
        let longest = SignedDuration::from_hours(100 * 365 * 24);
        SignedDuration::try_from(time::Duration::from(self.0)).unwrap_or(longest).min(longest)
    }

    /// Whether the text had a minus sign; admission refuses it, an apiserver without our schema does not.
    pub fn is_negative(self) -> bool {
        self.0.is_negative()
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 32,
            "pattern": Self::PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubernetes_writes() {
        for (text, seconds) in [("90s", 90), ("1h30m", 5_400), ("24h", 86_400), ("1.5m", 90)] {
            let parsed: Duration = serde_json::from_value(text.into()).unwrap();
            assert_eq!(parsed.signed(), SignedDuration::from_secs(seconds), "{text}");
        }
    }

    #[test]
    fn an_absurd_length_is_capped_or_refused_and_never_a_panic() {
        let parsed: Duration = serde_json::from_value("9999999999h".into()).unwrap();
        assert_eq!(parsed.signed(), SignedDuration::from_hours(100 * 365 * 24));
        for text in ["99999999999999999999s", "1.99999999999999999999h", "soon", "5"] {
            assert!(serde_json::from_value::<Duration>(text.into()).is_err(), "{text}");
        }
    }
}
