//! Objects as earlier releases have stored them must still be read, and mean the same.
//!
//! `tests/golden/v1alpha1/VERSION/` holds what a release stored; it is never changed again once that version is released. A new
//! field goes into a file of the version that brings it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use trainyard::api::{ModelDeployment, Pipeline, PipelineRun, TrainingJob};
use trainyard::cluster::canonical;
use trainyard::cluster::workload::{RevisionFacts, WatchedRevision};
use trainyard::names;
use trainyard::pipelines::build::record::{Record, hash};
use trainyard::serving::content::Content;
use trainyard::training::validate::validate;

/// Declared so that admission can refuse them.
const REFUSED: [&str; 2] = ["spec.template.spec.hostname", "spec.template.spec.subdomain"];

/// Every stored object, with its file.
fn golden() -> Vec<(PathBuf, Value)> {
    let versions = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1alpha1");
    let entries = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).expect("a folder of golden objects").map(|entry| entry.unwrap().path()).collect()
    };
    let files = entries(&versions).into_iter().flat_map(|version| entries(&version));
    files
        .flat_map(|file| {
            let text = fs::read_to_string(&file).expect("a golden file can be read");
            let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("a golden file is YAML");
            objects.into_iter().map(move |object| (file.clone(), object))
        })
        .collect()
}

fn of_kind(kind: &str) -> Vec<Value> {
    let found: Vec<Value> =
        golden().into_iter().map(|(_, object)| object).filter(|object| object["kind"] == kind).collect();
    assert!(!found.is_empty(), "no golden {kind}");
    found
}

/// Reads it as a later operator does, writes it again, and answers the fields of both.
fn fields_before_and_after<T: DeserializeOwned + Serialize>(object: &Value) -> [BTreeSet<String>; 2] {
    // As text, since the operator reads text as well.
    let read: T = serde_json::from_str(&object.to_string()).expect("a golden object is read");
    [object, &json!(read)].map(|object| {
        let mut fields = BTreeSet::new();
        collect_fields(object, "", &mut fields);
        fields
    })
}

/// Every place where there is something. What is there may be written in another way: `1m` as `60s`, `1` as `1.0`.
fn collect_fields(object: &Value, path: &str, into: &mut BTreeSet<String>) {
    into.insert(path.to_owned());
    match object {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| collect_fields(field, &format!("{path}/{name}"), into));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| collect_fields(item, &format!("{path}/{index}"), into));
        }
        _ => {}
    }
}

#[test]
fn stored_objects_are_read_without_loss() {
    for (file, object) in golden() {
        let [before, after] = match object["kind"].as_str() {
            Some("TrainingJob") => fields_before_and_after::<TrainingJob>(&object),
            Some("ModelDeployment") => fields_before_and_after::<ModelDeployment>(&object),
            Some("Pipeline") => fields_before_and_after::<Pipeline>(&object),
            Some("PipelineRun") => fields_before_and_after::<PipelineRun>(&object),
            // The tests of records read what matters of it.
            Some("ControllerRevision") => continue,
            other => panic!("{}: a {other:?}", file.display()),
        };
        assert_eq!(after, before, "{}", file.display());
    }
}

#[test]
fn every_field_is_in_a_stored_object() {
    for crd in trainyard::api::crds() {
        let kind = crd["spec"]["names"]["kind"].as_str().expect("a CRD has a kind");
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let (mut declared, mut stored) = (BTreeSet::new(), BTreeSet::new());
        for part in ["spec", "status"] {
            walk(&schema["properties"][part], None, part, &mut declared);
            for object in of_kind(kind) {
                walk(&schema["properties"][part], Some(&object[part]), part, &mut stored);
            }
        }
        let missing: Vec<&String> =
            declared.difference(&stored).filter(|path| !REFUSED.contains(&path.as_str())).collect();
        assert!(missing.is_empty(), "{kind}: in no golden object: {missing:#?}");
    }
}

