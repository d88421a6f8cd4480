//! The committed manifests equal what the code generates.
//!
//! After a change of the API: `TRAINYARD_UPDATE=1 cargo test --test manifests` writes them again.

use std::path::Path;

use serde_json::Value;

#[track_caller]
fn assert_generated(file: &str, objects: &[Value]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let generated = trainyard::manifests::yaml(objects).expect("JSON can be written as YAML");
    if std::env::var_os("TRAINYARD_UPDATE").is_some() {
        std::fs::write(&path, &generated).expect("the manifest can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "{file} is not what the code generates: see the head of {}", file!());
}

#[test]
fn crds_are_what_the_code_generates() {
    assert_generated("crds/trainyard.dev.yaml", &trainyard::api::crds());
}

#[test]
fn policies_are_what_the_code_generates() {
    assert_generated("config/admission/policies.yaml", &trainyard::api::admission::policies());
}

#[test]
fn each_crd_stays_well_below_what_client_side_apply_can_carry() {
    for crd in trainyard::api::crds() {
        let size = crd.to_string().len();
        assert!(size < 200_000, "{} has {size} bytes", crd["metadata"]["name"]);
    }
}
