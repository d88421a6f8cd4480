//! A release of the chart is changed, removed and put back while work is under way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use e2e::images;
use e2e::install::find;
use e2e::operator::{OPERATOR_NAMESPACE, SERVICE_ACCOUNT, WHOLE_CLUSTER, source_tree};
use e2e::release::{Release, on_our_node, without_pods};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::manifest::{Job, Run, Serving, fake_annotation, run_step};
use crate::objects::{
    JOBS, LEASES, MODEL_DEPLOYMENTS, Objects, PODS, RUNS, SECRETS, attempt, is_live, name, restarts, state, uid,
};
use crate::registry::is_long;
use crate::space::Space;
use crate::wait::eventually;

/// The release before this one is the commit before, until there are releases, or the commit that this variable names.
const PREVIOUS: &str = "TRAINYARD_PREVIOUS";

/// Where the node finds the operator of that release.
const REFERENCE: &str = "localhost/trainyard/trainyard:previous";

/// Two replicas of the operator follow each other; what they look after notices nothing.
pub(crate) async fn an_upgrade_restarts_nothing(space: Space) -> Result<()> {
    let suite = &space.suite;
    let folder = suite.log_of("previous").with_extension("");
    let previous = Previous::unpack(&folder).await?;
    println!("upgrading from the chart of {}", previous.commit.as_deref().unwrap_or("this tree"));
    let values = previous.values(&space, &folder).await?;
    let release = suite.release.of_chart(&previous.chart);
    let upgraded = async {
        ensure!(suite.move_into_a_pod(&release, &values).await?, "no node for the operator");
        let work = Work::start(&space).await?;
        suite.move_into_a_pod(&suite.release, &json!({"replicas": 2, "podAnnotations": {"upgraded": "yes"}})).await?;
        // Helm does not wait for the old ones to end.
        eventually("two operators are left", async || {
            let pods = suite.release.pods().await?.len();
            ensure!(pods == 2, "{pods} operators");
            Ok(())
        })
        .await?;
        work.goes_on(&space).await?;
        work.ends_well(&space).await
    }
    .await;
    let back = suite.move_out_of_the_pod().await;
    upgraded.and(back)
}

/// Removing the release takes away what it has put there and nothing that is a user's; put back, it takes up where it was.
pub(crate) async fn an_uninstall_keeps_what_is_the_users(space: Space) -> Result<()> {
    let suite = &space.suite;
    let removed = async {
        ensure!(suite.move_into_a_pod(&suite.release, &Value::Null).await?, "no node for the operator");
        let work = Work::start(&space).await?;
        let rendered = suite.release.render(&without_pods()).await?;
        suite.release.uninstall().await?;
        eventually("nothing of the release is left", async || left_of(&space, &rendered).await).await?;
        work.goes_on(&space).await?;
        // Nobody sees how these end but whoever comes back.
        space.finish("running").await?;
        ensure!(suite.move_into_a_pod(&suite.release, &Value::Null).await?, "no node for the operator");
        work.ends_well(&space).await
    }
    .await;
    let back = suite.move_out_of_the_pod().await;
    removed.and(back)
}

/// The ways from kustomize to Helm and from one release name to another, as the chart's README has them: what runs notices nothing.
pub(crate) async fn another_way_of_installing_takes_over(space: Space) -> Result<()> {
    let suite = &space.suite;
    let other = suite.release.another("ml", OPERATOR_NAMESPACE);
    suite.stop_operator().await?;
    let moved = move_about(&space, &other).await;
    let restored = async {
        suite.release.take_over(&without_pods()).await?;
        other.uninstall().await?;
        // Made anew, fields are no longer shared with kubectl, with which a later change would conflict.
        suite.release.uninstall().await?;
        suite.release.install(&without_pods()).await?;
        suite.ensure_operator().await
    }
    .await;
    moved.and(restored)
}

