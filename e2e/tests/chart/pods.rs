//! Pod Security "restricted", as <https://kubernetes.io/docs/concepts/security/pod-security-standards/> has it, and a
//! file system that cannot be written.

use serde_json::{Value, json};

use crate::tools::{everything, render};

/// What keeps a pod from being admitted.
fn violations(spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut demand = |holds: bool, what: String| {
        if !holds {
            found.push(what);
        }
    };
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        demand(spec[field] != true, field.to_owned());
    }
    let allowed =
        ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let mut types =
            volume.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).filter(|key| *key != "name");
        demand(types.all(|kind| allowed.contains(&kind)), format!("volume {volume}"));
    }
    let pod = &spec["securityContext"];
    let lists = ["initContainers", "containers"].map(|list| spec[list].as_array().into_iter().flatten());
    for container in lists.into_iter().flatten() {
        let own = &container["securityContext"];
        let either = |field: &str| if own[field].is_null() { &pod[field] } else { &own[field] };
        let profile = &either("seccompProfile")["type"];
        demand(profile == "RuntimeDefault" || profile == "Localhost", "seccompProfile".to_owned());
        demand(either("runAsNonRoot") == true, "runAsNonRoot".to_owned());
        demand(either("runAsUser") != 0, "runAsUser".to_owned());
        demand(own["privileged"] != true, "privileged".to_owned());
        demand(own["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation".to_owned());
        demand(own["capabilities"]["drop"] == json!(["ALL"]), "capabilities.drop".to_owned());
        demand(own["capabilities"].get("add").is_none(), "capabilities.add".to_owned());
        demand(own.get("procMount").is_none(), "procMount".to_owned());
        demand(own["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem".to_owned());
        let mut ports = container["ports"].as_array().into_iter().flatten();
        demand(ports.all(|port| port.get("hostPort").is_none()), "hostPort".to_owned());
    }
    found
}

#[test]
fn every_pod_passes_restricted() {
    for values in [json!({}), everything(), json!({"watchNamespaces": ["team-a"]})] {
        let rendered = render(&values);
        let workloads: Vec<_> =
            rendered.0.values().filter(|object| !object["spec"]["template"]["spec"].is_null()).collect();
        assert_eq!(workloads.len(), 1, "the operator's Deployment");
        for workload in workloads {
            assert_eq!(violations(&workload["spec"]["template"]["spec"]), Vec::<String>::new());
        }
    }
}

#[test]
fn what_restricted_refuses_is_found() {
    let rendered = render(&json!({"podSecurityContext": {"runAsUser": 65532}}));
    let good = &rendered.one("Deployment", "trainyard")["spec"]["template"]["spec"];
    let broken = |path: &str, value: Value| {
        let mut spec = good.clone();
        *spec.pointer_mut(path).unwrap_or_else(|| panic!("no {path}")) = value;
        violations(&spec)
    };
    assert_eq!(broken("/securityContext/runAsNonRoot", json!(false)), ["runAsNonRoot"]);
    assert_eq!(broken("/securityContext/seccompProfile/type", json!("Unconfined")), ["seccompProfile"]);
    assert_eq!(broken("/securityContext/runAsUser", json!(0)), ["runAsUser"]);
    let own = "/containers/0/securityContext";
    assert_eq!(broken(&format!("{own}/capabilities/drop"), json!([])), ["capabilities.drop"]);
    assert_eq!(broken(&format!("{own}/allowPrivilegeEscalation"), json!(true)), ["allowPrivilegeEscalation"]);
    assert_eq!(broken(&format!("{own}/readOnlyRootFilesystem"), json!(false)), ["readOnlyRootFilesystem"]);
}
