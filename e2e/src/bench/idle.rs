//! Requests while nothing changes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tokio::time::sleep;

use super::audit::Entry;
use super::report::{Report, judged_memory, table, verdict};
use super::stage::Stage;
use crate::operator::OPERATOR_USER;
use crate::progress::note;

/// Longer than the operator puts off any status.
const CALM: Duration = Duration::from_secs(10);

/// The look at the schemas that are served, once in ten minutes: a path outside the API's resources.
const SCHEMA: &str = "get ";

#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// Finished jobs, with their pods, that are there.
    #[arg(long, default_value_t = 1_000)]
    pub(super) objects: usize,
    /// How long to listen.
    #[arg(long, default_value_t = 60)]
    pub(super) seconds: u64,
}

pub(super) async fn run(stage: &Stage, options: &Options, report: &mut Report) -> Result<()> {
    sleep(CALM).await;
    note(&format!("listening for {} s while nothing changes", options.seconds));
    let (mark, before) = (stage.audit().mark().await?, stage.cpu());
    sleep(Duration::from_secs(options.seconds)).await;
    let cpu = stage.cpu().since(&before);
    let requests = requests(&stage.audit().since(mark).await?);
    let quiet = requests.keys().all(|what| what.starts_with("watch ") || what == "update leases" || what == SCHEMA);
    let rows: Vec<[String; 2]> = requests.into_iter().map(|(what, count)| [what, count.to_string()]).collect();
    report.say(&format!(
        "## Idle\n\nRequests of the operator in {} s with {} finished jobs and their pods there. A watch is \
         in the log when it ends.\n\n{}",
        options.seconds,
        options.objects,
        table(["request", "number"], &rows)
    ));
    report.say(&format!(
        "- lease and watch renewals only, and at most a look at the schemas: {}\n- resident memory: {}\n- processor time: {cpu}",
        verdict(quiet),
        judged_memory(options.objects, stage.operator()?.resident_bytes()?)
    ));
    Ok(())
}

/// The operator's requests by verb and kind.
fn requests(entries: &[Entry]) -> BTreeMap<String, usize> {
    let mut requests = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.user.username == OPERATOR_USER) {
        *requests.entry(entry.what()).or_default() += 1;
    }
    requests
}