async fn move_about(space: &Space, other: &Release) -> Result<()> {
    let suite = &space.suite;
    suite.release.uninstall().await?;
    let base = source_tree().join("config/base");
    suite.kubectl.run(&["apply", "-k", &base.to_string_lossy()], "").await?.good()?;
    // The operator of these tests is a process, and one leads at a time.
    suite
        .kubectl
        .run(&["scale", "deployment", "trainyard", "-n", OPERATOR_NAMESPACE, "--replicas=0"], "")
        .await?
        .good()?;
    suite.release.until_without_pods().await?;
    suite.ensure_operator().await?;
    let job = space.submit(&Job::torch("goes-on", 2).runs_for("never")).await?;
    space.until_state("goes-on", "Running").await?;
    let before = pods(space).await?;

    let refused = suite.release.install(&without_pods()).await;
    ensure!(refused.is_err(), "Helm has taken what is not its own without being asked to");
    suite.release.take_over(&without_pods()).await?;
    space.submit(&Job::new("under-helm")).await?;
    space.until_state("under-helm", "Succeeded").await?;

    let mut values = without_pods();
    let account = format!("{OPERATOR_NAMESPACE}:{SERVICE_ACCOUNT}");
    values["admissionPolicies"] = json!({"furtherServiceAccounts": [account]});
    // What is taken over gives its rights to the other's ServiceAccount.
    suite.stop_operator().await?;
    other.take_over(&values).await?;
    suite.release.uninstall().await?;
    let operator = suite.spawn_another((OPERATOR_NAMESPACE, "ml-trainyard"), &WHOLE_CLUSTER).await?;
    operator.until_ready().await?;
    other.install(&without_pods()).await?;
    space.submit(&Job::new("under-another-name")).await?;
    space.until_state("under-another-name", "Succeeded").await?;
    operator.stop().await?;

    let after = space.until_state("goes-on", "Running").await?;
    ensure!(uid(&after) == uid(&job) && attempt(&after) == 1 && restarts(&after) == 0, "{}", after["status"]);
    ensure!(pods(space).await? == before, "pods were replaced");
    let leases = Objects::namespaced(suite.client.clone(), OPERATOR_NAMESPACE).list(LEASES, "").await?;
    ensure!(leases.len() == 1, "{} Leases", leases.len());
    Ok(())
}

async fn left_of(space: &Space, rendered: &[Value]) -> Result<()> {
    for object in rendered {
        let found = find(&space.suite.client, object).await?;
        let is_kept = object["kind"] == "CustomResourceDefinition";
        ensure!(found.is_some() == is_kept, "{} {}: {found:?}", object["kind"], object["metadata"]["name"]);
    }
    let operators = Objects::namespaced(space.suite.client.clone(), OPERATOR_NAMESPACE);
    for kind in [LEASES, SECRETS, PODS] {
        let left = operators.list(kind, "").await?;
        ensure!(left.is_empty(), "left: {:?}", left.iter().map(name).collect::<Vec<_>>());
    }
    Ok(())
}

/// A job, a deployment and a run that are under way.
struct Work {
    /// Their pods, by UID.
    pods: Vec<String>,
}

impl Work {
    async fn start(space: &Space) -> Result<Self> {
        space.submit(&Job::torch("running", 2).runs_for("never")).await?;
        space.submit(&Serving::new("serving", 2)).await?;
        let step = run_step("step", &[], &[("run-for", "never")]);
        space.submit(&Run::new("under-way", &[step])).await?;
        space.until_state("running", "Running").await?;
        space.until_serving("serving").await?;
        space.until_run("under-way", "Running").await?;
        eventually("the step's pod runs", async || {
            let pods = space.step_pods("under-way", "step").await?;
            ensure!(pods.iter().any(|pod| pod["status"]["phase"] == "Running"), "{} pods", pods.len());
            Ok(())
        })
        .await?;
        Ok(Self { pods: pods(space).await? })
    }

