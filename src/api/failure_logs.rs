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
    /// Nothing.
    Off,
}
