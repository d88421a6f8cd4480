//! Which steps may use the run's files at the same time.

use std::collections::BTreeMap;

use crate::pipelines::validate::{ValidStep, Work};

/// Two users of the files that may run at the same time, in words; nothing if there never are. Steps stand in order, each
/// after all that it depends on.
pub fn side_by_side(steps: &[ValidStep]) -> Option<String> {
    if let Some(step) = steps.iter().find(|step| has_several_nodes(step)) {
        return Some(format!("the pods of step {}", step.name));
    }
    // In an order in which each step comes after those that it waits for, all of them come one after the other only if each
    // waits for the one before.
    let mut earlier: BTreeMap<&str, Set> = BTreeMap::new();
    let mut last: Option<(usize, &ValidStep)> = None;
    for (position, step) in steps.iter().enumerate() {
        let mut before = Set::default();
        for dependency in &step.depends_on {
            if let Some(set) = earlier.get(dependency.as_str()) {
                before.add_all(set);
            }
        }
        if !matches!(step.work, Work::Deploy(_)) {
            let other = last.filter(|(other, last)| last.is_final == step.is_final && !before.has(*other));
            if let Some((_, other)) = other {
                return Some(format!("steps {} and {}", other.name, step.name));
            }
            last = Some((position, step));
        }
        before.add(position);
        earlier.insert(&step.name, before);
    }
    None
}

/// Numbers in any of which a parameter stands are not known here.
fn has_several_nodes(step: &ValidStep) -> bool {
    match &step.work {
        Work::Train(spec) => spec.parse()["nodes"].as_i64().is_some_and(|nodes| nodes > 1),
        Work::Run { .. } | Work::Deploy(_) => false,
    }
}

/// Positions of steps, one bit for each: a pipeline may have hundreds of steps that all wait for one another.
#[derive(Default)]
struct Set(Vec<u64>);

impl Set {
    fn add(&mut self, position: usize) {
        let word = position / 64;
        self.0.resize(self.0.len().max(word + 1), 0);
        self.0[word] |= 1 << (position % 64);
    }

    fn add_all(&mut self, other: &Set) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(&other.0).for_each(|(word, more)| *word |= more);
    }

    fn has(&self, position: usize) -> bool {
        self.0.get(position / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pipelines::validate::validate;

    fn told(steps: Value, finally: Value) -> Option<String> {
        let definition = serde_json::from_value(json!({"steps": steps, "finally": finally})).unwrap();
        side_by_side(&validate(&definition, "spec", None).unwrap().steps)
    }

    #[test]
    fn steps_that_wait_for_one_another_never_run_side_by_side() {
        let template = json!({"spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}});
        let run = |name: &str, after: &[&str]| json!({"name": name, "run": template, "dependsOn": after});
        let train = |nodes: i32| {
            let spec = json!({"framework": "torch", "nodes": nodes, "template": template});
            json!({"name": "t", "train": spec})
        };
        let deploy = json!({"name": "d", "deploy": {"name": "m", "spec": {"template": template}}});
        let none = json!([]);
        let cases = [
            (json!([run("a", &[]), run("b", &["a"]), run("c", &["b"])]), none.clone(), None),
            (json!([run("a", &[]), run("b", &[])]), none.clone(), Some("steps a and b")),
            (json!([run("a", &[]), run("b", &["a"]), run("c", &["a"])]), none.clone(), Some("steps b and c")),
            (json!([run("a", &[]), deploy]), none.clone(), None),
            (json!([train(1)]), none.clone(), None),
            (json!([train(2)]), none.clone(), Some("the pods of step t")),
            (json!([run("a", &[])]), json!([run("z", &[])]), None),
            (json!([run("a", &[])]), json!([run("y", &[]), run("z", &[])]), Some("steps y and z")),
        ];
        for (steps, finally, expected) in cases {
            assert_eq!(told(steps.clone(), finally).as_deref(), expected, "{steps}");
        }
    }
}
