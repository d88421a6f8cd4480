//! A real node: kubelet, containerd, kube-proxy and CoreDNS, beside the control plane and on the same machine.
//!
//! | module | what |
//! | --- | --- |
//! | `requirements` | what it needs of this machine, checked first |
//! | `machine` | namespaces of its own, so that nothing of it outlives it |
//! | `containerd`, `kubelet`, `services` | its programs, and their settings |

mod containerd;
mod kubelet;
mod machine;
mod requirements;
mod services;

use std::fs;
use std::path::{Path, PathBuf};

use kube::Client;
use serde_json::{Value, json};
use tokio::sync::Mutex;

pub(crate) use machine::{Machine, first_process};

use crate::binaries::ensure_node_binaries;
use crate::cache::Cache;
use crate::certs;
use crate::command::run_to_a_good_end;
use crate::control_plane::until;
use crate::error::{Error, IoContext};
use crate::helper::{self, Helper};
use crate::images::{self, Archive, Image, Store};
use crate::network::Network;
use crate::options::NodeOptions;
use crate::process::{Lifetime, Process, Program};
use crate::progress;
use crate::run_folder::RunFolder;
use crate::{kwok, tools, volumes};
use containerd::{Containerd, Setup};

/// Says what this machine lacks for a real node, in one sentence with the remedy. What can be installed is.
pub async fn check_requirements() -> Result<(), Error> {
    requirements::check(Cache::locate()?.root()).await
}

/// The real node's name.
pub const NODE_NAME: &str = "node-1";
/// The key of its taint, where it has one: pods that are meant for fake nodes must not come to it.
pub const TAINT: &str = "e2e.trainyard.dev/node";

/// What a pod's spec says so that the pod comes to the real node, and not to fake ones.
pub fn placement() -> Value {
    json!({
        "tolerations": [{"key": TAINT, "operator": "Exists"}],
        "nodeSelector": {"kubernetes.io/hostname": NODE_NAME},
    })
}

/// A running node. Its processes die with the machine that they run in.
#[derive(Debug)]
pub struct Node {
    processes: Vec<Process>,
    enter: Vec<String>,
    ctr: PathBuf,
    /// The CNI plugins, and the configuration of the one that connects pods.
    plugins: PathBuf,
    pod_network: PathBuf,
    folder: PathBuf,
    network: Network,
    cgroup: &'static str,
}

/// What the start of a node needs of its cluster.
pub(crate) struct Site<'a> {
    pub(crate) run: &'a Mutex<RunFolder>,
    pub(crate) machine: &'a Machine,
    pub(crate) client: &'a Client,
    pub(crate) lifetime: Lifetime,
}

impl Node {
    /// Builds what is missing, starts everything, and waits until pods can come.
    pub(crate) async fn start(site: Site<'_>, options: &NodeOptions) -> Result<Self, Error> {
        let binaries = ensure_node_binaries().await?;
        let images = images::ensure(&options.images).await?;
        let mut run = site.run.lock().await;
        let folder = run.path().join("node");
        let machine = site.machine;
        let sandbox = Image::Base.reference();
        let setup = Setup { machine, binaries: &binaries, lifetime: site.lifetime, sandbox: &sandbox };

        let containerd = containerd_with(&images, setup, &run, &folder).await?;
        run.remember(containerd.process.record())?;
        let mut processes = vec![containerd.process];

        let kubeconfig = |identity| run.path().join(certs::kubeconfig_file(identity));
        let authority = run.path().join("pki/ca.crt");
        let network = machine.network();
        let kubelet = kubelet::flags(machine, &folder, kubeconfig(certs::KUBELET), &authority, options.tainted)?;
        let helper =
            Helper::Volumes { kubeconfig: kubeconfig(certs::VOLUMES), folder: machine.var_lib().join(volumes::FOLDER) };
        let [path, argument] = helper::command(&helper)?;
        let program = |name: &str, path: PathBuf, arguments| Program {
            name: name.to_owned(),
            path,
            arguments,
            environment: vec![("PATH", tools::path())],
            folder: folder.clone(),
        };
        let proxy = services::proxy_flags(network, &folder, &kubeconfig(certs::PROXY))?;
        let dns = services::dns_flags(network, &folder, &kubeconfig(certs::DNS))?;
        let programs = [
            program("volumes", path.into(), vec![argument]),
            machine.inside(program("kube-proxy", binaries.kube_proxy, proxy)),
            machine.inside(program("coredns", binaries.coredns, dns)),
            // Last, so that its log is shown if the node does not become ready.
            machine.inside(program("kubelet", binaries.kubelet, kubelet)),
        ];
        for program in programs {
            let log = run.log(&program.name);
            let process = Process::spawn(program, &log, site.lifetime)?;
            run.remember(process.record())?;
            processes.push(process);
        }
        drop(run);
        volumes::create_class(site.client).await?;
        let label = format!("waiting for node {NODE_NAME}");
        until(&mut processes, &label, || kwok::ready_nodes(site.client, NODE_NAME, 1)).await?;
        let pod_network = containerd::write_plugin_configuration(network, &folder)?;
        let (ctr, plugins) = (binaries.ctr, binaries.cni);
        let (enter, cgroup) = (machine.enter(), machine.cgroup());
        Ok(Self { processes, enter, ctr, plugins, pod_network, folder, network, cgroup })
    }

