//! What a revision is made from: a model and a pod template.

use serde_json::{Map, Value, json};

use crate::api::{ModelDeploymentSpec, ModelSource, PodTemplate, reserved};
use crate::cluster::canonical;
use crate::cluster::problem::{Problem, check_env, check_length, check_template_metadata, primary_container};
use crate::cluster::template_edit::check_outline;
use crate::names;

/// Where the serving container finds its model.
pub const MODEL_PATH: &str = "/mnt/models";
/// The port of the Service that leads to the model, as people expect of a URL.
pub const MODEL_PORT: i32 = 80;
/// The only scheme that needs no program in the pod.
const CLAIM_SCHEME: &str = "pvc://";
/// Name of the port that the model is served on, where the pods can have it.
pub const PORT_NAME: &str = "trainyard";
/// Most bytes that are read of a record: the longest template with every character escaped by the apiserver, and what was taken
/// before templates had a limit.
const LONGEST_RECORD: usize = 2 * 1024 * 1024;
/// Characters of the hash that 0.1.0 gave a revision.
const HASH: usize = 10;

/// A model and a pod template that are valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// The model, as the user wrote it.
    pub source: Option<ModelSource>,
    /// Where its files are.
    pub model: Option<ClaimPath>,
    /// The pod template.
    pub template: PodTemplate,
    /// The container that serves.
    pub container: String,
    /// Its ports, at least one; the first is the one that the model is served on.
    pub ports: Vec<ContainerPort>,
    /// How a Service finds that port in the pods.
    pub naming: PortNaming,
    /// Hash of model and template, and the hash that earlier versions of the operator gave them.
    hashes: [String; 2],
}

/// How the port that the model is served on is named in the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortNaming {
    /// It has no name, and gets ours.
    Given,
    /// The user gave it our name.
    Ours,
    /// It has a name of the user's, and is listed once more under ours.
    Both,
    /// It keeps the user's name, or none: with hostNetwork no port can be listed twice, and a port that the user has given
    /// our name to is another one.
    Users,
}

/// A folder or file of a PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath {
    /// Name of the claim.
    pub claim: String,
    /// Path within it; empty for all of it.
    pub path: String,
}

/// A port of the serving container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// Name, if the user gave one.
    pub name: Option<String>,
    /// Number.
    pub number: i32,
    /// TCP, UDP or SCTP.
    pub protocol: String,
}

