//! A length of time as Kubernetes writes it: `90s`, `1h30m`.

use std::borrow::Cow;
use std::time;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A positive length of time in the format of Go's `time.ParseDuration`, as `metav1.Duration` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(kube::core::Duration);

impl Duration {
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
            "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$",
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
    fn an_absurd_length_is_capped() {
        let parsed: Duration = serde_json::from_value("99999999999999h".into()).unwrap();
        assert_eq!(parsed.signed(), SignedDuration::from_hours(100 * 365 * 24));
    }
}