    /// Every pod is still the same.
    async fn goes_on(&self, space: &Space) -> Result<()> {
        ensure!(pods(space).await? == self.pods, "pods were replaced");
        for (kind, name, wanted) in
            [(JOBS, "running", "Running"), (MODEL_DEPLOYMENTS, "serving", "Serving"), (RUNS, "under-way", "Running")]
        {
            let object = space.objects.get(kind, name).await?;
            ensure!(state(&object) == wanted, "{name}: {}", object["status"]);
        }
        Ok(())
    }

    /// All of it comes to the end that it would have come to anyway, on its first pods.
    async fn ends_well(&self, space: &Space) -> Result<()> {
        let seen = pods(space).await?;
        ensure!(seen.iter().all(|pod| self.pods.contains(pod)), "pods were replaced");
        space.finish("running").await?;
        for pod in space.step_pods("under-way", "step").await?.iter().filter(|pod| is_live(pod)) {
            let annotations = json!({(fake_annotation("run-for")): "1ms"});
            space.objects.patch(PODS, name(pod), &json!({"metadata": {"annotations": annotations}})).await?;
        }
        let job = space.until_state("running", "Succeeded").await?;
        ensure!(restarts(&job) == 0 && attempt(&job) == 1, "{}", job["status"]);
        let run = space.until_run("under-way", "Succeeded").await?;
        ensure!(run["status"]["steps"]["step"]["attempts"].as_i64().unwrap_or(1) == 1, "{}", run["status"]);
        space.objects.patch(MODEL_DEPLOYMENTS, "serving", &json!({"spec": {"replicas": 3}})).await?;
        let scaled = |deployment: &Value| deployment["status"]["availableReplicas"] == 3;
        space.until(MODEL_DEPLOYMENTS, "serving", "it is scaled", scaled).await.map(drop)
    }
}

/// The UIDs of the pods that have not ended, in order.
async fn pods(space: &Space) -> Result<Vec<String>> {
    let pods = space.objects.list(PODS, "").await?;
    let mut uids: Vec<String> = pods.iter().filter(|pod| is_live(pod)).map(|pod| uid(pod).to_owned()).collect();
    uids.sort();
    Ok(uids)
}

/// The release before this one.
struct Previous {
    chart: PathBuf,
    /// Its commit; the chart of this tree is taken where there is none before it.
    commit: Option<String>,
}

impl Previous {
    /// Unpacks its chart into a folder.
    async fn unpack(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).context("making a folder")?;
        let named = std::env::var(PREVIOUS).ok().filter(|commit| !commit.is_empty());
        for commit in named.as_deref().into_iter().chain(["HEAD~1", "HEAD"]) {
            let archive = Command::new("git")
                .args(["archive", "--format=tar", commit, "charts/trainyard"])
                .current_dir(source_tree())
                .stderr(Stdio::null())
                .output()
                .await;
            // A tree may be without git, a clone have one commit only, and a commit no chart.
            if let Ok(archive) = archive
                && archive.status.success()
            {
                tar::Archive::new(archive.stdout.as_slice()).unpack(folder).context("unpacking a chart")?;
                return Ok(Self { chart: folder.join("charts/trainyard"), commit: Some(commit.to_owned()) });
            }
        }
        Ok(Self { chart: source_tree().join("charts/trainyard"), commit: None })
    }

    /// Its values: two operators, which in the long runs are of its own commit too. That takes minutes to build.
    async fn values(&self, space: &Space, folder: &Path) -> Result<Value> {
        let mut values = json!({"replicas": 2});
        if let Some(commit) = self.commit.as_deref().filter(|_| is_long()) {
            let image = images::operator_of(commit, folder, REFERENCE).await?;
            let cluster = space.suite.cluster_with_node().await?;
            cluster.node().await?.load(&image).await?;
            values["image"] = on_our_node(REFERENCE)["image"].take();
        }
        Ok(values)
    }
}
