//! The committed manifests equal what the code generates, and the chart belongs to this version of it.
//!
//! After a change of the API: `TRAINYARD_UPDATE=1 cargo test --test manifests` writes them again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Where the chart keeps the CustomResourceDefinitions, a file for each kind.
const CHART_CRDS: &str = "charts/trainyard/files/crds";

fn source_tree(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

#[track_caller]
fn read(file: &str) -> String {
    fs::read_to_string(source_tree(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[track_caller]
fn assert_generated(file: &str, objects: &[Value]) {
    let path = source_tree(file);
    let generated = trainyard::manifests::yaml(objects).expect("JSON can be written as YAML");
    if std::env::var_os("TRAINYARD_UPDATE").is_some() {
        fs::write(&path, &generated).expect("the manifest can be written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "{file} is not what the code generates: see the head of {}", file!());
}

/// The file of a CustomResourceDefinition in the chart.
fn chart_file(crd: &Value) -> String {
    format!("{}.yaml", crd["spec"]["names"]["plural"].as_str().expect("a CRD has a plural"))
}

#[test]
fn crds_are_what_the_code_generates() {
    assert_generated("crds/trainyard.dev.yaml", &trainyard::api::crds());
}

#[test]
fn the_chart_has_the_crds_that_the_code_generates_and_no_others() {
    let crds = trainyard::api::crds();
    for crd in &crds {
        assert_generated(&format!("{CHART_CRDS}/{}", chart_file(crd)), std::slice::from_ref(crd));
    }
    let files = fs::read_dir(source_tree(CHART_CRDS)).expect("the folder is there");
    let files: BTreeSet<String> =
        files.map(|file| file.expect("it can be listed").file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(files, crds.iter().map(chart_file).collect(), "a file for each kind");
}

#[test]
fn policies_are_what_the_code_generates() {
    assert_generated("charts/trainyard/files/policies.yaml", &trainyard::api::admission::policies());
}

#[test]
fn each_crd_stays_well_below_what_client_side_apply_can_carry() {
    for crd in trainyard::api::crds() {
        let size = crd.to_string().len();
        assert!(size < 200_000, "{} has {size} bytes", crd["metadata"]["name"]);
    }
}

/// The chart, its application, the image that it names, and what kustomize installs are of one version.
#[test]
fn chart_and_kustomize_are_of_this_version() {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    let yaml = |text: &str| -> Value { serde_saphyr::from_str(text).expect("YAML") };
    let chart = yaml(&read("charts/trainyard/Chart.yaml"));
    assert_eq!(chart["version"], VERSION);
    assert_eq!(chart["appVersion"], VERSION);
    let images = yaml(chart["annotations"]["artifacthub.io/images"].as_str().expect("images"));
    let reference = format!("localhost/trainyard/trainyard:{VERSION}");
    assert_eq!(images[0]["image"], reference.as_str());
    let base = yaml(&read("config/base/kustomization.yaml"));
    assert_eq!(base["labels"][0]["pairs"]["app.kubernetes.io/version"], VERSION);
}

/// What Artifact Hub shows of the resources is what there is.
#[test]
fn the_chart_advertises_every_kind() {
    let chart: Value = serde_saphyr::from_str(&read("charts/trainyard/Chart.yaml")).expect("YAML");
    let advertised = chart["annotations"]["artifacthub.io/crds"].as_str().expect("the CRDs");
    let advertised: Value = serde_saphyr::from_str(advertised).expect("YAML");
    let facts = |entry: &Value| -> Vec<String> {
        ["kind", "version", "name"].map(|field| entry[field].as_str().unwrap_or_default().to_owned()).into()
    };
    let advertised: BTreeSet<_> = advertised.as_array().expect("a list").iter().map(facts).collect();
    let crd_facts = |crd: &Value| -> Vec<String> {
        [&crd["spec"]["names"]["kind"], &crd["spec"]["versions"][0]["name"], &crd["metadata"]["name"]]
            .map(|value| value.as_str().unwrap_or_default().to_owned())
            .into()
    };
    assert_eq!(advertised, trainyard::api::crds().iter().map(crd_facts).collect());
}
