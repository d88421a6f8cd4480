//! Writes, latency and throughput of PipelineRuns, and what a large one costs.

use std::collections::BTreeMap;
use std::future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use kube::Api;
use kube::api::{DynamicObject, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::audit::Entry;
use super::load::{self, AT_ONCE, Kind, Pace, Watched};
use super::report::{Report, table, verdict};
use super::stage::Stage;
use super::statistics::{Spread, percentile};
use super::tally::{Tally, Writer, mean, means};
use crate::operator::OPERATOR_USER;
use crate::progress::note;

/// Writes that come this long after a run's end still count as its own.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// Steps of a usual run.
const STEPS: usize = 10;
/// Writes for such a run, the user's own among them. Argo Workflows takes 55 to 62.
const WRITES_BUDGET: usize = 24;
/// From the end of a step to its successor's pod, in milliseconds. Argo Workflows takes 9.4 s.
const GAP_BUDGET: f64 = 50.0;
/// Steps of the large run, and of each of its layers.
const LARGE: usize = 500;
const LAYER: usize = 25;

#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// Runs one after another, for their writes and the time between their steps.
    #[arg(long, default_value_t = 10)]
    repeats: usize,
    /// Runs at once, against as many bare pods as they have steps.
    #[arg(long, default_value_t = 50)]
    runs: usize,
    /// Rounds of these; every other round makes the runs first.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
}

pub(super) async fn run(stage: &Stage, options: &Options, report: &mut Report) -> Result<()> {
    report.say("## Pipelines");
    one_by_one(stage, options.repeats, report).await?;
    at_once(stage, options, report).await?;
    large(stage, report).await
}

/// A step that runs a pod for half a second.
fn step(name: &str, depends_on: &[String]) -> Value {
    let resources = json!({"requests": {"cpu": "10m", "memory": "16Mi"}});
    let container = json!({"name": "main", "image": "fake", "command": ["step"], "resources": resources});
    json!({"name": name, "dependsOn": depends_on, "run": {"spec": {"containers": [container]}}})
}

/// Steps one after another.
fn chain() -> Vec<Value> {
    let before = |index: usize| (index > 0).then(|| format!("s{}", index - 1)).into_iter().collect::<Vec<_>>();
    (0..STEPS).map(|index| step(&format!("s{index}"), &before(index))).collect()
}

/// One step, eight that need it, and one that needs them all.
fn fan() -> Vec<Value> {
    let middle: Vec<String> = (1..STEPS - 1).map(|index| format!("s{index}")).collect();
    let mut steps = vec![step("s0", &[])];
    steps.extend(middle.iter().map(|name| step(name, &["s0".to_owned()])));
    steps.push(step("last", &middle));
    steps
}

/// Layers in which every step needs the first of the layer before.
fn layers() -> Vec<Value> {
    let before = |index: usize| (index >= LAYER).then(|| format!("s{}", (index / LAYER - 1) * LAYER));
    (0..LARGE).map(|index| step(&format!("s{index}"), &before(index).into_iter().collect::<Vec<_>>())).collect()
}

fn manifest(name: &str, steps: Vec<Value>) -> Value {
    json!({
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "PipelineRun",
        "metadata": {"name": name},
        "spec": {"pipeline": {"steps": steps}},
    })
}

fn runs(stage: &Stage, namespace: &str) -> Api<Watched> {
    Api::namespaced_with(stage.client(), namespace, &load::resource("PipelineRun"))
}

async fn apply(stage: &Stage, namespace: &str, run: &Value) -> Result<()> {
    load::apply(&stage.client(), namespace, &load::resource("PipelineRun"), run).await
}

async fn until_complete(stage: &Stage, namespace: &str, count: usize) -> Result<()> {
    let (runs, all) = (runs(stage, namespace), WatchParams::default());
    let complete = load::until(count, async || runs.watch(&all, "0").await, load::is_complete).await;
    complete.with_context(|| format!("waiting for runs in {namespace}"))
}

