//! Writes and Events for one job at a time.

use anyhow::Result;
use clap::Args;
use tokio::time::sleep;

use super::load::{self, Kind, Pace};
use super::report::{Report, table, verdict};
use super::stage::Stage;
use super::statistics::Spread;
use super::tally::{Tally, Writer, means};
use crate::progress::note;

/// Writes that come this long after a job's end still count as its own.
const AFTERWARDS: std::time::Duration = std::time::Duration::from_millis(500);
/// Events of an attempt that goes well.
const EVENTS_BUDGET: usize = 2;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Jobs of each size.
    #[arg(long, default_value_t = 10)]
    repeats: usize,
}

/// A size of job, and how its pods behave.
struct Case {
    nodes: u32,
    pace: Pace,
    life: &'static str,
}

fn cases() -> Vec<Case> {
    let as_in_life = Pace { start_after: Some("1s".to_owned()), run_for: Some("2s".to_owned()) };
    let paces = [(as_in_life, "start after 1 s, run 2 s"), (Pace::default(), "start at once, run 0.5 s")];
    let sizes = |(pace, life): (Pace, _)| [1, 2, 8].map(|nodes| Case { nodes, pace: pace.clone(), life });
    paces.into_iter().flat_map(sizes).collect()
}

/// What a job may cost, Events apart: the design names one pod and eight, plus one for each wave of starts.
fn budget(nodes: u32, waves: usize) -> Option<usize> {
    match nodes {
        1 => Some(4),
        8 => Some(14 + waves),
        _ => None,
    }
}

pub(super) async fn run(stage: &Stage, options: &Options, report: &mut Report) -> Result<()> {
    let (mut rows, mut kinds) = (Vec::new(), Vec::new());
    for (index, case) in cases().iter().enumerate() {
        let mut tallies = Vec::new();
        for repeat in 0..options.repeats {
            tallies.push(one(stage, case, &format!("bench-writes-{index}-{repeat}")).await?);
        }
        note(&format!("{} jobs of {} pods, {}: counted", options.repeats, case.nodes, case.life));
        rows.push(row(case, &tallies));
        kinds.push(format!("- {} pods, {}: {}", case.nodes, case.life, means(&tallies, tallies.len())));
    }
    report.say(&format!(
        "## Writes from apply to finished\n\nEvery client but scheduler and node, {} jobs of each size one after \
         another, min / median / max where they differ. The user's own apply is not in the sum. The budget of 8 pods is \
         14 and 1 for each wave, a change of the EndpointSlice before the job's end.",
        options.repeats
    ));
    let header = [
        "pods",
        "trainyard",
        "controller manager",
        "others",
        "sum",
        "waves",
        "budget",
        "",
        "refused",
        "user",
        "Events",
        "of 2",
    ];
    report.say(&table(header, &rows));
    report.say(&format!("What they were, for each job on average:\n\n{}", kinds.join("\n")));
    Ok(())
}

/// Runs one job in a namespace of its own and counts what was written there.
async fn one(stage: &Stage, case: &Case, namespace: &str) -> Result<Tally> {
    let client = stage.client();
    load::create_namespace(&client, namespace).await?;
    let mark = stage.audit().mark().await?;
    let job = load::job(namespace, "job", case.nodes, &case.pace);
    load::apply(&client, namespace, &load::resource("TrainingJob"), &job).await?;
    Kind::Job.until_ended(&client, namespace, 1).await?;
    sleep(AFTERWARDS).await;
    Ok(Tally::of(&stage.audit().since(mark).await?, namespace))
}

fn row(case: &Case, tallies: &[Tally]) -> [String; 12] {
    let spread = |count: &dyn Fn(&Tally) -> usize| Spread::of(tallies.iter().map(count)).to_string();
    let kept = |tally: &Tally| budget(case.nodes, tally.waves).is_none_or(|budget| tally.total() <= budget);
    let budgeted = budget(case.nodes, 0).map_or("-".to_owned(), |budget| budget.to_string());
    [
        format!("{}, {}", case.nodes, case.life),
        spread(&|tally| tally.by(Writer::Operator)),
        spread(&|tally| tally.by(Writer::Controllers)),
        spread(&|tally| tally.by(Writer::Other)),
        spread(&Tally::total),
        spread(&|tally| tally.waves),
        budgeted,
        verdict(tallies.iter().all(kept)),
        spread(&|tally| tally.refused),
        spread(&|tally| tally.by(Writer::User)),
        spread(&|tally| tally.events),
        verdict(tallies.iter().all(|tally| tally.events <= EVENTS_BUDGET)),
    ]
}
