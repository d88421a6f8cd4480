//! The Service: the one name and address of all revisions.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{change, metadata, selector};
use crate::cluster::index::ChildMeta;
use crate::cluster::port::Resource;
use crate::cluster::workload::PortFacts;
use crate::serving::content::{Content, MODEL_PORT};
use crate::serving::validate::ValidDeployment;

/// The ports that the Service should have for a revision, in order. Each has a name of its own, and so has each number
/// of a protocol. `target` is the name or number by which the model's port is found in the pods.
pub fn ports(content: &Content, target: &str) -> Vec<PortFacts> {
    let [first, others @ ..] = content.ports.as_slice() else { return Vec::new() };
    let mut names: BTreeSet<String> = content.ports.iter().filter_map(|port| port.name.clone()).collect();
    let mut ports = vec![PortFacts {
        port: MODEL_PORT,
        protocol: first.protocol.clone(),
        name: first.name.clone().unwrap_or_else(|| unused("http", &mut names)),
        target: target.to_owned(),
    }];
    for port in others {
        let is_same = |other: &PortFacts| (other.port, &other.protocol) == (port.number, &port.protocol);
        if ports.iter().any(is_same) {
            // A pod may list a port twice, under two names; a Service may not.
            continue;
        }
        ports.push(PortFacts {
            port: port.number,
            protocol: port.protocol.clone(),
            // One number may be served over TCP and over UDP.
            name: port
                .name
                .clone()
                .unwrap_or_else(|| unused(&format!("{}-{}", port.protocol.to_lowercase(), port.number), &mut names)),
            target: port.name.clone().unwrap_or_else(|| port.number.to_string()),
        });
    }
    ports.sort();
    ports
}

/// The name or number by which the model's port is found in the pods of all these revisions; nothing if there is none.
pub fn target<'a>(contents: impl IntoIterator<Item = &'a Content>) -> Option<String> {
    let mut targets = contents.into_iter().map(Content::targets);
    let mut common = targets.next()?;
    for further in targets {
        common.retain(|target| further.contains(target));
    }
    common.into_iter().next()
}

/// A name that no port has yet.
fn unused(wanted: &str, names: &mut BTreeSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{wanted}-{number}"));
    let mut candidates = std::iter::once(wanted.to_owned()).chain(numbered);
    candidates.find(|name| names.insert(name.clone())).expect("there is no end of numbers")
}

/// Builds the Service, with the one port that every revision has. Others follow as a change: server-side apply only takes
/// away again what server-side apply has added.
pub fn build_service(deployment: &ValidDeployment, ports: Vec<PortFacts>) -> Value {
    let first = ports.into_iter().filter(|port| port.port == MODEL_PORT).map(port).collect::<Vec<_>>();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn content(spec: Value, ports: Value) -> Content {
        let mut spec = spec;
        json_patch::merge(&mut spec, &json!({"containers": [{"name": "c", "ports": ports}]}));
        Content::of_spec(&serde_json::from_value(json!({"template": {"spec": spec}})).unwrap()).unwrap()
    }

    #[test]
    fn every_port_of_a_service_has_a_name_of_its_own() {
        let cases = [
            (json!([{"containerPort": 8080}]), "http 80 trainyard"),
            (json!([{"containerPort": 8080, "name": "web"}]), "web 80 trainyard"),
            // Case 23.
            (
                json!([{"containerPort": 9000}, {"containerPort": 8080, "name": "http"}]),
                "http-2 80 trainyard, http 8080 http",
            ),
            (
                json!([{"containerPort": 9000, "name": "grpc"}, {"containerPort": 9090},
                    {"containerPort": 9091, "name": "tcp-9090"}, {"containerPort": 8080, "name": "trainyard"}]),
                "grpc 80 grpc, trainyard 8080 trainyard, tcp-9090-2 9090 9090, tcp-9090 9091 tcp-9090",
            ),
            (
                json!([{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53}, {"containerPort": 53, "name": "dns"}]),
                "tcp-53 53 53, http 80 trainyard",
            ),
            (
                json!([{"containerPort": 9000}, {"containerPort": 8080, "name": "trainyard"}]),
                "http 80 9000, trainyard 8080 trainyard",
            ),
        ];
        for (list, expected) in cases {
            let content = content(json!({}), list.clone());
            let ports = ports(&content, &target([&content]).unwrap());
            let told: Vec<String> =
                ports.iter().map(|port| format!("{} {} {}", port.name, port.port, port.target)).collect();
            assert_eq!(told.join(", "), expected, "{list}");
        }
    }

    #[test]
    fn one_target_leads_to_all_revisions() {
        let named = |number: i32, name: &str| content(json!({}), json!([{"containerPort": number, "name": name}]));
        let on_host = |number: i32, name: Value| {
            content(json!({"hostNetwork": true}), json!([{"containerPort": number, "name": name}]))
        };
        let cases = [
            (vec![named(8080, "http"), named(9000, "grpc")], Some("trainyard")),
            (vec![on_host(8080, json!("http"))], Some("http")),
            (vec![on_host(8080, json!(null)), named(1, "x")], Some("trainyard")),
            (vec![on_host(8080, json!("http")), on_host(9000, json!("http"))], Some("http")),
            (vec![on_host(8080, json!("http")), on_host(8080, json!("web"))], Some("8080")),
            (vec![on_host(8080, json!("http")), named(8080, "grpc")], Some("8080")),
            (vec![on_host(8080, json!("http")), named(9000, "grpc")], None),
        ];
        for (contents, expected) in cases {
            assert_eq!(target(&contents).as_deref(), expected, "{contents:?}");
        }
    }
}
