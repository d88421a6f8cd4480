//! Whether the installed CRDs are of this version: an apiserver drops every field that they lack, without a word.
//!
//! The schemas are read from the OpenAPI document of our group, which every authenticated client may read (the right to
//! CRDs themselves would be one for the whole cluster). What is missing is said in the log and counted; the operator
//! carries on, as most fields are nobody's.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use serde_json::Value;
use tokio::time::{sleep, timeout};

mod missing;

use super::client::described;
use super::news::News;
use super::port::Resource;
use crate::api;
use crate::server::metrics::Metrics;
use missing::missing_fields;

const PATH: &str = "/openapi/v3/apis/trainyard.dev/v1alpha1";
const LIMIT: Duration = Duration::from_secs(10);
/// Between two looks: CRDs change when people upgrade, and so does the operator, mostly.
const PAUSE: Duration = Duration::from_secs(10 * 60);
/// While something is missing, a person may be about to help.
const PAUSE_WHILE_MISSING: Duration = Duration::from_secs(30);
/// Fields that one line of the log names.
const NAMED: usize = 20;
const KINDS: [Resource; 4] =
    [Resource::TrainingJob, Resource::ModelDeployment, Resource::Pipeline, Resource::PipelineRun];
const REMEDY: &str =
    "install the CRDs of this version: helm upgrade with crds.enabled=true, or trainyard crds | kubectl apply -f -";

/// Looks at the schemas now and again until `shutdown`.
pub async fn follow(client: kube::Client, metrics: Arc<Metrics>, shutdown: impl Future) {
    let following = async {
        let (crds, mut teller) = (api::crds(), Teller::default());
        loop {
            let complete = match served(&client).await {
                Ok(served) => teller.tell(&crds, served.as_ref(), &metrics),
                Err(error) => {
                    if teller.trouble.is_new(&error, Instant::now()) {
                        tracing::warn!("whether the CRDs are of this version cannot be seen: {error}");
                    }
                    true
                }
            };
            sleep(if complete { PAUSE } else { PAUSE_WHILE_MISSING }).await;
        }
    };
    tokio::select! {
        () = following => {}
        _ = shutdown => {}
    }
}

/// The OpenAPI document of our group; nothing when there is none.
async fn served(client: &kube::Client) -> Result<Option<Value>, String> {
    let request = Request::get(PATH).body(Vec::new()).map_err(|error| error.to_string())?;
    match timeout(LIMIT, client.request::<Value>(request)).await {
        Ok(Ok(document)) => Ok(Some(document)),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
        Ok(Err(error)) => Err(described(&error)),
        Err(_) => Err(format!("no answer within {LIMIT:?}")),
    }
}

/// What was said so far.
#[derive(Default)]
struct Teller {
    said: BTreeMap<Resource, News>,
    trouble: News,
}

impl Teller {
    /// Counts and tells what is missing of each kind; answers whether nothing is.
    fn tell(&mut self, crds: &[Value], document: Option<&Value>, metrics: &Metrics) -> bool {
        self.trouble.settle();
        let mut complete = true;
        for kind in KINDS {
            let served = document.and_then(|document| schema_of(document, kind));
            let missing = missing_fields(generated(crds, kind), served.unwrap_or(&Value::Null));
            metrics.set_missing_fields(kind, missing.len());
            complete &= missing.is_empty();
            let news = self.said.entry(kind).or_default();
            match problem(kind, served.is_some(), &missing) {
                Some(problem) if news.is_new(&problem, Instant::now()) => tracing::warn!("{problem}; {REMEDY}"),
                Some(_) => {}
                None if news.settle() => tracing::info!("the installed CRD of {} is of this version", kind.kind()),
                None => {}
            }
        }
        complete
    }
}

fn problem(kind: Resource, is_served: bool, missing: &[String]) -> Option<String> {
    let kind = kind.kind();
    if !is_served {
        return Some(format!("{kind} is not served, so none is reconciled until its CRD is installed"));
    }
    if missing.is_empty() {
        return None;
    }
    let (named, more) = missing.split_at(missing.len().min(NAMED));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    let named = named.join(", ");
    Some(format!("the installed CRD of {kind} lacks fields of this version, which the apiserver drops: {named}{more}"))
}

/// The schema of a kind that this binary generates its CRD with.
fn generated(crds: &[Value], kind: Resource) -> &Value {
    let crd = crds.iter().find(|crd| crd["spec"]["names"]["kind"] == kind.kind());
    crd.map_or(&Value::Null, |crd| &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
}

fn schema_of(document: &Value, kind: Resource) -> Option<&Value> {
    let schemas = document["components"]["schemas"].as_object()?;
    schemas.values().find(|schema| {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array();
        // The document is of our group and version alone, beside what is Kubernetes' own, such as DeleteOptions.
        kinds.is_some_and(|kinds| kinds.len() == 1 && kinds[0]["kind"] == kind.kind())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    /// The document that an apiserver with these CRDs would serve.
    fn document(crds: &[Value]) -> Value {
        let schemas = crds.iter().map(|crd| {
            let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
            let mut schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
            schema["x-kubernetes-group-version-kind"] =
                json!([{"group": "trainyard.dev", "kind": kind, "version": "v1alpha1"}]);
            (format!("dev.trainyard.v1alpha1.{kind}"), schema)
        });
        json!({"components": {"schemas": schemas.collect::<Map<_, _>>()}})
    }

    #[test]
    fn what_is_missing_is_counted_by_kind_and_over_when_it_is_there() {
        let (crds, metrics, mut teller) = (api::crds(), Metrics::new(), Teller::default());
        let counted = |kind: &str| {
            let sample = format!("trainyard_missing_fields{{kind=\"{kind}\"}} ");
            metrics.text().lines().find_map(|line| line.strip_prefix(&sample)?.parse::<u32>().ok()).unwrap()
        };
        assert!(teller.tell(&crds, Some(&document(&crds)), &metrics));
        assert_eq!(KINDS.map(|kind| counted(kind.kind())), [0; 4]);

        let mut old = crds.clone();
        let rollout = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/rollout/properties";
        old[1].pointer_mut(rollout).and_then(Value::as_object_mut).unwrap().remove("undoTo").unwrap();
        let served = document(&old[..3]);
        assert!(!teller.tell(&crds, Some(&served), &metrics));
        assert_eq!(["ModelDeployment", "PipelineRun"].map(counted), [1, 2], "a kind that is not served lacks all");
        let fields = missing_fields(generated(&crds, Resource::ModelDeployment), schema_of(&served, KINDS[1]).unwrap());
        assert_eq!(fields, ["spec.rollout.undoTo"]);

        assert!(!teller.tell(&crds, None, &metrics));
        assert!(teller.tell(&crds, Some(&document(&crds)), &metrics));
        assert_eq!(counted("ModelDeployment"), 0);
    }

    #[test]
    fn a_line_of_the_log_stays_readable() {
        let many: Vec<String> = (0..30).map(|number| format!("spec.f{number}")).collect();
        let said = problem(Resource::Pipeline, true, &many).unwrap();
        assert!(said.ends_with("spec.f19 and 10 more"), "{said}");
        assert_eq!(problem(Resource::Pipeline, true, &[]), None);
        let said = problem(Resource::Pipeline, false, &many).unwrap();
        assert_eq!(said, "Pipeline is not served, so none is reconciled until its CRD is installed");
    }
}
