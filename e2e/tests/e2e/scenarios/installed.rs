//! What an installation looks like.

use std::fs;

use anyhow::{Context, Result, ensure};
use e2e::operator::source_tree;
use serde_json::Value;

use crate::manifest::Job;
use crate::objects::{CRDS, POLICIES, holds};
use crate::space::Space;
use crate::wait::eventually;

/// What decides at admission.
const POLICY: &str = "ValidatingAdmissionPolicy";

pub(crate) async fn resources_and_policies_are_accepted(space: Space) -> Result<()> {
    for plural in ["trainingjobs", "modeldeployments", "pipelines", "pipelineruns"] {
        let crd = space.cluster().get(CRDS, &format!("{plural}.trainyard.dev")).await?;
        for type_ in ["Established", "NamesAccepted"] {
            ensure!(holds(&crd, type_), "not {type_}: {}", crd["status"]["conditions"]);
        }
        ensure!(!holds(&crd, "NonStructuralSchema"), "{}", crd["status"]["conditions"]);
    }
    for policy in trainyard::api::admission::policies().iter().filter(|policy| policy["kind"] == POLICY) {
        let name = policy["metadata"]["name"].as_str().unwrap_or_default();
        // The apiserver checks a policy's expressions against the resource's schema some time after it was made.
        let policy = eventually("the policy is checked", async || {
            let policy = space.cluster().get(POLICIES, name).await?;
            ensure!(policy["status"]["observedGeneration"] == policy["metadata"]["generation"], "{}", policy["status"]);
            Ok(policy)
        })
        .await?;
        let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
        ensure!(warnings.is_null(), "{name}: {warnings:#}");
    }

    // The apiserver publishes the schemas of new resources some time later, too.
    let explained = async || space.kubectl(&["explain", "tj.spec.nodes"]).await?.good();
    let explained = eventually("the resource is explained", explained).await?;
    ensure!(explained.contains("PyTorch calls nodes"), "{explained}");
    let listed = space.kubectl(&["get", "trainyard"]).await?;
    ensure!(listed.ok && listed.err.contains("No resources found"), "the category: {listed:?}");
    Ok(())
}

/// What earlier releases have stored is still admitted, every field known. `tests/golden.rs` reads it without a cluster.
pub(crate) async fn stored_objects_are_still_admitted(space: Space) -> Result<()> {
    let versions = fs::read_dir(source_tree().join("tests/golden/v1alpha1")).context("tests/golden")?;
    let mut files = 0;
    for version in versions {
        for file in fs::read_dir(version?.path())? {
            let text =
                fs::read_to_string(file?.path())?.replace("namespace: ml", &format!("namespace: {}", space.namespace));
            let arguments = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
            space.kubectl_with(&arguments, &text).await?.good()?;
            files += 1;
        }
    }
    ensure!(files >= 4, "only {files} files");
    Ok(())
}

/// Tools that wait for a status must not take an object for done that no operator has looked at.
pub(crate) async fn an_object_that_nobody_has_looked_at_says_so(space: Space) -> Result<()> {
    space.suite.stop_operator().await?;
    let job = space.submit(&Job::new("early")).await?;
    ensure!(job["status"]["observedGeneration"] == -1, "{}", job["status"]);
    ensure!(job["status"]["conditions"] == Value::Null, "{}", job["status"]);
    let line = space.kubectl(&["get", "tj", "early", "--no-headers"]).await?.good()?;
    ensure!(line.starts_with("early"), "{line}");

    space.suite.ensure_operator().await?;
    let job =
        space.until_job("early", "the operator has looked", |job| job["status"]["observedGeneration"] == 1).await?;
    ensure!(job["metadata"]["generation"] == 1, "nothing of ours writes a spec: {}", job["metadata"]);
    Ok(())
}
