//! The user's pod template, kept as they wrote it.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::Value;

/// A pod template as raw JSON text.
///
/// Text, because a typed PodSpec of one Kubernetes version would drop the fields of a newer one, and because ten
/// thousand idle jobs should cost their templates' bytes and not their trees. It is parsed where it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodTemplate(Arc<str>);

impl PodTemplate {
    /// Keeps a template; object keys come out sorted, so that equal templates are equal text.
    pub fn new(template: &Value) -> Self {
        PodTemplate(template.to_string().into())
    }

    /// The template as a tree.
    pub fn parse(&self) -> Value {
        serde_json::from_str(&self.0).expect("the text was made from a JSON tree")
    }

    /// The template as canonical JSON text, for hashing.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for PodTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let template = Value::deserialize(deserializer)?;
        if !template.is_object() {
            return Err(de::Error::custom("a pod template must be an object"));
        }
        Ok(PodTemplate::new(&template))
    }
}

impl Serialize for PodTemplate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<Value>(&self.0).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

/// Most containers that a template may have; bounds the cost of the CEL rules over them.
const MAX_CONTAINERS: u32 = 32;

impl JsonSchema for PodTemplate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PodTemplate".into()
    }

    /// Declares only what the rules look at. Everything else is preserved here and checked by the apiserver when the
    /// pod is created, with `fieldValidation=Strict`.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let string_map = |description: &str| {
            json_schema!({
                "description": description,
                "type": "object",
                "additionalProperties": {"type": "string"},
                "maxProperties": 64,
            })
        };
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
                    "description": "A Kubernetes PodSpec; any field that the cluster knows may be used. The operator sets hostname, subdomain and restartPolicy.",
                    "type": "object",
                    "required": ["containers"],
                    "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {
                        "containers": {
                            "description": "Containers of the pod. With more than one, the annotation kubectl.kubernetes.io/default-container of the template names the one that trains; its end is the pod's end.",
                            "type": "array",
                            "minItems": 1,
                            "maxItems": MAX_CONTAINERS,
                            "items": {
                                "type": "object",
                                "required": ["name"],
                                "x-kubernetes-preserve-unknown-fields": true,
                                "properties": {"name": {
                                    "description": "Name of the container.",
                                    "type": "string", "minLength": 1, "maxLength": 63,
                                }},
                            },
                        },
                        "hostname": {"description": "Set by the operator; leave it out.", "type": "string", "maxLength": 63},
                        "subdomain": {"description": "Set by the operator; leave it out.", "type": "string", "maxLength": 63},
                        "restartPolicy": {
                            "description": "Never, or left out: the operator restarts whole attempts, so that no rank joins an attempt that it does not belong to.",
                            "type": "string", "maxLength": 32,
                        },
                    },
                },
            },
            "x-kubernetes-validations": [
                {
                    "rule": "size(self.spec.containers) <= 1 || (has(self.metadata) && has(self.metadata.annotations) && self.spec.containers.exists(c, 'kubectl.kubernetes.io/default-container' in self.metadata.annotations && self.metadata.annotations['kubectl.kubernetes.io/default-container'] == c.name))",
                    "message": "the template has several containers: name the one that trains in its annotation kubectl.kubernetes.io/default-container",
                },
                {
                    "rule": "!has(self.spec.restartPolicy) || self.spec.restartPolicy == 'Never'",
                    "message": "restartPolicy must be Never or left out: use failurePolicy.maxRestarts, which restarts all ranks together",
                    "fieldPath": ".spec.restartPolicy",
                },
                {
                    "rule": "!has(self.spec.hostname)",
                    "message": "hostname is set by the operator, so that ranks find each other: remove it",
                    "fieldPath": ".spec.hostname",
                },
                {
                    "rule": "!has(self.spec.subdomain)",
                    "message": "subdomain is set by the operator, so that ranks find each other: remove it",
                    "fieldPath": ".spec.subdomain",
                },
            ],
        })
    }
}
