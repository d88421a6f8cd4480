use serde_json::{Value, json};

use super::evaluation::{Request, Verdict, expressions, judge, request};
use super::subjects::{OPERATOR_NAMESPACE, OPERATOR_USER};
use super::*;

const EDITOR: &str = "editor";
const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";

/// An object with that controller.
fn child(kind: &str, uid: &str) -> Value {
    json!({"metadata": {"name": "child", "labels": {"trainyard.dev/job": "digits", "team": "a"}, "ownerReferences": [
        {"apiVersion": "trainyard.dev/v1alpha1", "kind": kind, "name": "digits", "uid": uid, "controller": true},
    ]}})
}

/// The object with another value at a place.
fn with(mut object: Value, path: &str, value: Value) -> Value {
    *object.pointer_mut(path).unwrap() = value;
    object
}

fn foreign() -> Value {
    with(child("TrainingJob", "1"), "/metadata/ownerReferences", json!([]))
}

/// Whether a policy lets a request pass.
fn passes(policy: &Value, request: &Request) -> bool {
    !matches!(judge(policy, request), Verdict::Refused(_))
}

#[test]
fn every_expression_is_cel_and_asks_the_authorizer_twice_at_most() {
    let policies = policies();
    let mut bound = 0;
    for policy in &policies {
        if policy["kind"] == "ValidatingAdmissionPolicyBinding" {
            bound += 1;
            continue;
        }
        for expression in expressions(policy) {
            let env = cel::Env::stdlib();
            env.compile(expression).unwrap_or_else(|error| panic!("{}: {expression}: {error}", policy["metadata"]));
            // Each costs 350,000 of the 1,000,000 that the apiserver lets one expression cost.
            assert!(expression.matches(".allowed()").count() <= 2, "{expression}");
        }
        assert_eq!(policy["spec"]["failurePolicy"], "Fail", "{}", policy["metadata"]);
    }
    assert_eq!(bound * 2, policies.len(), "each has a binding");
}

#[test]
fn only_the_operator_adds_or_removes_a_controller_of_ours() {
    let policy = children::children_policy();
    let (ours, again) = (child("TrainingJob", "1"), child("TrainingJob", "2"));
    let uncontrolled = with(ours.clone(), "/metadata/ownerReferences/0/controller", json!(false));
    let others = with(ours.clone(), "/metadata/ownerReferences/0/apiVersion", json!("apps/v1"));
    let relabelled = with(ours.clone(), "/metadata/labels", json!({"team": "b", "trainyard.dev/job": "digits"}));
    let without_label = with(ours.clone(), "/metadata/labels", json!({"team": "a"}));
    let with_label =
        with(ours.clone(), "/metadata/labels", json!({"trainyard.dev/job": "digits", "trainyard.dev/rank": "0"}));
    let other_label = with(ours.clone(), "/metadata/labels", json!({"trainyard.dev/job": "other"}));
    for (old, new, passes_for_editor, passes_for_collector) in [
        (&Value::Null, &ours, false, true),
        (&Value::Null, &foreign(), true, true),
        (&Value::Null, &uncontrolled, true, true),
        (&Value::Null, &others, true, true),
        (&foreign(), &ours, false, true),
        (&uncontrolled, &ours, false, true),
        (&others, &ours, false, true),
        (&ours, &again, false, true),
        (&ours, &foreign(), false, true),
        (&ours, &ours, true, true),
        (&ours, &relabelled, true, true),
        (&ours, &without_label, false, true),
        (&ours, &with_label, false, true),
        (&ours, &other_label, false, true),
        (&foreign(), &with(foreign(), "/metadata/labels", json!({})), true, true),
    ] {
        for resource in ["pods", "trainingjobs"] {
            let case = format!("{old} becomes {new}");
            let by = |user| request(user, resource, old, new);
            assert_eq!(passes(&policy, &by(EDITOR)), passes_for_editor, "{case}");
            assert_eq!(passes(&policy, &by(COLLECTOR)), passes_for_collector, "{case}");
            assert!(passes(&policy, &by(OPERATOR_USER)), "{case}");
            let bypass = ["bypass admissionregistration.k8s.io/validatingadmissionpolicies trainyard-children"];
            assert!(passes(&policy, &Request { rights: &bypass, ..by(EDITOR) }), "{case}");
        }
    }
    let said = judge(&policy, &request("system:serviceaccount:team-a:trainyard", "pods", &Value::Null, &ours));
    assert!(said.message().contains("leave out controller: true") && said.message().contains("furtherServiceAccounts"));
}

