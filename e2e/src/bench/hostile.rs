//! What a tenant's worst objects cost the operator and its neighbours, under the memory limit of the chart.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use futures::{StreamExt, stream};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::load::{AT_ONCE, Kind, Pace, Watched, create_namespace, is_complete, resource};
use super::machine::megabytes;
use super::memory_limit::MemoryLimit;
use super::report::{Report, table, verdict};
use super::stage::{JOBS, Stage};
use crate::hostile::{Input, edited_words, inputs, write};
use crate::operator::OPERATOR_NAMESPACE;
use crate::progress::note;

/// As the chart sets it.
const MEMORY: u64 = 512 << 20;
/// The attacker's namespace.
const HOSTILE: &str = "bench-hostile";
/// How long an attack lasts before a neighbour comes.
const MOMENT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// How long the neighbour's job may take, in seconds.
    #[arg(long, default_value_t = 20)]
    patience: u64,
    /// Only the inputs whose description contains this.
    #[arg(long)]
    only: Option<String>,
}

/// What became of an input.
struct Row {
    what: &'static str,
    /// Seconds until the neighbour's job had succeeded: before a restart of the operator, and after one.
    jobs: [Option<f64>; 2],
    peak: u64,
    /// How often the operator ended by itself.
    ends: usize,
}

pub(super) async fn run(stage: &mut Stage, options: &Options, report: &mut Report) -> Result<()> {
    let client = stage.client();
    create_namespace(&client, HOSTILE).await?;
    let limit = MemoryLimit::create("trainyard-bench-hostile", MEMORY)?;
    let lease = LeaseWatch::start(client.clone());
    let chosen = |input: &Input| options.only.as_ref().is_none_or(|only| input.what.contains(only));
    let mut rows = Vec::new();
    for (number, input) in inputs().iter().enumerate().filter(|(_, input)| chosen(input)) {
        note(&format!("attack: {}", input.what));
        rows.push(attack(stage, input, number, options, (&limit, &lease)).await?);
    }
    let longest = lease.longest();
    let ends: usize = rows.iter().map(|row| row.ends).sum();
    let peak = rows.iter().map(|row| row.peak).max().unwrap_or_default();
    let unserved = rows.iter().flat_map(|row| row.jobs).filter(Option::is_none).count();
    let cells: Vec<_> = rows.iter().map(|row| cells(row, options)).collect();
    let header = ["input", "job beside it", "job after a restart", "peak memory", "ended by itself"];
    report.say(&format!(
        "## Hostile objects\n\nEach input is created in one namespace; then a neighbour's job, which takes about a second by itself; \
         then the operator is restarted and another job comes. The operator may use {} of memory.\n\n{}\n\n\
         - ended by itself: {ends}: {}\n- neighbours not served within {} s: {unserved}: {}\n- peak memory: {} of {}\n\
         - longest time between two renewals of the lease while it was held: {:.1} s",
        megabytes(MEMORY),
        table(header, &cells),
        verdict(ends == 0),
        options.patience,
        verdict(unserved == 0),
        megabytes(peak),
        megabytes(MEMORY),
        longest.as_secs_f64(),
    ));
    Ok(())
}

fn cells(row: &Row, options: &Options) -> [String; 5] {
    let seconds =
        |job: Option<f64>| job.map_or(format!("not in {} s", options.patience), |seconds| format!("{seconds:.1} s"));
    let [beside, after] = row.jobs.map(seconds);
    [row.what.to_owned(), beside, after, megabytes(row.peak), row.ends.to_string()]
}

async fn attack(
    stage: &mut Stage,
    input: &Input,
    number: usize,
    options: &Options,
    (limit, lease): (&MemoryLimit, &LeaseWatch),
) -> Result<Row> {
    let client = stage.client();
    let mut ends = 0;
    restart(stage, limit, lease).await?;
    send(&client, "POST", &input.objects).await;
    sleep(MOMENT).await;
    if input.what.contains("words") {
        send(&client, "PATCH", &edited_words()).await;
    }
    ends += revive(stage, limit)?;
    let beside = neighbour(&client, &format!("beside-{number}"), options).await?;
    ends += revive(stage, limit)?;
    let before = limit.peak()?;
    restart(stage, limit, lease).await?;
    let after = neighbour(&client, &format!("after-{number}"), options).await?;
    ends += revive(stage, limit)?;
    let peak = before.max(limit.peak()?);
    send(&client, "DELETE", &input.objects).await;
    Ok(Row { what: input.what, jobs: [beside, after], peak, ends })
}

