//! What is sent, and what becomes of the answers, against a router that records and answers as told.

use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::api::TrainingJob;
use crate::cluster::execute::{Executed, execute};
use crate::cluster::guard::Guarded;
use crate::cluster::lease::{LeaseHolder, LeasePlace, LeaseTimes};
use crate::cluster::plan::{Action, Check};
use crate::cluster::port::EventType;
use crate::cluster::reconcile::{is_behind, report_unreadable};
use crate::cluster::scope::Scope;
use crate::training;

#[derive(Clone, Debug, PartialEq)]
struct Sent {
    line: String,
    content_type: String,
    body: Value,
}

/// An apiserver that gives the same answer to everything.
struct Fake {
    api: ApiClient,
    metrics: Arc<Metrics>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Fake {
    fn answering(code: u16, body: Value) -> Fake {
        Fake::new(code, body, Duration::ZERO, LeaseGate::always())
    }

    fn new(code: u16, body: Value, pause: Duration, gate: LeaseGate) -> Fake {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let record = sent.clone();
        let answer = move |method: Method, uri: Uri, headers: HeaderMap, content: Bytes| {
            let content_type = headers.get(header::CONTENT_TYPE).map(|it| it.to_str().unwrap().to_owned());
            let content = serde_json::from_slice(&content).unwrap_or(Value::Null);
            record.lock().unwrap().push(Sent {
                line: format!("{method} {uri}"),
                content_type: content_type.unwrap_or_default(),
                body: content,
            });
            let answer = (StatusCode::from_u16(code).unwrap(), body.to_string());
            async move {
                tokio::time::sleep(pause).await;
                answer
            }
        };
        let client = kube::Client::new(Router::new().fallback(answer), "default");
        let metrics = Arc::new(Metrics::new());
        let api = ApiClient {
            limit: Duration::from_millis(500),
            ..ApiClient::new(client, gate, Territory::undisputed(), metrics.clone())
        };
        Fake { api, metrics, sent }
    }

    fn failing(code: u16, reason: &str, message: &str) -> Fake {
        Fake::answering(code, json!({"kind": "Status", "code": code, "reason": reason, "message": message}))
    }

    fn one(&self) -> Sent {
        let sent = self.sent.lock().unwrap();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent[0].clone()
    }
}

fn job() -> ObjectId {
    ObjectId::new(Resource::TrainingJob, "train", "digits")
}

fn pod() -> ObjectId {
    ObjectId::new(Resource::Pod, "train", "digits-0")
}

#[tokio::test]
async fn requests_have_the_shape_that_the_apiserver_expects() {
    let object = json!({"metadata": {"name": "digits-0", "uid": "u"}, "spec": {"newerField": [1]}});
    let sent = |line: &str, content_type: &str, body: Value| Sent {
        line: line.to_owned(),
        content_type: content_type.to_owned(),
        body,
    };

    let fake = Fake::answering(201, json!({}));
    fake.api.create(&pod(), object.to_string()).await.unwrap();
    let line = "POST /api/v1/namespaces/train/pods?fieldValidation=Strict&fieldManager=trainyard";
    assert_eq!(fake.one(), sent(line, "application/json", object.clone()));

    let fake = Fake::answering(200, json!({}));
    fake.api.apply(Resource::EndpointSlice, "train", &object).await.unwrap();
    let line = "PATCH /apis/discovery.k8s.io/v1/namespaces/train/endpointslices/digits-0\
                ?fieldManager=trainyard&force=true&fieldValidation=Strict";
    assert_eq!(fake.one(), sent(line, "application/apply-patch+yaml", object));

    let fake = Fake::answering(200, json!({"metadata": {"resourceVersion": "8"}}));
    let patch = json!({"metadata": {"resourceVersion": "7"}, "status": {"message": null}});
    assert_eq!(fake.api.patch_status(&job(), &patch).await.unwrap(), "8");
    let line = "PATCH /apis/trainyard.dev/v1alpha1/namespaces/train/trainingjobs/digits/status?fieldManager=trainyard";
    assert_eq!(fake.one(), sent(line, "application/merge-patch+json", patch));

    let fake = Fake::answering(200, json!({}));
    fake.api.delete(&pod(), "5f0f", None).await.unwrap();
    let delete = fake.one();
    assert_eq!(delete.line, "DELETE /api/v1/namespaces/train/pods/digits-0");
    assert_eq!(delete.body["preconditions"], json!({"uid": "5f0f"}));
    assert_eq!(delete.body["propagationPolicy"], "Background");

    let fake = Fake::answering(200, json!({}));
    fake.api.delete(&job(), "5f0f", Some("7")).await.unwrap();
    assert_eq!(fake.one().body["preconditions"], json!({"uid": "5f0f", "resourceVersion": "7"}));

    let fake = Fake::answering(200, json!({"metadata": {"name": "digits-0"}}));
    assert_eq!(fake.api.read(&pod()).await.unwrap().unwrap()["metadata"]["name"], "digits-0");
    assert_eq!(fake.one().line, "GET /api/v1/namespaces/train/pods/digits-0");
}

#[tokio::test]
async fn lists_follow_their_pages() {
    let pages = Arc::new(Mutex::new(Vec::new()));
    let seen = pages.clone();
    let answer = move |uri: Uri| async move {
        let mut seen = seen.lock().unwrap();
        seen.push(uri.to_string());
        let (next, name) = if seen.len() == 1 { ("t+=/", "a") } else { ("", "b") };
        json!({"metadata": {"continue": next}, "items": [{"metadata": {"name": name}}]}).to_string()
    };
    let client = kube::Client::new(Router::new().fallback(answer), "default");
    let api = ApiClient::new(client, LeaseGate::always(), Territory::undisputed(), Arc::new(Metrics::new()));
    let read = |text: &RawValue| text.get().to_owned();
    let objects = api.list(Resource::Pod, "train", "trainyard.dev/job", "digits", read).await.unwrap();
    assert_eq!(objects, [r#"{"metadata":{"name":"a"}}"#, r#"{"metadata":{"name":"b"}}"#]);
    let first = "/api/v1/namespaces/train/pods?labelSelector=trainyard.dev%2Fjob%3Ddigits&limit=8";
    assert_eq!(*pages.lock().unwrap(), [first.to_owned(), format!("{first}&continue=t%2B%3D%2F")]);
}

#[tokio::test]
async fn what_is_gone_reads_as_none_and_is_deleted_already() {
    let gone = Fake::failing(404, "NotFound", "pods \"digits-0\" not found");
    assert_eq!(gone.api.read(&pod()).await, Ok(None));
    assert_eq!(gone.api.delete(&pod(), "u", None).await, Ok(()));
    assert_eq!(gone.api.patch_status(&job(), &json!({})).await, Err(ApiError::NotFound(job())));
    let created = gone.api.create(&pod(), "{}".to_owned()).await;
    assert!(matches!(created, Err(ApiError::Refused(_))), "its namespace is gone: {created:?}");

    let another = "the UID in the precondition (u) does not match the UID in record (v)";
    assert_eq!(Fake::failing(409, "Conflict", another).api.delete(&pod(), "u", None).await, Ok(()));
    let changed = "Precondition failed: ResourceVersion in precondition: 7, ResourceVersion in object meta: 8";
    let stale = Fake::failing(409, "Conflict", changed).api.delete(&pod(), "u", Some("7")).await;
    assert!(matches!(stale, Err(ApiError::Conflict(_))), "{stale:?}");
}

#[tokio::test]
async fn no_answer_in_time_is_unavailable_and_counted() {
    let fake = Fake::new(200, json!({}), Duration::from_secs(60), LeaseGate::always());
    let result = fake.api.create(&pod(), "{}".to_owned()).await;
    assert_eq!(result, Err(ApiError::Unavailable("no answer within 500.0ms".to_owned())));
    let sample = r#"trainyard_api_requests_total{verb="Create",resource="Pod",outcome="Unavailable"} 1"#;
    let text = fake.metrics.text();
    assert!(text.contains(sample), "{text}");
}

#[tokio::test]
async fn without_the_lease_nothing_is_sent_but_reads() {
    let lease = json!({"metadata": {"name": "operator", "resourceVersion": "1"}, "spec": {}});
    let elected = Fake::answering(200, lease);
    let client = elected.api.client.clone();
    let place = LeasePlace { namespace: "train".to_owned(), name: "operator".to_owned(), scope: Scope::Cluster };
    let holder = LeaseHolder::acquire(client, place, "me", LeaseTimes::default(), |_| {}).await.unwrap();
    let gate = holder.gate();
    holder.release().await;

    let fake = Fake::new(200, json!({}), Duration::ZERO, gate);
    let (api, object) = (&fake.api, json!({"metadata": {"name": "a"}}));
    assert_eq!(api.create(&pod(), "{}".to_owned()).await, Err(ApiError::NotLeader));
    assert_eq!(api.apply(Resource::Pod, "train", &object).await, Err(ApiError::NotLeader));
    assert_eq!(api.patch_status(&job(), &object).await, Err(ApiError::NotLeader));
    assert_eq!(api.delete(&pod(), "u", None).await, Err(ApiError::NotLeader));
    api.publish_event(&job(), "u", &draft("note")).await;
    assert_eq!(*fake.sent.lock().unwrap(), []);
    assert!(api.read(&pod()).await.is_ok());
    assert_eq!(fake.sent.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_is_written_in_a_namespace_that_another_has_claimed() {
    let mut fake = Fake::answering(201, json!({}));
    let territory = Territory::of_cluster("trainyard-system");
    fake.api.territory = territory.clone();
    territory.leave_alone(["train".to_owned()].into());
    assert_eq!(fake.api.create(&pod(), "{}".to_owned()).await, Err(ApiError::NotLeader));
    fake.api.publish_event(&job(), "u", &draft("note")).await;
    assert_eq!(*fake.sent.lock().unwrap(), []);
    assert_eq!(fake.api.create(&ObjectId::new(Resource::Pod, "serve", "a"), "{}".to_owned()).await, Ok(String::new()));
    territory.leave_alone([].into());
    assert_eq!(fake.api.create(&pod(), "{}".to_owned()).await, Ok(String::new()));
}

#[tokio::test]
async fn a_status_that_an_older_crd_drops_is_sent_and_not_waited_for_nor_sent_at_once_again() {
    // The apiserver answers every patch with the version that is there already: it has dropped all that was new.
    let fake = Fake::answering(200, json!({"metadata": {"resourceVersion": "7"}}));
    let job = json!({
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "digits", "namespace": "train", "uid": "u", "generation": 1, "resourceVersion": "7"},
        "spec": {"framework": "none", "nodes": 0, "template": {"spec": {"containers": [{"name": "main"}]}}},
    });
    let job: TrainingJob = serde_json::from_value(job).unwrap();
    let (mut memory, now) = (training::observe::Memory::default(), Timestamp::now());
    let observed = training::observe::Observed::default();
    let reconciled = training::reconcile::reconcile(&fake.api, &job, &observed, &mut memory, now).await.unwrap();
    let line = fake.sent.lock().unwrap()[0].line.clone();
    assert!(line.starts_with("PATCH ") && !line.contains("fieldValidation"), "{line}");
    assert!(reconciled.wake_at.is_none_or(|at| at >= now + SignedDuration::from_secs(1)), "{reconciled:?}");
    assert!(!is_behind(&job, &mut memory), "no event will come, and the next change must not wait for one");
}

fn draft(note: &str) -> EventDraft {
    EventDraft { event_type: EventType::Warning, reason: "Restarting", action: "Restart", note: note.to_owned() }
}

#[tokio::test]
async fn events_are_about_the_object_and_short_enough() {
    let fake = Fake::answering(201, json!({"metadata": {}, "eventTime": null}));
    fake.api.publish_event(&job(), "5f0f", &draft(&"\u{20ac}".repeat(1_000))).await;
    let event = fake.one();
    assert!(event.line.starts_with("POST /apis/events.k8s.io/v1/namespaces/train/events"), "{}", event.line);
    let regarding = json!({"apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "namespace": "train", "name": "digits", "uid": "5f0f"});
    assert_eq!(event.body["regarding"], regarding);
    assert_eq!(event.body["reportingController"], "trainyard");
    assert_eq!((&event.body["type"], &event.body["reason"]), (&json!("Warning"), &json!("Restarting")));
    assert_eq!(event.body["note"].as_str().unwrap().len(), 1_023, "341 whole characters of 3 bytes");
}

#[tokio::test]
async fn a_client_can_be_built_and_its_limits_are_set() {
    let config = with_limits(Config::new(Uri::from_static("https://127.0.0.1:1")));
    assert_eq!(config.connect_timeout, Some(CONNECT_LIMIT));
    assert_eq!(config.read_timeout, Some(SILENCE_LIMIT));
    assert!(config.reset_reader_on_write);
    kube::Client::try_from(config).expect("TLS needs a default crypto provider");
}

/// An apiserver that answers everything with this text.
fn saying(text: String) -> ApiClient {
    let client = kube::Client::new(Router::new().fallback(move || async move { text }), "default");
    ApiClient::new(client, LeaseGate::always(), Territory::undisputed(), Arc::new(Metrics::new()))
}

#[tokio::test]
async fn a_poisoned_child_counts_as_there_for_its_owner_and_for_nobody_else() {
    let deep = format!("{}1{}", r#"{"f:a":"#.repeat(5_000), "}".repeat(5_000));
    let managed = format!(r#""managedFields": [{{"time": "9999-12-31T23:59:59Z", "fieldsV1": {deep}}}]"#);
    let owned_by = |name: &str, uid: &str| {
        format!(
            r#""ownerReferences": [{{"apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "name": "{name}", "uid": "{uid}", "controller": true}}]"#
        )
    };
    let owner = |uid| owned_by("digits", uid);
    let pod = |owner: String, status: &str| {
        let labels = r#""labels": {"trainyard.dev/job": "digits", "trainyard.dev/attempt": "1"}"#;
        format!(
            r#"{{"metadata": {{"name": "p", {labels}, {managed}, {owner}}}, "spec": {{"x": {deep}}}, "status": {status}}}"#
        )
    };
    let check =
        Check::PodsAreGone { owner: job(), owner_uid: Some("u".to_owned()), below_attempt: 2, absent: Vec::new() };
    let is_doubted = |executed| matches!(executed, Ok(Executed::Doubted(..)));
    for (what, pod, blocks) in [
        ("another's, unreadable", pod(owned_by("letters", "v"), r#"{"podIPs": 5}"#), false),
        ("an earlier life's, ended", pod(owner("v"), r#"{"phase": "Failed"}"#), false),
        ("an earlier life's, runs", pod(owner("v"), r#"{"phase": "Running"}"#), true),
        (
            "an earlier life's of a later attempt",
            pod(owner("v"), r#"{"phase": "Running"}"#).replace(r#"attempt": "1""#, r#"attempt": "7""#),
            true,
        ),
        (
            "ours of a later attempt",
            pod(owner("u"), r#"{"phase": "Running"}"#).replace(r#"attempt": "1""#, r#"attempt": "7""#),
            false,
        ),
        ("nobody's, unreadable", pod(r#""ownerReferences": 7"#.to_owned(), r#"{"podIPs": 5}"#), false),
        ("ours, readable, ended", pod(owner("u"), r#"{"phase": "Succeeded"}"#), false),
        ("ours, readable, runs", pod(owner("u"), r#"{"phase": "Running"}"#), true),
        ("ours, unreadable", pod(owner("u"), r#"{"phase": "Succeeded", "podIPs": 5}"#), true),
        ("no object", "7".to_owned(), false),
    ] {
        let api = saying(format!(r#"{{"metadata": {{}}, "items": [{pod}]}}"#));
        assert_eq!(
            is_doubted(execute(&api, std::slice::from_ref(&check), &[], &mut Vec::new()).await),
            blocks,
            "{what}"
        );
    }

    // Reads of one object alike: our own with deep metadata, and a pod that is to have ended.
    let meta = format!(r#"{{"name": "digits", "uid": "u", "resourceVersion": "7", {managed}}}"#);
    let current = Check::OwnerIsCurrent { id: job(), uid: "u".to_owned(), resource_version: "7".to_owned() };
    let api = saying(format!(r#"{{"metadata": {meta}, "spec": {{"x": {deep}}}}}"#));
    assert_eq!(execute(&api, &[current], &[], &mut Vec::new()).await, Ok(Executed::Done));
    let ended = [Check::PodHasEnded { id: ObjectId::new(Resource::Pod, "train", "digits-0") }];
    for (status, blocks) in [(r#"{"phase": "Failed"}"#, false), (r#"{"phase": "Failed", "podIPs": 5}"#, true)] {
        let api = saying(pod(owner("u"), status));
        assert_eq!(is_doubted(execute(&api, &ended, &[], &mut Vec::new()).await), blocks, "{status}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_of_an_answer_is_not_quoted() {
    let secret = r#"{"metadata": {"resourceVersion": ["canary"]}}"#;
    match saying(secret.to_owned()).patch_status(&job(), &json!({})).await {
        Err(ApiError::Unavailable(message)) => assert!(!message.contains("canary"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_object_whose_status_cannot_be_read_says_so_once_and_what_was_finished_stays() {
    let late = "9999-12-31T23:59:59Z";
    let condition = |type_: &str| json!({"type": type_, "status": "True", "reason": "R", "message": "", "lastTransitionTime": late});
    for (conditions, is_told) in
        [(json!([]), true), (json!([condition("Complete")]), true), (json!([condition("Finished")]), false)]
    {
        let job = json!({
            "metadata": {"name": "digits", "namespace": "train", "uid": "u", "generation": 1, "resourceVersion": "7"},
            "spec": {"framework": "none", "template": {"spec": {"containers": [{"name": "main"}]}}},
            "status": {"startTime": late, "conditions": conditions},
        });
        let job: Guarded<TrainingJob> = serde_json::from_value(job).unwrap();
        let unreadable = job.0.unwrap_err();
        let fake = Fake::answering(200, json!({"metadata": {"resourceVersion": "8"}}));
        report_unreadable::<_, TrainingJob>(&fake.api, &unreadable, Timestamp::now()).await.unwrap();
        assert_eq!(fake.sent.lock().unwrap().len(), usize::from(is_told), "{conditions}");
        if is_told {
            let message = fake.one().body["status"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains("status: ") && message.contains("nobody but the operator"), "{message}");
        }
    }
}

#[tokio::test]
async fn a_deletion_that_is_refused_is_named_and_no_failure_of_its_own() {
    let denied = "pods \"digits-0\" is forbidden: ValidatingAdmissionPolicy 'keep' denied request";
    let fake = Fake::failing(422, "Invalid", denied);
    let delete = Action::Delete { id: pod(), uid: "u".to_owned(), version: None };
    let executed = execute(&fake.api, &[], &[delete], &mut Vec::new()).await;
    assert!(matches!(&executed, Ok(Executed::Refused(id, ApiError::Refused(_))) if *id == pod()), "{executed:?}");
}

#[tokio::test]
async fn what_was_created_beside_a_problem_is_known() {
    let answer = async |content: Bytes| {
        let object: Value = serde_json::from_slice(&content).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        match name {
            "b" => {
                (StatusCode::TOO_MANY_REQUESTS, json!({"kind": "Status", "code": 429, "message": "later"}).to_string())
            }
            _ => (
                StatusCode::CREATED,
                json!({"metadata": {"uid": format!("uid-{name}"), "resourceVersion": "1"}}).to_string(),
            ),
        }
    };
    let client = kube::Client::new(Router::new().fallback(answer), "default");
    let api = ApiClient::new(client, LeaseGate::always(), Territory::undisputed(), Arc::new(Metrics::new()));
    let create = |name: &str| Action::Create {
        id: ObjectId::new(Resource::Pod, "train", name),
        owner_uid: "u".to_owned(),
        object: json!({"metadata": {"name": name}}).into(),
    };
    let mut made = Vec::new();
    let executed = execute(&api, &[], &["a", "b", "c"].map(create), &mut made).await;
    assert!(matches!(&executed, Ok(Executed::Refused(id, _)) if id.name == "b"), "{executed:?}");
    let made: Vec<_> = made.iter().map(|(id, uid)| (id.name.as_str(), uid.as_str())).collect();
    assert_eq!(made, [("a", "uid-a"), ("c", "uid-c")]);
}
