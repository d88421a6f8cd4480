//! How runs end: failures, cancellation, time limits, conditions, deletion, crashes of the operator.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::manifest::{Job, Run, Steps, run_step, with};
use crate::objects::{
    CHILDREN, CLAIMS, EVENTS, JOBS, PODS, REVISIONS, RUNS, holds, is_live, message, name, state, text,
};
use crate::space::Space;
use crate::wait::eventually;

fn step_state<'a>(run: &'a Value, step: &str) -> &'a str {
    text(run, &format!("/status/steps/{step}/state"))
}

fn step_message<'a>(run: &'a Value, step: &str) -> &'a str {
    text(run, &format!("/status/steps/{step}/message"))
}

fn retried(step: Value, limit: u32) -> Value {
    with(step, "retries", json!({"limit": limit, "backoff": {"initial": "100ms"}}))
}

pub(crate) async fn a_failed_step_is_retried_and_then_told(space: Space) -> Result<()> {
    let once = retried(run_step("once", &[], &[("exit-code-1-0", "3")]), 1);
    space.submit(&Run::new("mended", &[once])).await?;
    let run = space.until_run("mended", "Succeeded").await?;
    ensure!(run["status"]["steps"]["once"]["attempts"] == 2, "{}", run["status"]);

    let always = retried(run_step("always", &[], &[("exit-code", "3"), ("termination-message", "boom")]), 1);
    let steps = [always, run_step("after", &["always"], &[]), run_step("beside", &[], &[])];
    let clean = run_step("clean", &[], &[]);
    space.submit(&Run::new("broken", &steps).set("spec.pipeline.finally", json!([clean]))).await?;
    let run = space.until_run("broken", "Failed").await?;
    ensure!(holds(&run, "Stalled") && holds(&run, "Failed") && holds(&run, "Finished"), "{}", run["status"]);
    ensure!(step_message(&run, "always").contains("exit code 3: boom"), "{}", step_message(&run, "always"));
    ensure!(step_message(&run, "after") == "step always failed", "{}", step_message(&run, "after"));
    for (step, wanted) in [("after", "Skipped"), ("beside", "Succeeded"), ("clean", "Succeeded")] {
        ensure!(step_state(&run, step) == wanted, "{step}: {}", run["status"]["steps"]);
    }
    ensure!(message(&run).contains("step always failed"), "{}", message(&run));
    ensure!(space.step_pods("broken", "always").await?.len() == 2, "two attempts");
    eventually("the turning points are told as events", async || {
        let events = space.objects.list(EVENTS, "").await?;
        let told = |reason: &str| {
            events.iter().any(|event| event["reason"] == reason && event["regarding"]["name"] == "broken")
        };
        ensure!(["Started", "StepRetried", "StepFailed", "Failed"].into_iter().all(told), "{} events", events.len());
        Ok(())
    })
    .await
}

