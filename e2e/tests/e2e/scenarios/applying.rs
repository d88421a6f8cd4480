//! The same manifests applied again change nothing, as GitOps tools do all day.

use std::fs;

use anyhow::{Context, Result, ensure};
use e2e::install::objects as parse;
use e2e::operator::source_tree;
use e2e::release::without_pods;
use serde_json::{Value, json};

use crate::kubectl::Kubectl;
use crate::manifest::{Job, Serving};
use crate::objects::{JOBS, MODEL_DEPLOYMENTS, PIPELINES, RUNS, name};
use crate::space::Space;

/// What the chart renders, applied by other tools than Helm.
pub(crate) async fn manifests_applied_twice_change_nothing(space: Space) -> Result<()> {
    let applied = apply_twice(&space).await;
    space.suite.release.restore(&without_pods()).await?;
    applied
}

async fn apply_twice(space: &Space) -> Result<()> {
    let rendered = space.suite.release.render(&without_pods()).await?;
    ensure!(rendered.len() > 10, "only {} objects", rendered.len());
    let manifest = json!({"apiVersion": "v1", "kind": "List", "items": rendered}).to_string();
    // The first apply of each way leaves its mark (an annotation, a field manager); the second must not.
    let kubectl = &space.suite.kubectl;
    for way in [&["apply", "--server-side", "--force-conflicts", "-f", "-"][..], &["apply", "-f", "-"]] {
        kubectl.run(way, &manifest).await?.good()?;
        let before = versions(kubectl, &manifest).await?;
        kubectl.run(way, &manifest).await?.good()?;
        let after = versions(kubectl, &manifest).await?;
        ensure!(before == after, "{way:?} changed {before} to {after}");
        kubectl.run(&["diff", "-f", "-"], &manifest).await?.good()?;
    }
    Ok(())
}

/// A second `helm upgrade` with the same values, as Flux does it all day.
pub(crate) async fn a_release_installed_twice_changes_nothing(space: Space) -> Result<()> {
    let rendered = space.suite.release.render(&without_pods()).await?;
    let manifest = json!({"apiVersion": "v1", "kind": "List", "items": rendered}).to_string();
    space.suite.release.install(&without_pods()).await?;
    let before = versions(&space.suite.kubectl, &manifest).await?;
    space.suite.release.install(&without_pods()).await?;
    let after = versions(&space.suite.kubectl, &manifest).await?;
    ensure!(before == after, "{before} has become {after}");
    Ok(())
}

pub(crate) async fn jobs_and_samples_applied_twice_change_nothing(space: Space) -> Result<()> {
    let folder = source_tree().join("config/samples");
    let mut streams = vec![
        ("a running job".to_owned(), Job::torch("running", 2).runs_for("never").value().to_string()),
        ("a finished job".to_owned(), Job::new("finished").value().to_string()),
        ("a deployment".to_owned(), Serving::new("serving", 2).value().to_string()),
    ];
    let mut paths: Vec<_> = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml")) {
        let stream = fs::read_to_string(path)?;
        // What has no name yet is created, each time anew, and never applied.
        if !stream.contains("\n  generateName:") {
            streams.push((path.display().to_string(), stream));
        }
    }
    for (what, stream) in &streams {
        let said = space.kubectl_with(&["apply", "-f", "-"], stream).await?.good()?;
        ensure!(said.contains("created"), "{what}: {said}");
        for object in parse(stream)? {
            let kind = match object["kind"].as_str() {
                Some("TrainingJob") => JOBS,
                Some("ModelDeployment") => MODEL_DEPLOYMENTS,
                Some("Pipeline") => PIPELINES,
                Some("PipelineRun") => RUNS,
                _ => continue,
            };
            let wanted = |object: &Value| object["status"]["observedGeneration"] == 1;
            space.until(kind, name(&object), &format!("{what} is looked at"), wanted).await?;
        }
        let generation = generations(&space).await?;
        space
            .kubectl_with(&["diff", "-f", "-"], stream)
            .await?
            .good()
            .with_context(|| format!("{what}: kubectl diff"))?;
        let again = space.kubectl_with(&["apply", "-f", "-"], stream).await?.good()?;
        ensure!(again.lines().all(|line| line.ends_with("unchanged")), "{what}, applied again: {again}");
        for _ in 0..2 {
            // Another field manager, who owns the same fields with the same values.
            space.kubectl_with(&["apply", "--server-side", "-f", "-"], stream).await?.good()?;
        }
        ensure!(generations(&space).await? == generation, "{what}: a spec changed");
    }
    Ok(())
}

/// Kind, name, resourceVersion and generation of everything in a manifest. A Lease's change all the time.
async fn versions(kubectl: &Kubectl, manifest: &str) -> Result<Value> {
    let list = kubectl.run(&["get", "-f", "-", "-o", "json"], manifest).await?.good()?;
    let mut list: Value = serde_json::from_str(&list)?;
    let items: Vec<Value> = serde_json::from_value(list["items"].take())?;
    let version = |object: &Value| {
        let meta = &object["metadata"];
        json!([object["kind"], meta["name"], meta["resourceVersion"], meta["generation"]])
    };
    Ok(items.iter().filter(|object| object["kind"] != "Lease").map(version).collect())
}

async fn generations(space: &Space) -> Result<Value> {
    let mut ours = Vec::new();
    for kind in [JOBS, MODEL_DEPLOYMENTS, PIPELINES, RUNS] {
        ours.extend(space.objects.list(kind, "").await?);
    }
    Ok(ours.iter().map(|object| json!([name(object), object["metadata"]["generation"]])).collect())
}
