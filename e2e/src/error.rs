//! What can go wrong, each with the remedy in its one sentence.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the embedded cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program that must be on the machine is missing.
    #[error("the program `{tool}` is not on the PATH: {remedy}")]
    MissingTool {
        /// The program's name.
        tool: &'static str,
        /// Where it comes from.
        remedy: &'static str,
    },

    /// There is too little room for a first build.
    #[error(
        "{folder} has {free_gib} GiB free and a first build needs {needed_gib} GiB: free some, or set TRAINYARD_CACHE \
         (and GOCACHE, GOMODCACHE) to a folder on a larger disk"
    )]
    DiskSpace {
        /// The folder whose file system is too full.
        folder: PathBuf,
        /// What is free there, rounded down.
        free_gib: u64,
        /// What a build from nothing needs.
        needed_gib: u64,
    },

    /// `go build` failed.
    #[error("building {binary} failed; the whole log is {log}; it ends with:\n{tail}")]
    Build {
        /// The binary that was being built.
        binary: &'static str,
        /// The log file, which is kept.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },

    /// Somebody else has held a lock for too long.
    #[error(
        "gave up after {waited_seconds} s waiting for {lock}, which is held by {holder}: wait for it or stop it, then \
         try again"
    )]
    Locked {
        /// The lock file.
        lock: PathBuf,
        /// The process that holds it.
        holder: String,
        /// How long we waited.
        waited_seconds: u64,
    },

    /// The kernel gave out no port.
    #[error(
        "no free TCP port on 127.0.0.1: stop programs that listen there, or widen net.ipv4.ip_local_port_range \
         ({source})"
    )]
    Ports {
        /// The kernel's words.
        source: io::Error,
    },

    /// A component of the control plane ended or never became ready.
    #[error("{component} {problem}; its whole log is {log}; it ends with:\n{tail}")]
    Component {
        /// The component's name.
        component: String,
        /// What happened.
        problem: String,
        /// The log file, which is kept until the next failure.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },

    /// A component that was killed is still there.
    #[error("{component} (pid {pid}) is still there {seconds} s after SIGKILL: see `ps -o stat,wchan {pid}`")]
    Unkillable {
        /// The component's name.
        component: String,
        /// Its process id.
        pid: u32,
        /// How long we waited.
        seconds: u64,
    },

    /// There is no home folder to keep a cache in.
    #[error("no cache folder: set TRAINYARD_CACHE, XDG_CACHE_HOME or HOME to an absolute path")]
    NoCacheFolder,

    /// A file operation failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },

    /// The state file is not ours.
    #[error("{path} is not a state file of this program: remove it once none of its processes runs ({source})")]
    State {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },

    /// A certificate could not be made.
    #[error("making the certificate of {name}: {source}")]
    Certificate {
        /// Whose certificate.
        name: &'static str,
        /// The library's words.
        source: rcgen::Error,
    },

    /// The kubeconfig could not be read back.
    #[error("reading the kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),

    /// The apiserver refused something.
    #[error("{action}: {source}")]
    Api {
        /// What was tried.
        action: String,
        /// The apiserver's or the client's words.
        source: Box<kube::Error>,
    },

    /// SIGINT, SIGTERM or SIGHUP came.
    #[error("interrupted by {0}")]
    Interrupted(&'static str),
}

/// Names the file in an I/O error, which alone does not say it.
pub(crate) trait IoContext<T> {
    /// Adds what was tried and on which file.
    fn context(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action, path: path.to_owned(), source })
    }
}
