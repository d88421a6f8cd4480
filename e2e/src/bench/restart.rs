//! Time from a restart of the operator to the first new job's pod.

use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;

use super::audit::Entry;
use super::load::{self, Kind, Pace};
use super::machine::megabytes;
use super::report::{Report, judged_memory, table, verdict};
use super::stage::{JOBS, Stage};
use crate::operator::OPERATOR_USER;
use crate::progress::note;

const BUDGET_SECONDS: f64 = 5.0;

#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// Finished jobs, with their pods, that are there.
    #[arg(long, default_value_t = 1_000)]
    pub(super) objects: usize,
    /// How often to do it.
    #[arg(long, default_value_t = 3)]
    pub(super) rounds: usize,
}

/// Seconds since the process began.
struct Restart {
    leads: f64,
    ready: f64,
    pod: f64,
    memory: u64,
}

pub(super) async fn run(stage: &mut Stage, options: &Options, report: &mut Report) -> Result<()> {
    let memory_before = stage.operator()?.resident_bytes()?;
    let mut restarts = Vec::new();
    for round in 0..options.rounds {
        restarts.push(once(stage, &format!("after-restart-{round}")).await?);
        note(&format!("restart {} of {}: done", round + 1, options.rounds));
    }
    let seconds = |seconds: f64| format!("{seconds:.2} s");
    let row = |(index, it): (usize, &Restart)| {
        let [leads, ready, pod] = [it.leads, it.ready, it.pod].map(seconds);
        [(index + 1).to_string(), leads, ready, pod, megabytes(it.memory)]
    };
    let rows: Vec<_> = restarts.iter().enumerate().map(row).collect();
    let memory = restarts.iter().map(|restart| restart.memory).max().unwrap_or_default();
    let worst = restarts.iter().map(|restart| restart.pod).fold(0.0, f64::max);
    report.say(&format!(
        "## Restart\n\nWith {} finished jobs and their pods there, the lease released; a job is created with the start \
         of the process. Seconds from that start.\n\n{}\n\n- worst: {worst:.2} s; budget {BUDGET_SECONDS} s (for 10,000 objects): {}\n\
         - resident memory: {} before the first restart, afterwards at most {}",
        options.objects,
        table(["restart", "leads", "seen ready", "the new job's pod", "memory then"], &rows),
        verdict(worst <= BUDGET_SECONDS),
        megabytes(memory_before),
        judged_memory(options.objects, memory)
    ));
    Ok(())
}

async fn once(stage: &mut Stage, job: &str) -> Result<Restart> {
    stage.stop_operator().await?;
    let mark = stage.audit().mark().await?;
    let begun = Timestamp::now();
    stage.spawn_operator()?;
    let client = stage.client();
    Kind::Job.create(&client, JOBS, job, &Pace::default()).await?;
    stage.operator()?.until_ready().await?;
    let ready = Timestamp::now();
    load::until_pod_of(&client, JOBS, job).await?;
    let memory = stage.operator()?.resident_bytes()?;
    let entries = stage.audit().since(mark).await?;
    let last = |matches: &dyn Fn(&Entry) -> bool| {
        let ours = entries.iter().filter(|entry| entry.user.username == OPERATOR_USER && entry.succeeded());
        ours.filter(|entry| matches(entry)).map(|entry| entry.answered).max()
    };
    let pod = last(&|entry| entry.what() == "create pods" && entry.object.name.starts_with(job));
    let pod = pod.context("the audit log lacks the new job's pod")?;
    // The lease is renewed later on; the first write took it.
    let taken = entries.iter().find(|entry| entry.user.username == OPERATOR_USER && entry.what() == "update leases");
    let since = |moment: Timestamp| moment.duration_since(begun).as_secs_f64();
    Ok(Restart {
        leads: since(taken.context("the audit log lacks the lease")?.answered),
        ready: since(ready),
        pod: since(pod),
        memory,
    })
}
