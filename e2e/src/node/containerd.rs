//! containerd in the machine, with the images that the node is to have.

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::machine::Machine;
use crate::binaries::NodeBinaries;
use crate::error::{Error, IoContext};
use crate::images::Archive;
use crate::network::Network;
use crate::process::{Lifetime, Process, Program};
use crate::run_folder::RunFolder;
use crate::{state, tools};

/// Where it listens, within the machine.
pub(crate) const SOCKET: &str = "/run/containerd/containerd.sock";
/// Where it keeps images, within the machine.
pub(crate) const ROOT: &str = "containerd";
/// The version of CNI's configuration, and the name of the one network.
const CNI: &str = "1.0.0";
const POD_NETWORK: &str = "pods";
const READY_WITHIN: Duration = Duration::from_secs(30);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// A running containerd.
#[derive(Debug)]
pub(crate) struct Containerd {
    pub(crate) process: Process,
}

/// What its start needs.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) binaries: &'a NodeBinaries,
    pub(crate) lifetime: Lifetime,
    /// The image of the container that holds each pod's namespaces.
    pub(crate) sandbox: &'a str,
}

impl Containerd {
    /// Starts it and waits until it answers.
    pub(crate) async fn start(setup: Setup<'_>, log: &Path, folder: &Path) -> Result<Self, Error> {
        let configuration = folder.join("containerd.toml");
        let networks = folder.join("cni");
        fs::create_dir_all(&networks).context("creating", &networks)?;
        let text = configure(&setup.binaries.cni, &networks, setup.sandbox)?;
        fs::write(&configuration, text).context("writing", &configuration)?;
        let network = networks.join("10-pods.conflist");
        fs::write(&network, pod_network(&setup.machine.network().pods())).context("writing", &network)?;
        let program = Program {
            name: "containerd".to_owned(),
            path: setup.binaries.containerd.clone(),
            arguments: vec!["--config".into(), configuration.into()],
            environment: vec![("PATH", search_path(&setup.binaries.containerd))],
            folder: folder.to_owned(),
        };
        let mut process = Process::spawn(setup.machine.inside(program), log, setup.lifetime)?;
        let socket = setup.machine.path_of(SOCKET);
        let started = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            if let Some(status) = process.ended() {
                return Err(process.failure(format!("ended early ({status})")));
            }
            if started.elapsed() > READY_WITHIN {
                return Err(process.failure(format!("was not ready after {} s", READY_WITHIN.as_secs())));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Self { process })
    }

    /// Lets it close its files.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        // The process here is `nsenter`, which waits for the real one and passes no signals on.
        let real = state::child_of(self.process.pid()).and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = real {
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(STOPPED_WITHIN, self.process.wait()).await.is_err() {
            return Err(self.process.failure("did not stop".to_owned()));
        }
        Ok(())
    }
}

/// Runs containerd's client in the machine.
pub(crate) async fn ctr(setup: Setup<'_>, arguments: &[&str], run: &RunFolder) -> Result<(), Error> {
    let words = ["--address", SOCKET, "--namespace", "k8s.io"].iter().chain(arguments);
    let program = Program {
        name: "ctr".to_owned(),
        path: setup.binaries.ctr.clone(),
        arguments: words.map(Into::into).collect(),
        environment: Vec::new(),
        folder: run.path().to_owned(),
    };
    let mut process = Process::spawn(setup.machine.inside(program), &run.log("ctr"), Lifetime::Tied)?;
    match process.wait().await {
        status if status.success() => Ok(()),
        status => Err(process.failure(format!("{} ended with {status}", arguments.join(" ")))),
    }
}

/// Reads an image into containerd and unpacks it.
pub(crate) async fn import(setup: Setup<'_>, archive: &Archive, run: &RunFolder) -> Result<(), Error> {
    let file = run.path().join("image.tar");
    archive.write(&file)?;
    let path = file.to_string_lossy();
    let imported = ctr(setup, &["images", "import", "--local", "--snapshotter", "overlayfs", &path], run).await;
    fs::remove_file(&file).context("removing", &file)?;
    imported
}

/// The shim is found beside containerd.
fn search_path(containerd: &Path) -> OsString {
    let mut path = containerd.with_file_name("").into_os_string();
    path.push(":");
    path.push(tools::path());
    path
}

fn configure(plugins: &Path, networks: &Path, sandbox: &str) -> Result<String, Error> {
    let runc = tools::find("runc").unwrap_or_else(|| PathBuf::from("runc"));
    // TOML's basic strings are JSON's, for everything that a path or a name holds.
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    Ok(format!(
        r#"version = 3
root = "/var/lib/{ROOT}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.devmapper"]

[grpc]
  address = "{SOCKET}"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{sandbox}"

[plugins."io.containerd.cri.v1.runtime"]
  # Lowering it needs CAP_SYS_RESOURCE, which not every root has.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [{plugins}]
    conf_dir = {networks}
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = {runc}
        SystemdCgroup = false
"#,
        plugins = quoted(plugins),
        networks = quoted(networks),
        runc = quoted(&runc),
    ))
}

/// The network of the pods, as containerd reads it.
fn pod_network(pods: &str) -> String {
    json!({"cniVersion": CNI, "name": POD_NETWORK, "plugins": [plugin(pods)]}).to_string()
}

/// Writes the same for whoever calls the plugin directly.
pub(crate) fn write_plugin_configuration(network: Network, folder: &Path) -> Result<PathBuf, Error> {
    let mut configuration = plugin(&network.pods());
    configuration["cniVersion"] = CNI.into();
    configuration["name"] = POD_NETWORK.into();
    let file = folder.join("ptp.json");
    fs::write(&file, configuration.to_string()).context("writing", &file)?;
    Ok(file)
}

/// Every pod gets a link and a route of its own.
fn plugin(pods: &str) -> Value {
    json!({
        "type": "ptp",
        "ipMasq": false,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": "/var/lib/cni",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted() {
        let text = configure(Path::new("/a \"b\""), Path::new("/c"), "sandbox:1").unwrap();
        assert!(text.contains(r#"bin_dirs = ["/a \"b\""]"#), "{text}");
    }
}
