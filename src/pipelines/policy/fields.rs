//! Which fields an embedded spec may have, and what each of them holds: from the schemas of our own kinds, and from the pod
//! template of the oldest supported Kubernetes, to which a newer one may have added fields.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::CustomResourceExt;
use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::places::Embedded;
use crate::api::{Duration, ModelDeployment, TrainingJob};

/// What a field holds.
#[derive(Debug)]
pub enum Kind {
    /// An object of these fields.
    Object {
        /// Its fields.
        fields: BTreeMap<String, Arc<Kind>>,
        /// Those that must be there; only known for kinds of ours.
        required: Vec<String>,
        /// Whether the cluster may know further fields.
        open: bool,
    },
    /// An object whose keys are the user's.
    Map(Arc<Kind>),
    /// A list.
    List(Arc<Kind>),
    /// Text; one of these values, if there are any.
    Text(Vec<String>),
    /// A length of time, as text.
    Time,
    /// A whole number, which need not fit into 32 bits if `wide`.
    Integer {
        /// Whether it may have 64 bits.
        wide: bool,
    },
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A number or text: a port, a quantity, a part.
    NumberOrText,
    /// Anything.
    Any,
}

static POD_TEMPLATE: LazyLock<Arc<Kind>> = LazyLock::new(|| {
    let schema = json!(SchemaGenerator::default().into_root_schema_for::<PodTemplateSpec>());
    Reader { definitions: &schema["$defs"], open: true, read: BTreeMap::new() }.read(&schema)
});
static TRAINING_JOB: LazyLock<Arc<Kind>> = LazyLock::new(|| of_ours(json!(TrainingJob::crd())));
static MODEL_DEPLOYMENT: LazyLock<Arc<Kind>> = LazyLock::new(|| of_ours(json!(ModelDeployment::crd())));

/// What an embedded spec may hold.
pub fn fields(embedded: Embedded) -> &'static Kind {
    match embedded {
        Embedded::PodTemplate => &POD_TEMPLATE,
        Embedded::TrainingJob => &TRAINING_JOB,
        Embedded::ModelDeployment => &MODEL_DEPLOYMENT,
    }
}

impl Kind {
    /// What a field of an object holds; `None` if no such field is known.
    pub fn field(&self, name: &str) -> Option<&Kind> {
        match self {
            Kind::Object { fields, .. } => fields.get(name).map(AsRef::as_ref),
            Kind::Map(values) => Some(values),
            _ => None,
        }
    }

    /// What the items of a list hold.
    pub fn item(&self) -> Option<&Kind> {
        match self {
            Kind::List(items) => Some(items),
            _ => None,
        }
    }
}

/// The spec of a kind of ours.
fn of_ours(crd: Value) -> Arc<Kind> {
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let spec = Reader { definitions: &Value::Null, open: false, read: BTreeMap::new() }.read(schema);
    match Arc::try_unwrap(spec) {
        Ok(Kind::Object { mut fields, required, open }) => {
            fields.insert("template".to_owned(), POD_TEMPLATE.clone());
            Arc::new(Kind::Object { fields, required, open })
        }
        Ok(other) => Arc::new(other),
        Err(shared) => shared,
    }
}

/// Reads a schema; types that are used in several places are read once.
struct Reader<'a> {
    definitions: &'a Value,
    open: bool,
    read: BTreeMap<&'a str, Arc<Kind>>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, schema: &'a Value) -> Arc<Kind> {
        let Some(reference) = schema["$ref"].as_str() else { return Arc::new(self.kind(schema)) };
        let name = reference.rsplit('/').next().unwrap_or_default();
        if let Some(read) = self.read.get(name) {
            return read.clone();
        }
        let definitions = self.definitions;
        let read = self.read(&definitions[name]);
        self.read.insert(name, read.clone());
        read
    }

    fn kind(&mut self, schema: &'a Value) -> Kind {
        if schema["x-kubernetes-int-or-string"] == true {
            return Kind::NumberOrText;
        }
        let strings = |list: &Value| -> Vec<String> {
            list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        match schema["type"].as_str() {
            Some("object") if schema["properties"].is_object() => {
                let fields = schema["properties"].as_object().into_iter().flatten();
                Kind::Object {
                    fields: fields.map(|(name, field)| (name.clone(), self.read(field))).collect(),
                    required: if self.open { Vec::new() } else { strings(&schema["required"]) },
                    open: self.open,
                }
            }
            Some("object") if schema["additionalProperties"].is_object() => {
                Kind::Map(self.read(&schema["additionalProperties"]))
            }
            Some("array") => Kind::List(self.read(&schema["items"])),
            Some("string") if schema["pattern"] == Duration::PATTERN => Kind::Time,
            Some("string") => Kind::Text(strings(&schema["enum"])),
            Some("integer") => Kind::Integer { wide: schema["format"] != "int32" },
            Some("number") => Kind::Number,
            Some("boolean") => Kind::Boolean,
            _ => Kind::Any,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kind at a path whose numbers are items, in short.
    fn at(embedded: Embedded, path: &str) -> String {
        let below = |kind: Option<&'static Kind>, name: &str| match name {
            "0" => kind?.item(),
            name => kind?.field(name),
        };
        let found = path.split('.').fold(Some(fields(embedded)), below);
        let Some(found) = found else { return "unknown".to_owned() };
        let shown = format!("{found:?}");
        shown.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
    }

    #[test]
    fn every_field_is_of_its_kind() {
        for (path, expected) in [
            ("metadata.labels.a", "Text"),
            ("spec.hostNetwork", "Boolean"),
            ("spec.securityContext.runAsUser", "Integer"),
            ("spec.securityContext.supplementalGroups.0", "Integer"),
            ("spec.terminationGracePeriodSeconds", "Integer"),
            ("spec.containers.0.env.0.value", "Text"),
            ("spec.containers.0.ports.0.containerPort", "Integer"),
            ("spec.containers.0.ports.0.name", "Text"),
            ("spec.containers.0.resources.limits.cpu", "NumberOrText"),
            ("spec.containers.0.livenessProbe.httpGet.port", "NumberOrText"),
            ("spec.initContainers.0.args.0", "Text"),
            ("spec.volumes.0.configMap.defaultMode", "Integer"),
            ("spec.volumes.0.ephemeral.volumeClaimTemplate.spec.accessModes.0", "Text"),
            ("spec.nodeSelector.zone", "Text"),
            ("spec.containers.0.imagee", "unknown"),
            ("spec.containers.0.name.x", "unknown"),
        ] {
            assert_eq!(at(Embedded::PodTemplate, path), expected, "{path}");
        }
        for (path, expected) in [
            ("framework", "Text"),
            ("nodes", "Integer"),
            ("processesPerNode", "NumberOrText"),
            ("activeDeadline", "Time"),
            ("suspend", "Boolean"),
            ("failurePolicy.backoff.max", "Time"),
            ("template.spec.hostNetwork", "Boolean"),
            ("node", "unknown"),
        ] {
            assert_eq!(at(Embedded::TrainingJob, path), expected, "{path}");
        }
        assert_eq!(at(Embedded::ModelDeployment, "rollout.maxSurge"), "NumberOrText");
        assert_eq!(at(Embedded::ModelDeployment, "model.uri"), "Text");
    }
}
