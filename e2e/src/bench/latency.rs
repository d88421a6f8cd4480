//! Time from a job's creation to its pod's, at a steady rate.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::audit::Entry;
use super::load::{Kind, Pace};
use super::report::{Report, table, verdict};
use super::stage::{BARE, JOBS, Stage};
use super::statistics::percentile;
use crate::operator::OPERATOR_USER;
use crate::progress::note;

const MEDIAN_BUDGET: f64 = 20.0;
const TAIL_BUDGET: f64 = 3.0;

#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// Jobs in each second.
    #[arg(long, default_value_t = 10)]
    rate: u32,
    /// Length of a round, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Rounds, each of bare pods and then of jobs.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
}

/// An object that was created.
#[derive(Clone, Debug)]
struct Created {
    name: String,
    answered: Timestamp,
    took: Duration,
}

/// The milliseconds of each step from a job to its pod.
#[derive(Debug, Default)]
struct Steps {
    looked_at: Vec<f64>,
    asked_for: Vec<f64>,
    created: Vec<f64>,
    posted: Vec<f64>,
}

pub(super) async fn run(stage: &Stage, options: &Options, report: &mut Report) -> Result<()> {
    let mark = stage.audit().mark().await?;
    let (mut bare, mut jobs) = (Vec::new(), Vec::new());
    let before = stage.cpu();
    for round in 0..options.rounds {
        for (kind, namespace, created) in [(Kind::BarePod, BARE, &mut bare), (Kind::Job, JOBS, &mut jobs)] {
            created.extend(steadily(stage, kind, namespace, options, round).await?);
            kind.until_ended(&stage.client(), namespace, created.len()).await?;
        }
        note(&format!("round {} of {} at {} a second: done", round + 1, options.rounds, options.rate));
    }
    let cpu = stage.cpu().since(&before);
    let steps = steps(&jobs, &stage.audit().since(mark).await?)?;
    say(options, &bare, &jobs, &steps, &cpu, report);
    Ok(())
}

