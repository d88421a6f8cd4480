//! Operators that meet: of the same cluster, of single namespaces; and resource definitions of another version.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use e2e::install::objects;
use e2e::operator::{OPERATOR_NAMESPACE, SERVICE_ACCOUNT, source_tree};
use e2e::release::without_pods;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::manifest::{Job, Run, Serving, run_step};
use crate::metrics::Samples;
use crate::objects::{LEASES, NAMESPACES, Objects, ROLE_BINDINGS, ROLES};
use crate::scenarios::namespaces::{Member, refused};
use crate::space::Space;
use crate::target::RUN_LABEL;
use crate::wait::eventually;

/// ServiceAccount of the release `team`.
const TEAM: &str = "team-trainyard";

/// Two operators of the whole cluster, with Leases in two namespaces: the second says so and does nothing, until the
/// first has gone.
pub(crate) async fn a_second_operator_of_the_cluster_does_nothing(space: Space) -> Result<()> {
    // No operator serves the namespace of its own Lease.
    let elsewhere = format!("{}-2", space.namespace);
    let labels = json!({(RUN_LABEL): space.suite.run});
    space.cluster().create(NAMESPACES, &json!({"metadata": {"name": elsewhere, "labels": labels}})).await?;
    let met = with_a_second(&space, &Objects::namespaced(space.suite.client.clone(), &elsewhere), &elsewhere).await;
    let removed = space.cluster().delete(NAMESPACES, &elsewhere).await;
    met.and(removed)
}