/// Collects the paths of the schema's fields, of those that `object` has if there is one. What the schema does not
/// declare is the user's.
fn walk(schema: &Value, object: Option<&Value>, path: &str, into: &mut BTreeSet<String>) {
    if object.is_some_and(Value::is_null) {
        return;
    }
    into.insert(path.to_owned());
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, object.map(|object| &object[name]), &format!("{path}.{name}"), into);
    }
    let each = format!("{path}[]");
    match object {
        Some(Value::Array(items)) => items.iter().for_each(|item| walk(&schema["items"], Some(item), &each, into)),
        None if schema["items"].is_object() => walk(&schema["items"], None, &each, into),
        _ => {}
    }
    let values = &schema["additionalProperties"];
    let each = format!("{path}{{}}");
    match object {
        Some(Value::Object(entries)) if values.is_object() => {
            entries.values().for_each(|value| walk(values, Some(value), &each, into));
        }
        None if values.is_object() => walk(values, None, &each, into),
        _ => {}
    }
}

#[test]
fn records_of_revisions_still_belong_to_their_specs() {
    let deployment: ModelDeployment = serde_json::from_value(of_kind("ModelDeployment").remove(0)).unwrap();
    let record = record("trainyard.dev/deployment");
    let asked = Content::of_spec(&deployment.spec).expect("the golden spec makes sense");
    let kept = Content::of_revision(&record.data).expect("the golden record is read");
    assert_eq!(kept, asked);
    assert!(asked.has_hash(&record.hash), "an upgrade would replace every pod of every deployment");
    assert_eq!(asked.hash(), "v1:qqllkujzdlpvgqok", "another one would replace them at the next upgrade");
    let uid = deployment.metadata.uid.unwrap();
    assert_eq!(record.meta.name, names::revision("digits", &uid, record.number));
}

/// The jobs' pods that run during an upgrade keep running: they are compared by this hash.
#[test]
fn launch_hashes_stay_what_they_are() {
    let job: TrainingJob = serde_json::from_value(of_kind("TrainingJob").remove(0)).unwrap();
    let hash = validate(&job).expect("the golden job is valid").launch_hash;
    assert_eq!(hash, "v1:urf4sjkf5qapjh7a", "an upgrade would restart every job");
    // What 0.1.0 wrote, what is missing, and what a later release may write: none of it says that a job was edited.
    for kept in ["wslbnysyxr", "", "v2:urf4sjkf5qapjh7a"] {
        assert!(!canonical::differs(kept, &hash), "{kept}");
    }
}

#[test]
fn records_of_runs_are_still_read() {
    let run: PipelineRun = serde_json::from_value(of_kind("PipelineRun").remove(0)).unwrap();
    let facts = record("trainyard.dev/run");
    let record: Record = serde_json::from_str(&facts.data).expect("the golden record is read");
    assert_eq!(hash(&record.spec), record.pipeline.hash);
    assert_eq!(record.pipeline.hash, facts.hash);
    assert_eq!(facts.meta.name, names::family("digits-7", &run.metadata.uid.unwrap()));
    let [before, after] = fields_before_and_after::<Record>(&serde_json::from_str(&facts.data).unwrap());
    assert_eq!(after, before);
}

/// A later operator that called children otherwise would not find those that run.
#[test]
fn children_keep_their_names() {
    let uid = "6f1c2a52-6d3e-4a57-9a0e-0d6a3f0b7c11";
    let names = [
        names::pod("resnet", uid, "worker", 1, 2),
        names::service("resnet", uid),
        names::step_child("digits-7", uid, "prepare", 3),
        names::pod(&"a-long-name-".repeat(5), uid, "worker", 10, 12),
    ];
    assert_eq!(
        names,
        [
            "resnet-prs7k-worker-1-2",
            "resnet-prs7k",
            "digits-7-prs7k-prepare-3",
            "a-long-name-a-long-name-t5o3d3-prs7k-worker-10-12",
        ]
    );
}

fn record(label: &str) -> RevisionFacts {
    let records = of_kind("ControllerRevision").into_iter();
    let record = records.into_iter().find(|record| record["metadata"]["labels"].get(label).is_some());
    let watched: WatchedRevision = serde_json::from_str(&record.expect("a golden record").to_string()).unwrap();
    RevisionFacts::from(watched)
}
