//! The pod template of one revision, with draining as the default.
//!
//! A pod that is to go is taken out of the Service's endpoints and told to end at the same moment, and it takes a while
//! until every node's proxy knows. So by default it first waits, still serving, and only then gets its SIGTERM; and it has
//! time to finish what it is doing. What the user's template sets wins.

use serde_json::{Value, json};

use super::selector;
use crate::api::FailureLogs;
use crate::cluster::build::{common_labels, merged};
use crate::cluster::template_edit::{
    containers, explain_failures, prepend_env, push, set, set_default, set_default_within,
};
use crate::names;
use crate::serving::content::{ContainerPort, Content, MODEL_PATH, PORT_NAME, PortNaming};
use crate::serving::validate::ValidDeployment;

/// Seconds that a pod goes on serving after it was told to go: longer than proxies and load balancers need to hear of it.
const DRAIN_SECONDS: u64 = 10;
/// Seconds from being told to go to SIGKILL: the wait above, and time for requests under way.
const GRACE_SECONDS: u64 = 60;
/// Seconds between two readiness probes.
const PROBE_SECONDS: u32 = 2;
/// Volume of the model.
pub const MODEL_VOLUME: &str = "trainyard-model";

/// Builds the template, as the user's own edited in place: fields that we do not know travel untouched.
pub fn build_template(deployment: &ValidDeployment, number: i64, content: &Content) -> Value {
    let template = content.template.parse();
    let mut spec = template["spec"].clone();
    set_default(&mut spec, "terminationGracePeriodSeconds", GRACE_SECONDS);
    // The apiserver refuses a sleep that is longer than the grace period; half of it is left for requests under way.
    let drain = DRAIN_SECONDS.min(spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(GRACE_SECONDS) / 2);
    for container in containers(&mut spec) {
        add_wait(drain, container);
        if container["name"].as_str() != Some(&content.container) {
            continue;
        }
        edit_container(deployment, number, content, container);
        let Some(port) = content.ports.first() else { continue };
        name_port(content.naming, port, container);
        if port.protocol == "TCP" {
            let probe = json!({"tcpSocket": {"port": port.number}, "periodSeconds": PROBE_SECONDS});
            set_default(container, "readinessProbe", probe);
        }
    }
    if deployment.failure_logs == FailureLogs::Tail {
        explain_failures(&mut spec, &content.container);
    }
    if let Some(model) = &content.model {
        let claim = json!({"claimName": model.claim, "readOnly": true});
        push(&mut spec, "volumes", json!({"name": MODEL_VOLUME, "persistentVolumeClaim": claim}));
    }
    let own = merged(&selector(&deployment.name, &deployment.uid), &json!({names::LABEL_REVISION: number.to_string()}));
    let own = merged(&common_labels(names::LABEL_DEPLOYMENT, &deployment.name), &own);
    let mut metadata = json!({"labels": merged(&template["metadata"]["labels"], &own)});
    if let Some(annotations) = template["metadata"].get("annotations") {
        set(&mut metadata, "annotations", annotations.clone());
    }
    json!({"metadata": metadata, "spec": spec})
}

fn edit_container(deployment: &ValidDeployment, number: i64, content: &Content, container: &mut Value) {
    let mut variables = vec![
        json!({"name": "TRAINYARD_DEPLOYMENT", "value": deployment.name}),
        json!({"name": "TRAINYARD_REVISION", "value": number.to_string()}),
    ];
    if let (Some(model), Some(source)) = (&content.model, &content.source) {
        variables.push(json!({"name": "TRAINYARD_MODEL_DIR", "value": MODEL_PATH}));
        variables.push(json!({"name": "TRAINYARD_MODEL_URI", "value": source.uri}));
        let mut mount = json!({"name": MODEL_VOLUME, "mountPath": MODEL_PATH, "readOnly": true});
        if !model.path.is_empty() {
            set(&mut mount, "subPath", model.path.as_str());
        }
        push(container, "volumeMounts", mount);
    }
    prepend_env(container, variables);
}

