//! Many one-pod jobs at once, against as many bare pods made by the same client.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::load::{self, Kind, Pace};
use super::machine::megabytes;
use super::report::{Report, judged_memory, table, verdict};
use super::stage::{BARE, JOBS, Stage};
use super::tally::Tally;
use crate::progress::note;

const RATIO_BUDGET: f64 = 2.0;
#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// How many; may be repeated.
    #[arg(long = "jobs", default_values_t = [200, 1_000])]
    pub(super) jobs: Vec<usize>,
    /// Rounds of each; every other round runs the jobs first.
    #[arg(long, default_value_t = 2)]
    pub(super) rounds: usize,
    /// How long every pod runs. From 1 s on the operator also says that a job runs, not only that it has ended.
    #[arg(long, value_name = "DURATION", default_value = "500ms")]
    pub(super) run_for: String,
}

/// One round's figures.
struct Round {
    bare: Duration,
    jobs: Duration,
    bare_cpu: String,
    jobs_cpu: String,
    tally: Tally,
    memory: u64,
}

impl Round {
    fn ratio(&self) -> f64 {
        self.jobs.div_duration_f64(self.bare)
    }
}

/// Leaves the jobs of the last round, finished, with their pods.
pub(super) async fn run(stage: &mut Stage, options: &Options, report: &mut Report) -> Result<()> {
    let Options { run_for, .. } = options;
    report.say(&format!(
        "## Throughput of pods that run {run_for}\n\nOne-pod jobs made at once by 32 requests at a time, until all have \
         finished, against as many bare pods by the same client. Every other round runs the jobs first."
    ));
    let pace = Pace { run_for: Some(run_for.clone()), ..Pace::default() };
    for &count in &options.jobs {
        clear(stage).await?;
        stage.restart_operator().await?;
        let before = stage.operator()?.resident_bytes()?;
        let mut rounds = Vec::new();
        for index in 0..options.rounds {
            clear(stage).await?;
            rounds.push(round(stage, count, &pace, index % 2 == 1).await?);
            note(&format!("round {} of {} with {count}: done", index + 1, options.rounds));
        }
        say(count, before, &rounds, report);
    }
    Ok(())
}

async fn clear(stage: &Stage) -> Result<()> {
    let client = stage.client();
    load::clear(&client, JOBS).await?;
    load::clear(&client, BARE).await
}

async fn round(stage: &Stage, count: usize, pace: &Pace, jobs_first: bool) -> Result<Round> {
    let client = stage.client();
    let mark = stage.audit().mark().await?;
    let timed = async |kind: Kind, namespace: &str| -> Result<(Duration, String)> {
        let before = stage.cpu();
        let took = kind.run(&client, namespace, count, pace).await?;
        Ok((took, stage.cpu().since(&before)))
    };
    let ((bare, bare_cpu), (jobs, jobs_cpu)) = if jobs_first {
        let jobs = timed(Kind::Job, JOBS).await?;
        (timed(Kind::BarePod, BARE).await?, jobs)
    } else {
        (timed(Kind::BarePod, BARE).await?, timed(Kind::Job, JOBS).await?)
    };
    let tally = Tally::of(&stage.audit().since(mark).await?, JOBS);
    Ok(Round { bare, jobs, bare_cpu, jobs_cpu, tally, memory: stage.operator()?.resident_bytes()? })
}

fn say(count: usize, before: u64, rounds: &[Round], report: &mut Report) {
    #[allow(clippy::cast_precision_loss, reason = "small counts")]
    let each = |total: usize| format!("{:.2}", total as f64 / count as f64);
    let row = |(index, round): (usize, &Round)| {
        [
            format!("{}{}", index + 1, if index % 2 == 1 { ", jobs first" } else { "" }),
            format!("{:.1} s", round.bare.as_secs_f64()),
            format!("{:.1} s", round.jobs.as_secs_f64()),
            format!("{:.2}", round.ratio()),
            each(round.tally.total()),
            each(round.tally.events),
            round.tally.refused.to_string(),
            megabytes(round.memory),
        ]
    };
    let header = ["round", "bare pods", "jobs", "ratio", "writes a job", "Events a job", "refused", "memory after"];
    let rows: Vec<_> = rounds.iter().enumerate().map(row).collect();
    let all = |time: fn(&Round) -> Duration| rounds.iter().map(time).sum::<Duration>();
    let ratio = all(|round| round.jobs).div_duration_f64(all(|round| round.bare));
    report.say(&format!("### {count} at once\n\n{}", table(header, &rows)));

    let mut said = vec![format!(
        "- ratio, all rounds together: {ratio:.2}; budget {RATIO_BUDGET}: {}",
        verdict(ratio <= RATIO_BUDGET)
    )];
    let after = rounds.last().map_or(0, |round| round.memory);
    said.push(format!(
        "- operator's resident memory: {} before, with {count} finished jobs and their pods {}",
        megabytes(before),
        judged_memory(count, after)
    ));
    for (index, round) in rounds.iter().enumerate() {
        said.push(format!(
            "- processor time in round {}: bare pods: {}; jobs: {}",
            index + 1,
            round.bare_cpu,
            round.jobs_cpu
        ));
    }
    report.say(&said.join("\n"));
}
