//! Teams that share a cluster, each with the rights that Kubernetes' own `edit` and `view` have in its namespace.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::kubectl::Said;
use crate::manifest::{Job, Manifest, OfKind, Run, Serving, Steps, run_step};
use crate::objects::{
    JOBS, MODEL_DEPLOYMENTS, NAMESPACES, Objects, PIPELINES, PODS, ROLE_BINDINGS, ROLES, RUNS, name, state,
};
use crate::space::Space;
use crate::target::RUN_LABEL;
use crate::wait::eventually;

/// A verb, a group, and resources of it.
pub(crate) type Right<'a> = (&'a str, &'a str, &'a [&'a str]);

/// A user with rights in one namespace.
pub(crate) struct Member<'a> {
    space: &'a Space,
    user: String,
}

impl<'a> Member<'a> {
    /// With one of Kubernetes' roles.
    pub(crate) async fn join(space: &'a Space, namespace: &str, role: &str) -> Result<Self> {
        Self::bind(space, namespace, "ClusterRole", role).await
    }

    /// With these rights.
    pub(crate) async fn with(space: &'a Space, role: &str, rights: &[Right<'_>]) -> Result<Self> {
        let rule = |(verb, group, resources): &Right<'_>| json!({"verbs": [verb], "apiGroups": [group], "resources": resources});
        let role_object = json!({"metadata": {"name": role}, "rules": rights.iter().map(rule).collect::<Vec<_>>()});
        space.objects.create(ROLES, &role_object).await?;
        Self::bind(space, &space.namespace, "Role", role).await
    }

    async fn bind(space: &'a Space, namespace: &str, kind: &str, role: &str) -> Result<Self> {
        let user = format!("{role}-of-{namespace}");
        let binding = json!({
            "metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        });
        Objects::namespaced(space.suite.client.clone(), namespace).create(ROLE_BINDINGS, &binding).await?;
        Ok(Member { space, user })
    }

    pub(crate) async fn kubectl(&self, namespace: &str, arguments: &[&str], input: &str) -> Result<Said> {
        let who = ["--as", &self.user, "--namespace", namespace];
        self.space.suite.kubectl.run(&[&who[..], arguments].concat(), input).await
    }

    pub(crate) async fn create<K: OfKind>(&self, namespace: &str, manifest: &Manifest<K>) -> Result<Said> {
        self.kubectl(namespace, &["create", "-f", "-"], &manifest.value().to_string()).await
    }

    pub(crate) async fn may(&self, namespace: &str, words: &[&str]) -> Result<bool> {
        Ok(self.kubectl(namespace, &[&["auth", "can-i"], words].concat(), "").await?.ok)
    }
}

pub(crate) async fn two_teams_meet_nowhere(space: Space) -> Result<()> {
    let (ours, theirs) = (space.namespace.clone(), format!("{}-2", space.namespace));
    let labels = json!({(RUN_LABEL): space.suite.run});
    space.cluster().create(NAMESPACES, &json!({"metadata": {"name": theirs, "labels": labels}})).await?;
    let met = meet(&space, &ours, &theirs).await;
    space.cluster().delete(NAMESPACES, &theirs).await?;
    met
}

async fn meet(space: &Space, ours: &str, theirs: &str) -> Result<()> {
    let editor = Member::join(space, ours, "edit").await?;
    let viewer = Member::join(space, ours, "view").await?;
    let other = Member::join(space, theirs, "edit").await?;
    let kinds = ["trainingjobs", "modeldeployments", "pipelines", "pipelineruns"];
    // The controller manager adds our rights to Kubernetes' roles some time after the chart has brought them.
    eventually("the roles are aggregated", async || {
        for kind in kinds {
            let kind = format!("{kind}.trainyard.dev");
            ensure!(editor.may(ours, &["create", &kind]).await?, "an editor may not create {kind}");
            ensure!(viewer.may(ours, &["watch", &kind]).await?, "a viewer may not watch {kind}");
            ensure!(!viewer.may(ours, &["create", &kind]).await?, "a viewer may create {kind}");
            ensure!(!editor.may(theirs, &["get", &kind]).await?, "{kind} of others can be read");
            ensure!(!editor.may(ours, &["patch", &kind, "--subresource=status"]).await?, "status can be edited");
        }
        Ok(())
    })
    .await?;

    editor.create(ours, &Job::new("ours")).await?.good()?;
    other.create(theirs, &Job::new("theirs")).await?.good()?;
    space.until_state("ours", "Succeeded").await?;
    refused(&editor.create(theirs, &Job::new("intruder")).await?, "forbidden")?;
    refused(&editor.kubectl(theirs, &["get", "tj"], "").await?, "forbidden")?;
    refused(&editor.kubectl(ours, &["get", "tj", "--all-namespaces"], "").await?, "forbidden")?;
    refused(&viewer.create(ours, &Job::new("viewers")).await?, "forbidden")?;

    // Kubernetes' own role `edit` may write Leases, by which operators find each other.
    for (scope, is_taken) in [("cluster", false), ("", false), ("namespace", true)] {
        let said = editor.kubectl(ours, &["create", "-f", "-"], &lease(scope).to_string()).await?;
        ensure!(said.ok == is_taken, "a Lease of scope {scope:?}: {said:?}");
        ensure!(is_taken || said.err.contains("operator of the whole cluster"), "{said:?}");
    }
    let relabel = json!({"metadata": {"labels": {"trainyard.dev/scope": "cluster"}}}).to_string();
    refused(&editor.kubectl(ours, &["patch", "lease", "trainyard", "--patch", &relabel], "").await?, "whole cluster")?;
    editor.kubectl(ours, &["delete", "lease", "trainyard"], "").await?.good()?;

    // What the operator does for one team stays in its namespace, whatever the team writes.
    let elsewhere = Job::new("elsewhere").set("spec.template.metadata.namespace", theirs);
    refused(&editor.create(ours, &elsewhere).await?, "spec.template.metadata.namespace")?;
    other.create(theirs, &Steps::new("theirs", &[run_step("step", &[], &[])])).await?.good()?;
    editor.create(ours, &Run::of("borrowed", "theirs")).await?.good()?;
    space.until_run("borrowed", "PipelineNotFound").await?;
    let deployment = Serving::new("theirs", 1).set("spec.model.uri", format!("pvc://{theirs}/models"));
    editor.create(ours, &deployment).await?.good()?;
    space.until_deployment("theirs", "ClaimNotFound").await?;

    let theirs = Objects::namespaced(space.suite.client.clone(), theirs);
    eventually("their own job has ended", async || {
        let job = theirs.get(JOBS, "theirs").await?;
        ensure!(state(&job) == "Succeeded", "{}", job["status"]);
        Ok(())
    })
    .await?;
    for (kind, wanted) in [(JOBS, 1), (MODEL_DEPLOYMENTS, 0), (PIPELINES, 1), (RUNS, 0)] {
        let found = theirs.list(kind, "").await?;
        ensure!(found.len() == wanted, "{:?}", found.iter().map(name).collect::<Vec<_>>());
    }
    let pods = theirs.list(PODS, "").await?;
    ensure!(pods.iter().all(|pod| name(pod).starts_with("theirs-")), "a pod of others");
    Ok(())
}

/// A Lease as somebody would write it to pass for an operator, for ever.
fn lease(scope: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "trainyard", "labels": {"trainyard.dev/scope": scope}},
        "spec": {"holderIdentity": "x", "leaseDurationSeconds": i32::MAX},
    })
}

pub(crate) fn refused(said: &Said, words: &str) -> Result<()> {
    ensure!(!said.ok && said.err.contains(words), "{said:?}");
    Ok(())
}