/// Has a container wait before its SIGTERM, if it has no hook of its own. Not only the one that serves: a server behind a
/// proxy must not be gone while the proxy still takes requests.
fn add_wait(seconds: u64, container: &mut Value) {
    if seconds > 0 {
        set_default_within(container, "lifecycle", "preStop", json!({"sleep": {"seconds": seconds}}));
    }
}

/// Gives the port that the model is served on a name of ours, beside the user's own if there is one: a Service leads to
/// it by that name, whatever number or name each revision gives it.
fn name_port(naming: PortNaming, port: &ContainerPort, container: &mut Value) {
    let ContainerPort { number, protocol, .. } = port;
    match naming {
        PortNaming::Given => {
            if let Some(first) = container.pointer_mut("/ports/0") {
                set(first, "name", PORT_NAME);
            }
        }
        PortNaming::Both => {
            push(container, "ports", json!({"containerPort": number, "protocol": protocol, "name": PORT_NAME}));
        }
        PortNaming::Ours | PortNaming::Users => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::build::revision::{build_deployment, build_record};
    use crate::serving::build::service;
    use crate::serving::validate::validate;

    fn valid(spec: Value) -> ValidDeployment {
        let deployment = serde_json::from_value(json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelDeployment",
            "metadata": {"name": "digits", "namespace": "ml", "uid": "0b7d"}, "spec": spec,
        }))
        .unwrap();
        validate(&deployment).unwrap()
    }

    #[track_caller]
    fn assert_snapshot(name: &str, object: &Value) {
        insta::with_settings!({omit_expression => true}, { insta::assert_yaml_snapshot!(name, object) });
    }

    #[test]
    fn draining_is_the_default() {
        let valid = valid(json!({
            "model": {"uri": "pvc://models/digits/7"},
            "template": {"spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 8080}]}]}},
        }));
        assert_snapshot("deployment", &build_deployment(&valid, 1, &valid.content, 2));
        assert_snapshot("record", &build_record(&valid, 1, &valid.content, "template.spec: a -> b"));
        let ports = service::ports(&valid.content, &service::target([&valid.content]).unwrap());
        assert_snapshot("service", &service::build_service(&valid, ports));
    }

    #[test]
    fn the_wait_fits_into_the_users_own_grace_period() {
        for (grace, wait) in
            [(json!(null), json!(10)), (json!(8), json!(4)), (json!(1), json!(null)), (json!(0), json!(null))]
        {
            let container = json!({"name": "c", "ports": [{"containerPort": 8080}]});
            let spec = json!({"terminationGracePeriodSeconds": grace, "containers": [container]});
            let valid = valid(json!({"template": {"spec": spec}}));
            let built = build_template(&valid, 1, &valid.content);
            assert_eq!(built["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], wait, "{grace}");
        }
    }

    #[test]
    fn what_the_user_sets_wins() {
        let valid = valid(json!({"failureLogs": "Off", "template": {
            "metadata": {"labels": {"team": "vision"}, "annotations": {"kubectl.kubernetes.io/default-container": "server"}},
            "spec": {
                "terminationGracePeriodSeconds": 5, "aFieldOfTomorrow": {"kept": true},
                "containers": [
                    {"name": "proxy", "ports": [{"containerPort": 1, "name": "http"}]},
                    {
                        "name": "server", "image": "s", "ports": [{"containerPort": 8080}, {"containerPort": 9000, "name": "grpc"}],
                        "env": [{"name": "NAME", "value": "r-$(TRAINYARD_REVISION)"}],
                        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": 8080}},
                        "lifecycle": {"preStop": {"exec": {"command": ["drain"]}}},
                    },
                ],
            },
        }}));
        assert_snapshot("template_of_the_users_own", &build_template(&valid, 7, &valid.content));
    }
}
