//! Checking and editing the pod templates of users.
//!
//! A template is JSON that only the apiserver knows in full, and within the unknown fields of a CRD anything may stand.
//! [`check_outline`] names each part that the operator looks into and that has the wrong kind. The edits never panic: a part
//! of the wrong kind is left as it is, and the apiserver refuses it in its own words.

use serde_json::{Map, Value};

use super::problem::Problem;

/// Most problems of one template that are named; a list may have thousands of wrong items.
const MOST_PROBLEMS: usize = 10;

/// Lists of containers in a pod's spec whose items are edited.
const CONTAINER_LISTS: [&str; 2] = ["initContainers", "containers"];

/// Checks that the parts of a template that are read or edited are objects and lists where Kubernetes has objects and lists.
/// Null counts as left out, as it does for the apiserver. The problems are named as below `spec.template`.
pub fn check_outline(template: &Value, problems: &mut Vec<Problem>) {
    let mut outline = Outline { problems: Vec::new() };
    if let Some(metadata) = outline.object("spec.template", template, "metadata") {
        for map in ["labels", "annotations"] {
            outline.object("spec.template.metadata", metadata, map);
        }
    }
    if let Some(spec) = outline.object("spec.template", template, "spec") {
        outline.objects("spec.template.spec", spec, "volumes");
        outline.objects("spec.template.spec", spec, "schedulingGates");
        for list in CONTAINER_LISTS {
            for (index, container) in outline.objects("spec.template.spec", spec, list) {
                outline.container(&format!("spec.template.spec.{list}[{index}]"), container);
            }
        }
    }
    outline.problems.truncate(MOST_PROBLEMS);
    problems.append(&mut outline.problems);
}

struct Outline {
    problems: Vec<Problem>,
}

impl Outline {
    fn container(&mut self, path: &str, container: &Value) {
        if let Some(name) = container.get("name").filter(|name| !name.is_string() && !name.is_null()) {
            self.problems.push(Problem::new(&format!("{path}.name"), name, "write the name as a string"));
        }
        for list in ["env", "volumeMounts", "ports"] {
            self.objects(path, container, list);
        }
        self.object(path, container, "lifecycle");
        if let Some(resources) = self.object(path, container, "resources") {
            self.object(&format!("{path}.resources"), resources, "limits");
        }
    }

    /// A field that has to be an object, if it is there.
    fn object<'a>(&mut self, path: &str, parent: &'a Value, field: &str) -> Option<&'a Value> {
        let value = parent.get(field).filter(|value| !value.is_null())?;
        if value.is_object() {
            return Some(value);
        }
        self.wrong(
            &format!("{path}.{field}"),
            value,
            "write an object here, with the fields that Kubernetes documents",
        );
        None
    }

    /// The items of a field that has to be a list of objects, if it is there.
    fn objects<'a>(&mut self, path: &str, parent: &'a Value, field: &str) -> Vec<(usize, &'a Value)> {
        match parent.get(field) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => {
                for (index, item) in items.iter().enumerate().filter(|(_, item)| !item.is_object()) {
                    self.wrong(&format!("{path}.{field}[{index}]"), item, "write an object as the item of this list");
                }
                items.iter().enumerate().filter(|(_, item)| item.is_object()).collect()
            }
            Some(other) => {
                self.wrong(&format!("{path}.{field}"), other, "write a list of objects here");
                Vec::new()
            }
        }
    }

    fn wrong(&mut self, path: &str, value: &Value, remedy: &str) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(Problem::new(path, value, remedy));
        }
    }
}

/// A field of an object; one that is missing is there as null from now on. Nothing, if `object` is no object.
fn field<'a>(object: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    Some(object.as_object_mut()?.entry(name).or_insert(Value::Null))
}

/// Sets a field of an object, whatever it held.
pub fn set(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value.into());
    }
}

/// Sets a field that the user has left out.
pub fn set_default(object: &mut Value, name: &str, value: impl Into<Value>) {
    if object.get(name).is_none_or(Value::is_null) {
        set(object, name, value);
    }
}

/// Sets a field of an object within an object, if the user has left it out; the inner object is made if it is missing.
pub fn set_default_within(object: &mut Value, outer: &str, inner: &str, value: impl Into<Value>) {
    set_default(object, outer, Map::new());
    if let Some(within) = field(object, outer) {
        set_default(within, inner, value);
    }
}

/// Appends to a list of an object, which is made if it is missing.
pub fn push(object: &mut Value, list: &str, item: Value) {
    set_default(object, list, Vec::<Value>::new());
    if let Some(Value::Array(items)) = field(object, list) {
        items.push(item);
    }
}

/// Puts variables before the user's own, so that `$(NAME)` in theirs expands.
pub fn prepend_env(container: &mut Value, variables: Vec<Value>) {
    set_default(container, "env", Vec::<Value>::new());
    if let Some(Value::Array(items)) = field(container, "env") {
        items.splice(0..0, variables);
    }
}

/// The containers of a pod's spec, without init containers.
pub fn containers(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
    spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten()
}

/// The containers of that name, without init containers: one, unless the user's template is wrong.
pub fn containers_named<'a>(spec: &'a mut Value, name: &'a str) -> impl Iterator<Item = &'a mut Value> {
    containers(spec).filter(move |container| container.get("name").and_then(Value::as_str) == Some(name))
}

