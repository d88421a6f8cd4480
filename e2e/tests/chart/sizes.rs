//! How large things are, against what Kubernetes can carry.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::tools::{RELEASE, everything, helm, render};

/// Client-side apply keeps the whole object in an annotation, and annotations have at most 256 KiB.
const MOST_OF_A_CRD: usize = 200_000;
/// A Secret holds at most 1 MiB, and Helm keeps a whole release in one. Far below, so that all kinds to come find room.
const MOST_OF_A_RELEASE: usize = 256 * 1024;
/// What is rendered, as people see it in a diff.
const MOST_OF_A_CHART: usize = 300_000;

#[test]
fn crds_chart_and_release_stay_far_below_their_limits() {
    for crd in render(&json!({})).of("CustomResourceDefinition") {
        let size = crd.to_string().len();
        println!("{}: {size} bytes", crd["metadata"]["name"]);
        assert!(size < MOST_OF_A_CRD, "{}: {size} bytes", crd["metadata"]["name"]);
    }
    for (what, values) in [("the defaults", json!({})), ("everything", everything())] {
        let chart = helm(&["template", RELEASE], &values).expect("it renders").len();
        let release = release_size(&values);
        println!("{what}: {chart} bytes rendered, {release} bytes of release");
        assert!(chart < MOST_OF_A_CHART, "{what}: {chart} bytes");
        assert!(release < MOST_OF_A_RELEASE, "{what}: {release} bytes");
    }
}

/// Bytes of a release as Helm stores it: JSON of the chart with all of its files, the values and what was rendered,
/// compressed, and in base64.
fn release_size(values: &serde_json::Value) -> usize {
    let release = helm(&["install", RELEASE, "--dry-run=client", "--output", "json"], values).expect("it renders");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(release.as_bytes()).expect("memory takes anything");
    data_encoding::BASE64.encode_len(encoder.finish().expect("memory takes anything").len())
}