async fn with_a_second(space: &Space, there: &Objects, elsewhere: &str) -> Result<()> {
    let leases = json!({
        "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"],
    });
    there.create(ROLES, &json!({"metadata": {"name": "leases"}, "rules": [leases]})).await?;
    let binding = json!({
        "metadata": {"name": "leases"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "leases"},
        "subjects": [{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": OPERATOR_NAMESPACE}],
    });
    there.create(ROLE_BINDINGS, &binding).await?;
    let met = meet_a_second(space, elsewhere).await;
    // A Lease that is left would hold up the next operator.
    let removed = there.delete(LEASES, "trainyard").await;
    met.and(removed)
}

async fn meet_a_second(space: &Space, lease_namespace: &str) -> Result<()> {
    let account = (OPERATOR_NAMESPACE, SERVICE_ACCOUNT);
    let second = space.suite.spawn_another(account, &["--lease-namespace", lease_namespace]).await?;
    eventually("the second says so", async || {
        let log = second.log();
        ensure!(log.contains("doing nothing") && log.contains(OPERATOR_NAMESPACE), "{log}");
        ensure!(!second.is_ready().await, "it is ready");
        Ok(())
    })
    .await?;
    space.submit(&Job::new("of-the-first")).await?;
    space.until_state("of-the-first", "Succeeded").await?;
    let written = Samples::parse(&second.metrics().await?).sum("trainyard_api_requests_total", &[]);
    ensure!(written == 0.0, "the second has sent {written} requests");

    space.suite.stop_operator().await?;
    second.until_ready().await?;
    space.submit(&Job::new("of-the-second")).await?;
    space.until_state("of-the-second", "Succeeded").await?;
    second.stop().await
}

/// A namespace with a release of its own, in a namespace beside it: that one serves it under rights in that namespace alone, and
/// the cluster's operator leaves it alone until the release is gone.
pub(crate) async fn a_namespace_with_an_operator_of_its_own_is_left_to_it(space: Space) -> Result<()> {
    let operators = format!("{}-op", space.namespace);
    let labels = json!({(RUN_LABEL): space.suite.run});
    space.cluster().create(NAMESPACES, &json!({"metadata": {"name": operators, "labels": labels}})).await?;
    let release = space.suite.release.another("team", &operators);
    let served = async {
        // The policies of the cluster have to know its operator.
        let mut values = without_pods();
        values["admissionPolicies"] = json!({"furtherServiceAccounts": [format!("{operators}:{TEAM}")]});
        space.suite.release.install(&values).await?;
        release.install(&for_namespaces(&[space.namespace.as_str()])).await?;
        serve_alone(&space, &operators).await
    }
    .await;
    let removed = release.uninstall().await;
    let restored = space.suite.release.install(&without_pods()).await;
    served.and(removed).and(restored)?;
    ensure!(space.objects.find(LEASES, "trainyard").await?.is_none(), "its Lease is left");
    space.cluster().delete(NAMESPACES, &operators).await?;
    space.submit(&Job::new("of-the-clusters")).await?;
    space.until_state("of-the-clusters", "Succeeded").await.map(drop)
}

async fn serve_alone(space: &Space, operators: &str) -> Result<()> {
    let namespace = space.namespace.as_str();
    // Who may edit the namespace finds no ServiceAccount of the operator's there.
    let editor = Member::join(space, namespace, "edit").await?;
    refused(&editor.kubectl(namespace, &["create", "token", TEAM], "").await?, "not found")?;
    refused(&editor.kubectl(operators, &["create", "token", TEAM], "").await?, "forbidden")?;
    let own = space.suite.spawn_another((operators, TEAM), &["--namespaces", namespace]).await?;
    own.until_ready().await?;
    let before = space.suite.audit.as_ref().context("no audit log")?.writes()?;
    space.submit(&Job::torch("job", 2)).await?;
    space.submit(&Serving::new("serving", 1)).await?;
    space.submit(&Run::new("run", &[run_step("step", &[], &[])])).await?;
    space.until_state("job", "Succeeded").await?;
    space.until_serving("serving").await?;
    space.until_run("run", "Succeeded").await?;
    let after = space.suite.audit.as_ref().context("no audit log")?.writes()?;
    let here = |writes: &BTreeMap<String, usize>| {
        let suffix = format!(" in {namespace}");
        writes.iter().filter(|(what, _)| what.ends_with(&suffix)).map(|(_, count)| count).sum::<usize>()
    };
    ensure!(here(&before) == here(&after), "the cluster's operator has written here");
    let log = own.log();
    let refused = log.lines().find(|line| line.to_lowercase().contains("forbidden") || line.contains("cannot list"));
    ensure!(refused.is_none(), "{refused:?}");
    own.stop().await
}

/// Values of a further release that serves these namespaces, without pods.
fn for_namespaces(namespaces: &[&str]) -> Value {
    let mut values = without_pods();
    values["watchNamespaces"] = json!(namespaces);
    values["crds"] = json!({"enabled": false});
    values["admissionPolicies"] = json!({"enabled": false});
    values["rbac"] = json!({"aggregate": false});
    values
}

/// Resource definitions of another version: the operator says what is missing, and carries on.
pub(crate) async fn missing_fields_are_told(space: Space) -> Result<()> {
    let release = &space.suite.release;
    let chart = space.suite.log_of("old-chart").with_extension("");
    let old = release.of_chart(&write_old_chart(&chart).await?);
    let outcome = async {
        old.install(&without_pods()).await?;
        with_an_old_definition(&space).await
    }
    .await;
    let restored = release.install(&without_pods()).await;
    outcome.and(restored)
}

/// The chart of a version that did not know `revisionHistoryLimit`.
async fn write_old_chart(folder: &Path) -> Result<PathBuf> {
    let chart = source_tree().join("charts/trainyard");
    let copied = Command::new("cp").arg("--recursive").args([&chart, folder]).status().await.context("starting cp")?;
    ensure!(copied.success(), "the chart could not be copied");
    let file = folder.join("files/crds/modeldeployments.yaml");
    let mut crd = objects(&fs::read_to_string(&file).context("reading a CRD")?)?.remove(0);
    let spec = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties");
    let removed = spec.and_then(Value::as_object_mut).and_then(|fields| fields.remove("revisionHistoryLimit"));
    ensure!(removed.is_some(), "the CRD has no such field");
    // JSON is YAML.
    fs::write(&file, crd.to_string()).context("writing a CRD")?;
    Ok(folder.to_owned())
}

async fn with_an_old_definition(space: &Space) -> Result<()> {
    // Schemas are published some time after they have changed, and looked at when the operator starts.
    eventually("the old schema is published", async || {
        let said = space.kubectl(&["explain", "md.spec.revisionHistoryLimit"]).await?;
        ensure!(!said.ok, "{}", said.out);
        Ok(())
    })
    .await?;
    space.suite.stop_operator().await?;
    space.suite.ensure_operator().await?;
    eventually("the field is told", async || {
        let operator = space.suite.operator().await;
        let operator = operator.as_ref().context("no operator runs")?;
        let log = operator.log();
        ensure!(log.contains("spec.revisionHistoryLimit"), "{log}");
        let missing = Samples::parse(&operator.metrics().await?).sum("trainyard_missing_fields", &[]);
        ensure!(missing == 1.0, "{missing} fields are missing");
        Ok(())
    })
    .await?;
    space.submit(&Serving::new("serving", 1)).await?;
    space.until_serving("serving").await.map(drop)
}
