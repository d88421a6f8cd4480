//! Jobs that the apiserver stores and then will not make pods for, or not yet.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use trainyard::names::{self, AddressFamily};

use crate::manifest::Job;
use crate::objects::{
    Kind, NAMESPACES, PODS, QUOTAS, SERVICES, SLICES, condition, holds, message, name, restarts, state, uid,
};
use crate::space::Space;
use crate::wait::{eventually, eventually_within};

/// A name that is taken is looked at again every minute.
const UNTIL_FREED: Duration = Duration::from_secs(90);

pub(crate) async fn a_pod_that_the_apiserver_refuses_stalls_its_job_alone(space: Space) -> Result<()> {
    let typo = json!([{"name": "trainer", "image": "example/digits:1", "imagee": "example/digits:1"}]);
    space.submit(&Job::new("typo").set("spec.template.spec.containers", typo)).await?;
    space.submit(&Job::new("good")).await?;
    let job = space.until_state("typo", "Refused").await?;
    ensure!(holds(&job, "Stalled") && !holds(&job, "Reconciling"), "{}", job["status"]);
    ensure!(message(&job).contains(r#"unknown field "spec.containers[0].imagee""#), "{}", message(&job));
    let line = space.kubectl(&["get", "tj", "typo", "--no-headers"]).await?.good()?;
    ensure!(line.contains("Refused") && line.contains("imagee"), "{line}");
    if space.suite.has_fake_nodes {
        space.until_state("good", "Succeeded").await?;
    }

    // Corrected, it goes on at once and not after the five minutes of another try; it never had a pod, so nothing is suspended.
    let mended = json!([{"name": "trainer", "image": "example/digits:1"}]);
    let corrected = json!({"nodes": 1, "sharedMemory": "64Mi", "template": {"spec": {"containers": mended}}});
    space.edit("typo", json!({"spec": corrected})).await?;
    eventually("a pod is made", async || {
        ensure!(space.pods("typo").await?.len() == 1, "there is none");
        Ok(())
    })
    .await?;
    space.until_job("typo", "it is not stalled", |job| !holds(job, "Stalled")).await.map(drop)
}

pub(crate) async fn pod_security_is_told_in_its_own_words(space: Space) -> Result<()> {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    space.cluster().patch(NAMESPACES, &space.namespace, &json!({"metadata": {"labels": labels}})).await?;
    space.submit(&Job::torch("rooted", 2)).await?;
    let job = space.until_state("rooted", "Refused").await?;
    ensure!(holds(&job, "Stalled"), "{}", job["status"]);
    ensure!(message(&job).contains("violates PodSecurity \"restricted:latest\""), "{}", message(&job));
    ensure!(space.pods("rooted").await?.is_empty(), "a pod was made");

    // A pod that keeps the rules may run there: nothing that the operator adds breaks them.
    let context = json!({
        "runAsNonRoot": true, "runAsUser": 1000, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    });
    let job = Job::torch("modest", 2).set("spec.template.spec.containers.0.securityContext", context);
    space.submit(&job).await?;
    eventually("the modest job has its pods", async || {
        ensure!(space.pods("modest").await?.len() == 2, "not yet");
        Ok(())
    })
    .await
}

pub(crate) async fn a_job_waits_for_quota_and_goes_on(space: Space) -> Result<()> {
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}});
    space.objects.create(QUOTAS, &quota).await?;
    eventually("the quota is counted", async || {
        let quota = space.objects.get(QUOTAS, "few").await?;
        ensure!(quota["status"]["hard"]["pods"] == "1", "{}", quota["status"]);
        Ok(())
    })
    .await?;
    space.submit(&Job::torch("patient", 2).runs_for("never")).await?;
    let job = space.until_state("patient", "QuotaExceeded").await?;
    ensure!(holds(&job, "Reconciling") && !holds(&job, "Stalled"), "{}", job["status"]);
    ensure!(condition(&job, "Reconciling")["reason"] == "QuotaExceeded", "{}", job["status"]);
    ensure!(message(&job).contains("exceeded quota: few"), "{}", message(&job));

    space.objects.patch(QUOTAS, "few", &json!({"spec": {"hard": {"pods": "5"}}})).await?;
    space.running("patient", 1, 2).await?;
    let job = space.until_state("patient", "Running").await?;
    ensure!(restarts(&job) == 0, "waiting is no failure: {}", job["status"]);
    space.finish("patient").await?;
    space.until_state("patient", "Succeeded").await.map(drop)
}

/// One job for each kind of child; each finds another's object under the name that the child would have.
pub(crate) async fn a_foreign_object_under_a_childs_name_is_left_alone(space: Space) -> Result<()> {
    let mut planted = Vec::new();
    for (job, kind) in [("robbed-of-pod", PODS), ("robbed-of-service", SERVICES), ("robbed-of-slice", SLICES)] {
        // Suspended, so that its children's names are known before it makes them.
        let manifest = Job::torch(job, 2).runs_for("never").set("spec.suspend", true);
        let job_uid = space.submit_for_uid(&manifest).await?;
        let foreign = space.objects.create(kind, &foreign(job, &job_uid, kind)).await?;
        space.edit(job, json!({"spec": {"suspend": false}})).await?;
        planted.push((job, kind, foreign));
    }
    for (job, _, foreign) in &planted {
        let job = space.until_state(job, "NameTaken").await?;
        ensure!(holds(&job, "Stalled") && message(&job).contains(name(foreign)), "{}", job["status"]);
        ensure!(message(&job).contains("delete it or rename the job"), "{}", message(&job));
    }
    for (_, kind, foreign) in &planted {
        let now = space.objects.get(*kind, name(foreign)).await?;
        ensure!(uid(&now) == uid(foreign), "it was replaced");
        ensure!(now["metadata"]["ownerReferences"].is_null(), "{}", now["metadata"]);
        ensure!(now["metadata"]["resourceVersion"] == foreign["metadata"]["resourceVersion"], "{}", now["metadata"]);
        space.objects.delete(*kind, name(foreign)).await?;
    }
    for (job, ..) in &planted {
        eventually_within(UNTIL_FREED, &format!("{job} goes on"), async || {
            let job = space.job(job).await?;
            ensure!(state(&job) == "Running", "{}", message(&job));
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Somebody else's object with the name of a child of the job.
fn foreign(job: &str, job_uid: &str, kind: Kind) -> Value {
    let service = names::service(job, job_uid);
    if kind == PODS {
        let pod = names::pod(job, job_uid, names::ROLE_WORKER, 1, 1);
        // It waits for a scheduler that does not exist, and so nobody else changes it either.
        let spec = json!({"schedulerName": "nobody", "containers": [{"name": "other", "image": "example/other:1"}]});
        json!({"metadata": {"name": pod}, "spec": spec})
    } else if kind == SERVICES {
        json!({"metadata": {"name": service}, "spec": {"ports": [{"port": 80}]}})
    } else {
        let slice = names::endpoint_slice(job, job_uid, AddressFamily::V4);
        json!({"metadata": {"name": slice}, "addressType": "IPv4", "endpoints": []})
    }
}
