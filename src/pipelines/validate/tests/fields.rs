//! Fields of embedded specs: which there are, and what they hold.

use super::*;

#[test]
fn values_under_their_old_names_are_still_taken() {
    let serving = json!({
        "failureLogs": "Off", "template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}},
    });
    let training =
        json!({"framework": "none", "failureLogs": "Off", "template": {"spec": {"containers": [{"name": "c"}]}}});
    let definition = json!({"steps": [
        step("train", json!({"train": training})), step("deploy", json!({"deploy": {"name": "m", "spec": serving}})),
    ]});
    assert_eq!(problems(definition), "");
}

#[test]
fn values_take_the_types_of_numeric_fields() {
    let definition = json!({
        "parameters": [
            {"name": "uid", "type": "integer", "default": 1000}, {"name": "port", "type": "integer", "default": 9000},
            {"name": "host", "type": "boolean"},
        ],
        "steps": [
            step("as-user", json!({"run": {"spec": {
                "hostNetwork": "$(params.host)", "securityContext": {"runAsUser": "$(params.uid)"}, "containers": [{"name": "c"}],
            }}})),
            step("serve", json!({"deploy": {"name": "m", "spec": {"template": {"spec": {"containers": [
                {"name": "c", "ports": [{"containerPort": "$(params.port)"}]},
            ]}}}}})),
        ],
    });
    assert_eq!(problems(definition), "");
}

#[test]
fn a_field_that_only_the_apiserver_may_know_is_asked_about() {
    let container = json!({"name": "c", "imagee": "i", "resources": {"limit": {}}});
    let definition = json!({"steps": [
        step("a", json!({"run": {"spec": {"containers": [container], "ofTomorrow": {"x": {"y": 1}}}}})),
        step("b", json!({"train": {"framework": "none", "template": {"spec": {"containers": [container]}}}})),
    ]});
    let valid = validate(&pipeline(definition), "spec", None).unwrap();
    let found: Vec<(&str, Option<&str>)> =
        valid.unknown_fields.iter().map(|field| (field.at.as_str(), field.meant)).collect();
    assert_eq!(
        found,
        [
            ("spec.steps[0].run.spec.containers[0].imagee", Some("image")),
            ("spec.steps[0].run.spec.containers[0].resources.limit", Some("limits")),
            ("spec.steps[0].run.spec.ofTomorrow", None),
            ("spec.steps[1].train.template.spec.containers[0].imagee", Some("image")),
            ("spec.steps[1].train.template.spec.containers[0].resources.limit", Some("limits")),
        ]
    );
    let long =
        json!({"steps": [step("a", json!({"run": {"spec": {"containers": [{"name": "c"}], "x".repeat(1_000): 1}}}))]});
    let told = problems(long);
    assert!(told.ends_with("x: there is no such field: remove it") && told.len() < 400, "{told}");
}

#[test]
fn only_fields_that_are_reported_are_compared_with_those_that_there_are() {
    use crate::pipelines::validate::fields::{ASKED, compare};
    let containers = |fields: Value| vec![fields; 10_000];
    let asked = |definition: Value| {
        ASKED.set(0);
        let found = match validate(&pipeline(definition), "spec", None) {
            Ok(valid) => valid.unknown_fields.len(),
            Err(problems) => problems.len(),
        };
        (found, ASKED.get())
    };
    let run = |containers: Vec<Value>| json!({"steps": [{"name": "s", "run": {"spec": {"containers": containers}}}]});
    assert_eq!(asked(run(containers(json!({"q": 0})))).1, MOST_PROBLEMS);
    // Of the twentieth container, `name` is the last that is looked at.
    assert_eq!(asked(run(containers(json!({"q": 0, "name": 1})))), (MOST_PROBLEMS, MOST_PROBLEMS - 1));
    let many: serde_json::Map<String, Value> = (0..10_000).map(|field| (format!("q{field}"), json!(0))).collect();
    let mut train = Value::from(many);
    train["framework"] = "none".into();
    train["template"] = json!({"spec": {"containers": [{"name": "c"}]}});
    assert_eq!(asked(json!({"steps": [{"name": "s", "train": train}]})), (MOST_PROBLEMS, MOST_PROBLEMS));

    let spec = json!({"spec": {"containers": containers(json!({"name": 1}))}});
    let mut heard = 0;
    compare(&spec, crate::pipelines::policy::places::Embedded::PodTemplate, &mut |_, _| {
        heard += 1;
        if heard < 20 { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
    });
    assert_eq!(heard, 20, "it stops as soon as the caller has heard enough");
}
