//! The demo is stopped at any moment: nothing of it may be left, and the next one must work.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::{again, leftovers, nothing_is_left, run_and_show, this_program};
use crate::keep;
use crate::progress::say;

/// How often each signal is sent.
const ROUNDS: usize = 5;
/// A demo takes about as long when everything is built.
const LATEST_MILLIS: u64 = 90_000;
/// Everything is taken down within this.
const GONE_WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn run() -> Result<String> {
    ensure!(keep::status().await?.is_none(), "a cluster is up: take it down first (`cargo e2e down`)");
    let signals = [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM"), (Signal::KILL, "SIGKILL")];
    let (mut stopped, mut known) = (0, Vec::new());
    for (signal, name) in signals.into_iter().cycle().take(ROUNDS * signals.len()) {
        let after = Duration::from_millis(rand::rng().random_range(50..LATEST_MILLIS));
        stopped += usize::from(stop_one(signal, name, after, &known).await?);
        known = leftovers::folders();
    }
    run_and_show(again(&["demo"])?).await.context("the demo after all that")?;
    nothing_is_left().await?;
    Ok(format!("{stopped} demos stopped by SIGINT, SIGTERM and SIGKILL at random moments; nothing was left"))
}

/// Starts a demo and stops it; says whether it had not ended by itself. What one before it left that was killed, it may
/// have been stopped too early to remove.
async fn stop_one(signal: Signal, name: &str, after: Duration, known: &[String]) -> Result<bool> {
    let mut demo = Command::new(this_program()?);
    demo.arg("demo").stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut demo = demo.spawn().context("starting the demo")?;
    sleep(after).await;
    let when = format!("{name} after {:.1} s", after.as_secs_f64());
    let Some(pid) = demo.id().and_then(|id| Pid::from_raw(id.cast_signed())) else { return Ok(false) };
    let sent = kill_process(pid, signal).is_ok();
    let status = timeout(GONE_WITHIN, demo.wait()).await.with_context(|| format!("{when}: it goes on"))??;
    let mut left = leftovers::settled().await;
    if signal != Signal::KILL {
        left.extend(leftovers::folders().into_iter().filter(|folder| !known.contains(folder)));
    }
    ensure!(left.is_empty(), "{when}, left behind: {left:?}");
    say(&format!("{when}: {status}, nothing left"));
    Ok(sent && !status.success())
}
