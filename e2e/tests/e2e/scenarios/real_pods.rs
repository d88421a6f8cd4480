//! What only a real kubelet can show: ends, logs, limits, Pod Security, and pods that take their time to go.

use anyhow::{Result, bail, ensure};
use e2e::images::Image;
use serde_json::{Value, json};

use crate::manifest::Job;
use crate::objects::{JOBS, NAMESPACES, PODS, attempt, condition, holds, is_live, message, name, restarts, text};
use crate::space::Space;
use crate::wait::eventually;

/// A pod that runs until it is ended, and does not listen to SIGTERM: as process 1 without a handler.
const FOR_EVER: &str = "sleep infinity";

pub(crate) async fn suspended_and_resumed(space: Space) -> Result<()> {
    space.submit(&space.real(Job::torch("paused", 2).shell(FOR_EVER), Image::Base)).await?;
    space.running("paused", 1, 2).await?;
    space.until_state("paused", "Running").await?;
    space.edit("paused", json!({"spec": {"suspend": true}})).await?;
    let job = space.until_state("paused", "Suspended").await?;
    ensure!(holds(&job, "Suspended") && restarts(&job) == 0, "{}", job["status"]);
    ensure!(!space.pods("paused").await?.iter().any(is_live), "pods live on");

    let quick = "echo done > /dev/termination-log; true";
    let command = json!(["sh", "-ec", quick]);
    let mut template = job["spec"]["template"].clone();
    template["spec"]["containers"][0]["command"] = command;
    space.edit("paused", json!({"spec": {"suspend": false, "template": template}})).await?;
    let job = space.until_state("paused", "Succeeded").await?;
    ensure!(attempt(&job) == 2 && restarts(&job) == 0, "{}", job["status"]);
    // What was said was no JSON object.
    ensure!(holds(&job, "ResultsRefused"), "{}", job["status"]);
    Ok(())
}

pub(crate) async fn a_deadline_ends_pods_that_do_not_listen(space: Space) -> Result<()> {
    let job = Job::torch("endless", 2).shell(FOR_EVER).set("spec.activeDeadline", "20s");
    space.submit(&space.real(job, Image::Base)).await?;
    space.running("endless", 1, 2).await?;
    let job = space.until_state("endless", "Failed").await?;
    ensure!(condition(&job, "Failed")["reason"] == "DeadlineExceeded", "{}", job["status"]);
    eventually("its pods have ended", async || {
        ensure!(!space.pods("endless").await?.iter().any(is_live), "some live");
        Ok(())
    })
    .await
}

pub(crate) async fn results_and_the_end_of_the_log_are_told(space: Space) -> Result<()> {
    let reports = r#"echo '{"accuracy": 0.97, "model": "a \"quoted\" name"}' > /dev/termination-log"#;
    space.submit(&space.real(Job::new("reports").shell(reports), Image::Base)).await?;
    let fails = "seq 1 200; echo 'ValueError: no such column: age'; exit 3";
    let job = Job::new("fails").shell(fails).set("spec.failurePolicy.maxRestarts", 0);
    space.submit(&space.real(job, Image::Base)).await?;
    let job = Job::new("secretive").shell(fails).set("spec.failurePolicy.maxRestarts", 0);
    space.submit(&space.real(job.set("spec.failureLogs", "None"), Image::Base)).await?;

    let job = space.until_state("reports", "Succeeded").await?;
    let wanted = json!({"accuracy": 0.97, "model": "a \"quoted\" name"});
    ensure!(job["status"]["results"] == wanted, "{}", job["status"]);
    kept_for_its_log(&space, "reports").await?;

    let job = space.until_state("fails", "Failed").await?;
    let record = &job["status"]["attempts"][0];
    ensure!(record["cause"] == "ExitCode" && record["exitCode"] == 3, "{record}");
    ensure!(record["container"] == "trainer" && record["rank"] == 0, "{record}");
    ensure!(text(record, "/logTail").ends_with("ValueError: no such column: age"), "{record}");
    ensure!(message(&job).contains("ValueError: no such column: age"), "{}", message(&job));
    kept_for_its_log(&space, "fails").await?;
    let log = space.kubectl(&["logs", "-l", "trainyard.dev/job=fails", "--tail=-1"]).await?.good()?;
    ensure!(log.lines().count() == 201, "{log}");

    let job = space.until_state("secretive", "Failed").await?;
    ensure!(!job["status"].to_string().contains("ValueError"), "{}", job["status"]);
    Ok(())
}

