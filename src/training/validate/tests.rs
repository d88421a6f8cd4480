//! Tables of specs: what is wrong with each, in which words.

use super::*;
use serde_json::json;

fn job(change: impl FnOnce(&mut Value)) -> TrainingJob {
    let mut job = json!({
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
        "metadata": {"name": "digits", "namespace": "ml", "uid": "u"},
        "spec": {"framework": "torch", "template": {"spec": {"containers": [{"name": "trainer", "image": "i"}]}}},
    });
    change(&mut job);
    serde_json::from_value(job).unwrap()
}

#[test]
fn defaults_become_values() {
    let valid = validate(&job(|_| {})).unwrap();
    assert_eq!((valid.nodes, valid.max_restarts), (1, 3));
    assert_eq!(valid.container, "trainer");
    assert_eq!(valid.shared_memory, SharedMemory::Whole);
    assert_eq!(valid.processes, ProcessesPerNode::Count(1));
}

#[test]
fn each_problem_names_field_value_and_remedy() {
    type Change = fn(&mut Value);
    let cases: &[(&str, Change, &str, &str)] = &[
        ("zero nodes", |j| j["spec"]["nodes"] = 0.into(), "spec.nodes", "0"),
        ("negative nodes", |j| j["spec"]["nodes"] = (-3).into(), "spec.nodes", "-3"),
        ("leading digit", |j| j["metadata"]["name"] = "1st".into(), "metadata.name", "1st"),
        ("64 characters", |j| j["metadata"]["name"] = "a".repeat(64).into(), "metadata.name", "aaa"),
        ("restarts", |j| j["spec"]["failurePolicy"] = json!({"maxRestarts": -1}), "maxRestarts", "-1"),
        ("many restarts", |j| j["spec"]["failurePolicy"] = json!({"maxRestarts": 1001}), "maxRestarts", "1001"),
        ("processes", |j| j["spec"]["processesPerNode"] = 0.into(), "spec.processesPerNode", "0"),
        ("deadline", |j| j["spec"]["activeDeadline"] = "-5s".into(), "spec.activeDeadline", "negative"),
        (
            "processes of none",
            |j| {
                j["spec"]["framework"] = "none".into();
                j["spec"]["processesPerNode"] = "auto".into();
            },
            "spec.processesPerNode",
            "Auto",
        ),
        ("hostname", |j| j["spec"]["template"]["spec"]["hostname"] = "h".into(), "template.spec.hostname", "h"),
        ("subdomain", |j| j["spec"]["template"]["spec"]["subdomain"] = "s".into(), "template.spec.subdomain", "s"),
        (
            "restart policy",
            |j| j["spec"]["template"]["spec"]["restartPolicy"] = "Always".into(),
            "template.spec.restartPolicy",
            "Always",
        ),
        (
            "a container's restart policy",
            |j| j["spec"]["template"]["spec"]["containers"][0]["restartPolicy"] = "OnFailure".into(),
            "containers[0].restartPolicy",
            "OnFailure",
        ),
        (
            "another namespace",
            |j| j["spec"]["template"]["metadata"] = json!({"namespace": "theirs"}),
            "template.metadata.namespace",
            "theirs",
        ),
        (
            "a label of ours",
            |j| j["spec"]["template"]["metadata"] = json!({"labels": {"trainyard.dev/rank": "0"}}),
            "template.metadata.labels",
            "trainyard.dev/rank",
        ),
        (
            "reserved variable",
            |j| j["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "RANK", "value": "3"}]),
            "containers[0].env",
            "RANK",
        ),
        (
            "two containers",
            |j| j["spec"]["template"]["spec"]["containers"][1] = json!({"name": "proxy"}),
            "default-container",
            "2 containers",
        ),
        (
            "a primary that is not there",
            |j| {
                j["spec"]["template"]["metadata"] =
                    json!({"annotations": {"kubectl.kubernetes.io/default-container": "nobody"}});
            },
            "default-container",
            "nobody",
        ),
        ("no container", |j| j["spec"]["template"]["spec"]["containers"] = json!([]), "containers", "[]"),
        (
            "two /dev/shm",
            |j| {
                j["spec"]["sharedMemory"] = "1Gi".into();
                j["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
                    json!([{"name": "shm", "mountPath": "/dev/shm"}]);
            },
            "spec.sharedMemory",
            "1Gi",
        ),
    ];
    for (case, change, field, value) in cases {
        let mut tree = serde_json::to_value(job(|_| {})).unwrap();
        if case.contains("two containers") {
            tree["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(Value::Null);
        }
        change(&mut tree);
        let problems = validate(&serde_json::from_value(tree).unwrap()).expect_err(case);
        assert_eq!(problems.len(), 1, "{case}: {problems:?}");
        assert!(problems[0].field.contains(field), "{case}: {}", problems[0]);
        assert!(problems[0].value.contains(value), "{case}: {}", problems[0]);
        assert!(!problems[0].remedy.is_empty());
    }
}

#[test]
fn several_containers_with_a_primary_are_fine() {
    let valid = validate(&job(|j| {
        j["spec"]["template"] = json!({
            "metadata": {"annotations": {"kubectl.kubernetes.io/default-container": "trainer"}, "creationTimestamp": null},
            "spec": {"containers": [{"name": "proxy"}, {"name": "trainer"}]},
        });
    }));
    assert_eq!(valid.unwrap().container, "trainer");
}

#[test]
fn a_template_that_is_too_long_is_refused_by_its_length() {
    let padded = |length: usize| job(|j| j["spec"]["template"]["spec"]["x"] = "x".repeat(length).into());
    assert!(validate(&padded(200_000)).is_ok());
    let problems = validate(&padded(300_000)).unwrap_err();
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["spec.template: 300063 bytes: make it at most 262144 bytes: keep long values in a ConfigMap, or in the image"]
    );
}

#[test]
fn the_launch_hash_tells_edits_from_other_words() {
    let hash = |change: &dyn Fn(&mut Value)| validate(&job(change)).unwrap().launch_hash;
    let unchanged = hash(&|_| {});
    type Change = fn(&mut Value);
    let same: &[(&str, Change)] = &[
        ("one node", |j| j["spec"]["nodes"] = 1.into()),
        ("suspended", |j| j["spec"]["suspend"] = true.into()),
        ("restarts", |j| j["spec"]["failurePolicy"] = json!({"maxRestarts": 7})),
        ("labels of the job", |j| j["metadata"]["labels"] = json!({"a": "b"})),
        ("a field that is null", |j| j["spec"]["template"]["metadata"] = json!(null)),
    ];
    for (case, change) in same {
        assert_eq!(hash(change), unchanged, "{case}");
    }
    let edits: &[(&str, Change)] = &[
        ("nodes", |j| j["spec"]["nodes"] = 2.into()),
        ("framework", |j| j["spec"]["framework"] = "none".into()),
        ("processes", |j| j["spec"]["processesPerNode"] = 2.into()),
        ("shared memory", |j| j["spec"]["sharedMemory"] = "1Gi".into()),
        ("image", |j| j["spec"]["template"]["spec"]["containers"][0]["image"] = "j".into()),
        ("a field that is not declared", |j| j["spec"]["template"]["spec"]["priority"] = 1.into()),
        ("labels", |j| j["spec"]["template"]["metadata"] = json!({"labels": {"a": "b"}})),
    ];
    for (case, change) in edits {
        assert_ne!(hash(change), unchanged, "{case}");
    }
}