pub(crate) async fn a_cancelled_run_stops_and_finishes(space: Space) -> Result<()> {
    let job = Job::torch("any", 2).runs_for("never").value()["spec"].clone();
    let steps = [
        run_step("pod", &[], &[("run-for", "never")]),
        json!({"name": "job", "train": job}),
        run_step("after", &["pod"], &[]),
    ];
    let last = with(run_step("last", &[], &[]), "when", "steps.pod.state == 'Cancelled'".into());
    space.submit(&Run::new("stopped", &steps).set("spec.pipeline.finally", json!([last]))).await?;
    eventually("three pods run", async || {
        let pods = space.objects.list(PODS, "").await?;
        ensure!(pods.iter().filter(|pod| pod["status"]["phase"] == "Running").count() == 3, "{} pods", pods.len());
        Ok(())
    })
    .await?;
    space.objects.patch(RUNS, "stopped", &json!({"spec": {"cancel": true}})).await?;
    let run = space.until_run("stopped", "Cancelled").await?;
    for (step, wanted) in [("pod", "Cancelled"), ("job", "Cancelled"), ("after", "Skipped"), ("last", "Succeeded")] {
        ensure!(step_state(&run, step) == wanted, "{step}: {}", run["status"]["steps"]);
    }
    ensure!(holds(&run, "Cancelled") && holds(&run, "Ready"), "{}", run["status"]["conditions"]);
    let pods = space.objects.list(PODS, "").await?;
    ensure!(pods.iter().all(|pod| !is_live(pod)), "{} pods", pods.len());
    let taken_up =
        space.kubectl(&["patch", "plr", "stopped", "--type=merge", "-p", r#"{"spec":{"cancel":false}}"#]).await?;
    ensure!(!taken_up.ok && taken_up.err.contains("cannot be taken up again"), "{taken_up:?}");
    Ok(())
}

pub(crate) async fn time_limits_stop_pods_and_jobs(space: Space) -> Result<()> {
    let job = Job::torch("any", 2).runs_for("never").value()["spec"].clone();
    let steps = [
        with(run_step("pod", &[], &[("run-for", "never")]), "timeout", "2s".into()),
        json!({"name": "job", "train": job, "timeout": "2s"}),
    ];
    space.submit(&Run::new("slow", &steps)).await?;
    space
        .submit(&Run::new("late", &[run_step("pod", &[], &[("run-for", "never")])]).set("spec.pipeline.timeout", "2s"))
        .await?;
    let run = space.until_run("slow", "Failed").await?;
    for step in ["pod", "job"] {
        ensure!(step_state(&run, step) == "Failed", "{step}: {}", run["status"]["steps"]);
        ensure!(step_message(&run, step).contains("not finished 2s after its start"), "{}", step_message(&run, step));
    }
    let run = space.until_run("late", "Failed").await?;
    ensure!(step_state(&run, "pod") == "Cancelled" && message(&run).contains("time ran out"), "{}", run["status"]);
    let pods = space.objects.list(PODS, "").await?;
    ensure!(pods.iter().all(|pod| !is_live(pod)), "no pod goes on: {:?}", pods.iter().map(name).collect::<Vec<_>>());
    Ok(())
}

pub(crate) async fn a_false_condition_skips_what_follows(space: Space) -> Result<()> {
    let measured = with(
        run_step("measure", &[], &[("termination-message", r#"{"accuracy": 0.5}"#)]),
        "outputs",
        json!([{"name": "accuracy", "type": "number"}]),
    );
    let gated = with(run_step("gated", &["measure"], &[]), "when", "steps.measure.outputs.accuracy >= 0.95".into());
    space.submit(&Run::new("gate", &[measured, gated, run_step("after", &["gated"], &[])])).await?;
    let run = space.until_run("gate", "Succeeded").await?;
    ensure!(step_state(&run, "gated") == "Skipped" && step_state(&run, "after") == "Skipped", "{}", run["status"]);
    ensure!(step_message(&run, "gated").starts_with("when is false: "), "{}", step_message(&run, "gated"));
    ensure!(message(&run) == "1 of 3 steps succeeded, 2 skipped", "{}", message(&run));
    Ok(())
}

pub(crate) async fn history_keeps_the_newest_runs(space: Space) -> Result<()> {
    let pipeline = Steps::new("often", &[run_step("a", &[], &[("exit-code", "$(params.code)")])])
        .set("spec.parameters", json!([{"name": "code", "default": "0"}]))
        .set("spec.successfulRunsHistoryLimit", 1)
        .set("spec.failedRunsHistoryLimit", 0);
    space.submit(&pipeline).await?;
    for number in 1..=3 {
        let code = if number == 2 { "1" } else { "0" };
        let name = format!("often-{number}");
        space.submit(&Run::of(&name, "often").argument("code", code)).await?;
        // It may be gone as soon as it has ended.
        eventually(&format!("{name} ends"), async || {
            let run = space.objects.find(RUNS, &name).await?;
            ensure!(run.is_none_or(|run| holds(&run, "Finished")), "it has not finished");
            Ok(())
        })
        .await?;
        // Kubernetes writes whole seconds: the next one ends in another.
        sleep(Duration::from_millis(1_100)).await;
    }
    eventually("one run is left", async || {
        let runs = space.objects.list(RUNS, "").await?;
        let left: Vec<&str> = runs.iter().map(name).collect();
        ensure!(left == ["often-3"], "{left:?}");
        Ok(())
    })
    .await?;
    space.until_none_of(&[PODS, REVISIONS], "trainyard.dev/run,trainyard.dev/run!=often-3").await
}

pub(crate) async fn a_deleted_run_leaves_nothing(space: Space) -> Result<()> {
    let job = Job::torch("any", 2).value()["spec"].clone();
    let steps = [run_step("a", &[], &[]), json!({"name": "b", "dependsOn": ["a"], "train": job})];
    for number in 0..6 {
        let mut run = Run::new(&format!("short-{number}"), &steps);
        if number % 3 == 0 {
            // Its pods wait for a volume, and go no further.
            run = run.set("spec.pipeline.files", json!({"size": "1Mi", "storageClassName": "none"}));
        }
        space.submit(&run).await?;
        sleep(Duration::from_millis(rand::random_range(0..1_500))).await;
        space.objects.delete(RUNS, &format!("short-{number}")).await?;
    }
    space.until_none_of(&[RUNS, JOBS, PODS, CLAIMS, REVISIONS], "").await?;
    space.until_none_of(&CHILDREN, "trainyard.dev/job").await
}

/// Six runs of a graph with a failure, a retry and a condition, while the operator is killed again and again.
pub(crate) async fn crashes_at_any_moment_change_no_run(space: Space) -> Result<()> {
    const RUN_COUNT: u32 = 6;
    let steps = |number: u32| {
        let report = ("termination-message", r#"{"n": 2}"#);
        let a = with(run_step("a", &[], &[report]), "outputs", json!([{"name": "n", "type": "integer"}]));
        let b = retried(run_step("b", &["a"], &[("exit-code-1-0", "3")]), 1);
        let c = with(run_step("c", &["a"], &[]), "when", format!("steps.a.outputs.n > {}", 1 + number % 2).into());
        [a, b, c, run_step("d", &["b"], &[("run-for", "1s")]), run_step("e", &["c", "d"], &[])]
    };
    for number in 0..RUN_COUNT {
        space.submit(&Run::new(&format!("run-{number}"), &steps(number))).await?;
        sleep(Duration::from_millis(rand::random_range(100..1_000))).await;
        space.suite.kill_operator().await;
        space.suite.ensure_operator().await?;
    }
    for number in 0..RUN_COUNT {
        let name = format!("run-{number}");
        let run = space.until(RUNS, &name, "it ends", |run| holds(run, "Finished")).await?;
        ensure!(state(&run) == "Succeeded", "{name}: {}", run["status"]);
        let skipped = if number % 2 == 0 { "Succeeded" } else { "Skipped" };
        for (step, wanted) in
            [("a", "Succeeded"), ("b", "Succeeded"), ("c", skipped), ("d", "Succeeded"), ("e", skipped)]
        {
            ensure!(step_state(&run, step) == wanted, "{name}, {step}: {}", run["status"]);
            let attempts = usize::from(step == "b") + 1;
            let pods = space.step_pods(&name, step).await?;
            let expected = if wanted == "Skipped" { 0 } else { attempts };
            ensure!(pods.len() == expected, "{name}, {step}: {} pods", pods.len());
        }
    }
    Ok(())
}