/// What the apiserver refuses does no harm.
async fn send(client: &Client, method: &str, objects: &[serde_json::Value]) {
    let writes = objects.iter().map(|object| write(client, HOSTILE, method, object));
    let failed = stream::iter(writes).buffer_unordered(AT_ONCE).filter_map(|written| async { written.err() });
    let failed: Vec<String> = failed.map(|error| format!("{error:#}")).collect().await;
    if let Some(first) = failed.first() {
        let words: String = first.chars().take(200).collect();
        note(&format!("{method}: {} of {} refused: {words}", failed.len(), objects.len()));
    }
}

/// Replaces the operator by one under the limit, dead or alive.
async fn restart(stage: &mut Stage, limit: &MemoryLimit, lease: &LeaseWatch) -> Result<()> {
    lease.pause();
    if stage.operator()?.is_alive() {
        // One that is held up does not end when it is asked to; its place is taken all the same.
        let _ = timeout(Duration::from_secs(30), stage.stop_operator()).await;
    }
    limit.forget_peak()?;
    start(stage, limit)
}

fn start(stage: &mut Stage, limit: &MemoryLimit) -> Result<()> {
    stage.spawn_operator()?;
    limit.confine(stage.operator()?.pid())
}

/// Starts the operator again if it has ended; says how often it had.
fn revive(stage: &mut Stage, limit: &MemoryLimit) -> Result<usize> {
    if stage.operator()?.is_alive() {
        return Ok(0);
    }
    start(stage, limit).map(|()| 1)
}

/// Seconds until a neighbour's job has succeeded, or nothing if it has not within the patience.
async fn neighbour(client: &Client, name: &str, options: &Options) -> Result<Option<f64>> {
    let begun = Instant::now();
    Kind::Job.create(client, JOBS, name, &Pace::default()).await?;
    let jobs: Api<Watched> = Api::namespaced_with(client.clone(), JOBS, &resource("TrainingJob"));
    while begun.elapsed() < Duration::from_secs(options.patience) {
        if is_complete(&jobs.get(name).await.context("looking at the neighbour's job")?) {
            return Ok(Some(begun.elapsed().as_secs_f64()));
        }
        sleep(POLL).await;
    }
    Ok(None)
}

/// Measures how long the lease goes without a renewal. It ends with the value.
struct LeaseWatch {
    seen: Arc<Mutex<Renewals>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Renewals {
    last: Option<(String, Instant)>,
    longest: Duration,
}

impl LeaseWatch {
    fn start(client: Client) -> Self {
        let seen: Arc<Mutex<Renewals>> = Arc::default();
        let noting = seen.clone();
        let leases: Api<Lease> = Api::namespaced(client, OPERATOR_NAMESPACE);
        let task = tokio::spawn(async move {
            loop {
                if let Ok(lease) = leases.get("trainyard").await {
                    noting.lock().unwrap_or_else(PoisonError::into_inner).note(&lease);
                }
                sleep(POLL).await;
            }
        });
        LeaseWatch { seen, task }
    }

    /// What comes until the next renewal does not count: the operator is replaced.
    fn pause(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).last = None;
    }

    fn longest(&self) -> Duration {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).longest
    }
}

impl Renewals {
    fn note(&mut self, lease: &Lease) {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let held = lease.spec.as_ref().is_some_and(|spec| spec.holder_identity.is_some());
        match &self.last {
            _ if !held => self.last = None,
            Some((seen, at)) if *seen == version => self.longest = self.longest.max(at.elapsed()),
            _ => self.last = Some((version, Instant::now())),
        }
    }
}

impl Drop for LeaseWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