#[test]
fn only_the_operator_writes_status() {
    let policy = children::status_policy();
    let object = json!({"metadata": {"name": "digits"}});
    let by = |user| request(user, "trainingjobs", &object, &object);
    assert_eq!(judge(&policy, &by(OPERATOR_USER)), Verdict::Skipped);
    assert!(judge(&policy, &by(EDITOR)).message().contains("only the operator writes it"));
    let bypass = ["bypass admissionregistration.k8s.io/validatingadmissionpolicies trainyard-status"];
    assert!(passes(&policy, &Request { rights: &bypass, ..by(EDITOR) }));
}

#[test]
fn the_operator_writes_only_what_is_its_own() {
    let policy = confinement::confinement_policy();
    let named = |name: &str| json!({"metadata": {"name": name}});
    let marked = json!({"metadata": {"name": "m", "annotations": {"trainyard.dev/pipeline-uid": "1"}}});
    let finished = |status: &str| json!({"metadata": {"name": "f"}, "status": {"conditions": [{"type": "Finished", "status": status}]}});
    let scale = |selector: &str| json!({"metadata": {"name": "d"}, "status": {"selector": selector}});
    let step = child("PipelineRun", "1");
    let (none, ours) = (Value::Null, child("ModelDeployment", "1"));
    // Resource, before, after, and whether it is the operator's to do.
    for (resource, old, new, allowed) in [
        ("pods", &none, &ours, true),
        ("pods", &ours, &none, true),
        ("pods", &none, &foreign(), false),
        ("pods", &foreign(), &none, false),
        ("services", &foreign(), &foreign(), false),
        ("services", &ours, &ours, true),
        ("deployments", &foreign(), &ours, false),
        ("deployments", &ours, &foreign(), false),
        ("deployments", &foreign(), &none, false),
        ("deployments/scale", &scale("trainyard.dev/deployment=d,trainyard.dev/revision=1"), &scale("any"), true),
        ("deployments/scale", &scale("app=theirs"), &scale("trainyard.dev/revision=1"), false),
        ("poddisruptionbudgets", &foreign(), &foreign(), false),
        ("controllerrevisions", &none, &foreign(), false),
        ("persistentvolumeclaims", &none, &step, true),
        ("persistentvolumeclaims", &none, &foreign(), false),
        ("trainingjobs", &none, &step, true),
        ("trainingjobs", &step, &step, true),
        ("trainingjobs", &foreign(), &foreign(), false),
        ("trainingjobs", &finished("True"), &finished("True"), false),
        ("trainingjobs", &finished("True"), &none, true),
        ("trainingjobs", &finished("False"), &none, false),
        ("trainingjobs", &foreign(), &none, false),
        ("pipelineruns", &finished("True"), &none, true),
        ("pipelineruns", &finished("False"), &none, false),
        ("pipelineruns", &foreign(), &none, false),
        ("pipelineruns", &none, &step, false),
        ("modeldeployments", &none, &marked, true),
        ("modeldeployments", &foreign(), &marked, true),
        ("modeldeployments", &marked, &foreign(), false),
        ("modeldeployments", &none, &foreign(), false),
        ("modeldeployments", &marked, &none, false),
        ("leases", &none, &named("trainyard"), true),
        ("leases", &none, &named("node-1"), false),
    ] {
        let request = request(OPERATOR_USER, resource, old, new);
        assert_eq!(passes(&policy, &request), allowed, "{resource}: {old} becomes {new}");
        assert_eq!(judge(&policy, &Request { user: EDITOR, ..request.clone() }), Verdict::Skipped);
        for namespace in ["kube-system", "kube-public", "kube-node-lease", OPERATOR_NAMESPACE] {
            let there = passes(&policy, &Request { namespace, ..request.clone() });
            assert_eq!(there, allowed && resource == "leases", "{resource} in {namespace}: {old} becomes {new}");
        }
    }
}

#[test]
fn nothing_of_ours_is_created_where_nobody_serves_it() {
    let policy = unserved::unserved_policy();
    let object = foreign();
    for (namespace, allowed) in [
        ("ml", true),
        ("kube-system", false),
        ("kube-public", false),
        ("kube-node-lease", false),
        (OPERATOR_NAMESPACE, false),
    ] {
        let verdict = judge(&policy, &Request { namespace, ..request(EDITOR, "trainingjobs", &Value::Null, &object) });
        assert_eq!(verdict == Verdict::Allowed, allowed, "{namespace}");
        assert!(allowed || verdict.message().contains(&format!("no operator serves namespace {namespace}")));
    }
}

