//! Helm and kubectl, and the objects that they render.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use e2e::install::objects;
use e2e::operator::source_tree;
use serde_json::{Value, json};

/// The release and the namespace that all documents name.
pub(crate) const RELEASE: &str = "trainyard";
pub(crate) const NAMESPACE: &str = "trainyard-system";

static HELM: LazyLock<PathBuf> = LazyLock::new(|| built(e2e::ensure_helm()));
static KUBECTL: LazyLock<PathBuf> = LazyLock::new(|| built(e2e::ensure_kubectl()));

fn built(program: impl Future<Output = Result<PathBuf, e2e::Error>>) -> PathBuf {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(program).unwrap_or_else(|error| panic!("{error}"))
}

/// The folder of the chart.
pub(crate) fn chart() -> PathBuf {
    source_tree().join("charts/trainyard")
}

/// Runs a program with `input` as standard input: its output, or what it complained about.
fn run(program: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(source_tree())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("starting {}: {error}", program.display()));
    let mut stdin = child.stdin.take().expect("its standard input");
    // It may end without reading: that is its answer then.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (out, err) = (text(output.stdout), text(output.stderr));
    if output.status.success() { Ok(out) } else { Err(out + &err) }
}

/// Runs a command of Helm's on the chart with these values.
pub(crate) fn helm(arguments: &[&str], values: &Value) -> Result<String, String> {
    let chart = chart();
    let chart = [chart.to_str().expect("a path in UTF-8"), "--values", "-"];
    run(&HELM, &[arguments, &chart].concat(), &values.to_string())
}

/// Objects by kind, namespace and name.
#[derive(Debug, PartialEq)]
pub(crate) struct Rendered(pub(crate) BTreeMap<Id, Value>);

/// Kind, namespace (empty for none) and name.
pub(crate) type Id = (String, String, String);

impl Rendered {
    /// The objects of a YAML stream; none may be there twice.
    fn parse(text: &str) -> Self {
        let mut all = BTreeMap::new();
        for object in objects(text).expect("YAML").into_iter().filter(|object| !object.is_null()) {
            let id = id(&object);
            assert!(all.insert(id.clone(), object).is_none(), "{id:?} is there twice");
        }
        Rendered(all)
    }

    /// The only object of that kind and name.
    #[track_caller]
    pub(crate) fn one(&self, kind: &str, name: &str) -> &Value {
        let mut found = self.0.iter().filter(|((its, _, named), _)| its == kind && named == name);
        let (_, object) = found.next().unwrap_or_else(|| panic!("no {kind} {name}"));
        assert!(found.next().is_none(), "several {kind}s {name}");
        object
    }

    /// All objects of a kind.
    pub(crate) fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |((its, _, _), _)| its == kind).map(|(_, object)| object)
    }

    /// Kinds and names of what has no namespace.
    pub(crate) fn cluster_scoped(&self) -> Vec<(&str, &str)> {
        let ids = self.0.keys().filter(|(_, namespace, _)| namespace.is_empty());
        ids.map(|(kind, _, name)| (kind.as_str(), name.as_str())).collect()
    }

    /// The operator's container.
    pub(crate) fn container(&self) -> &Value {
        let mut deployments = self.of("Deployment");
        &deployments.next().expect("a Deployment")["spec"]["template"]["spec"]["containers"][0]
    }
}

/// See [`Id`].
pub(crate) fn id(object: &Value) -> Id {
    let metadata = &object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
}

/// What a release of another name, elsewhere, would be with these values.
#[track_caller]
pub(crate) fn render_as(release: &str, namespace: &str, values: &Value) -> Rendered {
    let text = helm(&["template", release, "--namespace", namespace], values);
    Rendered::parse(&text.unwrap_or_else(|complaint| panic!("{values}: {complaint}")))
}

/// What the release would be with these values.
#[track_caller]
pub(crate) fn render(values: &Value) -> Rendered {
    render_as(RELEASE, NAMESPACE, values)
}

/// What `kubectl apply -k` of a folder of the source tree would apply.
#[track_caller]
pub(crate) fn kustomize(folder: &str) -> Rendered {
    let text = run(&KUBECTL, &["kustomize", folder], "");
    Rendered::parse(&text.unwrap_or_else(|complaint| panic!("{folder}: {complaint}")))
}

/// Everything that is optional, for one namespace and another.
pub(crate) fn everything() -> Value {
    json!({
        "global": {"anything": [1, {"goes": true}]},
        "enabled": true,
        "image": {"repository": "registry.example.com:5000/ml/trainyard", "tag": "1.2.3", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
        "replicas": 2,
        "crds": {"keep": false},
        "admissionPolicies": {"furtherServiceAccounts": ["team-c:trainyard"]},
        "serviceAccount": {"name": "operator", "annotations": {"example.com/a": "b"}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]},
        ]}}},
        "priorityClassName": "system-cluster-critical",
        "podAnnotations": {"example.com/c": "d"},
        "podLabels": {"team": "platform"},
        "commonLabels": {"cost-centre": "17"},
        "logLevel": "trainyard=debug,kube=info",
        "logFormat": "text",
        "concurrency": 8,
        "listenAddress": "[::]",
        "extraArgs": ["--lease-name=trainyard"],
        "extraEnv": [{"name": "RUST_BACKTRACE", "value": "1"}],
        "networkPolicy": {
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "restrictEgress": true,
            "apiServerPorts": [6443],
            "apiServerCidrs": ["10.0.0.1/32", "fd00::1/128"],
        },
        "serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}, "interval": "1m"},
        "prometheusRule": {"enabled": true, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": true, "namespace": "monitoring"},
        "extraObjects": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "first"}, "data": {"a": "{{ untouched }}"}},
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-second'}\ndata: {a: b}\n",
        ],
    })
}
