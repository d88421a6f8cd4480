//! How a cluster is to be.

use std::path::PathBuf;

use crate::images::Image;

/// How a cluster is to be.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Writes one JSON line for each answered request to this file, at level Metadata. Make it an absolute path
    /// outside the cluster's folder, which goes with the cluster.
    pub audit_log: Option<PathBuf>,
    /// How many nodes kwok plays.
    pub fake_nodes: usize,
    /// A real node, which starts when [`Cluster::node`] is called. It needs root.
    pub node: Option<NodeOptions>,
    /// More flags for kube-apiserver, such as `--feature-gates=X=true`. A flag given twice counts as given last.
    pub apiserver_flags: Vec<String>,
    /// More flags for kube-controller-manager.
    pub controller_manager_flags: Vec<String>,
    /// More flags for kube-scheduler.
    pub scheduler_flags: Vec<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            audit_log: None,
            fake_nodes: 4,
            node: None,
            apiserver_flags: Vec::new(),
            controller_manager_flags: Vec::new(),
            scheduler_flags: Vec::new(),
        }
    }
}

/// How a real node is to be.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// The images that it has. It cannot pull any.
    pub images: Vec<Image>,
    /// Whether only pods that tolerate [`TAINT`](crate::TAINT) may come to it.
    pub tainted: bool,
}
