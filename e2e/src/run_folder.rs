//! The folder of one running cluster: claimed under a lock, cleaned of what a dead run left there, removed at the end.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::cache::{self, Cache};
use crate::cgroups;
use crate::error::{Error, IoContext};
use crate::lock::{self, Lock};
use crate::progress;
use crate::state::{Phase, Recorded, State};

/// Which of the two clusters that a machine can hold. Each has a folder and a lock of its own, so that tests run
/// beside the cluster that a person keeps, while there is never a second one of either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What `e2e up` leaves running.
    Kept,
    /// What lives within one process: a test's, a benchmark's.
    InProcess,
}

impl Kind {
    /// The folder's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::InProcess => "in-process",
        }
    }
}

/// A claimed folder. Dropping it removes it, unless it is left to a cluster that lives on.
#[derive(Debug)]
pub(crate) struct RunFolder {
    kind: Kind,
    path: PathBuf,
    failed: PathBuf,
    state: State,
    left: bool,
    _lock: Lock,
}

impl RunFolder {
    /// Waits for the lock, stops what a dead run left behind, and makes the folder anew.
    pub(crate) async fn claim(cache: &Cache, kind: Kind) -> Result<Self, Error> {
        let lock = Lock::acquire(&cache.run_lock(kind.name()), lock::PATIENCE).await?;
        Self::claim_locked(cache, kind, lock)
    }

    /// Likewise for a caller that holds the lock already.
    pub(crate) fn claim_locked(cache: &Cache, kind: Kind, lock: Lock) -> Result<Self, Error> {
        let path = cache.run(kind.name());
        if sweep(&path)? {
            progress::note("cleaned up after an earlier run that had not");
        }
        cache::create_private(&path)?;
        cache::create_private(&path.join("logs"))?;
        let state = State { started_at: Timestamp::now(), ..State::default() };
        Ok(Self { kind, path, failed: cache.failed(kind.name()), state, left: false, _lock: lock })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The log of one component.
    pub(crate) fn log(&self, component: &str) -> PathBuf {
        self.path.join("logs").join(format!("{component}.log"))
    }

    /// Which cluster it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Remembers a process at once, so that it is found even if we die now.
    pub(crate) fn remember(&mut self, process: Recorded) -> Result<(), Error> {
        self.state.processes.push(process);
        self.save()
    }

    /// Names the cgroup of the cluster's node before it is made, so that it is removed whatever happens.
    pub(crate) fn claim_cgroup(&mut self) -> Result<&'static str, Error> {
        let cgroup = match self.kind {
            Kind::Kept => "trainyard-kept",
            Kind::InProcess => "trainyard-run",
        };
        self.state.cgroup = Some(cgroup.to_owned());
        self.save()?;
        Ok(cgroup)
    }

    /// Remembers that the cluster came up.
    pub(crate) fn mark_running(&mut self, server: &str) -> Result<(), Error> {
        self.state.phase = Phase::Running;
        server.clone_into(&mut self.state.server);
        self.save()
    }

    /// Leaves the folder to the processes that live on.
    pub(crate) fn leave(mut self) {
        self.left = true;
    }

    /// Copies the logs out of the folder, which will be removed, and says where an error's log is then.
    pub(crate) fn keep_logs(&self, mut error: Error) -> Error {
        if let Error::Component { log, .. } = &mut error
            && self.copy_logs().is_ok()
            && let Some(name) = log.file_name()
        {
            *log = self.failed.join(name);
        }
        error
    }

    fn copy_logs(&self) -> Result<(), Error> {
        cache::remove(&self.failed)?;
        cache::create_private(&self.failed)?;
        let logs = self.path.join("logs");
        for entry in fs::read_dir(&logs).context("reading", &logs)? {
            let log = entry.context("reading", &logs)?.path();
            let copy = self.failed.join(log.file_name().unwrap_or_default());
            fs::copy(&log, &copy).context("keeping", &log)?;
        }
        Ok(())
    }

    fn save(&self) -> Result<(), Error> {
        self.state.save(&state_file(&self.path))
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if !self.left
            && let Err(error) = cache::remove(&self.path)
        {
            progress::note(&error.to_string());
        }
    }
}

/// The state file of a run folder.
pub(crate) fn state_file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

/// Kills the processes that a run folder names and removes it. Says whether there was anything.
pub(crate) fn sweep(folder: &Path) -> Result<bool, Error> {
    if let Some(state) = State::load(&state_file(folder))? {
        state.kill_all()?;
        if let Some(cgroup) = &state.cgroup {
            cgroups::sweep(cgroup)?;
        }
    }
    let existed = folder.exists();
    cache::remove(folder)?;
    Ok(existed)
}
