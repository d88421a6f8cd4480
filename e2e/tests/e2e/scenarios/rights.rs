//! Who may write what, as the apiserver decides it: users of several roles, and the operator itself.

use anyhow::{Context, Result, ensure};
use e2e::operator::{OPERATOR_NAMESPACE, OPERATOR_USER};
use serde_json::{Value, json};

use crate::kubectl::Said;
use crate::manifest::{Job, Manifest, OfKind, Run, Serving, Steps, run_step};
use crate::objects::{BUDGETS, DEPLOYMENTS, PODS, SERVICES, name, uid};
use crate::scenarios::namespaces::{Member, Right, refused};
use crate::space::Space;
use crate::wait::eventually;

/// A pod as a forger would make it for the job's next attempt.
fn forged(job: &Value) -> Value {
    let name = name(job);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{name}-forged"),
            "labels": {"trainyard.dev/job": name, "trainyard.dev/rank": "0", "trainyard.dev/attempt": "9"},
            "ownerReferences": [{
                "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "controller": true,
                "name": name, "uid": uid(job),
            }],
        },
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "forged"}]},
    })
}

pub(crate) async fn children_are_made_by_the_operator_alone(space: Space) -> Result<()> {
    let here = space.namespace.as_str();
    let job = space.submit(&Job::new("honest").runs_for("never")).await?;
    let editor = Member::join(&space, here, "edit").await?;
    let status: &[&str] = &["trainingjobs", "trainingjobs/status"];
    let teller =
        Member::with(&space, "teller", &[("get", "trainyard.dev", status), ("patch", "trainyard.dev", status)]).await?;
    let forged = forged(&job);
    let create = async |object: &Value| editor.kubectl(here, &["create", "-f", "-"], &object.to_string()).await;
    eventually("an editor may create pods", async || {
        ensure!(editor.may(here, &["create", "pods"]).await?, "not yet");
        Ok(())
    })
    .await?;
    refused(&create(&forged).await?, "only the operator adds or removes a controller")?;
    let mut harmless = forged.clone();
    harmless["metadata"]["ownerReferences"] = json!([]);
    create(&harmless).await?.good()?;
    let adopt = json!({"metadata": {"ownerReferences": forged["metadata"]["ownerReferences"]}}).to_string();
    let adopted = editor.kubectl(here, &["patch", "pod", name(&forged), "--patch", &adopt], "").await?;
    refused(&adopted, "only the operator adds or removes a controller")?;
    // An administrator of the cluster may: backups are restored like this.
    let mut restored = forged.clone();
    restored["metadata"]["name"] = json!("restored");
    space.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &restored.to_string()).await?.good()?;

    let done = json!({"status": {"message": "done", "observedGeneration": 1}}).to_string();
    let told = ["patch", "tj", "honest", "--subresource=status", "--type=merge", "-p", &done];
    eventually("rights on status are not enough", async || {
        refused(&teller.kubectl(here, &told, "").await?, "only the operator writes it")
    })
    .await?;

    // What the operator has made can be deleted by whoever may, and labelled, but not with labels of ours.
    let job = space.until_state("honest", "Running").await?;
    ensure!(job["status"]["message"] != "done", "{}", job["status"]);
    let pods = space.pods("honest").await?;
    let pod = name(pods.first().context("no pod")?);
    editor.kubectl(here, &["label", "pod", pod, "team=a"], "").await?.good()?;
    refused(&editor.kubectl(here, &["label", "pod", pod, "trainyard.dev/attempt-"], "").await?, "trainyard.dev/")?;
    editor.kubectl(here, &["delete", "pod", pod, "--wait=false"], "").await?.good().map(drop)
}