/// Chains one after another: what each costs, and how long the next step takes to be made.
async fn one_by_one(stage: &Stage, repeats: usize, report: &mut Report) -> Result<()> {
    let (mut tallies, mut gaps) = (Vec::new(), Vec::new());
    for repeat in 0..repeats {
        let namespace = format!("bench-chain-{repeat}");
        load::create_namespace(&stage.client(), &namespace).await?;
        let mark = stage.audit().mark().await?;
        apply(stage, &namespace, &manifest("chain", chain())).await?;
        until_complete(stage, &namespace, 1).await?;
        sleep(AFTERWARDS).await;
        let entries = stage.audit().since(mark).await?;
        gaps.extend(gaps_of(&entries, &namespace));
        tallies.push(Tally::of(&entries, &namespace));
        load::clear_runs(&stage.client(), &namespace).await?;
    }
    note(&format!("{repeats} runs of {STEPS} steps, one by one: counted"));
    let spread = |count: &dyn Fn(&Tally) -> usize| Spread::of(tallies.iter().map(count)).to_string();
    let whole = |tally: &Tally| tally.total() + tally.by(Writer::User);
    let worst = tallies.iter().map(whole).max().unwrap_or_default();
    let row = [
        format!("{repeats} runs"),
        spread(&|tally| tally.by(Writer::User)),
        spread(&|tally| tally.by(Writer::Operator)),
        spread(&|tally| tally.by(Writer::Controllers)),
        spread(&whole),
        spread(&|tally| tally.refused),
        spread(&|tally| tally.events),
    ];
    let header = ["", "user", "trainyard", "controller manager", "sum", "refused", "Events"];
    let [p50, p90, p99, max] = [50.0, 90.0, 99.0, 100.0].map(|percent| percentile(&gaps, percent));
    report.say(&format!(
        "### Runs of {STEPS} steps in a chain, one by one\n\nWrites of every client but scheduler and node, without Events. \
         Argo Workflows takes 55 to 62.\n\n{}\n\nWhat they were, for each run on average: {}\n\n\
         - writes: {worst} at most; budget {WRITES_BUDGET}: {}\n\
         - a step's end reported by its node -> the next step's pod created, as the apiserver has them, {} gaps: p50 {p50:.1} ms, \
         p90 {p90:.1} ms, p99 {p99:.1} ms, longest {max:.1} ms; budget p50 {GAP_BUDGET} ms: {} (Argo Workflows: 9.4 s)",
        table(header, &[row]),
        means(&tallies, repeats),
        verdict(worst <= WRITES_BUDGET),
        gaps.len(),
        verdict(p50 <= GAP_BUDGET),
    ));
    Ok(())
}

/// The milliseconds from a step's last status, which its node writes when it ends, to the creation of the next step's pod.
fn gaps_of(entries: &[Entry], namespace: &str) -> Vec<f64> {
    let (mut ends, mut created): (BTreeMap<usize, Timestamp>, BTreeMap<usize, Timestamp>) = Default::default();
    for entry in entries.iter().filter(|entry| entry.object.namespace == namespace && entry.succeeded()) {
        match entry.what().as_str() {
            "patch pods/status" if entry.user.username == "kwok" => {
                step_of(&entry.object.name).map(|step| ends.insert(step, entry.answered));
            }
            "create pods" if entry.user.username == OPERATOR_USER => {
                step_of(&entry.object.name).map(|step| created.insert(step, entry.answered));
            }
            _ => {}
        }
    }
    let gap = |(step, end): (&usize, &Timestamp)| {
        let next = created.get(&(step + 1))?;
        Some(next.duration_since(*end).as_secs_f64() * 1000.0)
    };
    ends.iter().filter_map(gap).collect()
}

/// The step in a pod's name, `<run>-<incarnation>-s<step>-<attempt>`.
fn step_of(pod: &str) -> Option<usize> {
    pod.rsplit('-').nth(1)?.strip_prefix('s')?.parse().ok()
}

/// Many runs at once, against as many bare pods.
async fn at_once(stage: &Stage, options: &Options, report: &mut Report) -> Result<()> {
    let Options { runs, rounds, .. } = *options;
    let pods = runs * STEPS;
    let mut rows = Vec::new();
    let (mut all_bare, mut all_runs) = (Duration::ZERO, Duration::ZERO);
    for round in 0..rounds {
        let (bare_space, run_space) = (format!("bench-fan-bare-{round}"), format!("bench-fan-{round}"));
        for namespace in [&bare_space, &run_space] {
            load::create_namespace(&stage.client(), namespace).await?;
        }
        let bare = async || Kind::BarePod.run(&stage.client(), &bare_space, pods, &Pace::default()).await;
        let mark = stage.audit().mark().await?;
        let (bare, fans) = if round % 2 == 1 {
            let fans = fans(stage, &run_space, runs).await?;
            (bare().await?, fans)
        } else {
            (bare().await?, fans(stage, &run_space, runs).await?)
        };
        sleep(AFTERWARDS).await;
        let tally = Tally::of(&stage.audit().since(mark).await?, &run_space);
        (all_bare, all_runs) = (all_bare + bare, all_runs + fans);
        rows.push([
            format!("{}{}", round + 1, if round % 2 == 1 { ", runs first" } else { "" }),
            format!("{:.1} s", bare.as_secs_f64()),
            format!("{:.1} s", fans.as_secs_f64()),
            format!("{:.2}", fans.div_duration_f64(bare)),
            mean(tally.total(), runs),
            mean(tally.events, runs),
            tally.refused.to_string(),
        ]);
        load::clear_runs(&stage.client(), &run_space).await?;
        load::clear(&stage.client(), &bare_space).await?;
        note(&format!("round {} of {rounds} with {runs} runs at once: done", round + 1));
    }
    let header = ["round", "bare pods", "runs", "ratio", "writes a run", "Events a run", "refused"];
    report.say(&format!(
        "### {runs} runs of {STEPS} steps at once, against {pods} bare pods\n\nEach run: one step, eight that need it, one that \
         needs them all; every pod runs 0.5 s, so a run takes 1.5 s at least and a bare pod 0.5 s.\n\n{}\n\n\
         - ratio, all rounds together: {:.2}",
        table(header, &rows),
        all_runs.div_duration_f64(all_bare),
    ));
    Ok(())
}

