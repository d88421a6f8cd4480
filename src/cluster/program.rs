//! What the containers of a pod run, as far as it tells one pod from another under the same name.
//!
//! Whoever may create pods can make one under the name of a child of ours, with our labels and ownerReference. What it runs is
//! compared by image, command and arguments. Not by more: webhooks add containers, variables and volumes, the apiserver fills
//! in defaults, and a later release of ours may add fields to the pods that it makes. Not by the image's registry or digest:
//! webhooks send images through mirrors and pin them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::canonical;

/// Containers that are looked at: others decide how many a pod has, and tens of thousands of pods are kept.
const MOST: usize = 256;
/// Containers of a template that are looked at; fewer, since webhooks put others before them.
const MOST_OF_TEMPLATE: usize = 64;

/// What each container runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs(Box<[(String, String)]>);

impl Programs {
    /// Of the spec of a pod template.
    pub fn of_spec(spec: &Value) -> Programs {
        let containers = ["initContainers", "containers"].into_iter();
        let containers = containers.flat_map(|field| spec[field].as_array().into_iter().flatten());
        // What is no container is not taken by the apiserver either: no pod runs it.
        let programs = containers.map(|container| WatchedProgram::deserialize(container).unwrap_or_default());
        Programs::new(programs.take(MOST_OF_TEMPLATE))
    }

    /// Of containers as they are watched.
    pub fn new(containers: impl IntoIterator<Item = WatchedProgram>) -> Programs {
        Programs(containers.into_iter().take(MOST).map(WatchedProgram::hashed).collect())
    }

    /// Whether a pod runs all of this, whatever else it runs. No pod runs nothing.
    pub fn are_run_by(&self, pod: &Programs) -> bool {
        !self.0.is_empty() && self.0.iter().all(|program| !program.0.is_empty() && pod.0.contains(program))
    }
}

/// A container of a pod as it comes from a watch, without everything that is not looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WatchedProgram {
    name: String,
    image: Option<String>,
    // Go writes an empty list as null.
    command: Option<Vec<String>>,
    args: Option<Vec<String>>,
    resources: Option<WatchedResources>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct WatchedResources {
    limits: Option<BTreeMap<String, IgnoredAny>>,
}

impl WatchedProgram {
    /// Whether its local storage is limited.
    pub fn limits_storage(&self) -> bool {
        let limits = self.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        limits.is_some_and(|limits| limits.contains_key("ephemeral-storage"))
    }

    fn hashed(self) -> (String, String) {
        let image = self.image.as_deref().map(without_place);
        let program = json!([image, self.command.unwrap_or_default(), self.args.unwrap_or_default()]);
        (self.name, canonical::hash(&program))
    }
}

/// The last part of an image's name with its tag: no registry, no path, no digest.
fn without_place(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    image.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(containers: Value) -> Programs {
        Programs::of_spec(&json!({"containers": containers}))
    }

    #[test]
    fn what_others_change_on_the_way_is_no_other_program() {
        let sent = programs(json!([{"name": "c", "image": "quay.io/team/train:1", "command": ["train"]}]));
        let as_it_is = [
            json!([{"name": "c", "image": "quay.io/team/train:1", "command": ["train"], "args": null, "imagePullPolicy": "Always"}]),
            json!([{"name": "c", "image": "mirror:5000/quay/team/train:1@sha256:ab", "command": ["train"], "env": [{"name": "A"}]}]),
            json!([{"name": "mesh", "image": "m"}, {"name": "c", "image": "quay.io/team/train:1", "command": ["train"]}]),
        ];
        for present in as_it_is {
            assert!(sent.are_run_by(&programs(present.clone())), "{present}");
        }
        let forged = [
            json!([{"name": "c", "image": "forged"}]),
            json!([{"name": "c", "image": "quay.io/team/train:2", "command": ["train"]}]),
            json!([{"name": "c", "image": "quay.io/team/train:1", "command": ["echo"]}]),
            json!([{"name": "c", "image": "quay.io/team/train:1", "command": ["train"], "args": ["--fake"]}]),
            json!([{"name": "d", "image": "quay.io/team/train:1", "command": ["train"]}]),
            json!([]),
        ];
        for present in forged {
            assert!(!sent.are_run_by(&programs(present.clone())), "{present}");
        }
    }

    #[test]
    fn no_pod_runs_an_odd_template() {
        let odd =
            [json!(null), json!("x"), json!({"containers": "x"}), json!({"containers": ["x", 1, {"command": "x"}]})];
        for odd in odd {
            assert!(!Programs::of_spec(&odd).are_run_by(&Programs::of_spec(&odd)), "{odd}");
        }
    }

    #[test]
    fn empty_fields_of_a_template_hide_no_program() {
        for empty in [json!({"resources": null}), json!({"resources": {"limits": null}}), json!({"command": null})] {
            let mut container = json!({"name": "c", "image": "train:1"});
            container.as_object_mut().unwrap().extend(empty.as_object().unwrap().clone());
            let sent = programs(json!([container]));
            assert!(sent.are_run_by(&programs(json!([{"name": "c", "image": "train:1"}]))), "{empty}");
            assert!(!sent.are_run_by(&programs(json!([{"name": "c", "image": "forged"}]))), "{empty}");
        }
    }
}
