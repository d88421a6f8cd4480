//! Benchmarks: what the budgets of DESIGN.md section 6 are measured by.
//!
//! | module | what |
//! | --- | --- |
//! | `writes`, `serving`, `throughput`, `latency`, `idle`, `restart`, `pipelines`, `replacements`, `installation`, `hostile` | one benchmark each |
//! | `stage` | the cluster and the operator that they run on |
//! | `load` | pods and jobs in numbers |
//! | `memory_limit` | a process under a limit of memory |
//! | `audit`, `tally`, `statistics` | what the apiserver's audit log says, counted |
//! | `machine`, `report` | what it ran on, and the Markdown in the end |

mod audit;
mod hostile;
mod idle;
mod installation;
mod latency;
mod load;
mod machine;
mod memory_limit;
mod pipelines;
mod replacements;
mod report;
mod restart;
mod serving;
mod stage;
mod statistics;
mod tally;
mod throughput;
mod writes;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Command, Subcommand};

pub(crate) use machine::describe as describe_machine;
use report::Report;
pub(crate) use report::table;
use stage::Stage;

use crate::node::check_requirements;

/// The command line of the benchmarks.
#[derive(Debug, Args)]
pub struct Arguments {
    /// How many fake nodes to make.
    #[arg(long, default_value_t = 10, global = true)]
    fake_nodes: usize,
    /// Keep the audit log and the operator's logs in this folder.
    #[arg(long, value_name = "FOLDER", global = true)]
    logs: Option<PathBuf>,
    /// One more flag for kube-apiserver, such as --profiling=true to see where its time goes. May be repeated.
    #[arg(long = "apiserver-flag", value_name = "FLAG", allow_hyphen_values = true, global = true)]
    apiserver_flags: Vec<String>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Writes and Events for a job from its apply until it has finished.
    Writes(writes::Options),
    /// Many one-pod jobs at once, against as many bare pods.
    Throughput(throughput::Options),
    /// Time from a job's creation to its pod's, at a steady rate.
    Latency(latency::Options),
    /// Requests while nothing changes.
    Idle(idle::Options),
    /// Time from a restart to the first new job's pod.
    Restart(restart::Options),
    /// Writes and time for many ModelDeployments at once, against plain Deployments.
    Serving(serving::Options),
    /// Writes, latency and throughput of PipelineRuns, and what a large one costs.
    Pipelines(pipelines::Options),
    /// Requests that come in while real pods are replaced; needs root.
    Replacements(replacements::Options),
    /// What an installation with Helm takes, and the sizes of what is installed; needs root.
    Installation(installation::Options),
    /// What a tenant's worst objects do to the operator and its neighbours; needs root.
    Hostile(hostile::Options),
    /// All of them in one cluster, save the hostile ones.
    All {
        /// Write the report to e2e/results/bench.md.
        #[arg(long)]
        save: bool,
    },
}

/// Runs what the command line asks for, in a cluster of its own.
pub async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { fake_nodes, logs, apiserver_flags, what } = arguments;
    // Real pods need a real node; without root all others can be had.
    let with_node = match what {
        What::Replacements(_) | What::Installation(_) => true,
        What::All { .. } => check_requirements().await.is_ok(),
        _ => false,
    };
    let images = with_node.then(|| replacements::IMAGES.to_vec());
    let mut stage = Stage::set(fake_nodes, images, apiserver_flags, logs).await?;
    let mut report = Report::begin();
    match what {
        What::Writes(options) => writes::run(&stage, &options, &mut report).await?,
        What::Throughput(options) => throughput::run(&mut stage, &options, &mut report).await?,
        What::Latency(options) => latency::run(&stage, &options, &mut report).await?,
        What::Idle(options) => {
            stage.fill(options.objects).await?;
            idle::run(&stage, &options, &mut report).await?;
        }
        What::Restart(options) => {
            stage.fill(options.objects).await?;
            restart::run(&mut stage, &options, &mut report).await?;
        }
        What::Serving(options) => serving::run(&stage, &options, &mut report).await?,
        What::Pipelines(options) => pipelines::run(&stage, &options, &mut report).await?,
        What::Replacements(options) => replacements::run(&stage, &options, &mut report).await?,
        What::Installation(options) => installation::run(&mut stage, &options, &mut report).await?,
        What::Hostile(options) => hostile::run(&mut stage, &options, &mut report).await?,
        What::All { save } => {
            all(&mut stage, &mut report).await?;
            if with_node {
                replacements::run(&stage, &defaults()?, &mut report).await?;
                installation::run(&mut stage, &defaults()?, &mut report).await?;
            } else {
                report.say("## Replacements and installation\n\nNot measured: this machine cannot have a real node.");
            }
            if save {
                println!("saved in {}", report.save()?.display());
            }
        }
    }
    stage.clear_away().await
}

/// Every benchmark on fake nodes as it is by default. The last round of the throughput leaves what the later ones need.
async fn all(stage: &mut Stage, report: &mut Report) -> Result<()> {
    writes::run(stage, &defaults()?, report).await?;
    latency::run(stage, &defaults()?, report).await?;
    serving::run(stage, &defaults()?, report).await?;
    pipelines::run(stage, &defaults()?, report).await?;
    let throughput: throughput::Options = defaults()?;
    let longer = throughput::Options { jobs: vec![1_000], run_for: "3s".to_owned(), ..throughput.clone() };
    throughput::run(stage, &longer, report).await?;
    throughput::run(stage, &throughput, report).await?;
    let objects = throughput.jobs.last().copied().unwrap_or_default();
    idle::run(stage, &idle::Options { objects, ..defaults()? }, report).await?;
    restart::run(stage, &restart::Options { objects, ..defaults()? }, report).await
}

/// Options as they are when nobody gives any.
fn defaults<T: Args>() -> Result<T> {
    let command = T::augment_args(Command::new("bench"));
    Ok(T::from_arg_matches(&command.get_matches_from(["bench"]))?)
}
