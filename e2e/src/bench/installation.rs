//! What an installation costs: its image, its sizes, and how long Helm waits for it.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use super::machine::megabytes;
use super::report::{Report, table, verdict};
use super::stage::Stage;
use crate::images;
use crate::operator::OPERATOR_NAMESPACE;
use crate::operator_binary::Build;
use crate::release::on_our_node;

/// A Secret may hold no more, and Helm keeps a release in one.
const RELEASE_BUDGET: usize = 1024 * 1024;
/// Client-side apply keeps a whole object in an annotation of at most 256 KiB.
const CRD_BUDGET: usize = 200_000;

#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// How often to install it.
    #[arg(long, default_value_t = 3)]
    pub(super) rounds: usize,
}

/// Removes everything of Trainyard from the cluster, each object included, and installs it anew. No other benchmark can
/// follow.
pub(super) async fn run(stage: &mut Stage, options: &Options, report: &mut Report) -> Result<()> {
    let image = images::operator(Build::Release, images::DEFAULT_REFERENCE).await?;
    let file = tempfile::NamedTempFile::new().context("making a file")?;
    image.write(file.path())?;
    let image_size = fs::metadata(file.path()).context("reading the image's size")?.len();
    let node = stage.node().await?;
    node.load(&image).await?;
    let values = on_our_node(&image.reference);
    stage.stop_operator().await?;
    let release = stage.release().clone();
    let mut rows = Vec::new();
    for round in 1..=options.rounds {
        release.purge().await?;
        let installed = timed(release.install(&values)).await?;
        let again = timed(release.install(&values)).await?;
        rows.push([round.to_string(), seconds(installed), seconds(again)]);
    }
    let secrets: Api<Secret> = Api::namespaced(stage.client(), OPERATOR_NAMESPACE);
    let stored = secrets.list(&ListParams::default().labels("owner=helm")).await.context("listing releases")?;
    let stored = stored.items.iter().map(|secret| serde_json::to_string(secret).map_or(0, |text| text.len())).max();
    let stored = stored.context("Helm has stored no release")?;
    let rendered = release.render(&values).await?;
    let size = |object: &Value| object.to_string().len();
    let crds: Vec<&Value> = rendered.iter().filter(|object| object["kind"] == "CustomResourceDefinition").collect();
    let crd_rows: Vec<[String; 2]> = crds
        .iter()
        .map(|crd| [crd["metadata"]["name"].as_str().unwrap_or_default().to_owned(), size(crd).to_string()])
        .collect();
    let largest = crds.iter().map(|crd| size(crd)).max().unwrap_or_default();
    report.say(&format!(
        "## Installation\n\nEverything of Trainyard removed before each round, resource definitions too; the image is on the \
         node.\n\n{}\n\n{}\n\n- the image, as an OCI archive: {}\n- rendered, as JSON: {} bytes in {} objects\n\
         - the release's Secret: {stored} bytes; limit {RELEASE_BUDGET}: {}\n- the largest resource definition: {largest} bytes; \
         budget {CRD_BUDGET}: {}",
        table(["round", "helm install --wait", "helm upgrade --wait, nothing new"], &rows),
        table(["resource definition", "bytes of JSON"], &crd_rows),
        megabytes(image_size),
        rendered.iter().map(size).sum::<usize>(),
        rendered.len(),
        verdict(stored < RELEASE_BUDGET),
        verdict(largest < CRD_BUDGET),
    ));
    Ok(())
}

async fn timed(work: impl Future<Output = Result<()>>) -> Result<f64> {
    let started = Instant::now();
    work.await?;
    Ok(started.elapsed().as_secs_f64())
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.2} s")
}
