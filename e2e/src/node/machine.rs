//! A small machine within this one: process, mount and network namespaces of its own, in which a node runs.
//!
//! Everything that a node leaves on a machine, it leaves in here: shims and pods, volume mounts, routes, nftables,
//! `/var/lib/kubelet`, `/run/containerd`. When the machine's first process ends, however it ends, the kernel kills all
//! others in it, and mounts, links and namespaces go with the last of them. Its cgroups alone are folders that somebody
//! has to remove.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::{WaitOptions, wait};

use crate::cgroups::Hierarchies;
use crate::error::{Error, IoContext};
use crate::helper::{self, Helper};
use crate::network::Network;
use crate::process::{Lifetime, Process, Program};
use crate::progress;
use crate::run_folder::RunFolder;
use crate::state::{self, Recorded};

const READY_WITHIN: Duration = Duration::from_secs(20);
/// Folders that are the machine's own, by their place in it and their name in its folder.
const OWN_FOLDERS: [(&str, &str); 2] = [("/var/lib", "lib"), ("/var/log", "log")];
/// Likewise, but in memory: sockets, and the handles of the pods' network namespaces.
const OWN_MEMORY: &str = "/run";
/// Made when the machine is complete.
const READY: &str = "ready";

/// A running machine. Dropping it ends it, unless it is released.
#[derive(Debug)]
pub(crate) struct Machine {
    /// `unshare`, the parent of the first process.
    parent: Option<Process>,
    first: u32,
    folder: PathBuf,
    hierarchies: Hierarchies,
    cgroup: &'static str,
    network: Network,
}

impl Machine {
    /// Makes the machine and joins it to this one by a link. What it needs was checked before anything was built.
    pub(crate) async fn start(run: &mut RunFolder, lifetime: Lifetime) -> Result<Self, Error> {
        let hierarchies = Hierarchies::find()?;
        let network = Network::choose(run.kind())?;
        let folder = run.path().join("node");
        for (_, name) in OWN_FOLDERS {
            // Users inside the machine, such as a pod's, must be able to pass.
            let own = folder.join(name);
            fs::DirBuilder::new().recursive(true).mode(0o755).create(&own).context("creating", &own)?;
        }
        let helper = helper::command(&Helper::Machine { folder: folder.clone() })?;
        let arguments = ["--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"];
        let program = Program {
            name: "machine".to_owned(),
            path: "unshare".into(),
            arguments: arguments.into_iter().map(OsString::from).chain(helper).collect(),
            environment: Vec::new(),
            folder: run.path().to_owned(),
        };
        let cgroup = run.claim_cgroup()?;
        let mut parent = Process::spawn(program, &run.log("machine"), lifetime)?;
        run.remember(parent.record())?;
        let first = until_ready(&mut parent, &folder).await?;
        // From here on, whatever fails, dropping it cleans up.
        let machine = Self { parent: Some(parent), first, folder, hierarchies, cgroup, network };
        // Killed before its parent, so that whoever waits for its end has waited for everybody in the machine.
        run.remember(Recorded::of(first, "machine's first process", &run.log("machine")))?;
        machine.hierarchies.create(cgroup)?;
        machine.network.connect(first)?;
        Ok(machine)
    }

    /// Its addresses.
    pub(crate) fn network(&self) -> Network {
        self.network
    }

    /// The cgroup for its pods.
    pub(crate) fn cgroup(&self) -> &'static str {
        self.cgroup
    }

    /// What `/var/lib` is within the machine.
    pub(crate) fn var_lib(&self) -> PathBuf {
        self.folder.join("lib")
    }

    /// A path within the machine, as seen from outside: `/run` and the like are not ours.
    pub(crate) fn path_of(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.first))
    }

    /// The same program, but run inside.
    pub(crate) fn inside(&self, program: Program) -> Program {
        let enter = self.enter().into_iter().map(OsString::from);
        let arguments = enter.chain([program.path.into_os_string()]).chain(program.arguments).collect();
        Program { path: "nsenter".into(), arguments, ..program }
    }

    /// The arguments of `nsenter` that lead into the machine. Not `ip netns exec`, which would hide the cgroups. What runs
    /// there is a child of `nsenter`, and dies with it.
    pub(crate) fn enter(&self) -> Vec<String> {
        let target = format!("--target={}", self.first);
        // The working folder would stay one of this machine's; `nsenter` has a flag for that only since util-linux 2.39.
        [&target, "--mount", "--net", "--pid", "--", "setpriv", "--pdeathsig", "KILL", "env", "--chdir=/"]
            .map(str::to_owned)
            .to_vec()
    }

    /// Lets it live on after this process.
    pub(crate) fn release(mut self) {
        if let Some(parent) = self.parent.take() {
            parent.release();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let Some(mut parent) = self.parent.take() else { return };
        let first = Recorded::of(self.first, "machine's first process", Path::new(""));
        if let Err(error) = first.kill() {
            progress::note(&error.to_string());
        }
        parent.kill();
        self.network.disconnect();
        if let Err(error) = self.hierarchies.remove(self.cgroup) {
            progress::note(&error.to_string());
        }
    }
}

/// Waits until the machine is complete, and answers the process id of its first process, as seen from here.
async fn until_ready(parent: &mut Process, folder: &Path) -> Result<u32, Error> {
    let started = Instant::now();
    while !folder.join(READY).exists() {
        if let Some(status) = parent.ended() {
            return Err(parent.failure(format!("ended early ({status})")));
        }
        if started.elapsed() > READY_WITHIN {
            return Err(parent.failure(format!("was not ready after {} s", READY_WITHIN.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    state::child_of(parent.pid()).ok_or_else(|| parent.failure("has no child".to_owned()))
}

/// What the first process of a machine does: it mounts what the machine has of its own, says so, and then reaps the
/// processes whose parents have ended, until it is killed.
pub(crate) fn first_process(folder: &Path) -> Result<(), Error> {
    // `unshare` has cut this tree off from the machine outside; within, mounts must spread from the kubelet to
    // containers.
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    mounting("/", mount_change("/", shared))?;
    for (place, name) in OWN_FOLDERS {
        mounting(place, mount_bind(folder.join(name), place))?;
    }
    mounting(OWN_MEMORY, mount("tmpfs", OWN_MEMORY, "tmpfs", MountFlags::empty(), None))?;
    let forwarding = Path::new("/proc/sys/net/ipv4/ip_forward");
    fs::write(forwarding, "1").context("writing", forwarding)?;
    let ready = folder.join(READY);
    fs::write(&ready, "").context("creating", &ready)?;
    loop {
        // Without children there is nothing to wait for but the next ones, which come from outside by `nsenter`.
        if matches!(wait(WaitOptions::empty()), Err(Errno::CHILD)) {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn mounting(place: &str, outcome: rustix::io::Result<()>) -> Result<(), Error> {
    outcome.map_err(std::io::Error::from).context("mounting", Path::new(place))
}

/// Whether a folder is seen within a machine as it is outside.
pub(crate) fn is_visible_inside(folder: &Path) -> bool {
    OWN_FOLDERS.iter().map(|(place, _)| *place).chain([OWN_MEMORY, "/var/run"]).all(|place| !folder.starts_with(place))
}
