//! What Kubernetes says of a pod beside the exit code of its container, and what programs report: named, and never mistaken
//! for a success.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::images::Image;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::manifest::{Job, Run, Serving, run_step, with};
use crate::objects::{ACCOUNTS, JOBS, PODS, RUNS, condition, holds, message, name, state, text};
use crate::space::{Space, now};

pub(crate) async fn pods_on_the_hosts_network_resolve_names(space: Space) -> Result<()> {
    let job = |name| Job::torch(name, 2).runs_for("never").set("spec.template.spec.hostNetwork", true);
    space.submit(&job("host-network")).await?;
    space.submit(&job("own-policy").set("spec.template.spec.dnsPolicy", "Default")).await?;
    for (job, policy) in [("host-network", "ClusterFirstWithHostNet"), ("own-policy", "Default")] {
        for pod in space.running(job, 1, 2).await? {
            ensure!(pod["spec"]["dnsPolicy"] == policy, "{job}: {}", pod["spec"]["dnsPolicy"]);
        }
    }
    Ok(())
}

pub(crate) async fn a_pod_that_was_evicted_has_not_succeeded(space: Space) -> Result<()> {
    let words = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ";
    for (job, exit_code) in [("killed", 137), ("zero", 0)] {
        space.submit(&Job::new(job).runs_for("never").set("spec.failurePolicy.maxRestarts", 0)).await?;
        let pods = space.running(job, 1, 1).await?;
        space.until_state(job, "Running").await?;
        let ended = json!({"exitCode": exit_code, "reason": "Error", "startedAt": now(), "finishedAt": now()});
        let container = json!({
            "name": "trainer", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": ended},
        });
        let status =
            json!({"phase": "Failed", "reason": "Evicted", "message": words, "containerStatuses": [container]});
        space.objects.patch(PODS, &format!("{}/status", name(&pods[0])), &json!({"status": status})).await?;
        let job = space.until_state(job, "Failed").await?;
        ensure!(message(&job).contains("usage exceeds the total limit of containers 1Gi"), "{}", message(&job));
        ensure!(job["status"]["attempts"][0]["cause"] == "LimitExceeded", "{}", job["status"]);
    }
    Ok(())
}

pub(crate) async fn a_scheduling_gate_is_named(space: Space) -> Result<()> {
    let gates = json!([{"name": "example.com/queue"}]);
    space.submit(&Job::torch("gated", 2).set("spec.template.spec.schedulingGates", gates.clone())).await?;
    let mut step = run_step("a", &[], &[]);
    step["run"]["spec"]["schedulingGates"] = gates.clone();
    space.submit(&Run::new("gated", &[step])).await?;
    space.submit(&Serving::new("gated", 1).set("spec.template.spec.schedulingGates", gates)).await?;

    let job = space.until_state("gated", "Waiting").await?;
    ensure!(message(&job).contains("2 of 2 pods held by scheduling gate example.com/queue"), "{}", message(&job));
    let run = space.until_run("gated", "Waiting").await?;
    ensure!(message(&run).contains("scheduling gate example.com/queue"), "{}", message(&run));
    let deployment = space.until_deployment("gated", "Unschedulable").await?;
    ensure!(message(&deployment).contains("scheduling gate example.com/queue"), "{}", message(&deployment));

    let patch = json!([{"op": "remove", "path": "/spec/schedulingGates"}]).to_string();
    for pod in space.objects.list(PODS, "").await? {
        space.kubectl(&["patch", "pod", name(&pod), "--type=json", "-p", &patch]).await?.good()?;
    }
    space.until_state("gated", "Succeeded").await?;
    space.until_run("gated", "Succeeded").await?;
    space.until_deployment("gated", "Serving").await.map(drop)
}