/// The init containers of a pod's spec.
pub fn init_containers(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
    spec.get_mut("initContainers").and_then(Value::as_array_mut).into_iter().flatten()
}

/// Has the container of that name and the init containers leave the end of their log as termination message when they fail
/// and have written none, where the template does not say otherwise: then a failure explains itself.
pub fn explain_failures(spec: &mut Value, container: &str) {
    const FIELD: &str = "terminationMessagePolicy";
    containers_named(spec, container).for_each(|container| set_default(container, FIELD, "FallbackToLogsOnError"));
    init_containers(spec).for_each(|container| set_default(container, FIELD, "FallbackToLogsOnError"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_part_of_the_wrong_kind_is_named() {
        let container = |field: &str, value: Value| json!({"spec": {"containers": [{"name": "c", field: value}]}});
        let cases = [
            (container("lifecycle", json!("x")), "spec.template.spec.containers[0].lifecycle: \"x\": write an object"),
            (
                container("env", json!({"A": "b"})),
                "spec.template.spec.containers[0].env: {\"A\":\"b\"}: write a list of",
            ),
            (container("env", json!(["A=b"])), "spec.template.spec.containers[0].env[0]: \"A=b\": write an object as"),
            (container("ports", json!(8080)), "spec.template.spec.containers[0].ports: 8080: write a list of objects"),
            (container("volumeMounts", json!([null])), "spec.template.spec.containers[0].volumeMounts[0]: null: "),
            (container("resources", json!([])), "spec.template.spec.containers[0].resources: []: write an object"),
            (container("resources", json!({"limits": 1})), "spec.template.spec.containers[0].resources.limits: 1: "),
            (container("name", json!(7)), "spec.template.spec.containers[0].name: 7: write the name as a string"),
            (json!({"spec": {"containers": ["c"]}}), "spec.template.spec.containers[0]: \"c\": write an object as"),
            (json!({"spec": {"containers": {"c": 1}}}), "spec.template.spec.containers: {\"c\":1}: write a list of"),
            (json!({"spec": {"initContainers": [1]}}), "spec.template.spec.initContainers[0]: 1: write an object as"),
            (json!({"spec": {"volumes": "v"}}), "spec.template.spec.volumes: \"v\": write a list of objects"),
            (json!({"spec": []}), "spec.template.spec: []: write an object"),
            (json!({"metadata": 3}), "spec.template.metadata: 3: write an object"),
            (json!({"metadata": {"labels": []}}), "spec.template.metadata.labels: []: write an object"),
        ];
        for (template, expected) in cases {
            let mut problems = Vec::new();
            check_outline(&template, &mut problems);
            assert_eq!(problems.len(), 1, "{template}");
            assert!(problems[0].to_string().starts_with(expected), "{template}: {}", problems[0]);
        }
        let mut problems = Vec::new();
        check_outline(&json!({"spec": {"containers": vec![1; 1_000]}}), &mut problems);
        assert_eq!(problems.len(), MOST_PROBLEMS);
    }

    #[test]
    fn what_kubernetes_takes_is_no_problem() {
        let container = json!({
            "name": "c", "env": null, "ports": null, "lifecycle": null, "resources": {"limits": null}, "volumeMounts": [],
            "aFieldOfTomorrow": 7,
        });
        let spec = json!({"containers": [container], "initContainers": null, "volumes": null});
        let mut problems = Vec::new();
        check_outline(&json!({"metadata": {"labels": null, "annotations": null}, "spec": spec}), &mut problems);
        check_outline(&json!({"metadata": null}), &mut problems);
        assert_eq!(problems, []);
    }

    #[test]
    fn edits_leave_what_they_do_not_fit() {
        let mut container = json!({"env": {"A": "b"}, "lifecycle": "x", "volumeMounts": null});
        prepend_env(&mut container, vec![json!({"name": "RANK"})]);
        set_default_within(&mut container, "lifecycle", "preStop", json!({}));
        push(&mut container, "volumeMounts", json!({"name": "v"}));
        assert_eq!(container, json!({"env": {"A": "b"}, "lifecycle": "x", "volumeMounts": [{"name": "v"}]}));
        for mut odd in [json!(null), json!("x"), json!([1]), json!(3)] {
            let before = odd.clone();
            set(&mut odd, "a", 1);
            push(&mut odd, "a", json!(1));
            prepend_env(&mut odd, vec![json!(1)]);
            set_default_within(&mut odd, "a", "b", 1);
            explain_failures(&mut odd, "c");
            assert_eq!(odd, before);
        }
    }

    #[test]
    fn failures_of_init_containers_explain_themselves_too() {
        let mut spec = json!({
            "initContainers": [{"name": "fetch"}, {"name": "own", "terminationMessagePolicy": "File"}],
            "containers": [{"name": "c", "terminationMessagePolicy": null}, {"name": "proxy"}],
        });
        explain_failures(&mut spec, "c");
        let policies = |list: &str| -> Vec<Value> {
            let items = spec[list].as_array().unwrap();
            items.iter().map(|container| container["terminationMessagePolicy"].clone()).collect()
        };
        assert_eq!(policies("initContainers"), [json!("FallbackToLogsOnError"), json!("File")]);
        assert_eq!(policies("containers"), [json!("FallbackToLogsOnError"), json!(null)]);
    }
}
