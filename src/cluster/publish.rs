//! Writing a status: one merge patch, of what changed and nothing else.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// The RFC 7386 merge patch that turns `old` into `new`; `None` when they are equal. What `new` lacks becomes null,
/// since a merge patch clears nothing by leaving it out.
pub fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return Some(new.clone());
    };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        match old.get(key) {
            Some(present) => {
                if let Some(change) = merge_patch(present, value) {
                    patch.insert(key.clone(), change);
                }
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Some(Value::Object(patch))
}

/// The patch of the status subresource that turns one status into another, bound to the version of the object that it
/// was decided upon; `None` when nothing changed.
pub fn status_patch<S: Serialize>(old: &S, new: &S, uid: &str, resource_version: &str) -> Option<Value> {
    let tree = |status: &S| serde_json::to_value(status).expect("a status serialises");
    let change = merge_patch(&tree(old), &tree(new))?;
    Some(json!({"metadata": {"uid": uid, "resourceVersion": resource_version}, "status": change}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), (0..3i32).prop_map(Value::from)];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[abc]", inner, 0..3).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn applying_the_patch_gives_the_new_tree(old in tree(), new in tree()) {
            let mut patched = old.clone();
            match merge_patch(&old, &new) {
                Some(patch) => json_patch::merge(&mut patched, &patch),
                None => prop_assert_eq!(&old, &new),
            }
            prop_assert_eq!(patched, new);
        }
    }

    #[test]
    fn only_what_changed_is_sent() {
        let (old, new) = (json!({"a": 1, "b": {"c": 1, "d": 2}, "e": 3}), json!({"a": 1, "b": {"c": 5, "d": 2}}));
        assert_eq!(merge_patch(&old, &new), Some(json!({"b": {"c": 5}, "e": null})));
        assert_eq!(status_patch(&old, &old, "u", "7"), None);
    }
}
