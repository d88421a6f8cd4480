//! The pod of one rank in one attempt.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{common_labels, env, owner_reference};
use crate::api::FailureLogs;
use crate::cluster::body::Blueprint;
use crate::cluster::build::merged;
use crate::cluster::template_edit::{containers_named, explain_failures, prepend_env, push, set, set_default};
use crate::names;
use crate::training::validate::{SharedMemory, ValidJob};

const SHARED_MEMORY_VOLUME: &str = "trainyard-shared-memory";

/// Builds the pod, as the user's template edited in place: fields that we do not know travel untouched.
pub fn build_pod(job: &ValidJob, template: &Value, rank: u32, attempt: u32) -> Value {
    let name = names::pod(&job.name, &job.uid, names::ROLE_WORKER, rank, attempt);
    let mut spec = template["spec"].clone();
    set(&mut spec, "restartPolicy", "Never");
    if job.nodes > 1 {
        set(&mut spec, "hostname", name.as_str());
        set(&mut spec, "subdomain", names::service(&job.name, &job.uid));
        // On the host's network Kubernetes takes its default, ClusterFirst, for Default: the names of the other ranks would
        // not resolve (kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-s-dns-policy).
        if spec["hostNetwork"] == true {
            set_default(&mut spec, "dnsPolicy", "ClusterFirstWithHostNet");
        }
    }
    edit_container(job, template, &mut spec, rank, attempt);
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": job.namespace,
            "labels": labels(job, template, rank, attempt),
            "annotations": merged(&template["metadata"]["annotations"], &json!({
                names::ANNOTATION_LAUNCH_HASH: job.launch_hash,
            })),
            "ownerReferences": [owner_reference(job)],
        },
    });
    // Moved, as a copy of a large template would cost as much again.
    pod["spec"] = spec;
    pod
}

/// A pod that is built when it is sent.
#[derive(Debug)]
pub(crate) struct PodBlueprint {
    pub(crate) job: Arc<ValidJob>,
    pub(crate) rank: u32,
    pub(crate) attempt: u32,
}

impl Blueprint for PodBlueprint {
    fn build(&self) -> Value {
        build_pod(&self.job, &self.job.template.parse(), self.rank, self.attempt)
    }

    fn length(&self) -> usize {
        self.job.template.text().len()
    }
}

fn labels(job: &ValidJob, template: &Value, rank: u32, attempt: u32) -> Value {
    let own = json!({
        names::LABEL_ROLE: names::ROLE_WORKER,
        names::LABEL_INDEX: rank.to_string(),
        names::LABEL_RANK: rank.to_string(),
        names::LABEL_ATTEMPT: attempt.to_string(),
    });
    let of_pipeline = json!(job.pipeline_labels);
    let labels = merged(&merged(&template["metadata"]["labels"], &of_pipeline), &common_labels(job));
    merged(&labels, &own)
}

fn edit_container(job: &ValidJob, template: &Value, spec: &mut Value, rank: u32, attempt: u32) {
    for container in containers_named(spec, &job.container) {
        prepend_env(container, env::variables(job, template, rank, attempt));
        if job.shared_memory != SharedMemory::AsIs {
            push(container, "volumeMounts", json!({"name": SHARED_MEMORY_VOLUME, "mountPath": "/dev/shm"}));
        }
    }
    if job.failure_logs == FailureLogs::Tail {
        explain_failures(spec, &job.container);
    }
    match &job.shared_memory {
        SharedMemory::AsIs => {}
        // Without a limit of its own the kubelet sizes it by the pod's memory limit, or the node's memory.
        SharedMemory::Whole => {
            push(spec, "volumes", json!({"name": SHARED_MEMORY_VOLUME, "emptyDir": {"medium": "Memory"}}));
        }
        SharedMemory::Sized(size) => {
            let volume = json!({"medium": "Memory", "sizeLimit": size});
            push(spec, "volumes", json!({"name": SHARED_MEMORY_VOLUME, "emptyDir": volume}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::validate::validate;

    fn build(spec: Value, rank: u32, attempt: u32) -> Value {
        let job = serde_json::from_value(json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
            "metadata": {"name": "digits", "namespace": "ml", "uid": "0b7d"},
            "spec": spec,
        }))
        .unwrap();
        let valid = validate(&job).unwrap();
        build_pod(&valid, &valid.template.parse(), rank, attempt)
    }

    #[track_caller]
    fn assert_snapshot(name: &str, pod: &Value) {
        insta::with_settings!({omit_expression => true}, { insta::assert_yaml_snapshot!(name, pod) });
    }

    #[test]
    fn one_pod_of_none() {
        let spec = json!({"framework": "none", "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}});
        assert_snapshot("one_pod_of_none", &build(spec, 0, 1));
    }

    #[test]
    fn the_pod_of_a_job_that_a_step_made_is_found_by_run_and_step() {
        let job = serde_json::from_value(json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
            "metadata": {"name": "digits", "uid": "0b7d", "labels": {
                names::LABEL_RUN: "r", names::LABEL_STEP: "train", names::LABEL_ATTEMPT: "7", "team": "vision",
            }},
            "spec": {"framework": "none", "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
        }))
        .unwrap();
        let valid = validate(&job).unwrap();
        let labels = &build_pod(&valid, &valid.template.parse(), 0, 2)["metadata"]["labels"];
        assert_eq!((&labels[names::LABEL_RUN], &labels[names::LABEL_STEP]), (&json!("r"), &json!("train")));
        assert_eq!((&labels[names::LABEL_ATTEMPT], &labels["team"]), (&json!("2"), &json!(null)));
    }

    #[test]
    fn ranks_on_the_hosts_network_find_each_other() {
        let policy = |nodes: i32, host_network: Value, dns_policy: Value| {
            let spec = json!({"hostNetwork": host_network, "dnsPolicy": dns_policy, "containers": [{"name": "c"}]});
            build(json!({"framework": "torch", "nodes": nodes, "template": {"spec": spec}}), 1, 1)["spec"]["dnsPolicy"]
                .clone()
        };
        let cases = [
            ("several nodes", policy(2, json!(true), json!(null)), json!("ClusterFirstWithHostNet")),
            ("the template's own", policy(2, json!(true), json!("Default")), json!("Default")),
            ("one node looks up no other", policy(1, json!(true), json!(null)), json!(null)),
            ("not on the host's network", policy(2, json!(false), json!(null)), json!(null)),
            ("not said", policy(2, json!(null), json!(null)), json!(null)),
        ];
        for (case, built, expected) in cases {
            assert_eq!(built, expected, "{case}");
        }
    }

    #[test]
    fn second_attempt_of_torch_on_two_nodes() {
        let spec = json!({"framework": "torch", "nodes": 2, "processesPerNode": "auto", "sharedMemory": "2Gi", "template": {
            "metadata": {"labels": {"team": "vision"}, "annotations": {"kubectl.kubernetes.io/default-container": "trainer"}},
            "spec": {"aFieldOfTomorrow": {"kept": true}, "containers": [
                {"name": "proxy", "image": "p"},
                {"name": "trainer", "image": "t", "env": [{"name": "NAME", "value": "rank-$(RANK)"}], "resources": {"limits": {"nvidia.com/gpu": 4}}},
            ]},
        }});
        assert_snapshot("second_attempt_of_torch_on_two_nodes", &build(spec, 1, 2));
    }
}
