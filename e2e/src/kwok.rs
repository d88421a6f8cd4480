//! Fake nodes: kwok plays their kubelets by the stages in `e2e/kwok/*.yaml`, which say how tests steer pods.

use std::fs;

use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::certs;
use crate::control_plane::{Boot, ControlPlane, api, flag};
use crate::error::{Error, IoContext};

/// kwok's own settings, then the stages.
const CONFIGURATION: [&str; 3] =
    [include_str!("../kwok/configuration.yaml"), include_str!("../kwok/nodes.yaml"), include_str!("../kwok/pods.yaml")];

/// Marks the nodes that kwok plays, here and in kwok's flags.
const FAKE: (&str, &str) = ("kwok.x-k8s.io/node", "fake");

/// Starts kwok, makes the nodes, and waits until they are ready.
pub(crate) async fn start(boot: &mut Boot<'_>, plane: &ControlPlane) -> Result<(), Error> {
    let nodes = boot.options.fake_nodes;
    if nodes == 0 {
        return Ok(());
    }
    let configuration = boot.run.path().join("kwok.yaml");
    fs::write(&configuration, CONFIGURATION.join("---\n")).context("writing", &configuration)?;
    let flags = vec![
        flag("kubeconfig", boot.kubeconfig(certs::KWOK)),
        flag("config", &configuration),
        flag("manage-nodes-with-annotation-selector", format!("{}={}", FAKE.0, FAKE.1)),
    ];
    boot.start("kwok", boot.binaries.kwok.clone(), flags)?;

    for index in 0..nodes {
        create_node(&plane.client, index).await?;
    }
    boot.wait(&format!("waiting for {nodes} fake nodes"), || ready_nodes(&plane.client, "fake-", nodes)).await
}

/// Whether so many nodes with names that begin so are ready.
pub(crate) async fn ready_nodes(client: &Client, prefix: &str, wanted: usize) -> bool {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await;
    let counts = |node: &&Node| node.name_any().starts_with(prefix) && takes_pods(node);
    nodes.is_ok_and(|nodes| nodes.items.iter().filter(counts).count() >= wanted)
}

async fn create_node(client: &Client, index: usize) -> Result<(), Error> {
    let name = format!("fake-{index}");
    let resources =
        json!({ "cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "2000", "nvidia.com/gpu": "64" });
    let node = json!({
        "metadata": {
            "name": name,
            "annotations": { (FAKE.0): FAKE.1 },
            "labels": {
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "type": "kwok",
            },
        },
        "status": { "allocatable": resources, "capacity": resources },
    });
    let action = format!("creating node {name}");
    let node: Node =
        serde_json::from_value(node).map_err(|error| api(action.clone())(kube::Error::SerdeError(error)))?;
    Api::all(client.clone()).create(&PostParams::default(), &node).await.map_err(api(action))?;
    Ok(())
}

/// Ready, and without the taints of Kubernetes' own, such as the one that every new node has until the controller manager has seen it ready.
fn takes_pods(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    ready && !taints.any(|taint| taint.key.starts_with("node.kubernetes.io/"))
}
