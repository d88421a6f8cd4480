//! Child processes that never outlive their purpose.
//!
//! A child of a test dies with the test, even by SIGKILL: `setpriv --pdeathsig KILL` asks the kernel for that (both it
//! and `setsid` are of util-linux). The kernel means the death of the *thread* that spawned, and threads of a runtime
//! come and go, so one thread that lives as long as the process does all the spawning.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Error, IoContext};
use crate::state::{self, Recorded};

/// How many lines of a log an error shows.
const TAIL_LINES: usize = 15;

/// What a child's life hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// It dies with this process.
    Tied,
    /// It may live on in a session of its own, once [`Process::release`] is called.
    Detachable,
}

/// What to run.
#[derive(Debug)]
pub(crate) struct Program {
    /// The name in messages, and of the log file.
    pub(crate) name: String,
    /// The executable.
    pub(crate) path: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Variables beside the inherited ones.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// Its working folder.
    pub(crate) folder: PathBuf,
}

/// A child process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    start_ticks: u64,
    released: bool,
}

impl Process {
    /// Starts a program whose two outputs go to `log`.
    pub(crate) fn spawn(program: Program, log: &Path, lifetime: Lifetime) -> Result<Self, Error> {
        let output = File::create(log).context("creating", log)?;
        let errors = output.try_clone().context("opening", log)?;
        let (wrapper, mut command) = match lifetime {
            Lifetime::Tied => {
                let mut command = Command::new("setpriv");
                // A group of its own keeps a Ctrl-C on the terminal from reaching it before us.
                command.args(["--pdeathsig", "KILL", "--"]).process_group(0);
                ("setpriv", command)
            }
            Lifetime::Detachable => ("setsid", Command::new("setsid")),
        };
        command
            .arg(&program.path)
            .args(program.arguments)
            .envs(program.environment)
            .current_dir(&program.folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        let child = spawn_from_the_lasting_thread(command).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::MissingTool { tool: wrapper, remedy: "install util-linux" },
            _ => Error::Io { action: "starting", path: program.path, source },
        })?;
        let start_ticks = state::start_ticks(child.id()).unwrap_or_default();
        Ok(Self { name: program.name, child, log: log.to_owned(), start_ticks, released: false })
    }

    /// What the state file remembers of it.
    pub(crate) fn record(&self) -> Recorded {
        Recorded { name: self.name.clone(), pid: self.child.id(), start_ticks: self.start_ticks, log: self.log.clone() }
    }

    /// Its process id, which is its group's as well.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        // An error means that somebody else reaped it: it is gone, and only its status is lost.
        self.child.try_wait().unwrap_or_else(|_| Some(ExitStatus::default()))
    }

    /// Waits until it has ended.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        loop {
            match self.ended() {
                Some(status) => return status,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// The error that says what happened to it, with the end of its log.
    pub(crate) fn failure(&self, problem: String) -> Error {
        Error::Component { component: self.name.clone(), problem, log: self.log.clone(), tail: tail(&self.log) }
    }

    /// Kills it and everything in its group, and reaps it.
    ///
    /// There is no gentle way first: an apiserver takes about a minute over SIGTERM while watches are open, and the
    /// data goes with the cluster.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_some() {
            return;
        }
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        // Also by itself: it may not have made its session yet.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Lets it live on after this process.
    pub(crate) fn release(mut self) {
        self.released = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.released {
            self.kill();
        }
    }
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// The last line of a log that is being written, for whoever waits: no wider than a terminal.
pub(crate) fn last_line(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or_default().chars().take(60).collect()
}

type Spawning = (Command, mpsc::Sender<io::Result<Child>>);

fn spawn_from_the_lasting_thread(command: Command) -> io::Result<Child> {
    static SPAWNER: LazyLock<io::Result<mpsc::Sender<Spawning>>> = LazyLock::new(|| {
        let (sender, requests) = mpsc::channel::<Spawning>();
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            for (mut command, reply) in requests {
                let _ = reply.send(command.spawn());
            }
        })?;
        Ok(sender)
    });
    let spawner = SPAWNER.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
    let (reply, answer) = mpsc::channel();
    spawner.send((command, reply)).map_err(io::Error::other)?;
    answer.recv().map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path) -> Program {
        Program {
            name: "sleeper".to_owned(),
            path: "sh".into(),
            arguments: ["-c", "echo awake; sleep 60 & wait"].map(OsString::from).to_vec(),
            environment: Vec::new(),
            folder: folder.to_owned(),
        }
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        for lifetime in [Lifetime::Tied, Lifetime::Detachable] {
            let process = Process::spawn(sleeper(folder.path()), &folder.path().join("log"), lifetime).unwrap();
            let record = process.record();
            assert!(record.is_alive());
            drop(process);
            assert!(!record.is_alive());
        }
    }

    #[test]
    fn a_released_process_lives_until_its_record_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let process = Process::spawn(sleeper(folder.path()), &log, Lifetime::Detachable).unwrap();
        let record = process.record();
        process.release();
        assert!(record.is_alive());
        record.kill().unwrap();
        assert!(!record.is_alive());
    }

    #[test]
    fn the_tail_is_the_end_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let lines: Vec<String> = (0..100).map(|line| line.to_string()).collect();
        fs::write(&log, lines.join("\n")).unwrap();
        assert!(tail(&log).starts_with("85\n") && tail(&log).ends_with("\n99"));
        assert_eq!(tail(&folder.path().join("none")), "");
    }
}