pub(crate) async fn an_account_that_comes_later_is_waited_for(space: Space) -> Result<()> {
    const ACCOUNT: &str = "spec.template.spec.serviceAccountName";
    space.submit(&Job::new("early").set(ACCOUNT, "trainer")).await?;
    let mut step = run_step("a", &[], &[]);
    step["run"]["spec"]["serviceAccountName"] = "trainer".into();
    let template = json!({"spec": {"serviceAccountName": "trainer", "containers": [{"name": "c", "image": "i"}]}});
    let train = json!({"name": "b", "train": {"framework": "none", "template": template}});
    space.submit(&Run::new("early", &[step, train])).await?;
    space.submit(&Serving::new("early", 1).set(ACCOUNT, "trainer")).await?;

    for (kind, what) in [(JOBS, "job"), (RUNS, "run")] {
        let object = space.until(kind, "early", "it waits", |object| state(object) == "Waiting").await?;
        ensure!(message(&object).contains("serviceaccount \"trainer\" not found"), "{what}: {}", message(&object));
        ensure!(!holds(&object, "Stalled") && holds(&object, "Reconciling"), "{what}: {}", object["status"]);
    }
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trainer"}});
    space.objects.create(ACCOUNTS, &account).await?;
    space.until_state("early", "Succeeded").await?;
    space.until_run("early", "Succeeded").await?;
    space.until_deployment("early", "Serving").await.map(drop)
}

