//! What the apiserver refuses for us, in words that help, and what happens to a job that got past it.

use anyhow::{Result, ensure};
use e2e::operator::OPERATOR_USER;
use e2e::release::without_pods;
use serde_json::{Value, json};

use crate::manifest::Job;
use crate::objects::{BINDINGS, JOBS, SLICES, condition, holds, message};
use crate::space::Space;
use crate::wait::eventually;

/// A manifest, and what `kubectl apply` must say about it: the field, and what to do.
struct Case {
    what: &'static str,
    job: Job,
    words: &'static [&'static str],
}

fn case(what: &'static str, job: Job, words: &'static [&'static str]) -> Case {
    Case { what, job, words }
}

/// Every case is one change to a job that would be taken.
fn bad_specs() -> Vec<Case> {
    const POD: &str = "spec.template.spec";
    let torch = || Job::torch("bad", 2);
    let two = json!([{"name": "trainer", "image": "example/digits:1"}, {"name": "proxy", "image": "example/proxy:1"}]);
    let reserved = |name: &str| json!([{"name": name, "value": "0"}]);
    let env = "spec.template.spec.containers.0.env";
    vec![
        case("no node", torch().set("spec.nodes", 0), &["spec.nodes", "greater than or equal to 1"]),
        case("-1 nodes", torch().set("spec.nodes", -1), &["spec.nodes", "greater than or equal to 1"]),
        case("1001 nodes", torch().set("spec.nodes", 1001), &["spec.nodes", "less than or equal to 1000"]),
        case("framework", torch().set("spec.framework", "pytorch"), &["spec.framework", "pytorch", "torch", "none"]),
        case("a digit first", torch().set("metadata.name", "1bad"), &["name", "start with a letter", "rename the job"]),
        case("64 characters", torch().set("metadata.name", "a".repeat(64)), &["name", "63 characters", "rename"]),
        case(
            "two containers",
            torch().set(&format!("{POD}.containers"), two),
            &["spec.template", "kubectl.kubernetes.io/default-container"],
        ),
        case("RANK", torch().set(env, reserved("RANK")), &["containers[].env", "RANK", "remove it"]),
        case("TRAINYARD_X", Job::new("bad").set(env, reserved("TRAINYARD_X")), &["env", "TRAINYARD_X", "remove it"]),
        case("hostname", torch().set(&format!("{POD}.hostname"), "me"), &["hostname", "the operator", "remove it"]),
        case("subdomain", torch().set(&format!("{POD}.subdomain"), "us"), &["subdomain", "the operator", "remove it"]),
        case(
            "restartPolicy",
            torch().set(&format!("{POD}.restartPolicy"), "Always"),
            &["spec.template.spec.restartPolicy", "Never or left out", "maxRestarts"],
        ),
        case(
            "namespace",
            torch().set("spec.template.metadata.namespace", "other"),
            &["spec.template.metadata.namespace", "other", "remove it"],
        ),
        case("a name", torch().set("spec.template.metadata.name", "me"), &["spec.template.metadata", "remove"]),
        case("a label of ours", labelled("trainyard.dev/x"), &["spec.template.metadata", "trainyard.dev/", "remove"]),
        case(
            "processes of no framework",
            Job::new("bad").set("spec.processesPerNode", 2),
            &["spec.processesPerNode", "remove it, or set framework: torch"],
        ),
        case("no processes", torch().set("spec.processesPerNode", 0), &["spec.processesPerNode", "from 1 to 1024"]),
        case("some processes", torch().set("spec.processesPerNode", "some"), &["spec.processesPerNode", "or auto"]),
        case("lots of memory", torch().set("spec.sharedMemory", "lots"), &["spec.sharedMemory", "lots"]),
        case("soon", torch().set("spec.activeDeadline", "soon"), &["spec.activeDeadline", "soon"]),
        case("a typo of ours", torch().set("spec.node", 2), &["unknown field", "spec.node"]),
        case(
            "no containers",
            torch().set(POD, json!({"contianers": []})),
            &["spec.template.spec.containers", "Required"],
        ),
    ]
}

fn labelled(key: &str) -> Job {
    Job::torch("bad", 2).set("spec.template.metadata.labels", json!({(key): "1"}))
}

pub(crate) async fn bad_specs_are_refused_with_field_and_remedy(space: Space) -> Result<()> {
    let mut wrong = Vec::new();
    for Case { what, job, words } in bad_specs() {
        let said = space.kubectl_with(&["apply", "-f", "-"], &job.value().to_string()).await?;
        let missing: Vec<&str> = words.iter().copied().filter(|word| !said.err.contains(word)).collect();
        if said.ok || !missing.is_empty() {
            wrong.push(format!("{what}: taken: {}, without {missing:?}: {}{}", said.ok, said.out, said.err));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(space.objects.list(JOBS, "").await?.is_empty(), "a bad job is stored");
    Ok(())
}

pub(crate) async fn running_jobs_are_immutable(space: Space) -> Result<()> {
    space.submit(&Job::torch("fixed", 2).runs_for("never").set("spec.sharedMemory", "1Gi")).await?;
    let template = json!({"spec": {"containers": [{"name": "trainer", "image": "example/digits:2"}]}});
    let mut wrong = Vec::new();
    for (field, value) in [
        ("nodes", json!(3)),
        ("framework", json!("none")),
        ("template", template),
        ("processesPerNode", json!(2)),
        ("sharedMemory", json!("2Gi")),
        ("sharedMemory", Value::Null),
    ] {
        let patch = json!({"spec": {field: value}}).to_string();
        let said = space.kubectl(&["patch", "tj", "fixed", "--type=merge", "-p", &patch]).await?;
        let told = said.err.contains(field) && said.err.contains("suspend: true first");
        if said.ok || !told {
            wrong.push(format!("{patch}: taken: {}: {}{}", said.ok, said.out, said.err));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What does not concern the pods may be edited at any time.
    let allowed =
        json!({"spec": {"activeDeadline": "1h", "podsAfterFinished": "1h", "failurePolicy": {"maxRestarts": 9}}});
    space.edit("fixed", allowed).await?;
    space.until_job("fixed", "the edit is seen", |job| job["status"]["effective"]["maxRestarts"] == 9).await.map(drop)
}

/// A slice of a job, as the operator makes it, under another name.
fn slice(space: &Space, name: &str, job: &Value, service: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": space.namespace,
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "trainyard.dev",
                "kubernetes.io/service-name": service,
            },
            "ownerReferences": [{
                "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "controller": true,
                "name": job["metadata"]["name"], "uid": job["metadata"]["uid"],
            }],
        },
        "addressType": "IPv4", "endpoints": [],
    })
}

/// RBAC knows no labels: that the operator cannot send other Services' traffic elsewhere is the policy's doing.
pub(crate) async fn the_operator_writes_no_endpoint_slices_but_its_own(space: Space) -> Result<()> {
    let job = space.submit(&Job::new("owner").runs_for("never")).await?;
    // The operator names its slices after their Service.
    let own = |name: &str| slice(&space, name, &job, "owner-abcde");
    let set = |name: &str, path: &str, value: Value| {
        let mut object = own(name);
        if let Some(field) = object.pointer_mut(path) {
            *field = value;
        }
        object
    };
    let as_operator = async |arguments: &[&str], input: &Value| {
        let arguments = [&["--as", OPERATOR_USER][..], arguments].concat();
        space.kubectl_with(&arguments, &input.to_string()).await
    };
    const MANAGER: &str = "/metadata/labels/endpointslice.kubernetes.io~1managed-by";
    const SERVICE: &str = "/metadata/labels/kubernetes.io~1service-name";
    const OWNER: &str = "/metadata/ownerReferences/0";
    let mut with_port = own("owner-abcde-ipv6");
    with_port["ports"] = json!([{"name": "6379-6379", "port": 6379}]);
    let others = [
        (set("unlabelled", "/metadata/labels", json!({})), "metadata.labels"),
        (set("kubernetes", MANAGER, json!("endpointslice-controller.k8s.io")), "metadata.labels"),
        (set("nobodys", "/metadata/ownerReferences", json!([])), "metadata.ownerReferences"),
        (set("uncontrolled", &format!("{OWNER}/controller"), json!(false)), "metadata.ownerReferences"),
        (set("services", &format!("{OWNER}/kind"), json!("Service")), "metadata.ownerReferences"),
        (set("elsewhere", SERVICE, json!("database")), "kubernetes.io/service-name"),
        (set("owner-redis-ipv4", "/metadata/name", json!("called-otherwise")), "metadata.name"),
        (with_port, "ports"),
    ];
    let mut wrong = Vec::new();
    for (object, word) in &others {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let created = as_operator(&["create", "-f", "-"], object).await?;
        // What anybody else makes is no concern of the policy's.
        space.objects.create(SLICES, object).await?;
        let relabel = json!({"metadata": {"labels": own(name)["metadata"]["labels"]}}).to_string();
        let patched =
            as_operator(&["patch", "endpointslice", name, "--type=merge", "-p", &relabel], &json!({})).await?;
        let deleted = as_operator(&["delete", "endpointslice", name], &json!({})).await?;
        for (verb, said) in [("create", created), ("patch", patched), ("delete", deleted)] {
            // Of several policies that refuse it, one is named.
            if said.ok || !said.err.contains("ValidatingAdmissionPolicy 'trainyard-") || !said.err.contains(word) {
                wrong.push(format!("{verb} {name}: {}{}", said.out, said.err));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let name = "owner-abcde-ipv4";
    let mine = own(name);
    as_operator(&["create", "-f", "-"], &mine).await?.good()?;
    as_operator(&["patch", "endpointslice", name, "--type=merge", "-p", r#"{"endpoints": []}"#], &json!({}))
        .await?
        .good()?;
    let stolen = json!({"metadata": {"labels": {"kubernetes.io/service-name": "database"}}}).to_string();
    let stolen = as_operator(&["patch", "endpointslice", name, "--type=merge", "-p", &stolen], &json!({})).await?;
    ensure!(!stolen.ok, "it was given to another Service");
    as_operator(&["delete", "endpointslice", name], &json!({})).await?.good().map(drop)
}

/// An apiserver may lack the policies, or have had them removed: the operator then says the same.
pub(crate) async fn what_slipped_past_admission_is_reported(space: Space) -> Result<()> {
    space.cluster().delete(BINDINGS, "trainyard-training-jobs").await?;
    let outcome = slip_past(&space).await;
    space.suite.release.install(&without_pods()).await?;
    outcome?;
    eventually("the policy is in force again", async || {
        let said = space.submit(&Job::new("late").set("spec.template.metadata.namespace", "other")).await;
        space.objects.delete(JOBS, "late").await?;
        ensure!(said.is_err(), "the job was taken");
        Ok(())
    })
    .await
}

async fn slip_past(space: &Space) -> Result<()> {
    let env = json!([{"name": "TRAINYARD_X", "value": "0"}]);
    let bad = Job::new("slipped").set("spec.template.spec.containers.0.env", env);
    eventually("the policy is out of force", async || space.submit(&bad).await).await?;
    space.submit(&labelled("trainyard.dev/x").set("metadata.name", "labelled")).await?;
    space.submit(&Job::new("good")).await?;
    for (name, words) in [
        ("slipped", ["spec.template.spec.containers[0].env", "TRAINYARD_X", "remove it"]),
        ("labelled", ["spec.template.metadata.labels", "trainyard.dev/x", "remove it"]),
    ] {
        let job = space.until_state(name, "Invalid").await?;
        ensure!(holds(&job, "Stalled") && condition(&job, "Stalled")["reason"] == "Invalid", "{}", job["status"]);
        for word in words {
            ensure!(message(&job).contains(word), "no {word} in {}", message(&job));
        }
        ensure!(space.pods(name).await?.is_empty(), "a pod was made");
    }
    space.until_job("good", "the good job beside goes on", |job| !holds(job, "Stalled")).await.map(drop)
}
