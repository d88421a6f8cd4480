//! What is remembered of a cluster's processes, so that a later run can find them and never mistakes a stranger for
//! one of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext};

/// SIGKILL works at once, unless the process is stuck in the kernel.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How far the cluster of a state file had come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Phase {
    /// It is booting, or the process that booted it died over it.
    #[default]
    Starting,
    /// It came up whole.
    Running,
}

/// The state file of one run folder.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    /// How far it had come.
    pub(crate) phase: Phase,
    /// When the boot began.
    pub(crate) started_at: Timestamp,
    /// The apiserver's address.
    pub(crate) server: String,
    /// The cgroup of its node's pods, if it may have made one.
    #[serde(default)]
    pub(crate) cgroup: Option<String>,
    /// Every process, in the order of their start.
    pub(crate) processes: Vec<Recorded>,
}

impl State {
    /// Reads a state file; none is not an error.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, Error> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("reading", path),
        };
        serde_json::from_slice(&text).map(Some).map_err(|source| Error::State { path: path.to_owned(), source })
    }

    /// Writes it whole or not at all: a process that no file mentions would never be found again.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Error> {
        let partial = path.with_extension("json.partial");
        let text = serde_json::to_vec_pretty(self).map_err(|source| Error::State { path: path.to_owned(), source })?;
        fs::write(&partial, text).context("writing", &partial)?;
        fs::rename(&partial, path).context("renaming", &partial)
    }

    /// Whether the whole cluster came up and nothing of it has ended since.
    pub(crate) fn is_running(&self) -> bool {
        self.phase == Phase::Running && self.processes.iter().all(Recorded::is_alive)
    }

    /// Kills what still runs, the last started first.
    pub(crate) fn kill_all(&self) -> Result<(), Error> {
        self.processes.iter().rev().try_for_each(Recorded::kill)
    }
}

/// A process as a file remembers it. A pid alone is not enough: it may be somebody else's by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Recorded {
    /// The component.
    pub(crate) name: String,
    /// Its process id.
    pub(crate) pid: u32,
    /// When the kernel started it, in ticks since the machine's boot.
    pub(crate) start_ticks: u64,
    /// Its log.
    pub(crate) log: PathBuf,
}

impl Recorded {
    /// A process that runs now.
    pub(crate) fn of(pid: u32, name: &str, log: &Path) -> Self {
        let start_ticks = start_ticks(pid).unwrap_or_default();
        Self { name: name.to_owned(), pid, start_ticks, log: log.to_owned() }
    }

    /// Whether this very process still runs.
    pub(crate) fn is_alive(&self) -> bool {
        start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// Kills it and waits until it is gone; one that is gone already, or another process with its pid, is left alone.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        let Some(pid) = Pid::from_raw(self.pid.cast_signed()) else { return Ok(()) };
        // The descriptor pins the process, so that the pid cannot become another's between the check and the signal.
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        if !self.is_alive() {
            return Ok(());
        }
        // Most lead a group of their own, whose number cannot be reused as long as the leader is there.
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = pidfd_send_signal(&handle, Signal::KILL);
        let started = Instant::now();
        while self.is_alive() {
            if started.elapsed() > KILL_PATIENCE {
                return Err(Error::Unkillable {
                    component: self.name.clone(),
                    pid: self.pid,
                    seconds: KILL_PATIENCE.as_secs(),
                });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// When the kernel started the process, or nothing when it has ended, reaped or not.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    let (_, start_ticks) = parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    Some(start_ticks)
}

/// A process that `parent` has started and that has not ended.
pub(crate) fn child_of(parent: u32) -> Option<u32> {
    let ids = fs::read_dir("/proc").ok()?.flatten();
    ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        stat.and_then(|stat| parse_stat(&stat)).is_some_and(|(found, _)| found == parent)
    })
}

/// Fields 4 (parent) and 22 (start time) of proc_pid_stat(5), unless field 3 (state) says that it has ended. Field 2
/// is the command in parentheses, and may hold spaces and parentheses itself, so counting starts after the last one.
fn parse_stat(stat: &str) -> Option<(u32, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => Some((fields.next()?.parse().ok()?, fields.nth(17)?.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(pid: u32, start_ticks: u64) -> Recorded {
        Recorded { name: "x".to_owned(), pid, start_ticks, log: PathBuf::new() }
    }

    #[test]
    fn parent_and_start_time_are_found_behind_any_command_name() {
        let stat = |command, state| format!("7 ({command}) {state} 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4242 99 1");
        assert_eq!(parse_stat(&stat("etcd", "S")), Some((1, 4242)));
        assert_eq!(parse_stat(&stat("a) R (b c", "S")), Some((1, 4242)));
        assert_eq!(parse_stat(&stat("etcd", "Z")), None);
        assert_eq!(parse_stat("7 (etcd) S 1"), None);
    }

    #[test]
    fn a_recycled_pid_is_not_ours_and_is_left_alone() {
        let own = std::process::id();
        let ticks = start_ticks(own).unwrap();
        assert!(recorded(own, ticks).is_alive());
        let stranger = recorded(own, ticks + 1);
        assert!(!stranger.is_alive());
        stranger.kill().unwrap();
    }

    #[test]
    fn only_a_whole_cluster_runs() {
        let own = std::process::id();
        let alive = recorded(own, start_ticks(own).unwrap());
        let mut state = State { phase: Phase::Running, processes: vec![alive], ..State::default() };
        assert!(state.is_running());
        state.processes.push(recorded(own, 0));
        assert!(!state.is_running());
        state.processes.pop();
        state.phase = Phase::Starting;
        assert!(!state.is_running());
    }

    #[test]
    fn the_file_reads_back_and_nonsense_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert!(State::load(&path).unwrap().is_none());
        let state = State { processes: vec![recorded(7, 9)], ..State::default() };
        state.save(&path).unwrap();
        assert_eq!(State::load(&path).unwrap().unwrap().processes, state.processes);
        fs::write(&path, "no").unwrap();
        assert!(State::load(&path).unwrap_err().to_string().contains("state.json"));
    }
}
