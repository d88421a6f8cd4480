//! Building the operator from the source tree that this program was built from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::error::Error;
use crate::operator::source_tree;
use crate::process::{Lifetime, Process, Program, last_line, tail};
use crate::progress;

/// How the operator is built for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// As `cargo test` builds.
    Debug,
    /// As it is shipped; for benchmarks.
    Release,
}

/// Builds the `trainyard` binary, with progress on standard error, and says where it is. When this is dropped, cargo is
/// stopped.
pub async fn build_operator(build: Build) -> Result<PathBuf> {
    let target = target_folder()?;
    let (profile, folder) = match build {
        Build::Debug => ("dev", "debug"),
        Build::Release => ("release", "release"),
    };
    let mut program = cargo(&["build", "--package", "trainyard", "--bin", "trainyard", "--profile", profile]);
    program.arguments.extend(["--target-dir".into(), target.clone().into_os_string()]);
    let log = Cache::locate()?.log("cargo")?;
    let mut process = Process::spawn(program, &log, Lifetime::Tied)?;
    progress::step("building the operator", || last_line(&log), async {
        if process.wait().await.success() {
            return Ok(());
        }
        Err(Error::Build { what: "the operator".to_owned(), log: log.clone(), tail: tail(&log) })
    })
    .await?;
    Ok(target.join(folder).join("trainyard"))
}

/// The cargo that built this program, in the source tree.
///
/// What cargo tells the program that it runs is kept from it: that would reach build scripts, which then think that
/// everything has changed.
pub(crate) fn cargo(arguments: &[&str]) -> Program {
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    let names = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)).map(|(name, _)| name);
    let kept_from_it = names.flat_map(|name| ["-u".into(), name]);
    let arguments = [env!("CARGO")].iter().chain(arguments).map(OsString::from);
    Program {
        name: "cargo".to_owned(),
        path: "env".into(),
        arguments: kept_from_it.chain(arguments).collect(),
        environment: Vec::new(),
        folder: source_tree(),
    }
}

/// Where this very program was built: above `debug` or `debug/deps`.
fn target_folder() -> Result<PathBuf> {
    let mut folder = std::env::current_exe().context("finding this program")?;
    while folder.file_name().is_some_and(|name| name != "debug" && name != "release") {
        folder.pop();
    }
    folder.parent().map(Path::to_owned).context("finding cargo's target folder")
}