impl Content {
    /// Reads what a spec asks for.
    ///
    /// # Errors
    /// Every problem of model and template.
    pub fn of_spec(spec: &ModelDeploymentSpec) -> Result<Content, Vec<Problem>> {
        let mut problems = Vec::new();
        check_length("spec.template", &spec.template, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        Content::new(spec.model.clone(), spec.template.clone())
    }

    /// Reads what a revision holds, as [`Content::data`] wrote it. It may be longer than a spec: what serves is not given up for
    /// a limit that came later.
    pub fn of_revision(data: &str) -> Option<Content> {
        if data.len() > LONGEST_RECORD {
            return None;
        }
        let mut data: Map<String, Value> = serde_json::from_str(data).ok()?;
        let source = serde_json::from_value(data.remove("model").unwrap_or_default()).ok()?;
        let template = serde_json::from_value(data.remove("template")?).ok()?;
        Content::new(source, template).ok()
    }

    /// What a revision holds: fields by their names in the spec.
    pub fn data(&self) -> Value {
        data(self.source.as_ref(), self.template.parse())
    }

    /// Tells revisions apart.
    pub fn hash(&self) -> &str {
        &self.hashes[0]
    }

    /// Whether a revision with this hash is made from the same.
    pub fn has_hash(&self, hash: &str) -> bool {
        self.hashes.iter().any(|own| own == hash)
    }

    /// All hashes that a revision which is made from the same may have.
    pub fn hashes(&self) -> &[String] {
        &self.hashes
    }

    fn new(source: Option<ModelSource>, template: PodTemplate) -> Result<Content, Vec<Problem>> {
        let mut problems = Vec::new();
        let tree = template.parse();
        check_outline(&tree, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        check_template_metadata(&tree["metadata"], "deployment", &mut problems);
        let container = primary_container(&tree, "serves", &mut problems);
        let ports = check_pod(&tree["spec"], &container, &mut problems);
        let model = source.as_ref().and_then(|source| {
            check_mounts(&tree["spec"], &container, &mut problems);
            let path = ClaimPath::of_uri(&source.uri);
            path.map_err(|remedy| problems.push(Problem::new("spec.model.uri", &source.uri, remedy))).ok()
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let naming = PortNaming::of(&tree["spec"], &container, ports.first());
        let hashes = hashes(source.as_ref(), tree);
        Ok(Content { source, model, template, container, ports, naming, hashes })
    }

    /// The names and the number by which a Service finds the port that the model is served on.
    pub fn targets(&self) -> Vec<String> {
        let Some(port) = self.ports.first() else { return Vec::new() };
        let ours = (self.naming != PortNaming::Users).then(|| PORT_NAME.to_owned());
        let number = port.number.to_string();
        ours.into_iter().chain(port.name.clone()).chain([number]).collect()
    }
}

impl PortNaming {
    fn of(spec: &Value, container: &str, port: Option<&ContainerPort>) -> PortNaming {
        let containers = spec["containers"].as_array().into_iter().flatten();
        let is_named = |port: &Value| port["name"].as_str() == Some(PORT_NAME);
        // A Service looks for a name in all containers.
        let is_taken = containers.into_iter().any(|each| {
            let first = usize::from(each["name"].as_str() == Some(container));
            each["ports"].as_array().into_iter().flatten().skip(first).any(is_named)
        });
        match port.and_then(|port| port.name.as_deref()) {
            _ if is_taken => PortNaming::Users,
            None => PortNaming::Given,
            Some(PORT_NAME) => PortNaming::Ours,
            Some(_) if spec["hostNetwork"].as_bool() == Some(true) => PortNaming::Users,
            Some(_) => PortNaming::Both,
        }
    }
}

/// The hash of model and template, and the hash that 0.1.0 gave them: an upgrade makes no new revisions.
fn hashes(source: Option<&ModelSource>, tree: Value) -> [String; 2] {
    let data = data(source, tree);
    [canonical::hash(&data), names::short_hash(data.to_string().as_bytes(), HASH)]
}

/// What a revision holds: fields by their names in the spec.
fn data(source: Option<&ModelSource>, template: Value) -> Value {
    let mut data = json!({"template": template});
    if let Some(source) = source {
        data["model"] = json!(source);
    }
    data
}

/// Checks what the operator owns in a pod's spec; answers the ports of the serving container.
fn check_pod(spec: &Value, container: &str, problems: &mut Vec<Problem>) -> Vec<ContainerPort> {
    if let Some(value) = spec.get("restartPolicy").filter(|value| value.as_str() != Some("Always")) {
        let remedy = "remove it: a server that ends is started again";
        problems.push(Problem::new("spec.template.spec.restartPolicy", value, remedy));
    }
    let containers = spec["containers"].as_array().into_iter().flatten().enumerate();
    let serving = containers.into_iter().find(|(_, candidate)| candidate["name"].as_str() == Some(container));
    let Some((index, serving)) = serving else { return Vec::new() };
    check_env(serving, index, &|name| name.starts_with(reserved::OWN_PREFIX), "every revision", problems);
    let ports: Vec<ContainerPort> = serving["ports"].as_array().into_iter().flatten().filter_map(port).collect();
    if ports.iter().skip(1).any(|port| port.number == MODEL_PORT) {
        let remedy = "make it the first: port 80 of the Service leads to the first port of this container";
        problems.push(Problem::new(&format!("spec.template.spec.containers[{index}].ports"), MODEL_PORT, remedy));
    }
    if ports.is_empty() {
        let remedy = "add the port that the model is served on, as in ports: [{containerPort: 8080}]";
        problems.push(Problem::new(&format!("spec.template.spec.containers[{index}].ports"), "missing", remedy));
    }
    ports
}

fn port(port: &Value) -> Option<ContainerPort> {
    Some(ContainerPort {
        name: port["name"].as_str().filter(|name| !name.is_empty()).map(str::to_owned),
        number: i32::try_from(port["containerPort"].as_i64()?).ok()?,
        protocol: port["protocol"].as_str().unwrap_or("TCP").to_owned(),
    })
}

fn check_mounts(spec: &Value, container: &str, problems: &mut Vec<Problem>) {
    let containers = spec["containers"].as_array().into_iter().flatten().enumerate();
    for (index, candidate) in containers.filter(|(_, candidate)| candidate["name"].as_str() == Some(container)) {
        let mut mounts = candidate["volumeMounts"].as_array().into_iter().flatten();
        let taken =
            |mount: &Value| mount["mountPath"].as_str().is_some_and(|path| path.trim_end_matches('/') == MODEL_PATH);
        if mounts.any(taken) {
            let field = format!("spec.template.spec.containers[{index}].volumeMounts");
            problems.push(Problem::new(&field, MODEL_PATH, "remove it: model.uri is mounted there"));
        }
    }
}

impl ClaimPath {
    /// Reads a model's URI.
    ///
    /// # Errors
    /// What to do about one that is none of a claim.
    pub fn of_uri(uri: &str) -> Result<ClaimPath, &'static str> {
        let place = uri.strip_prefix(CLAIM_SCHEME);
        let place = place.ok_or("write pvc://CLAIM/PATH, or leave model out and let the image bring it")?;
        let (claim, path) = place.split_once('/').unwrap_or((place, ""));
        if claim.is_empty() {
            return Err("name the PersistentVolumeClaim, as in pvc://CLAIM/PATH");
        }
        // The kubelet refuses such paths too, but says so in a pod's status only.
        if path.split('/').any(|part| part == "..") {
            return Err("remove .. from it: a path leads down from the root of the claim");
        }
        Ok(ClaimPath { claim: claim.to_owned(), path: path.trim_matches('/').to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(spec: Value) -> Result<Content, Vec<Problem>> {
        Content::of_spec(&serde_json::from_value(spec).unwrap())
    }

    fn serving(model: &str) -> Value {
        json!({"model": {"uri": model}, "template": {"spec": {"containers": [
            {"name": "c", "ports": [{"containerPort": 8080}, {"containerPort": 9000, "name": "grpc"}]},
        ]}}})
    }

    #[test]
    fn a_model_is_a_path_in_a_claim() {
        let cases = [
            ("pvc://models/digits/7", "models", "digits/7"),
            ("pvc://models", "models", ""),
            ("pvc://m//x/", "m", "x"),
        ];
        for (uri, claim, path) in cases {
            let model = content(serving(uri)).unwrap().model.unwrap();
            assert_eq!((model.claim.as_str(), model.path.as_str()), (claim, path), "{uri}");
        }
        for uri in ["s3://bucket/x", "models/x", "pvc://", "pvc://models/../x"] {
            let problems = content(serving(uri)).unwrap_err();
            assert_eq!((problems[0].field.as_str(), problems[0].value.as_str()), ("spec.model.uri", uri));
        }
    }

    #[test]
    fn a_template_that_is_too_long_is_refused_by_its_length() {
        let mut spec = serving("pvc://models/1");
        spec["template"]["spec"]["containers"][0]["args"] = vec!["word"; 40_000].into();
        let problems = content(spec).unwrap_err();
        assert_eq!((problems.len(), problems[0].field.as_str()), (1, "spec.template"));
        assert!(problems[0].to_string().contains("make it at most 262144 bytes"), "{}", problems[0]);
    }

    #[test]
    fn what_serves_may_be_longer_than_a_spec_is_allowed_to_be() {
        let record = |words: usize| {
            let mut spec = serving("pvc://models/1");
            spec["template"]["spec"]["containers"][0]["args"] = vec!["word"; words].into();
            json!({"model": spec["model"], "template": spec["template"]}).to_string()
        };
        let kept = Content::of_revision(&record(50_000)).expect("it was made before there was a limit");
        assert!(kept.template.is_too_long() && kept.data().to_string().len() > 300_000);
        assert_eq!((kept.container.as_str(), kept.ports[0].number), ("c", 8080));
        assert_eq!(Content::of_revision(&record(500_000)), None);
    }

    #[test]
    fn the_same_in_other_words_is_the_same_revision() {
        let with = |extra: &str| {
            let text = format!(
                r#"{{"template": {{"spec": {{"containers": [{{"name": "c", "ports": [{{"containerPort": 80}}]{extra}}}]}}}}}}"#
            );
            Content::of_spec(&serde_json::from_str(&text).unwrap()).unwrap()
        };
        assert_eq!(with(r#", "a": 1.0, "b": null"#).hash(), with(r#", "a": 1"#).hash());
        assert_ne!(with(r#", "a": 2"#).hash(), with(r#", "a": 1"#).hash());
        let earlier = names::short_hash(with("").data().to_string().as_bytes(), HASH);
        assert!(with("").has_hash(&earlier) && with("").has_hash(with("").hash()));
    }

    #[test]
    fn a_revision_reads_back_as_it_was() {
        let content = content(serving("pvc://models/digits/7")).unwrap();
        assert_eq!(content.ports[1].name.as_deref(), Some("grpc"));
        let read = Content::of_revision(&content.data().to_string()).unwrap();
        assert_eq!(read, content);
        assert_eq!(read.hash(), content.hash());
    }
}