async fn fans(stage: &Stage, namespace: &str, count: usize) -> Result<Duration> {
    let begun = Instant::now();
    let apply = async |index: usize| apply(stage, namespace, &manifest(&format!("fan-{index:03}"), fan())).await;
    let applying =
        stream::iter((0..count).map(apply)).buffer_unordered(AT_ONCE).try_for_each(|()| future::ready(Ok(())));
    tokio::try_join!(applying, until_complete(stage, namespace, count))?;
    Ok(begun.elapsed())
}

/// One run of many steps: how large it becomes, and how much is written for it.
async fn large(stage: &Stage, report: &mut Report) -> Result<()> {
    const NAMESPACE: &str = "bench-large";
    load::create_namespace(&stage.client(), NAMESPACE).await?;
    let api: Api<DynamicObject> = Api::namespaced_with(stage.client(), NAMESPACE, &load::resource("PipelineRun"));
    let begun = Instant::now();
    apply(stage, NAMESPACE, &manifest("large", layers())).await?;
    // Every version of the run, as it is stored; JSON here, as custom resources are in etcd.
    let (mut versions, mut bytes, mut size, mut status) = (0, 0, 0, 0);
    let mut events = Box::pin(api.watch(&WatchParams::default(), "0").await?);
    while let Some(event) = events.next().await {
        let (WatchEvent::Added(run) | WatchEvent::Modified(run)) = event? else { continue };
        versions += 1;
        size = serde_json::to_string(&run)?.len();
        status = run.data["status"].to_string().len();
        bytes += size;
        let conditions = run.data["status"]["conditions"].as_array();
        if conditions.into_iter().flatten().any(|condition| condition["type"] == "Finished") {
            break;
        }
    }
    let took = begun.elapsed();
    let kilobytes = |bytes: usize| format!("{:.1} kB", f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / 1000.0);
    report.say(&format!(
        "### One run of {LARGE} steps, in {} layers\n\nAn object of Kubernetes may have 1.5 MB.\n\n\
         - {:.1} s in all; {versions} versions of the run\n\
         - size in the end: {}, of which the status {}\n\
         - written for the run, all versions together: {} MB",
        LARGE / LAYER,
        took.as_secs_f64(),
        kilobytes(size),
        kilobytes(status),
        bytes / 1_000_000,
    ));
    load::clear_runs(&stage.client(), NAMESPACE).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::audit::parse;

    #[test]
    fn a_gap_is_from_the_last_status_to_the_next_pod() {
        let line = |user: &str, verb: &str, sub: &str, name: &str, answered: &str| {
            let line = json!({
                "verb": verb, "user": {"username": user}, "responseStatus": {"code": 200},
                "objectRef": {"resource": "pods", "subresource": sub, "namespace": "n", "name": name},
                "requestReceivedTimestamp": "2026-01-02T03:04:05Z",
                "stageTimestamp": format!("2026-01-02T03:04:05.{answered}Z"),
            });
            format!("{line}\n")
        };
        let text = line(OPERATOR_USER, "create", "", "r-abcde-s0-1", "100")
            + &line("kwok", "patch", "status", "r-abcde-s0-1", "110")
            + &line("kwok", "patch", "status", "r-abcde-s0-1", "600")
            + &line(OPERATOR_USER, "create", "", "r-abcde-s1-1", "620");
        let gaps: Vec<f64> = gaps_of(&parse(&text).unwrap(), "n").iter().map(|gap| gap.round()).collect();
        assert_eq!(gaps, [20.0]);
    }
}
