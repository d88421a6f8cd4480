//! The Service: the one name and address of all revisions.

use serde_json::{Value, json};

use super::pod::PORT_NAME;
use super::{change, metadata, selector};
use crate::cluster::index::ChildMeta;
use crate::cluster::port::Resource;
use crate::cluster::workload::PortFacts;
use crate::serving::content::{ContainerPort, Content, MODEL_PORT};
use crate::serving::validate::ValidDeployment;

/// The ports that the Service should have for a revision, in order.
pub fn ports(content: &Content) -> Vec<PortFacts> {
    let [first, others @ ..] = content.ports.as_slice() else { return Vec::new() };
    let mut ports = vec![PortFacts {
        port: MODEL_PORT,
        protocol: first.protocol.clone(),
        name: first.name.clone().unwrap_or_else(|| "http".to_owned()),
        target: PORT_NAME.to_owned(),
    }];
    ports.extend(others.iter().map(|port| PortFacts {
        port: port.number,
        protocol: port.protocol.clone(),
        name: port.name.clone().unwrap_or_else(|| generated_name(port)),
        target: port.name.clone().unwrap_or_else(|| port.number.to_string()),
    }));
    ports.sort();
    ports
}

/// One number may be served over TCP and over UDP.
fn generated_name(port: &ContainerPort) -> String {
    format!("{}-{}", port.protocol.to_lowercase(), port.number)
}

/// Builds the Service, with the one port that every revision has. Others follow as a change: server-side apply only takes
/// away again what server-side apply has added.
pub fn build_service(deployment: &ValidDeployment, content: &Content) -> Value {
    let first = ports(content).into_iter().filter(|port| port.port == MODEL_PORT).map(port).collect::<Vec<_>>();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(deployment, &deployment.name),
        "spec": {"selector": selector(&deployment.name, &deployment.uid), "ports": first},
    })
}

/// Builds a change of a Service that is not as it should be.
pub fn build_service_change(deployment: &ValidDeployment, present: &ChildMeta, ports: Vec<PortFacts>) -> Value {
    let ports: Vec<Value> = ports.into_iter().map(port).collect();
    let selector = selector(&deployment.name, &deployment.uid);
    change(Resource::Service, present, json!({"selector": selector, "ports": ports}))
}

fn port(port: PortFacts) -> Value {
    let target: Value = port.target.parse::<u16>().map_or_else(|_| port.target.as_str().into(), Into::into);
    json!({"name": port.name, "port": port.port, "protocol": port.protocol, "targetPort": target})
}
