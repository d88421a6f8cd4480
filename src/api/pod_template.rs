//! The user's pod template, kept as they wrote it.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::raw::RawObject;

/// A pod template as raw JSON text.
pub type PodTemplate = RawObject;

/// Most containers that a template may have; bounds the cost of the CEL rules over them.
const MAX_CONTAINERS: u32 = 32;

/// The template of a TrainingJob: what the operator sets itself may not be set, and one container trains.
pub(super) fn training_schema(_: &mut SchemaGenerator) -> Schema {
    let set_by_us = |field: &str| {
        json!({
            "rule": format!("!has(self.spec.{field})"),
            "message": format!("{field} is set by the operator, so that ranks find each other: remove it"),
            "fieldPath": format!(".spec.{field}"),
        })
    };
    let fields = json!({
        "hostname": {"description": "Set by the operator; leave it out.", "type": "string", "maxLength": 63},
        "subdomain": {"description": "Set by the operator; leave it out.", "type": "string", "maxLength": 63},
        "restartPolicy": {
            "description": "Never, or left out: the operator restarts whole attempts, so that no rank joins an attempt that it does not belong to.",
            "type": "string", "maxLength": 32,
        },
    });
    let rules = json!([
        one_container_is_meant("trains"),
        {
            "rule": "!has(self.spec.restartPolicy) || self.spec.restartPolicy == 'Never'",
            "message": "restartPolicy must be Never or left out: use failurePolicy.maxRestarts, which restarts all ranks together",
            "fieldPath": ".spec.restartPolicy",
        },
        set_by_us("hostname"),
        set_by_us("subdomain"),
    ]);
    let spec = "A Kubernetes PodSpec; any field that the cluster knows may be used. The operator sets hostname, subdomain and restartPolicy.";
    let containers = "Containers of the pod. With more than one, the annotation kubectl.kubernetes.io/default-container of the template names the one that trains; its end is the pod's end.";
    schema(spec, containers, json!({}), fields, rules)
}

/// The template of a ModelDeployment: one container serves, on a port.
pub(super) fn serving_schema(_: &mut SchemaGenerator) -> Schema {
    let ports = json!({"ports": {
        "description": "Ports of the container. The first one of the serving container is port 80 of the deployment's Service; its others keep their numbers.",
        "type": "array",
        "maxItems": 16,
        "items": {
            "type": "object",
            "required": ["containerPort"],
            "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"containerPort": {
                "description": "Number of the port.",
                "type": "integer", "minimum": 1, "maximum": 65_535,
            }},
        },
    }});
    let fields = json!({"restartPolicy": {
        "description": "Always, or left out: a server that ends is started again.",
        "type": "string", "maxLength": 32,
    }});
    let rules = json!([
        one_container_is_meant("serves"),
        {
            "rule": format!("self.spec.containers.exists(c, (size(self.spec.containers) == 1 || {MEANT}) && has(c.ports) && size(c.ports) > 0)"),
            "message": "the container that serves has no port: name the port that the model is served on, as in ports: [{containerPort: 8080}]",
            "fieldPath": ".spec.containers",
        },
        {
            "rule": "!has(self.spec.restartPolicy) || self.spec.restartPolicy == 'Always'",
            "message": "restartPolicy must be Always or left out: a server that ends is started again",
            "fieldPath": ".spec.restartPolicy",
        },
    ]);
    let spec = "A Kubernetes PodSpec; any field that the cluster knows may be used. Where the serving container has none, the operator gives it a readiness probe of its port, a preStop hook that waits until it is out of the Service's endpoints, and a termination grace period of 60 s.";
    let containers = "Containers of the pod. With more than one, the annotation kubectl.kubernetes.io/default-container of the template names the one that serves.";
    schema(spec, containers, ports, fields, rules)
}

/// CEL: whether the template's annotation names the container `c`.
const MEANT: &str = "(has(self.metadata) && has(self.metadata.annotations) && 'kubectl.kubernetes.io/default-container' in self.metadata.annotations && self.metadata.annotations['kubectl.kubernetes.io/default-container'] == c.name)";

fn one_container_is_meant(does: &str) -> Value {
    json!({
        "rule": format!("size(self.spec.containers) <= 1 || self.spec.containers.exists(c, {MEANT})"),
        "message": format!("the template has several containers: name the one that {does} in its annotation kubectl.kubernetes.io/default-container"),
    })
}

/// Declares only what the rules look at. Everything else is preserved here and checked by the apiserver when the pod,
/// or the Deployment, is created, with `fieldValidation=Strict`.
fn schema(spec: &str, containers: &str, of_containers: Value, of_spec: Value, rules: Value) -> Schema {
    let string_map = |description: &str| {
        json!({
            "description": description,
            "type": "object",
            "additionalProperties": {"type": "string"},
            "maxProperties": 64,
        })
    };
    let mut container_fields = json!({"name": {
        "description": "Name of the container.",
        "type": "string", "minLength": 1, "maxLength": 63,
    }});
    let mut spec_fields = json!({"containers": {
        "description": containers,
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_CONTAINERS,
        "items": {
            "type": "object",
            "required": ["name"],
            "x-kubernetes-preserve-unknown-fields": true,
        },
    }});
    extend(&mut container_fields, of_containers);
    spec_fields["containers"]["items"]["properties"] = container_fields;
    extend(&mut spec_fields, of_spec);
    json_schema!({
        "type": "object",
        "required": ["spec"],
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "metadata": {
                "description": "Labels and annotations for the pods; nothing else may be set here, since the operator names and owns them.",
                "type": "object",
                "properties": {
                    "labels": string_map("Labels of the pods, besides the operator's own."),
                    "annotations": string_map("Annotations of the pods, besides the operator's own."),
                },
                "x-kubernetes-preserve-unknown-fields": true,
            },
            "spec": {
                "description": spec,
                "type": "object",
                "required": ["containers"],
                "x-kubernetes-preserve-unknown-fields": true,
                "properties": spec_fields,
            },
        },
        "x-kubernetes-validations": rules,
    })
}

fn extend(fields: &mut Value, further: Value) {
    if let (Value::Object(fields), Value::Object(further)) = (fields, further) {
        fields.extend(further);
    }
}
