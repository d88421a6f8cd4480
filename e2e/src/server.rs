//! The inference server of [`Image::Server`](crate::images::Image::Server), as a user would run and ask it.

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
pub fn question(sample: &[i32]) -> Value {
    json!({"inputs": [{"name": "sample", "shape": [1, sample.len()], "datatype": "FP32", "data": sample}]})
}