pub(crate) async fn a_revision_keeps_its_template_whatever_its_labels(space: Space) -> Result<()> {
    let here = space.namespace.as_str();
    space.submit(&Serving::new("model", 1)).await?;
    space.until_serving("model").await?;
    let editor = Member::join(&space, here, "edit").await?;
    let found = space.objects.list(DEPLOYMENTS, "trainyard.dev/deployment=model").await?;
    let revision = name(found.first().context("no Deployment")?).to_owned();
    let target = format!("deployment/{revision}");
    let said = async |arguments: &[&str]| editor.kubectl(here, arguments, "").await;
    eventually("an editor may patch Deployments", async || said(&["scale", &target, "--replicas=1"]).await?.good())
        .await?;
    refused(&said(&["set", "image", &target, "server=evil:1"]).await?, "edit ModelDeployment model")?;
    refused(&said(&["rollout", "restart", &target]).await?, "edit ModelDeployment model")?;
    refused(&said(&["label", &target, "trainyard.dev/revision-"]).await?, "trainyard.dev/")?;
    let orphan = ["patch", &target, "--type=merge", "-p", r#"{"metadata": {"ownerReferences": null}}"#];
    refused(&said(&orphan).await?, "only the operator adds or removes a controller")?;
    // An administrator may take a label off, and changes the template no more than before.
    space.kubectl(&["label", &target, "trainyard.dev/revision-"]).await?.good()?;
    refused(&said(&["set", "image", &target, "server=evil:1"]).await?, "edit ModelDeployment model")?;
    space.kubectl(&["label", &target, "trainyard.dev/revision=1"]).await?.good()?;

    // The garbage collector takes the reference off when children are to stay.
    said(&["delete", "modeldeployment", "model", "--cascade=orphan", "--wait"]).await?.good()?;
    eventually("the Deployment is nobody's", async || {
        let left = space.objects.get(DEPLOYMENTS, &revision).await?;
        ensure!(left["metadata"]["ownerReferences"].is_null(), "{}", left["metadata"]);
        Ok(())
    })
    .await?;
    said(&["set", "image", &target, "server=another:1"]).await?.good().map(drop)
}

/// What a thief of the operator's token may do to what is not Trainyard's.
pub(crate) async fn the_operator_writes_nothing_of_others(space: Space) -> Result<()> {
    let names = ["--selector=app=foreign", "--min-available=1"];
    space.kubectl(&["create", "service", "clusterip", "api-redis", "--tcp=6379:6379"]).await?.good()?;
    space.kubectl(&["create", "deployment", "foreign", "--image=i", "--replicas=0"]).await?.good()?;
    space.kubectl(&[&["create", "poddisruptionbudget", "foreign"][..], &names].concat()).await?.good()?;
    let job = space.submit(&Job::new("users").set("spec.suspend", true)).await?;
    let controlled = "controlled by an object of trainyard.dev";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let mut child = forged(&job);
    let as_operator = async |namespace: &str, arguments: &[&str], input: &Value| -> Result<Said> {
        let who = ["--as", OPERATOR_USER, "--namespace", namespace];
        space.suite.kubectl.run(&[&who[..], arguments].concat(), &input.to_string()).await
    };
    let here = space.namespace.as_str();
    for (arguments, words) in [
        (&["set", "image", "deployment/foreign", "i=evil"][..], controlled),
        (&["patch", "service", "api-redis", "-p", r#"{"spec": {"selector": {"app": "evil"}}}"#], controlled),
        (&["patch", "pdb", "foreign", "--type=merge", "-p", r#"{"spec": {"minAvailable": 0}}"#], controlled),
        (&["delete", "deployment", "foreign"], controlled),
        (&["delete", "service", "api-redis"], controlled),
        (
            &["patch", "tj", "users", "--type=merge", "-p", r#"{"spec": {"suspend": false}}"#],
            "only TrainingJobs of runs",
        ),
        (&["delete", "tj", "users"], "only TrainingJobs of runs"),
    ] {
        refused(&as_operator(here, arguments, &Value::Null).await?, words)?;
    }
    let create = ["create", "--dry-run=server", "-f", "-"];
    refused(&as_operator(here, &create, &pod).await?, controlled)?;
    as_operator(here, &create, &child).await?.good()?;
    child["metadata"]["namespace"] = json!("kube-system");
    refused(&as_operator("kube-system", &create, &child).await?, "nothing but its Lease")?;
    for (kind, kept) in [(DEPLOYMENTS, "foreign"), (SERVICES, "api-redis"), (BUDGETS, "foreign")] {
        ensure!(space.objects.find(kind, kept).await?.is_some(), "{kept} is gone");
    }
    Ok(())
}

/// Rights on our kinds in the whole cluster are no way to the accounts of the system.
pub(crate) async fn nothing_of_ours_is_in_the_systems_namespaces(space: Space) -> Result<()> {
    let job = Job::new("h7").set("spec.template.spec.serviceAccountName", "clusterrole-aggregation-controller");
    for namespace in ["kube-system", "kube-public", "kube-node-lease", OPERATOR_NAMESPACE] {
        let arguments = ["create", "--dry-run=server", "--namespace", namespace, "-f", "-"];
        let said = space.suite.kubectl.run(&arguments, &job.value().to_string()).await?;
        refused(&said, &format!("no operator serves namespace {namespace}"))?;
    }
    Ok(())
}

pub(crate) async fn a_pipeline_starts_only_what_its_author_may_start(space: Space) -> Result<()> {
    const OURS: &str = "trainyard.dev";
    let container = json!([{"name": "c", "image": "i", "ports": [{"containerPort": 8080}]}]);
    let template = json!({"spec": {"containers": container}});
    let train = json!({"name": "train", "train": {"framework": "none", "template": template}});
    let take = json!({"name": "take", "deploy": {"name": "prod", "adopt": true, "spec": {"template": template}}});
    let run = run_step("prepare", &[], &[]);
    // Who they are, what they may, a step, and what is missing for a Pipeline with it.
    let create_pods: Right<'_> = ("create", "", &["pods"]);
    let cases: [(&str, Right<'_>, &Value, &str); 3] = [
        ("runs", create_pods, &run, "create pods"),
        ("trains", ("create", OURS, &["trainingjobs"]), &train, "create trainingjobs.trainyard.dev"),
        ("deploys", ("patch", OURS, &["modeldeployments"]), &take, "patch modeldeployments.trainyard.dev"),
    ];
    let made: &[&str] = &["pipelines", "pipelineruns"];
    let author = Member::with(&space, "author", &[("create", OURS, made)]).await?;
    let starter = Member::with(&space, "starter", &[("create", OURS, &["pipelineruns"])]).await?;
    for (role, right, step, missing) in cases {
        let able = Member::with(&space, role, &[("create", OURS, made), right]).await?;
        let pipeline = Steps::new(&format!("of-{role}"), std::slice::from_ref(step));
        let inline = Run::new(&format!("inline-of-{role}"), std::slice::from_ref(step));
        attempt(&space, &author, &pipeline, &format!("may not {missing} in namespace")).await?;
        attempt(&space, &author, &inline, &format!("may not {missing} in namespace")).await?;
        attempt(&space, &able, &pipeline, "").await?;
        attempt(&space, &able, &inline, "").await?;
        attempt(&space, &starter, &inline, "may not create pipelines.trainyard.dev").await?;
    }
    // A run of what somebody else has made may be started by whoever may create runs.
    space.submit(&Steps::new("daily", &[run])).await?;
    starter.create(&space.namespace, &Run::of("of-starter", "daily")).await?.good()?;
    space.until_run("of-starter", "Succeeded").await?;
    ensure!(space.objects.list(PODS, "trainyard.dev/step=take").await?.is_empty(), "a pod of a refused run");
    Ok(())
}

/// Creates it without keeping it: it is refused in these words, or taken if there are none. Rights take a moment to be known.
async fn attempt<K: OfKind>(space: &Space, who: &Member<'_>, what: &Manifest<K>, words: &str) -> Result<()> {
    let what = what.value().to_string();
    eventually("it is answered as it should be", async || {
        let said = who.kubectl(&space.namespace, &["create", "--dry-run=server", "-f", "-"], &what).await?;
        if words.is_empty() { said.good().map(drop) } else { refused(&said, words) }
    })
    .await
}
