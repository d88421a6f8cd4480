//! The `trainyard` binary: parse arguments, wire, exit.

use std::io::IsTerminal;

use anyhow::Context;
use clap::Parser;
use serde_json::Value;
use tracing_subscriber::EnvFilter;
use trainyard::api;
use trainyard::cli::{Cli, Command, LogFormat, RunArgs};

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(args) => run(args),
        Command::Crds => print_all(&api::crds()),
        Command::Policies => print_all(&api::admission::policies()),
    }
}

fn run(args: RunArgs) -> anyhow::Result<()> {
    start_log(&args)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(trainyard::operator::run(args));
    // Reconciles that outlived the farewell are not waited for: the next leader finds whatever they left.
    runtime.shutdown_background();
    Ok(result?)
}

fn start_log(args: &RunArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&args.log).with_context(|| format!("--log {:?} is no log filter", args.log))?;
    let terminal = std::io::stderr().is_terminal();
    let default = if terminal { LogFormat::Text } else { LogFormat::Json };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    match args.log_format.unwrap_or(default) {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

fn print_all(objects: &[Value]) -> anyhow::Result<()> {
    print!("{}", trainyard::manifests::yaml(objects)?);
    Ok(())
}
