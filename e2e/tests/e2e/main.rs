//! The control-plane tests: Trainyard as users have it, on a real apiserver with fake nodes.
//!
//! One cluster is booted for the whole run, Trainyard is installed from the source tree, and the operator runs as a
//! process of its own under its own ServiceAccount. Each test gets a namespace. The first phase runs tests side by
//! side; the second, one by one, has those that stop or kill the operator, and at its end those that judge the whole
//! run: the audit log, the watch for attempts that met, the silence afterwards.
//!
//! With `TRAINYARD_CONTEXT=NAME` the tests use the cluster of that kubeconfig context and start the operator against
//! it. What needs fake nodes or an audit log is then reported as ignored, with the reason, where they are missing.
//!
//! | module | what |
//! | --- | --- |
//! | `suite`, `target`, `registry` | the run: which cluster, which operator, which tests |
//! | `space`, `objects`, `manifest`, `kubectl`, `wait` | what tests are written with |
//! | `fence`, `audit`, `metrics` | what watches the whole run |
//! | `scenarios` | the tests, one file for each subject |

mod audit;
mod fence;
mod kubectl;
mod manifest;
mod metrics;
mod objects;
mod registry;
mod scenarios;
mod space;
mod suite;
mod target;
mod wait;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::until_interrupted;
use libtest_mimic::Arguments;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;

use registry::{Phase, Test};
use suite::Suite;
use target::Target;

/// Tests of the first phase wait for the cluster most of the time, so they are more than there are processors.
const SIDE_BY_SIDE: usize = 12;
/// How long tests that are interrupted may take to end.
const LAST_WORDS: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests = registry::tests();
    if arguments.list {
        let trials = tests.into_iter().map(Test::listed).collect();
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let code = runtime.block_on(run(arguments, tests)).unwrap_or_else(|error| failed(&error));
    // A test that was interrupted may still be waiting for something: nobody waits for it.
    runtime.shutdown_background();
    code
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

/// Boots, runs both phases and tears everything down, however they ended.
async fn run(arguments: Arguments, tests: Vec<Test>) -> Result<ExitCode> {
    let all = tests.len();
    let chosen: Vec<Test> = tests.into_iter().filter(|test| test.is_chosen(&arguments)).collect();
    if chosen.is_empty() {
        return Ok(libtest_mimic::run(&arguments, Vec::new()).exit_code());
    }
    let target = Target::choose()?;
    let complete = chosen.len() == all;
    // A cluster that is not ours outlives us, and so would what we made in it.
    let clearing = target.clone();
    let (stop, stopping) = watch::channel(false);
    let outcome = until_interrupted(async move {
        let cluster = target.prepare().await?;
        let suite = Arc::new(Suite::start(&cluster, complete, stopping).await?);
        let passed = phases(&arguments, chosen, &suite).await;
        suite.stop_operator().await?;
        cluster.stop().await?;
        passed
    })
    .await;
    // Only an interruption leaves tests behind. They end now, so that nothing is made any more while all is cleared.
    stop.send_replace(true);
    let _ = timeout(LAST_WORDS, stop.closed()).await;
    let worth_a_look = match &outcome {
        Ok(passed) => !passed,
        Err(error) => !matches!(error.downcast_ref(), Some(e2e::Error::Interrupted(_))),
    };
    clearing.clear(worth_a_look).await?;
    Ok(if outcome? { ExitCode::SUCCESS } else { ExitCode::from(101) })
}

/// Runs the tests; says whether all of them passed.
async fn phases(arguments: &Arguments, tests: Vec<Test>, suite: &Arc<Suite>) -> Result<bool> {
    let (parallel, serial): (Vec<Test>, Vec<Test>) = tests.into_iter().partition(|test| test.phase == Phase::Parallel);
    let mut passed = true;
    for (tests, threads) in [(parallel, arguments.test_threads.unwrap_or(SIDE_BY_SIDE)), (serial, 1)] {
        if tests.is_empty() {
            continue;
        }
        let arguments = Arguments { test_threads: Some(threads), ..arguments.clone() };
        let (suite, handle) = (suite.clone(), Handle::current());
        let run = move || {
            let trials = tests.into_iter().map(|test| test.trial(&suite, &handle)).collect();
            libtest_mimic::run(&arguments, trials)
        };
        let conclusion = tokio::task::spawn_blocking(run).await.context("running the tests")?;
        passed &= !conclusion.has_failed();
    }
    Ok(passed)
}
