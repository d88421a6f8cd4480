//! The programs of the cluster, built from source by `go build`.
//!
//! No package registry ships them, but the Go module proxy has their modules. `e2e/binaries/*/go.mod` pin them, and
//! an interrupted build goes on where it stopped, since Go caches each package that it has compiled.

mod build;
mod recipes;

use std::path::PathBuf;

use crate::cache::Cache;
use crate::error::Error;

pub use recipes::{ETCD_VERSION, HELM_VERSION, KUBERNETES_VERSION, KWOK_VERSION};

/// Where the programs of the control plane are.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub apiserver: PathBuf,
    /// kube-controller-manager.
    pub controller_manager: PathBuf,
    /// kube-scheduler.
    pub scheduler: PathBuf,
    /// kubectl, of the same version.
    pub kubectl: PathBuf,
    /// kwok, which plays the kubelets of the fake nodes.
    pub kwok: PathBuf,
}

/// Where the programs of a real node are.
#[derive(Clone, Debug)]
pub struct NodeBinaries {
    /// kubelet.
    pub kubelet: PathBuf,
    /// kube-proxy.
    pub kube_proxy: PathBuf,
    /// CoreDNS.
    pub coredns: PathBuf,
    /// containerd; its shim is in the same folder.
    pub containerd: PathBuf,
    /// containerd's own client.
    pub ctr: PathBuf,
    /// The folder of the CNI plugins.
    pub cni: PathBuf,
}

/// Builds what is missing of the control plane, with progress on standard error, and says where everything is.
///
/// One build at a time, by a lock: whoever comes second waits and finds the work done.
pub async fn ensure_binaries() -> Result<Binaries, Error> {
    let cache = Cache::locate()?;
    let [etcd, apiserver, controller_manager, scheduler, kubectl, kwok] =
        build::ensure(&recipes::CONTROL_PLANE, &cache).await?;
    Ok(Binaries { etcd, apiserver, controller_manager, scheduler, kubectl, kwok })
}

/// The same for the programs of a real node.
pub async fn ensure_node_binaries() -> Result<NodeBinaries, Error> {
    let cache = Cache::locate()?;
    let [kubelet, kube_proxy, coredns, containerd, _shim, ctr, ptp, _host_local, _loopback] =
        build::ensure(&recipes::NODE, &cache).await?;
    Ok(NodeBinaries { kubelet, kube_proxy, coredns, containerd, ctr, cni: ptp.with_file_name("") })
}

/// The same for kubectl alone.
pub async fn ensure_kubectl() -> Result<PathBuf, Error> {
    let [kubectl] = build::ensure(&[recipes::KUBECTL], &Cache::locate()?).await?;
    Ok(kubectl)
}

/// The same for Helm.
pub async fn ensure_helm() -> Result<PathBuf, Error> {
    let [helm] = build::ensure(&[recipes::HELM], &Cache::locate()?).await?;
    Ok(helm)
}
