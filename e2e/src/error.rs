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

    /// Programs that must be on the machine are missing, and could not be installed.
    #[error(
        "the machine lacks {programs}: install the packages that have them (on Debian: apt-get install {packages})"
    )]
    MissingTools {
        /// The programs.
        programs: String,
        /// Debian's packages that have them.
        packages: String,
    },

    /// A real node cannot be made by everybody.
    #[error(
        "a real node, and building its images, needs root, for namespaces, mounts and cgroups: run this as root, or use a \
         cluster that is there already (--context NAME, or TRAINYARD_CONTEXT for the tests)"
    )]
    NotRoot,

    /// There is a kept cluster, and only one at a time.
    #[error("a cluster is up already: take it down first (`cargo e2e down`)")]
    AlreadyUp,

    /// The cluster was booted without a machine for a real node.
    #[error("this cluster was booted without a real node: boot it with one (`up --node`)")]
    NoNode,

    /// The node has folders of its own in place of these.
    #[error(
        "the cache folder {folder} is not usable for a real node, which has its own /run, /var/lib and /var/log: set \
         TRAINYARD_CACHE to a folder elsewhere"
    )]
    HiddenCache {
        /// The folder that the node would not see.
        folder: PathBuf,
    },

    /// The kernel, or whoever started us, withholds something.
    #[error(
        "a real node needs {feature}, which this machine's kernel lacks or withholds ({words}): use another machine, \
         or a cluster that is there already (--context NAME, or TRAINYARD_CONTEXT for the tests)"
    )]
    NoFeature {
        /// What is missing.
        feature: &'static str,
        /// The words of the command that tried.
        words: String,
    },

    /// The kubelet cannot limit pods.
    #[error(
        "no cgroup hierarchy with the controller `{controller}` is mounted: boot the kernel with it (for memory: \
         cgroup_enable=memory), or mount it below /sys/fs/cgroup"
    )]
    NoController {
        /// The controller.
        controller: &'static str,
    },

    /// Pods need cgroups of their own.
    #[error(
        "a real node needs to make cgroups below {folder}, which is not possible here ({source}): outside of containers, \
         or in a privileged one, it is; or use a cluster that is there already (--context NAME, or TRAINYARD_CONTEXT for \
         the tests)"
    )]
    ReadOnlyCgroups {
        /// The hierarchy.
        folder: PathBuf,
        /// The system's words.
        source: io::Error,
    },

    /// Packages could not be installed.
    #[error(
        "apt-get could not install {packages}: mend what it says, or install them by hand; its whole output is {log}; it \
         ends with:\n{tail}"
    )]
    Install {
        /// Debian's packages.
        packages: String,
        /// What it printed.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },

    /// Static programs cannot be compiled.
    #[error(
        "rustc has no standard library for {target}, which the operator's static binary is built for ({words}): install \
         it with `rustup target add {target}`, or with the package that your distribution has it in"
    )]
    NoTarget {
        /// The target, as rustc names it.
        target: String,
        /// What was tried, and what came of it.
        words: String,
    },

    /// A program of an image would look for libraries that no image of ours has.
    #[error("{path} asks for the dynamic loader {loader}, and the image has none: build it for a musl target")]
    NotStatic {
        /// The program.
        path: PathBuf,
        /// The loader that it names.
        loader: String,
    },

    /// A program of an image is none.
    #[error("{path} is no program of this machine's kind ({source})")]
    NotAProgram {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: object::read::Error,
    },

    /// No address range is free.
    #[error(
        "every network that a real node would take (10.203, 207, 211, 219, 223 or 229.0.0/16) is routed elsewhere by \
         this machine: take down what routes one of them (see `ip route`)"
    )]
    NoFreeNetwork,

    /// The link to the node could not be made.
    #[error(
        "joining the node to this machine failed ({words}): see `ip link` and `ip route`; when another cluster boots at \
         the same time, try again"
    )]
    Link {
        /// The words of `ip`.
        words: String,
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

    /// A program or an image could not be built.
    #[error("building {what} failed; the whole log is {log}; it ends with:\n{tail}")]
    Build {
        /// What was being built.
        what: String,
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
