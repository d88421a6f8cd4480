//! Whether log lines may appear in status.
#![allow(unreachable_pub, reason = "the schema's derive macro makes a public type within a function")]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether log lines may appear in status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum FailureLogs {
    /// The last 1 KiB of the failed container's log.
    Tail,
    /// Nothing. Its old name, `Off`, is still read: a YAML parser takes it for false unless it is quoted.
    #[serde(alias = "Off")]
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_name_is_read_and_the_new_one_written() {
        for (text, expected) in
            [("\"Tail\"", FailureLogs::Tail), ("\"None\"", FailureLogs::None), ("\"Off\"", FailureLogs::None)]
        {
            assert_eq!(serde_json::from_str::<FailureLogs>(text).unwrap(), expected);
        }
        assert_eq!(serde_json::to_string(&FailureLogs::None).unwrap(), "\"None\"");
        assert!(serde_json::from_str::<FailureLogs>("false").is_err());
    }
}