/// The one pod of a finished job ends by itself and stays.
async fn kept_for_its_log(space: &Space, job: &str) -> Result<()> {
    eventually("the pod's phase follows its containers", async || {
        let pods = space.pods(job).await?;
        let [pod] = pods.as_slice() else { bail!("{} pods", pods.len()) };
        ensure!(pod["metadata"]["deletionTimestamp"].is_null(), "{} is being deleted", name(pod));
        ensure!(!is_live(pod), "{} is {}", name(pod), text(pod, "/status/phase"));
        Ok(())
    })
    .await
}

pub(crate) async fn memory_is_named_as_the_cause(space: Space) -> Result<()> {
    let job = Job::new("greedy")
        .command(&["python3", "-c", "x = bytearray(300 << 20); import time; time.sleep(60)"])
        .set("spec.template.spec.containers.0.resources.limits.memory", "64Mi")
        .set("spec.failurePolicy.maxRestarts", 0);
    space.submit(&space.real(job, Image::Base)).await?;
    let job = space.until_state("greedy", "Failed").await?;
    let record = &job["status"]["attempts"][0];
    ensure!(record["cause"] == "OutOfMemory" && record["exitCode"] == 137, "{record}");
    ensure!(message(&job).contains("raise the memory limit"), "{}", message(&job));
    Ok(())
}

pub(crate) async fn restricted_namespaces_run_restricted_pods(space: Space) -> Result<()> {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    space.cluster().patch(NAMESPACES, &space.namespace, &json!({"metadata": {"labels": labels}})).await?;
    // Two pods, so that what Trainyard adds to them (shared memory, names) has to pass as well.
    let job = Job::torch("careful", 2).shell("id -u; test -w /dev/shm").restricted().set("spec.sharedMemory", "64Mi");
    space.submit(&space.real(job, Image::Base)).await?;
    space.submit(&space.real(Job::new("careless").shell("true"), Image::Base)).await?;
    space.until_state("careful", "Succeeded").await?;
    let log = space.kubectl(&["logs", "-l", "trainyard.dev/job=careful"]).await?.good()?;
    ensure!(log.lines().eq(["65532", "65532"]), "{log}");
    let job = space.until_state("careless", "Refused").await?;
    ensure!(message(&job).contains("violates PodSecurity"), "{}", message(&job));
    Ok(())
}

/// Of jobs that run, of jobs that have ended, and of jobs that tidy up after themselves.
pub(crate) async fn nothing_is_left(space: Space) -> Result<()> {
    let running = space.real(Job::torch("running", 2).shell(FOR_EVER), Image::Base);
    space.submit(&running).await?;
    space.submit(&space.real(Job::new("ended").shell("true"), Image::Base)).await?;
    let tidy = Job::new("tidy").shell("true").set("spec.podsAfterFinished", "1s");
    space.submit(&space.real(tidy, Image::Base)).await?;
    space.running("running", 1, 2).await?;
    space.until_state("ended", "Succeeded").await?;
    space.until_state("tidy", "Succeeded").await?;
    eventually("the tidy job has no pods", async || {
        let pods = space.objects.list(PODS, "trainyard.dev/job=tidy").await?;
        ensure!(pods.is_empty(), "{} are left", pods.len());
        Ok(())
    })
    .await?;
    for job in ["running", "ended", "tidy"] {
        space.objects.delete(JOBS, job).await?;
    }
    space.until_nothing_is_left().await?;

    // The same name at once: its pods are others.
    space.submit(&running).await?;
    let pods: Vec<Value> = space.running("running", 1, 2).await?;
    ensure!(pods.iter().all(is_live), "{} pods", pods.len());
    Ok(())
}
