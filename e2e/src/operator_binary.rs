//! Building the operator, from the source tree that this program was built from.
//!
//! There is one binary for the tests, the demo, the benchmarks and the image: the static one, so that what is tested is
//! what is shipped, and nothing is compiled twice.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::error::Error;
use crate::operator::source_tree;
use crate::process::{Lifetime, Process, Program, last_line, tail};
use crate::progress;
use crate::revision::Revision;
use crate::static_target;

/// How the operator is built for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// For tests: not optimised, and without a commit, since every commit would compile it anew.
    Debug,
    /// As it is shipped, with its commit; for benchmarks too.
    Release,
}

/// The folders that a build reads and writes. None of them leaves a trace in what is built.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    /// The source tree.
    pub(crate) source: PathBuf,
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
    /// Where cargo keeps what it downloads.
    pub(crate) cargo_home: PathBuf,
}

impl Folders {
    /// Those that this program was built with.
    pub(crate) fn own() -> Result<Self> {
        let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
        let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
        let cargo_home = cargo_home.context("neither CARGO_HOME nor HOME is set")?;
        Ok(Self { source: source_tree(), target: target_folder()?, cargo_home })
    }
}

/// Builds the `trainyard` binary, static, with progress on standard error, and says where it is. When this is dropped,
/// cargo is stopped.
pub async fn build_operator(build: Build) -> Result<PathBuf> {
    let folders = Folders::own()?;
    build_in(&folders, build, &build.revision(&folders.source)).await
}

/// Likewise, in other folders. The binary tells the commit that `revision` says.
pub(crate) async fn build_in(folders: &Folders, build: Build, revision: &Revision) -> Result<PathBuf> {
    static_target::ensure(&folders.source).await?;
    let target = static_target::triple();
    let Folders { source, target: folder, cargo_home } = folders;
    let mut flags = static_target::flags_without_paths(source, folder, cargo_home)?;
    let (profile, subfolder) = match build {
        Build::Debug => {
            // Debug information would be half of an image that is unpacked for every run of the tests. Flags and not a
            // profile, so that programs of the build itself are shared with the other builds in this folder.
            flags.extend(["-Cdebuginfo=0", "-Cstrip=debuginfo"].map(str::to_owned));
            ("dev", "debug")
        }
        Build::Release => ("release", "release"),
    };
    let fixed = ["build", "--locked", "--package", "trainyard", "--bin", "trainyard", "--target", &target];
    let mut program = cargo(&[&fixed[..], &["--profile", profile]].concat());
    program.arguments.extend(["--target-dir".into(), folder.into()]);
    program.folder.clone_from(source);
    program.environment = vec![
        // Before everything that may be set elsewhere, which would make another binary.
        ("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}").into()),
        ("CARGO_HOME", cargo_home.into()),
        ("TARGET_CC", static_target::COMPILER.program.into()),
        // `CFLAGS` would be added to these, not replaced by them.
        ("CFLAGS", "".into()),
        ("TARGET_CFLAGS", static_target::C_FLAGS_WITHOUT_TIME.into()),
        ("TRAINYARD_COMMIT", revision.commit.clone().unwrap_or_default().into()),
    ];
    let log = Cache::locate()?.log("cargo")?;
    let mut process = Process::spawn(program, &log, Lifetime::Tied)?;
    progress::step("building the operator", || last_line(&log), async {
        if process.wait().await.success() {
            return Ok(());
        }
        Err(Error::Build { what: "the operator".to_owned(), log: log.clone(), tail: tail(&log) })
    })
    .await?;
    Ok(folder.join(target).join(subfolder).join("trainyard"))
}

impl Build {
    /// The commit that the binary and its image tell, and its time.
    pub(crate) fn revision(self, source: &Path) -> Revision {
        match self {
            Self::Debug => Revision::default(),
            Self::Release => Revision::of(source),
        }
    }
}

/// The cargo that built this program, in the source tree.
///
/// What cargo tells the program that it runs is kept from it: that would reach build scripts, which then think that
/// everything has changed.
pub(crate) fn cargo(arguments: &[&str]) -> Program {
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    let names = env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)).map(|(name, _)| name);
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
pub fn target_folder() -> Result<PathBuf> {
    let mut folder = env::current_exe().context("finding this program")?;
    while folder.file_name().is_some_and(|name| name != "debug" && name != "release") {
        folder.pop();
    }
    folder.parent().map(Path::to_owned).context("finding cargo's target folder")
}
