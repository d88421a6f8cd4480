//! Lines of the story, each with its time, and none of them twice.

use std::collections::HashMap;

use serde_json::Value;
use tokio::time::Instant;

use crate::progress::say;

/// Texts longer than this, such as digests, are cut.
const LONGEST: usize = 40;
const KEPT: usize = 12;

/// Says what is new about objects.
pub(super) struct Teller {
    started: Instant,
    /// The last line about each object.
    told: HashMap<String, String>,
}

impl Teller {
    /// Times count from now on.
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), told: HashMap::new() }
    }

    /// Says something about an object, unless it is what was said last.
    pub(super) fn tell(&mut self, object: &str, news: &str) {
        if self.told.insert(object.to_owned(), news.to_owned()).as_deref() != Some(news) {
            self.pen().write(&format!("{object}  {news}"));
        }
    }

    /// For lines that others write.
    pub(super) fn pen(&self) -> Pen {
        Pen { started: self.started }
    }
}

/// Writes lines with their time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pen {
    started: Instant,
}

impl Pen {
    pub(super) fn write(self, line: &str) {
        say(&format!("{:>6.1} s  {line}", self.started.elapsed().as_secs_f64()));
    }
}

/// State and message, as `kubectl get` shows them.
pub(super) fn described(object: &Value) -> String {
    let message = object["status"]["message"].as_str().unwrap_or_default();
    match state(object) {
        "" => String::new(),
        state => format!("{state}: {message}"),
    }
}

/// What `kubectl get` shows as the state.
pub(super) fn state(object: &Value) -> &str {
    condition(object, "Ready").and_then(|ready| ready["reason"].as_str()).unwrap_or_default()
}

/// Whether a condition is True.
pub(super) fn holds(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// What a step reported, in one line.
pub(super) fn listed(outputs: &Value) -> String {
    let outputs = outputs.as_object().into_iter().flatten();
    let each: Vec<String> = outputs.map(|(name, value)| format!("{name} {}", short(value))).collect();
    each.join(", ")
}

/// A value as text that is not long.
pub(super) fn short(value: &Value) -> String {
    match value.as_str() {
        Some(text) if text.chars().count() > LONGEST => text.chars().take(KEPT).chain(['…']).collect(),
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn outputs_are_one_short_line() {
        let outputs = json!({"accuracy": 0.97, "digest": "0123456789abcdef".repeat(4), "note": "fine"});
        assert_eq!(listed(&outputs), "accuracy 0.97, digest 0123456789ab…, note fine");
        assert_eq!(listed(&Value::Null), "");
    }

    #[test]
    fn an_object_is_described_as_kubectl_shows_it() {
        let conditions = json!([{"type": "Ready", "status": "False", "reason": "Running"}]);
        let run = json!({"status": {"conditions": conditions, "message": "running train"}});
        assert_eq!(described(&run), "Running: running train");
        assert!(!holds(&run, "Ready") && !holds(&run, "Finished"));
        assert_eq!(described(&json!({})), "");
    }
}
