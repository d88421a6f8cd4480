//! The inference server of [`Image::Server`](crate::images::Image::Server), as a user would run and ask it.

use anyhow::{Context, Result};
use http::Request;
use kube::Client;
use serde::Serialize;
use serde_json::{Value, json};

/// Where it answers, below its Service's URL.
pub const INFER: &str = "/v2/models/digits/infer";

/// A container of it. Each of its answers names the version and takes 50 ms, so that under load there is always one under
/// way.
pub fn container(image: &str, version: &str) -> Value {
    json!({
        "name": "server",
        "image": image,
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 1},
        "env": [{"name": "MODEL_VERSION", "value": version}, {"name": "MODEL_DELAY", "value": "0.05"}],
    })
}

/// A question about one sample. The model that the image brings wants ten numbers, and says which is the largest.
pub fn question(sample: &[impl Serialize]) -> Value {
    json!({"inputs": [{"name": "sample", "shape": [1, sample.len()], "datatype": "FP32", "data": sample}]})
}

/// Sends a request to a Service of a namespace, through the apiserver: that can be reached from outside of any cluster.
pub async fn ask(client: &Client, namespace: &str, service: &str, path: &str, body: &Value) -> Result<Value> {
    let path = format!("/api/v1/namespaces/{namespace}/services/{service}:80/proxy{path}");
    let request = Request::post(&path).header("content-type", "application/json").body(body.to_string().into_bytes());
    client.request(request.context("making a request")?).await.with_context(|| format!("POST {path}"))
}

/// The class that an answer says its one sample to be of.
pub fn predicted(answer: &Value) -> Result<i64> {
    answer["outputs"][0]["data"][0].as_i64().with_context(|| format!("no class in {answer}"))
}