pub(crate) async fn odd_results_are_kept_or_named_and_written_once(space: Space) -> Result<()> {
    let odd = r#"{"best": null, "epochs": 3.0, "seed": 12345678901234567890, "loss": NaN, "tiny": 1e-7, "zero": -0.0}"#;
    space.submit(&Job::torch("forms", 2).runs_for("never")).await?;
    let pods = space.running("forms", 1, 2).await?;
    space.until_state("forms", "Running").await?;
    space.end_pod(&pods[0], 0, "Completed", odd).await?;
    let kept = json!({"epochs": 3, "tiny": 1e-7, "zero": 0});
    let job = space.until_job("forms", "its results", |job| job["status"]["results"] == kept).await?;

    // Counts are written some seconds later; from then on nothing is, whatever happens to the other pod.
    sleep(Duration::from_secs(6)).await;
    let before = text(&space.job("forms").await?, "/metadata/resourceVersion").to_owned();
    for touch in 0..5 {
        let patch = json!({"metadata": {"annotations": {"example.com/touch": touch.to_string()}}});
        space.objects.patch(PODS, name(&pods[1]), &patch).await?;
        sleep(Duration::from_millis(300)).await;
    }
    let after = space.job("forms").await?;
    ensure!(
        text(&after, "/metadata/resourceVersion") == before,
        "written again: {} {}",
        job["status"],
        after["status"]
    );

    space.end_pod(&pods[1], 0, "Completed", "").await?;
    let job = space.until_state("forms", "Succeeded").await?;
    ensure!(condition(&job, "ResultsRefused")["reason"] == "KeysLeftOut", "{}", job["status"]);
    for words in ["best: null", "loss: NaN is not a number in JSON", "seed: 12345678901234567890 has more digits"] {
        ensure!(message(&job).contains(words), "{}", message(&job));
    }

    let fails = run_step("evaluate", &[], &[("termination-message", r#"{"loss": NaN}"#)]);
    let fails = with(fails, "outputs", json!([{"name": "loss", "type": "number"}]));
    space.submit(&Run::new("diverged", &[fails])).await?;
    let run = space.until_run("diverged", "Failed").await?;
    ensure!(message(&run).contains("outputs.loss: NaN is not a number in JSON"), "{}", message(&run));
    Ok(())
}

pub(crate) async fn a_step_says_as_much_of_its_log_as_it_may(space: Space) -> Result<()> {
    let fails = |name: &str| run_step(name, &[], &[("exit-code", "3"), ("termination-message", "a secret in the log")]);
    let silent = with(fails("silent"), "failureLogs", "None".into());
    space.submit(&Run::new("logs", &[fails("told"), silent])).await?;
    let run = space.until_run("logs", "Failed").await?;
    let step = |name: &str| text(&run, &format!("/status/steps/{name}/message")).to_owned();
    ensure!(step("told").contains("a secret in the log"), "{}", step("told"));
    ensure!(!step("silent").contains("secret") && step("silent").contains("exit code 3"), "{}", step("silent"));
    Ok(())
}

/// What a real kubelet says: of a deadline, of a volume that grew too large, of an init container, of a long message.
pub(crate) async fn a_real_kubelets_words_are_told(space: Space) -> Result<()> {
    const HANDLES: &str = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nopen('/dev/termination-log', 'w').write('{\"epoch\": 3}')\ntime.sleep(600)";
    const FILLS: &str =
        "import time\nwith open('/scratch/x', 'wb') as file: file.write(b'0' * (64 << 20))\ntime.sleep(600)";
    let once = |name: &str| Job::new(name).set("spec.failurePolicy.maxRestarts", 0);
    let python = |job: Job, line: &str| job.command(&["python3", "-c", line]);
    let deadline = |job: Job| {
        let grace = job.set("spec.template.spec.terminationGracePeriodSeconds", 5);
        grace.set("spec.template.spec.activeDeadlineSeconds", 8)
    };
    let scratch = |job: Job| {
        let volumes = json!([{"name": "scratch", "emptyDir": {"sizeLimit": "16Mi"}}]);
        job.set("spec.template.spec.volumes", volumes)
            .set("spec.template.spec.containers.0.volumeMounts", json!([{"name": "scratch", "mountPath": "/scratch"}]))
            .set("spec.template.spec.terminationGracePeriodSeconds", 1)
    };
    let inits = |commands: &[(&str, &[&str])]| -> Value {
        let image = space.image(Image::Base);
        commands.iter().map(|(name, command)| json!({"name": name, "image": image, "command": command})).collect()
    };
    let fetch: &[&str] = &["python3", "-c", "raise FileNotFoundError('bucket data-2024 is empty')"];
    let no_data = once("no-data").shell("true").set("spec.template.spec.initContainers", inits(&[("fetch", fetch)]));
    let nothing: &[&str] = &["true"];
    let three = inits(&[("one", nothing), ("two", nothing), ("three", nothing)]);
    let long = "import json; json.dump({'losses': 'x' * 3400}, open('/dev/termination-log', 'w'))";
    let full = python(once("full"), long).set("spec.template.spec.initContainers", three);
    for job in [
        deadline(python(once("ends-with-zero"), HANDLES)),
        deadline(python(once("does-not-listen"), "import time; time.sleep(600)")),
        scratch(python(once("fills-the-disk"), FILLS)),
        no_data,
        full,
    ] {
        space.submit(&space.real(job, Image::Base)).await?;
    }
    for (job, words, cause) in [
        ("ends-with-zero", "Pod was active on the node longer than the specified deadline", "LimitExceeded"),
        ("does-not-listen", "Pod was active on the node longer than the specified deadline", "LimitExceeded"),
        ("fills-the-disk", "Usage of EmptyDir volume \"scratch\" exceeds the limit \"16Mi\"", "LimitExceeded"),
        (
            "no-data",
            "init container fetch ended with exit code 1: FileNotFoundError: bucket data-2024 is empty",
            "ExitCode",
        ),
    ] {
        let job = space.until_state(job, "Failed").await?;
        // The log's last line follows the message of an attempt.
        let told = message(&job);
        ensure!(told.contains(words), "{told}");
        ensure!(job["status"]["attempts"][0]["cause"] == cause, "{}", job["status"]);
        ensure!(job["status"]["results"].is_null(), "{}", job["status"]);
    }
    let job = space.until_state("full", "Succeeded").await?;
    ensure!(message(&job).contains("was cut off at 3072 bytes"), "{}", message(&job));
    ensure!(condition(&job, "ResultsRefused")["reason"] == "Truncated", "{}", job["status"]);
    Ok(())
}
