//! Runs that go well: values, training, deployments, files.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::manifest::{Job, Run, Serving, Steps, fake_annotation, run_step, with};
use crate::objects::{
    CLAIMS, JOBS, MODEL_DEPLOYMENTS, PIPELINES, PODS, REVISIONS, RUNS, VOLUMES, holds, label, message, name, owner,
    text, uid,
};
use crate::space::{Space, variable};
use crate::wait::eventually;

/// A value that is data, whatever it looks like.
const ODD: &str = "it's \"odd\": {a: [b]}\n- $(params.count) $(steps.count.outputs.words) $(HOME) $$ ${x} %s";

pub(crate) async fn values_pass_from_step_to_step(space: Space) -> Result<()> {
    let count = run_step("count", &[], &[("termination-message", r#"{"words": 4, "note": "n$$(params.text)"}"#)]);
    let outputs = json!([{"name": "words", "type": "integer"}, {"name": "note"}]);
    let mut tell = with(run_step("tell", &["count"], &[]), "when", "steps.count.outputs.words > params.least".into());
    tell["run"]["spec"]["containers"][0]["args"] =
        json!(["$(params.text)", "$(steps.count.outputs.words) in $(run.name)", "$$(params.text)"]);
    tell["run"]["spec"]["containers"][0]["env"] = json!([{"name": "NOTE", "value": "$(steps.count.outputs.note)"}]);
    let parameters = json!([{"name": "text"}, {"name": "least", "type": "integer", "default": 3}]);
    let pipeline = Steps::new("words", &[with(count, "outputs", outputs), tell]).set("spec.parameters", parameters);
    space.submit(&pipeline).await?;
    let run = Run::of("words-1", "words").argument("text", ODD);
    space.submit(&run).await?;

    let run = space.until_run("words-1", "Succeeded").await?;
    let status = &run["status"];
    ensure!(status["summary"] == "2/2" && holds(&run, "Complete") && holds(&run, "Finished"), "{status}");
    ensure!(status["parameters"] == json!({"text": ODD, "least": 3}), "{status}");
    ensure!(text(&run, "/status/steps/count/state") == "Succeeded", "{status}");
    ensure!(status["steps"]["count"]["outputs"]["words"] == 4, "{status}");
    ensure!(text(&run, "/status/pipeline/name") == "words" && !status["startedBy"].is_null(), "{status}");
    let pods = space.step_pods("words-1", "tell").await?;
    let [pod] = pods.as_slice() else { anyhow::bail!("{} pods of tell", pods.len()) };
    // The kubelet takes two dollar signs for one, and expands nothing then: the program gets the value as it was.
    let args = &pod["spec"]["containers"][0]["args"];
    let expected = json!([ODD.replace('$', "$$"), "4 in words-1", "$$(params.text)"]);
    ensure!(*args == expected, "{args} instead of {expected}");
    ensure!(variable(pod, "NOTE")? == "n$$(params.text)", "what a step reports is data too: {}", pod["spec"]);
    ensure!(variable(pod, "TRAINYARD_RUN")? == "words-1" && variable(pod, "TRAINYARD_STEP")? == "tell");
    ensure!(owner(pod) == uid(&run) && label(pod, "trainyard.dev/attempt") == "1", "{}", pod["metadata"]);
    let pipeline = space.until(PIPELINES, "words", "the pipeline counts its run", |pipeline| {
        pipeline["status"]["runs"]["succeeded"] == 1 && holds(pipeline, "LastRunSucceeded")
    });
    pipeline.await.map(drop)
}

/// A deploy step of two fake pods.
fn deploy(name: &str, version: &str) -> Value {
    let serving = Serving::new(name, 2).set("spec.template.spec.containers.0.args", json!([version]));
    json!({"name": "deploy", "dependsOn": ["train"], "deploy": {"name": name, "spec": serving.value()["spec"]}})
}

fn train(message: &str) -> Value {
    let job = Job::torch("any", 2).fake("termination-message", message);
    let outputs = json!([{"name": "accuracy", "type": "number"}]);
    json!({"name": "train", "outputs": outputs, "train": job.value()["spec"]})
}

pub(crate) async fn a_run_trains_and_deploys(space: Space) -> Result<()> {
    let gated = with(deploy("model", "$(params.version)"), "when", "steps.train.outputs.accuracy >= 0.95".into());
    let parameters = json!([{"name": "version"}]);
    let pipeline = Steps::new("loop", &[train(r#"{"accuracy": 0.97}"#), gated]).set("spec.parameters", parameters);
    space.submit(&pipeline).await?;
    space.submit(&Run::of("loop-1", "loop").argument("version", "one")).await?;
    let run = space.until_run("loop-1", "Succeeded").await?;
    let deployment = space.objects.get(MODEL_DEPLOYMENTS, "model").await?;
    ensure!(holds(&deployment, "Ready"), "the step waited until it is Ready: {}", deployment["status"]);
    ensure!(owner(&deployment).is_empty(), "it belongs to nobody: {}", deployment["metadata"]);
    let outputs = &run["status"]["steps"]["deploy"]["outputs"];
    ensure!(outputs["revision"] == 1 && text(outputs, "/url").starts_with("http://model."), "{outputs}");
    let jobs = space.objects.list(JOBS, "trainyard.dev/run=loop-1,trainyard.dev/step=train").await?;
    ensure!(jobs.len() == 1 && owner(&jobs[0]) == uid(&run), "{} jobs", jobs.len());

    // What others have set and the pipeline leaves out stays: here nothing, since the sample sets replicas itself.
    space.submit(&Run::of("loop-2", "loop").argument("version", "two")).await?;
    let run = space.until_run("loop-2", "Succeeded").await?;
    ensure!(run["status"]["steps"]["deploy"]["outputs"]["revision"] == 2, "{}", run["status"]["steps"]);
    space.objects.delete(RUNS, "").await?;
    space.objects.delete(PIPELINES, "").await?;
    space.until_none_of(&[JOBS, RUNS], "").await?;
    let deployment = space.objects.get(MODEL_DEPLOYMENTS, "model").await?;
    ensure!(holds(&deployment, "Ready"), "it outlives run and pipeline: {}", deployment["status"]);
    Ok(())
}

pub(crate) async fn a_run_keeps_what_it_started_with(space: Space) -> Result<()> {
    space.submit(&Run::of("early", "later")).await?;
    let run = space.until_run("early", "PipelineNotFound").await?;
    ensure!(message(&run).contains("spec.pipelineRef.name: later: there is no such Pipeline"), "{}", message(&run));
    let never = [run_step("first", &[], &[("run-for", "never")]), run_step("second", &["first"], &[])];
    space.submit(&Steps::new("later", &never)).await?;
    let run = space.until_run("early", "Running").await?;
    let hash = text(&run, "/status/pipeline/hash").to_owned();

    // Edited and then deleted while the run is under way.
    space.change(&Steps::new("later", &[run_step("other", &[], &[])])).await?;
    space.objects.delete(PIPELINES, "later").await?;
    let first = eventually("the pod of the first step runs", async || {
        let pods = space.step_pods("early", "first").await?;
        let running = pods.into_iter().find(|pod| pod["status"]["phase"] == "Running");
        running.ok_or_else(|| anyhow::anyhow!("not yet"))
    })
    .await?;
    let refused = space
        .kubectl(&["patch", "plr", "early", "--type=merge", "-p", r#"{"spec":{"arguments":[{"name":"a","value":1}]}}"#])
        .await?;
    ensure!(!refused.ok && refused.err.contains("create another run"), "{refused:?}");
    let annotations = json!({(fake_annotation("run-for")): "1ms"});
    space.objects.patch(PODS, name(&first), &json!({"metadata": {"annotations": annotations}})).await?;
    let run = space.until_run("early", "Succeeded").await?;
    let steps = run["status"]["steps"].as_object().map(|steps| steps.keys().cloned().collect::<Vec<_>>());
    ensure!(steps.as_deref() == Some(&["first".to_owned(), "second".to_owned()]), "{steps:?}");
    let records = space.objects.list(REVISIONS, "trainyard.dev/run=early").await?;
    let recorded = records.first().map(|record| text(record, "/data/pipeline/hash").to_owned());
    ensure!(recorded == Some(hash) && owner(&records[0]) == uid(&run), "{recorded:?}");
    Ok(())
}

pub(crate) async fn files_are_mounted_in_every_step(space: Space) -> Result<()> {
    let job = Job::new("any").value()["spec"].clone();
    let steps = [run_step("a", &[], &[]), json!({"name": "b", "dependsOn": ["a"], "train": job})];
    // Nobody provisions volumes for fake nodes.
    let class = space.namespace.as_str();
    let volume = json!({
        "storageClassName": class, "capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteMany"],
        "hostPath": {"path": "/nowhere"},
    });
    space.cluster().create(VOLUMES, &json!({"metadata": {"name": class}, "spec": volume})).await?;
    let files = json!({
        "size": "1Mi", "mountPath": "/data", "storageClassName": class, "accessModes": ["ReadWriteMany"],
    });
    space.submit(&Run::new("files", &steps).set("spec.pipeline.files", files)).await?;
    let run = space.until_run("files", "Succeeded").await?;
    let claim = text(&run, "/status/claim").to_owned();
    let present = space.objects.get(CLAIMS, &claim).await?;
    ensure!(owner(&present) == uid(&run), "{}", present["metadata"]);
    let mut pods = space.step_pods("files", "a").await?;
    pods.extend(space.objects.list(PODS, "trainyard.dev/job").await?);
    ensure!(pods.len() == 2, "{} pods", pods.len());
    for pod in &pods {
        let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().into_iter().flatten();
        let mounted = mounts.into_iter().any(|mount| mount["mountPath"] == "/data");
        let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let used = volumes.into_iter().any(|volume| volume["persistentVolumeClaim"]["claimName"] == claim.as_str());
        ensure!(mounted && used, "{}", pod["spec"]);
    }
    space.cluster().delete(VOLUMES, class).await
}
