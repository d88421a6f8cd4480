//! Waiting for a condition, never for a time.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

/// Far longer than anything takes on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// Tries until it works. The last failure says what was still wrong when patience ran out.
pub(crate) async fn eventually<T>(what: &str, attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    eventually_within(PATIENCE, what, attempt).await
}

/// The same with another patience, for what the operator itself takes its time over.
pub(crate) async fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("not within {patience:?}: {what}"));
            }
            Err(_) => sleep(POLL).await,
        }
    }
}
