//! Programs that the machine itself must have, and how they come there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::cache::Cache;
use crate::error::Error;
use crate::process::{Lifetime, Process, Program, tail};
use crate::progress;

/// A program, and the package of Debian and its kin that has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// The PATH, and the folders in which Debian keeps programs for root, which are not on everybody's.
pub(crate) fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

/// Where a program is. Found here rather than by the child, whose wrapper could only say that something is missing.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = path();
    let mut folders = std::env::split_paths(&path);
    folders.find_map(|folder| Some(folder.join(program)).filter(|candidate| candidate.is_file()))
}

/// Makes sure that the programs are there. Those that are missing are installed where `apt-get` can, and are named with
/// their packages where it cannot.
pub(crate) async fn ensure(tools: &[Tool]) -> Result<(), Error> {
    let missing = || tools.iter().filter(|tool| find(tool.program).is_none()).copied().collect::<Vec<_>>();
    let packages = packages_of(&missing());
    if packages.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_some() && rustix::process::geteuid().is_root() {
        install(&packages).await?;
    }
    match packages_of(&missing()) {
        still if still.is_empty() => Ok(()),
        packages => Err(Error::MissingTools {
            programs: missing().iter().map(|tool| tool.program).collect::<Vec<_>>().join(", "),
            packages: packages.join(" "),
        }),
    }
}

fn packages_of(tools: &[Tool]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = tools.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// The lists of a fresh machine are empty or old, so they are fetched first.
async fn install(packages: &[&str]) -> Result<(), Error> {
    let what = packages.join(" ");
    let log = Cache::locate()?.log("apt-get")?;
    // Somebody else may be at it, and an interrupted run of ours may have left something half configured.
    let script = "dpkg --configure -a || true
        apt-get -q -o DPkg::Lock::Timeout=300 update
        exec apt-get -q -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends \"$@\"";
    let arguments = ["-ec", script, "sh"].into_iter().chain(packages.iter().copied()).map(Into::into).collect();
    let program = Program {
        name: "apt-get".to_owned(),
        path: "sh".into(),
        arguments,
        environment: vec![("DEBIAN_FRONTEND", "noninteractive".into())],
        folder: Path::new("/").to_owned(),
    };
    let label = format!("installing {what} by apt-get");
    let mut process = Process::spawn(program, &log, Lifetime::Tied)?;
    progress::step(&label, String::new, async {
        let status = process.wait().await;
        if status.success() {
            return Ok(());
        }
        Err(Error::Install { packages: what.clone(), log: log.clone(), tail: tail(&log) })
    })
    .await
}
