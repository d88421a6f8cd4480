//! `config/argocd`: what Argo CD's health script says to every state of our kinds, run by the Lua that Argo CD has (5.1).

use std::fs;

use e2e::operator::source_tree;
use mlua::{Function, Lua, LuaSerdeExt, Table};
use serde_json::{Value, json};
use trainyard::api::conditions::Standing;
use trainyard::{pipelines, serving, training};

const SCRIPT: &str = "config/argocd/health.lua";
const KINDS: [&str; 4] = ["TrainingJob", "ModelDeployment", "Pipeline", "PipelineRun"];

fn read(file: &str) -> String {
    fs::read_to_string(source_tree().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What the script says: the health and the message.
fn health(object: &Value) -> (String, String) {
    let lua = Lua::new();
    lua.globals().set("obj", lua.to_value(object).expect("a table")).expect("it is set");
    let script: Function = lua.load(read(SCRIPT)).into_function().expect("Lua");
    let answer: Table = script.call(()).unwrap_or_else(|error| panic!("{object}: {error}"));
    let field = |name: &str| answer.get(name).expect("a text");
    (field("status"), field("message"))
}

/// An object whose spec was looked at, with these conditions besides those of kstatus.
fn object(kind: &str, reason: &str, (ready, reconciling, stalled): Standing, others: &[&str]) -> Value {
    let condition = |type_: &str, holds: bool| json!({"type": type_, "status": if holds { "True" } else { "False" }, "reason": reason, "observedGeneration": 3});
    let standing = [("Ready", ready), ("Reconciling", reconciling), ("Stalled", stalled)];
    let others = others.iter().map(|type_| (*type_, true));
    let conditions: Vec<Value> =
        standing.into_iter().chain(others).map(|(type_, holds)| condition(type_, holds)).collect();
    json!({
        "kind": kind, "metadata": {"generation": 3},
        "status": {"observedGeneration": 3, "message": format!("it is {reason}"), "conditions": conditions},
    })
}

/// Every state with its object, and the health that it should have.
fn states() -> Vec<(Value, &'static str)> {
    let mut all = Vec::new();
    for state in training::status::State::ALL {
        use training::status::State::{Failed, Invalid, NameTaken, Refused, Succeeded, Suspended};
        let (others, expected): (&[&str], _) = match state {
            Invalid | Refused | NameTaken => (&[], "Degraded"),
            Failed => (&["Finished", "Failed"], "Degraded"),
            Succeeded => (&["Finished", "Complete"], "Healthy"),
            Suspended => (&["Suspended"], "Suspended"),
            _ => (&[], "Progressing"),
        };
        all.push((object("TrainingJob", state.as_str(), state.standing(), others), expected));
    }
    for state in pipelines::runs::status::State::ALL {
        use pipelines::runs::status::State::{
            Cancelled, Failed, Invalid, NameTaken, RecordNotFound, Refused, Succeeded,
        };
        let (others, expected): (&[&str], _) = match state {
            Invalid | Refused | NameTaken | RecordNotFound => (&[], "Degraded"),
            Failed => (&["Finished", "Failed"], "Degraded"),
            Succeeded => (&["Finished", "Complete"], "Healthy"),
            Cancelled => (&["Finished", "Cancelled"], "Healthy"),
            _ => (&[], "Progressing"),
        };
        all.push((object("PipelineRun", state.as_str(), state.standing(), others), expected));
    }
    for state in serving::status::State::ALL {
        use serving::status::State::{Invalid, NameTaken, Refused, RolloutFailed, ScaledToZero, Serving};
        for overdue in [false, true] {
            let expected = match state {
                Serving | ScaledToZero => "Healthy",
                Invalid | Refused | NameTaken | RolloutFailed => "Degraded",
                _ if overdue => "Degraded",
                _ => "Progressing",
            };
            let others: &[&str] = &["Available"];
            all.push((object("ModelDeployment", state.as_str(), state.standing(overdue), others), expected));
        }
    }
    all.push((object("Pipeline", "Runnable", (true, false, false), &[]), "Healthy"));
    all.push((object("Pipeline", "Invalid", (false, false, true), &["LastRunSucceeded"]), "Degraded"));
    all
}

#[test]
fn every_state_has_the_health_that_the_design_says() {
    for (object, expected) in states() {
        let reason = object["status"]["conditions"][0]["reason"].as_str().expect("a reason").to_owned();
        assert_eq!(health(&object), (expected.to_owned(), format!("it is {reason}")), "{object}");
    }
}

/// Neither a fresh object, nor one that was edited since, is done.
#[test]
fn what_nobody_has_looked_at_is_in_progress() {
    for kind in KINDS {
        let done = object(kind, "Succeeded", (true, false, false), &["Finished"]);
        assert_eq!(health(&done).0, "Healthy");
        for status in [Value::Null, json!({}), json!({"observedGeneration": -1})] {
            let mut fresh = done.clone();
            fresh["status"] = status;
            if fresh["status"].is_null() {
                fresh.as_object_mut().map(|fields| fields.remove("status"));
            }
            assert_eq!(health(&fresh).0, "Progressing", "{fresh}");
        }
        let mut edited = done;
        edited["metadata"]["generation"] = json!(4);
        assert_eq!(health(&edited).0, "Progressing", "{edited}");
    }
}

#[test]
fn the_configuration_has_the_script_for_each_kind() {
    let configuration: Value = serde_saphyr::from_str(&read("config/argocd/argocd-cm.yaml")).expect("YAML");
    let data = configuration["data"].as_object().expect("keys");
    assert_eq!(data.len(), KINDS.len());
    for kind in KINDS {
        let key = format!("resource.customizations.health.trainyard.dev_{kind}");
        assert_eq!(data.get(&key).and_then(Value::as_str), Some(read(SCRIPT).as_str()), "{key}");
    }
}