    /// A command that runs `program` within the node, beside its pods and past its kubelet.
    pub fn command(&self, program: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("nsenter");
        command.args(&self.enter).arg(program).kill_on_drop(true);
        command
    }

    /// containerd's client, within the node.
    pub fn ctr(&self) -> tokio::process::Command {
        let mut command = self.command(&self.ctr.to_string_lossy());
        command.args(["--address", containerd::SOCKET, "--namespace", "k8s.io"]);
        command
    }

    /// Reads an image into the node's containerd, so that pods find it without pulling.
    pub async fn load(&self, archive: &Archive) -> anyhow::Result<()> {
        let file = self.folder.join("image.tar");
        archive.write(&file)?;
        let mut ctr = self.ctr();
        let imported =
            run_to_a_good_end(ctr.args(["images", "import", "--local", "--snapshotter", "overlayfs"]).arg(&file)).await;
        fs::remove_file(&file).context("removing", &file)?;
        imported
    }

    /// Gives an image that the node has a second reference, in place of one that would have to be pulled.
    pub async fn tag(&self, image: &str, reference: &str) -> anyhow::Result<()> {
        run_to_a_good_end(self.ctr().args(["images", "tag", "--force", image, reference])).await
    }

    /// Kills a container with SIGKILL, past its kubelet. `id` is as a pod's status has it.
    pub async fn kill_container(&self, id: &str) -> anyhow::Result<()> {
        let id = id.strip_prefix("containerd://").unwrap_or(id);
        run_to_a_good_end(self.ctr().args(["tasks", "kill", "--signal", "SIGKILL", id])).await
    }

    /// A command that makes a network namespace within the node, `/run/netns/NAME`, and joins it to the pods' network as
    /// the kubelet's runtime would, but without anybody's knowing.
    pub fn join_pod_network(&self, name: &str) -> tokio::process::Command {
        let script = "ip netns add \"$1\"
            export CNI_COMMAND=ADD CNI_CONTAINERID=\"$1\" CNI_NETNS=/run/netns/\"$1\" CNI_IFNAME=eth0 CNI_PATH=\"$2\"
            exec \"$2/ptp\" < \"$3\"";
        let mut command = self.command("sh");
        command.args(["-euc", script, "sh", name]).arg(&self.plugins).arg(&self.pod_network);
        command
    }

    /// The cgroup below which everything that runs on the node must be, as it goes with the node.
    pub fn cgroup(&self) -> String {
        format!("/{}", self.cgroup)
    }

    /// Writes the resolver configuration of a pod in `namespace`, and says where it is.
    pub fn resolver_of(&self, namespace: &str) -> Result<PathBuf, Error> {
        let file = self.folder.join(format!("resolv-{namespace}.conf"));
        let text = format!(
            "search {namespace}.svc.cluster.local svc.cluster.local cluster.local\nnameserver {}\noptions ndots:5\n",
            self.network.node()
        );
        fs::write(&file, text).context("writing", &file)?;
        Ok(file)
    }

    /// Its processes that have ended by themselves.
    pub(crate) fn failure(&mut self) -> Option<Error> {
        self.processes.iter_mut().find_map(|process| {
            let status = process.ended()?;
            Some(process.failure(format!("had ended by itself ({status})")))
        })
    }

    /// Lets it live on after this process.
    pub(crate) fn release(self) {
        self.processes.into_iter().for_each(Process::release);
    }
}

/// A containerd that has the images, from the cache as far as they are unpacked there.
async fn containerd_with(
    images: &[Archive],
    setup: Setup<'_>,
    run: &RunFolder,
    folder: &Path,
) -> Result<Containerd, Error> {
    let store = Store::open().await?;
    let root = setup.machine.var_lib().join(containerd::ROOT);
    progress::step("taking unpacked images from the cache", String::new, store.take(&root)).await?;
    let missing = store.missing(images);
    if !missing.is_empty() {
        let containerd = Containerd::start(setup, &run.log("containerd-import"), folder).await?;
        for archive in missing {
            let label = format!("unpacking image {}", archive.reference);
            progress::step(&label, String::new, containerd::import(setup, archive, run)).await?;
        }
        // Its files must not change while they are copied.
        containerd.stop().await?;
        progress::step("keeping unpacked images in the cache", String::new, store.keep(&root, images)).await?;
    }
    Containerd::start(setup, &run.log("containerd"), folder).await
}
