//! What is too long for CI: run by hand, its result committed.
//!
//! | module | what |
//! | --- | --- |
//! | `interrupted` | the demo, stopped at any moment, and what it leaves behind |
//! | `leftovers` | what a cluster may leave on a machine |

mod interrupted;
mod leftovers;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::bench::{describe_machine, table};
use crate::operator::source_tree;
use crate::progress::say;

/// Where the result goes, from the repository's root.
const RESULTS: &str = "e2e/results/all.md";
/// Ten times what CI runs.
const SEEDS: &str = "3000";
const KILLS: u32 = 3;

/// What a person can say.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Run only parts whose names contain this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Write the result to e2e/results/all.md.
    #[arg(long)]
    save: bool,
}

/// A part, and what came out of it.
struct Row {
    part: &'static str,
    outcome: Result<String>,
    seconds: f64,
}

/// Runs every part, whatever became of the ones before; fails if one has failed.
pub async fn run(arguments: Arguments) -> Result<()> {
    let mut rows = Vec::new();
    for part in ["random scenarios", "tests on a cluster", "demo with its operator killed", "demo interrupted"] {
        if !part.contains(&arguments.only) {
            continue;
        }
        say(&format!("\n== {part}"));
        let started = Instant::now();
        let outcome = match part {
            "random scenarios" => random_scenarios().await,
            "tests on a cluster" => tests_on_a_cluster().await,
            "demo with its operator killed" => demo_with_kills().await,
            _ => interrupted::run().await,
        };
        say(&format!("== {part}: {}", described(&outcome)));
        rows.push(Row { part, outcome, seconds: started.elapsed().as_secs_f64() });
    }
    let text = report(&rows);
    say(&format!("\n{text}"));
    if arguments.save {
        let path = source_tree().join(RESULTS);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    ensure!(rows.iter().all(|row| row.outcome.is_ok()), "not everything has passed");
    Ok(())
}

fn described(outcome: &Result<String>) -> String {
    match outcome {
        Ok(figures) => format!("passed: {figures}"),
        Err(error) => format!("FAILED: {error:#}"),
    }
}

fn report(rows: &[Row]) -> String {
    let mut text = format!("# The long runs\n\n{}\n\n", describe_machine());
    let seconds: Vec<_> = rows.iter().map(|row| [row.part.to_owned(), format!("{:.0}", row.seconds)]).collect();
    let _ = writeln!(text, "{}\n", table(["part", "seconds"], &seconds));
    for row in rows {
        let _ = writeln!(text, "- **{}**: {}", row.part, described(&row.outcome));
    }
    text
}

/// The simulated cluster, with more seeds.
async fn random_scenarios() -> Result<String> {
    let arguments = ["test", "--package", "trainyard", "--lib", "simulated::"];
    let said = cargo(&arguments, ("TRAINYARD_SEEDS", SEEDS)).await?;
    Ok(format!("{SEEDS} seeds; {}", summary(&said)))
}

/// Every test that needs a cluster, those with torchrun among them.
async fn tests_on_a_cluster() -> Result<String> {
    let said = cargo(&["test", "--package", "e2e", "--test", "e2e"], ("TRAINYARD_LONG", "1")).await?;
    let figures = said.lines().filter(|line| line.contains(" -> "));
    Ok([summary(&said)].into_iter().chain(figures.map(str::to_owned)).collect::<Vec<_>>().join("; "))
}

async fn demo_with_kills() -> Result<String> {
    let mut demo = Command::new(this_program()?);
    demo.args(["demo", "--kill-operator", &KILLS.to_string()]);
    let said = run_and_show(demo).await?;
    let accuracy = said.lines().find(|line| line.starts_with("Accuracy")).context("no accuracy")?;
    let killed = said.lines().filter(|line| line.contains("killed with SIGKILL")).count();
    let left = leftovers::settled().await;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(format!("{accuracy}; {killed} kills"))
}

async fn cargo(arguments: &[&str], (variable, value): (&str, &str)) -> Result<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(arguments).env(variable, value).current_dir(source_tree());
    run_and_show(cargo).await
}

/// Runs a program, shows what it says, and answers its standard output; a bad end is an error.
async fn run_and_show(mut command: Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).kill_on_drop(true).output().await.context("starting a program")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    say(&said);
    ensure!(output.status.success(), "it ended with {}", output.status);
    Ok(said)
}

/// What the test harness says at the end of each of its runs.
fn summary(said: &str) -> String {
    let results = said.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    let counts = results.filter_map(|result| result.split(';').next());
    counts.collect::<Vec<_>>().join(", ")
}

/// The path of the program that is running, which each part may start again.
fn this_program() -> Result<PathBuf> {
    std::env::current_exe().context("finding this program")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harness_is_quoted() {
        let said =
            "test a ... ok\n\ntest result: ok. 3 passed; 0 failed; 0 ignored\n\ntest result: ok. 2 passed; 0 failed";
        assert_eq!(summary(said), "3 passed, 2 passed");
    }

    #[test]
    fn a_failure_stands_out() {
        let row = Row { part: "demo", outcome: Err(anyhow::anyhow!("no disk")), seconds: 2.0 };
        let text = report(&[row]);
        assert!(text.contains("**demo**: FAILED: no disk"), "{text}");
    }
}
