//! What makes Services work on the node: kube-proxy for their addresses, CoreDNS for their names.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use serde_json::json;

use super::NODE_NAME;
use crate::control_plane::flag;
use crate::error::{Error, IoContext};
use crate::network::Network;

/// How long names are remembered, those that do not exist included. Clusters have 5 to 30 s: tests get the worst.
const REMEMBERED_SECONDS: u32 = 30;

/// Writes kube-proxy's configuration and answers its flags.
pub(crate) fn proxy_flags(network: Network, folder: &Path, kubeconfig: &Path) -> Result<Vec<OsString>, Error> {
    let configuration = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": network.node(),
        "clientConnection": {"kubeconfig": kubeconfig},
        "clusterCIDR": network.pods(),
        // Limits of the whole machine, which are not ours to set.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "healthzBindAddress": "127.0.0.1:10256",
        "hostnameOverride": NODE_NAME,
        "metricsBindAddress": "127.0.0.1:10249",
        "mode": "nftables",
    });
    let file = folder.join("kube-proxy.yaml");
    fs::write(&file, configuration.to_string()).context("writing", &file)?;
    Ok(vec![flag("config", file), flag("v", "2")])
}

/// Writes CoreDNS's configuration and answers its flags.
pub(crate) fn dns_flags(network: Network, folder: &Path, kubeconfig: &Path) -> Result<Vec<OsString>, Error> {
    let (address, kubeconfig, ttl) = (network.node(), kubeconfig.display(), REMEMBERED_SECONDS);
    let text = format!(
        r#".:53 {{
    bind {address}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig "{kubeconfig}"
        ttl {ttl}
    }}
    cache {{
        success 9984 {ttl}
        denial 9984 {ttl}
    }}
}}
"#
    );
    let file = folder.join("Corefile");
    fs::write(&file, text).context("writing", &file)?;
    Ok(vec!["-conf".into(), file.into()])
}
