//! The tests on a cluster: Trainyard as users have it, on a real control plane with fake nodes and a real one.
//!
//! One cluster is booted for the whole run, and Trainyard is installed with its chart. Each test gets a namespace. The
//! first phase runs tests on fake nodes side by side, while the real node starts; the second those on real pods, a few
//! at a time, with the operator in a pod as users have it; the third, one by one, those that stop or kill the operator,
//! and at its end those that judge the whole run: the audit log, the watch for attempts that met, the silence
//! afterwards. In the first and the third the operator is a process of its own, under its own ServiceAccount.
//!
//! With `TRAINYARD_CONTEXT=NAME` the tests use the cluster of that kubeconfig context and start the operator against
//! it. What needs fake nodes, a node of our own or an audit log is then reported as ignored, with the reason, where they
//! are missing.
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
use serde_json::Value;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;

use registry::{Phase, Test};
use suite::Suite;
use target::Target;

/// Tests of the first phase wait for the cluster most of the time, so they are more than there are processors.
const SIDE_BY_SIDE: usize = 12;
/// Real training keeps processors busy.
const REAL_SIDE_BY_SIDE: usize = 4;
/// How long tests that are interrupted may take to end.
const LAST_WORDS: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    if let Some(code) = e2e::dispatch() {
        return code;
    }
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

/// Boots, runs all phases and tears everything down, however they ended.
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
        let with_node = chosen.iter().any(Test::needs_node);
        let cluster = target.prepare(with_node).await?;
        let suite = Arc::new(Suite::start(&cluster, complete, stopping).await?);
        if with_node && suite.is_embedded() {
            // Nobody waits for it yet. If it fails, the tests that need it say so.
            let suite = suite.clone();
            tokio::spawn(async move { suite.unless_stopped(suite.cluster_with_node()).await.map(drop) });
        }
        let passed = phases(&arguments, chosen, &suite).await;
        suite.move_out_of_the_pod().await?;
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
    let chosen = arguments.test_threads;
    let phases = [
        (Phase::Parallel, chosen.unwrap_or(SIDE_BY_SIDE)),
        (Phase::RealPods, chosen.unwrap_or(REAL_SIDE_BY_SIDE)),
        (Phase::Serial, 1),
    ];
    let (mut passed, mut left) = (true, tests);
    for (phase, threads) in phases {
        let (tests, later): (Vec<Test>, Vec<Test>) = left.into_iter().partition(|test| test.phase == phase);
        left = later;
        if tests.is_empty() {
            continue;
        }
        match phase {
            Phase::RealPods => suite.move_into_a_pod(&suite.release, &Value::Null).await.map(drop)?,
            Phase::Parallel | Phase::Serial => suite.move_out_of_the_pod().await?,
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