#[test]
fn a_revision_stays_as_it_was_made_whatever_its_labels() {
    let policy = revisions::revisions_policy();
    let mut revision = child("ModelDeployment", "1");
    revision["metadata"]["labels"] = json!({"trainyard.dev/deployment": "digits", "trainyard.dev/revision": "1"});
    revision["spec"] = json!({"replicas": 1, "template": {"image": "good"}});
    let changed = with(revision.clone(), "/spec/template", json!({"image": "evil"}));
    let scaled = with(revision.clone(), "/spec/replicas", json!(2));
    let without_labels = |object: &Value| with(object.clone(), "/metadata/labels", json!({}));
    let others = |object: &Value| with(object.clone(), "/metadata/ownerReferences", json!([]));
    for (old, new, allowed) in [
        (&revision, &changed, false),
        (&without_labels(&revision), &without_labels(&changed), false),
        (&without_labels(&revision), &changed, false),
        (&revision, &others(&changed), false),
        (&revision, &scaled, true),
        (&others(&revision), &others(&changed), true),
    ] {
        let by = |user| request(user, "deployments", old, new);
        assert_eq!(passes(&policy, &by(EDITOR)), allowed, "{old} becomes {new}");
        for user in [OPERATOR_USER, COLLECTOR, "system:kube-controller-manager"] {
            assert_eq!(judge(&policy, &by(user)), Verdict::Skipped, "{user}: {old} becomes {new}");
        }
    }
    let said = judge(&policy, &request(EDITOR, "deployments", &revision, &changed));
    assert!(said.message().contains("edit ModelDeployment digits, which makes a new one"), "{said:?}");
}

const PODS: &str = "create /pods in ml";
const JOBS: &str = "create trainyard.dev/trainingjobs in ml";
const MODELS: &str = "patch trainyard.dev/modeldeployments in ml";
const PIPELINES: &str = "create trainyard.dev/pipelines in ml";

/// Steps, the rights of somebody who applies them as a Pipeline, and what is said to them.
fn started() -> [(Value, &'static [&'static str], &'static str); 8] {
    let step = |name: &str, does: &str| json!({"name": name, does: {}});
    let all = json!({"steps": [step("a", "run"), step("b", "train")], "finally": [step("c", "deploy")]});
    [
        (all.clone(), &[PODS, JOBS, MODELS], ""),
        (all.clone(), &[JOBS, MODELS], "step a: editor may not create pods in namespace ml"),
        (all.clone(), &[PODS, MODELS], "step b: editor may not create trainingjobs.trainyard.dev in namespace ml"),
        (all, &[PODS, JOBS], "step c: editor may not patch modeldeployments.trainyard.dev in namespace ml"),
        (json!({"steps": [step("a", "run")]}), &[PODS], ""),
        (json!({"steps": [step("a", "train")]}), &[PODS], "step a: editor may not create trainingjobs"),
        (
            json!({"steps": [step("a", "train")], "finally": [step("b", "run")]}),
            &[JOBS],
            "step b: editor may not create pods",
        ),
        (json!({"steps": [step("a", "run")]}), &["create /pods in other"], "step a: editor may not create pods"),
    ]
}

#[test]
fn a_pipeline_starts_only_what_its_author_may_start() {
    let (pipelines, runs) = (starting::pipelines_policy(), starting::inline_runs_policy());
    for (spec, rights, expected) in started() {
        let pipeline = json!({"metadata": {"name": "p"}, "spec": spec});
        let made = Request { rights, ..request(EDITOR, "pipelines", &Value::Null, &pipeline) };
        let said = judge(&pipelines, &made);
        assert!(
            said.message().contains(expected) && (said == Verdict::Allowed) == expected.is_empty(),
            "{spec}: {said:?}"
        );
        // What is stored already may be changed in its metadata, by anybody who may.
        assert_eq!(judge(&pipelines, &Request { rights: &[], old: &pipeline, ..made }), Verdict::Skipped);

        let run = json!({"metadata": {"name": "r"}, "spec": {"pipeline": spec}});
        let with_all = [rights, &[PIPELINES]].concat();
        let inline = Request { rights: &with_all, ..request(EDITOR, "pipelineruns", &Value::Null, &run) };
        let said = judge(&runs, &inline);
        assert!(
            said.message().contains(expected) && (said == Verdict::Allowed) == expected.is_empty(),
            "{spec}: {said:?}"
        );
        let said = judge(&runs, &Request { rights, ..inline });
        assert!(said.message().contains("editor may not create pipelines.trainyard.dev in namespace ml"), "{said:?}");
    }
    let by_name = json!({"metadata": {"name": "r"}, "spec": {"pipelineRef": {"name": "p"}}});
    assert_eq!(judge(&runs, &request(EDITOR, "pipelineruns", &Value::Null, &by_name)), Verdict::Skipped);
}