/// Creates at a fixed rate, however long an answer takes.
async fn steadily(
    stage: &Stage,
    kind: Kind,
    namespace: &'static str,
    options: &Options,
    round: u32,
) -> Result<Vec<Created>> {
    let mut ticks = interval(Duration::from_secs(1) / options.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    for index in 0..options.rate * options.seconds {
        ticks.tick().await;
        let (client, name) = (stage.client(), format!("steady-{round}-{index:05}"));
        requests.spawn(async move {
            let took = kind.create(&client, namespace, &name, &Pace::default()).await?;
            Ok(Created { name, answered: Timestamp::now(), took })
        });
    }
    requests.join_all().await.into_iter().collect()
}

/// Finds each job's steps in the audit log.
fn steps(jobs: &[Created], entries: &[Entry]) -> Result<Steps> {
    let ours = || entries.iter().filter(|entry| entry.user.username == OPERATOR_USER && entry.object.namespace == JOBS);
    let mut reads: HashMap<&str, &Entry> = HashMap::new();
    for entry in ours().filter(|entry| entry.what() == "get trainingjobs") {
        reads.entry(&entry.object.name).or_insert(entry);
    }
    let pods = ours().filter(|entry| entry.what() == "create pods" && entry.succeeded());
    let pods: HashMap<&str, &Entry> = pods.filter_map(|entry| Some((job_of(&entry.object.name)?, entry))).collect();
    let mut steps = Steps::default();
    for job in jobs {
        let since = |moment: Timestamp| milliseconds(moment, job.answered);
        steps.looked_at.extend(reads.get(job.name.as_str()).map(|read| since(read.received)));
        if let Some(pod) = pods.get(job.name.as_str()) {
            steps.asked_for.push(since(pod.received));
            steps.created.push(since(pod.answered));
            steps.posted.push(milliseconds(pod.answered, pod.received));
        }
    }
    ensure!(
        steps.created.len() == jobs.len(),
        "the audit log has pods for {} of {} jobs",
        steps.created.len(),
        jobs.len()
    );
    Ok(steps)
}

/// The job in a pod's name, `<job>-<incarnation>-<role>-<index>-<attempt>`.
fn job_of(pod: &str) -> Option<&str> {
    pod.rsplitn(5, '-').nth(4)
}

fn milliseconds(later: Timestamp, earlier: Timestamp) -> f64 {
    later.duration_since(earlier).as_secs_f64() * 1000.0
}

fn say(options: &Options, bare: &[Created], jobs: &[Created], steps: &Steps, cpu: &str, report: &mut Report) {
    let took = |created: &[Created]| created.iter().map(|it| it.took.as_secs_f64() * 1000.0).collect::<Vec<_>>();
    let (bare, jobs) = (took(bare), took(jobs));
    let row = |what: &str, samples: &[f64]| {
        let [p50, p90, p99, max] =
            [50.0, 90.0, 99.0, 100.0].map(|percent| format!("{:.1}", percentile(samples, percent)));
        [what.to_owned(), p50, p90, p99, max]
    };
    let rows = [
        row("a bare pod's POST, as the client sees it", &bare),
        row("a job's POST, as the client sees it", &jobs),
        row("job's POST answered -> the operator reads the job", &steps.looked_at),
        row("job's POST answered -> its pod's POST arrives", &steps.asked_for),
        row("its pod's POST, as the apiserver sees it", &steps.posted),
        row("job's POST answered -> its pod is created", &steps.created),
    ];
    let Options { rate, seconds, rounds } = options;
    report.say(&format!(
        "## Latency\n\n{rate} a second, {rounds} rounds of {seconds} s with bare pods and then with one-pod jobs; \
         {} jobs.\n\n{}",
        steps.created.len(),
        table(["milliseconds", "p50", "p90", "p99", "max"], &rows)
    ));
    let (p50, p99, bare_p99) =
        (percentile(&steps.created, 50.0), percentile(&steps.created, 99.0), percentile(&bare, 99.0));
    report.say(&format!(
        "- p50 of job created -> its pod created: {p50:.1} ms; budget {MEDIAN_BUDGET} ms: {}\n\
         - p99: {p99:.1} ms, {:.1} x the bare pod POST's {bare_p99:.1} ms; budget {TAIL_BUDGET} x: {}\n\
         - processor time, all rounds: {cpu}",
        verdict(p50 <= MEDIAN_BUDGET),
        p99 / bare_p99,
        verdict(p99 <= TAIL_BUDGET * bare_p99),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::audit::parse;
    use serde_json::json;

    fn line(verb: &str, resource: &str, name: &str, received: &str, answered: &str) -> String {
        let line = json!({
            "verb": verb, "user": {"username": OPERATOR_USER}, "responseStatus": {"code": 200},
            "objectRef": {"resource": resource, "namespace": JOBS, "name": name},
            "requestReceivedTimestamp": format!("2026-01-02T03:04:05.{received}Z"),
            "stageTimestamp": format!("2026-01-02T03:04:05.{answered}Z"),
        });
        format!("{line}\n")
    }

    #[test]
    fn each_job_finds_its_own_steps() {
        let text = line("get", "trainingjobs", "steady-0-00001", "105", "106")
            + &line("create", "pods", "steady-0-00001-abcde-worker-0-1", "110", "118")
            + &line("get", "trainingjobs", "steady-0-00001", "500", "501");
        let answered = "2026-01-02T03:04:05.100Z".parse().unwrap();
        let job = |name: &str| Created { name: name.to_owned(), answered, took: Duration::ZERO };
        let entries = parse(&text).unwrap();
        let found = steps(&[job("steady-0-00001")], &entries).unwrap();
        let whole = |samples: &[f64]| samples.iter().map(|it| it.round()).collect::<Vec<_>>();
        assert_eq!(whole(&found.looked_at), [5.0]);
        assert_eq!(whole(&found.asked_for), [10.0]);
        assert_eq!(whole(&found.created), [18.0]);
        assert_eq!(whole(&found.posted), [8.0]);
        assert!(steps(&[job("steady-0-00002")], &entries).is_err());
    }
}
