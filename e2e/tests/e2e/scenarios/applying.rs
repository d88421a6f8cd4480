//! The same manifests applied again change nothing, as GitOps tools do all day.

use std::fs;

use anyhow::{Result, ensure};
use e2e::install::objects as parse;
use e2e::operator::source_tree;
use serde_json::{Value, json};

use crate::kubectl::Kubectl;
use crate::manifest::{Job, Serving};
use crate::objects::{JOBS, MODEL_DEPLOYMENTS, PIPELINES, RUNS, name};
use crate::space::Space;
use crate::target::manifests;

pub(crate) async fn manifests_applied_twice_change_nothing(space: Space) -> Result<()> {
    for (path, objects) in manifests()? {
        let path = path.to_string_lossy();
        ensure!(!objects.is_empty(), "{path} is empty");
        // The first apply of each way leaves its mark (an annotation, a field manager); the second must not.
        let ways = [&["apply", "--server-side", "--force-conflicts", "-f", &path][..], &["apply", "-f", &path]];
        for way in ways {
            let kubectl = &space.suite.kubectl;
            kubectl.run(way, "").await?.good()?;
            let before = versions(kubectl, &path).await?;
            kubectl.run(way, "").await?.good()?;
            let after = versions(kubectl, &path).await?;
            ensure!(before == after, "{way:?} changed {before} to {after}");
        }
    }
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

/// Name, resourceVersion and generation of everything in a manifest.
async fn versions(kubectl: &Kubectl, path: &str) -> Result<Value> {
    let list = kubectl.run(&["get", "-f", path, "-o", "json"], "").await?.good()?;
    let list: Value = serde_json::from_str(&list)?;
    let items = list["items"].as_array().cloned().unwrap_or_else(|| vec![list.clone()]);
    let version = |object: &Value| {
        let meta = &object["metadata"];
        json!([meta["name"], meta["resourceVersion"], meta["generation"]])
    };
    Ok(items.iter().map(version).collect())
}

async fn generations(space: &Space) -> Result<Value> {
    let mut ours = Vec::new();
    for kind in [JOBS, MODEL_DEPLOYMENTS, PIPELINES, RUNS] {
        ours.extend(space.objects.list(kind, "").await?);
    }
    Ok(ours.iter().map(|object| json!([name(object), object["metadata"]["generation"]])).collect())
}
