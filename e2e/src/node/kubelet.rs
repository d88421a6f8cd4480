//! The kubelet in the machine.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::containerd::SOCKET;
use super::machine::Machine;
use super::{NODE_NAME, TAINT};
use crate::control_plane::flag;
use crate::error::{Error, IoContext};

/// Writes its configuration and answers its flags.
pub(crate) fn flags(
    machine: &Machine,
    folder: &Path,
    kubeconfig: PathBuf,
    authority: &Path,
    tainted: bool,
) -> Result<Vec<OsString>, Error> {
    let network = machine.network();
    // Pods ask the cluster's DNS and nobody else; this machine's search domains are not theirs.
    let resolver = folder.join("resolv.conf");
    fs::write(&resolver, "").context("writing", &resolver)?;
    let taints =
        if tainted { vec![json!({"key": TAINT, "value": "real", "effect": "NoSchedule"})] } else { Vec::new() };
    let configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.node(),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": authority},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", machine.cgroup()),
        "clusterDNS": [network.node()],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        // The machine's own processes are not in a cgroup of the node's.
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "failCgroupV1": false,
        "failSwapOn": false,
        // Images come from the cache, and could not be pulled again.
        "imageGCHighThresholdPercent": 100,
        "oomScoreAdj": 0,
        "registerWithTaints": taints,
        "resolvConf": resolver,
        "serializeImagePulls": false,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    });
    let file = folder.join("kubelet.yaml");
    fs::write(&file, configuration.to_string()).context("writing", &file)?;
    Ok(vec![
        flag("config", file),
        flag("kubeconfig", kubeconfig),
        flag("hostname-override", NODE_NAME),
        flag("node-ip", network.node().to_string()),
        flag("v", "2"),
    ])
}
