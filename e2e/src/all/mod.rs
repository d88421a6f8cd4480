//! What is too long for CI: run by hand, its result committed.
//!
//! | module | what |
//! | --- | --- |
//! | `fuzzing` | objects of any shape, read as what is watched |
//! | `interrupted` | the demo, stopped at any moment, and what it leaves behind |
//! | `leftovers` | what a cluster may leave on a machine |
//! | `reproducible` | the operator's image, built twice |

mod fuzzing;
mod interrupted;
mod leftovers;
mod reproducible;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::bench::{describe_machine, table};
use crate::cache::Cache;
use crate::operator::source_tree;
use crate::operator_binary::{Build, cargo};
use crate::process::{Lifetime, Process, Program, last_line};
use crate::progress::{self, say};

/// Where the result goes, from the repository's root.
const RESULTS: &str = "e2e/results/all.md";
/// CI runs 300.
const SEEDS: &str = "2000";
const KILLS: u32 = 3;

const PARTS: [&str; 6] = [
    "random scenarios",
    "fuzzing",
    "tests on a cluster",
    "demo with its operator killed",
    "image built twice",
    "demo interrupted",
];

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
    for part in PARTS {
        if !part.contains(&arguments.only) {
            continue;
        }
        say(&format!("\n== {part}"));
        let started = Instant::now();
        let outcome = match part {
            "random scenarios" => random_scenarios().await,
            "fuzzing" => fuzzing::run().await,
            "tests on a cluster" => tests_on_a_cluster().await,
            "demo with its operator killed" => demo_with_kills().await,
            "image built twice" => reproducible::run(Build::Release).await,
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
    let arguments = ["--package", "trainyard", "--lib", "simulated::"];
    let said = tests(&arguments, ("TRAINYARD_SEEDS", SEEDS)).await?;
    Ok(format!("{SEEDS} seeds; {}", summary(&said)))
}

/// Every test that needs a cluster, those with torchrun among them.
async fn tests_on_a_cluster() -> Result<String> {
    let said = tests(&["--package", "e2e", "--test", "e2e"], ("TRAINYARD_LONG", "1")).await?;
    nothing_is_left().await?;
    let figures = said.lines().filter(|line| line.contains(" -> "));
    Ok([summary(&said)].into_iter().chain(figures.map(str::to_owned)).collect::<Vec<_>>().join("; "))
}

async fn demo_with_kills() -> Result<String> {
    let kills = KILLS.to_string();
    let said = run_and_show(again(&["demo", "--kill-operator", &kills])?).await?;
    let accuracy = said.lines().find(|line| line.starts_with("Accuracy")).context("no accuracy")?;
    let killed = said.lines().filter(|line| line.contains("killed with SIGKILL")).count();
    ensure!(killed == KILLS as usize, "it was killed {killed} times instead of {KILLS}");
    nothing_is_left().await?;
    Ok(format!("{accuracy}; {killed} kills"))
}

/// Fails if anything that a cluster made is still there.
async fn nothing_is_left() -> Result<()> {
    let left = [leftovers::settled().await, leftovers::folders()].concat();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

async fn tests(arguments: &[&str], (variable, value): (&'static str, &str)) -> Result<String> {
    let environment = vec![(variable, value.into())];
    run_and_show(Program { environment, ..cargo(&[&["test"], arguments].concat()) }).await
}

/// This program again, with other arguments.
fn again(arguments: &[&str]) -> Result<Program> {
    Ok(Program {
        name: arguments.join(" "),
        path: this_program()?,
        arguments: arguments.iter().map(Into::into).collect(),
        environment: Vec::new(),
        folder: source_tree(),
    })
}

/// Where this program is. The tests have cargo build it anew meanwhile: then the new one is at the old one's place, and
/// the kernel calls the old one deleted.
fn this_program() -> Result<PathBuf> {
    let program = std::env::current_exe().context("finding this program")?;
    let name = program.to_string_lossy();
    Ok(name.strip_suffix(" (deleted)").map(PathBuf::from).unwrap_or(program.clone()))
}

/// Runs a program, shows what it says when it is over, and answers that; a bad end is an error. When this is dropped, the
/// program is killed with all that it has started.
async fn run_and_show(program: Program) -> Result<String> {
    let (name, log) = (program.name.clone(), Cache::locate()?.log("long-run")?);
    let mut process = Process::spawn(program, &log, Lifetime::Tied)?;
    let status = progress::step(&name, || last_line(&log), async { anyhow::Ok(process.wait().await) }).await?;
    let said = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).context("reading a log")?;
    say(&said);
    ensure!(status.success(), "it ended with {status}");
    Ok(said)
}

/// What the test harness says at the end of each of its runs.
fn summary(said: &str) -> String {
    let results = said.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    let counts = results.filter_map(|result| result.split(';').next());
    counts.collect::<Vec<_>>().join(", ")
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
