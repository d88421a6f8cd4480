//! A cache of children, found by the UID of the object that controls them.
//!
//! A synchronous index that is fed with `apply` and `delete`, by watches in the operator and by hand in tests. It
//! answers each change with the owner that has to be looked at again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::names::GROUP;

/// What the index needs to know of a child.
pub trait Child {
    /// The child's metadata that the index goes by.
    fn meta(&self) -> &ChildMeta;
}

/// A child's identity and its controller's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChildMeta {
    /// Namespace, the owner's too.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID of this very child.
    pub uid: String,
    /// resourceVersion that was seen.
    pub resource_version: String,
    /// Its controller; `None` for an object that none of ours and no ReplicaSet controls.
    pub owner: Option<Owner>,
}

/// The controller of a child, as its ownerReference has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Kind of the controller.
    pub kind: String,
    /// Name of the controller.
    pub name: String,
    /// UID of the controller.
    pub uid: String,
}

impl ChildMeta {
    /// Whether the object of this UID controls it.
    pub fn is_controlled_by(&self, uid: &str) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.uid == uid)
    }

    /// Reads what the index needs out of an object's metadata.
    pub fn new(meta: &ObjectMeta) -> Self {
        let mut references = meta.owner_references.iter().flatten();
        let controller = references.find(|reference| reference.controller.unwrap_or(false));
        let controller = controller.filter(|reference| may_control(reference));
        ChildMeta {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            owner: controller.map(|reference| Owner {
                kind: reference.kind.clone(),
                name: reference.name.clone(),
                uid: reference.uid.clone(),
            }),
        }
    }
}

/// Whether what controls a child may be an object of ours, or one of the ReplicaSets that a Deployment of ours makes its pods by.
/// Admission policies look at the API group as well: under any other, a reference to the UID of an object of ours would pass them.
fn may_control(reference: &OwnerReference) -> bool {
    match reference.api_version.split_once('/') {
        Some(("apps", _)) => reference.kind == "ReplicaSet",
        group => group.is_some_and(|(group, _)| group == GROUP),
    }
}

/// The owner that a change concerns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnerKey {
    /// Namespace of owner and child.
    pub namespace: String,
    /// The owner.
    pub owner: Owner,
}

type Key = (String, String);

/// Children by owner.
#[derive(Debug)]
pub struct OwnedIndex<T> {
    /// By the owner's namespace and UID: an owner of another namespace is none, whatever a reference claims.
    by_owner: HashMap<Key, BTreeMap<String, Arc<T>>>,
    owner_of: HashMap<Key, Owner>,
    relisting: Option<HashSet<Key>>,
}

impl<T> Default for OwnedIndex<T> {
    fn default() -> Self {
        OwnedIndex { by_owner: HashMap::new(), owner_of: HashMap::new(), relisting: None }
    }
}

impl<T: Child> OwnedIndex<T> {
    /// Takes in a child that was added or changed; answers the owners concerned.
    pub fn apply(&mut self, child: T) -> Vec<OwnerKey> {
        let meta = child.meta();
        let key = (meta.namespace.clone(), meta.name.clone());
        if let Some(seen) = &mut self.relisting {
            seen.insert(key.clone());
        }
        let owner = meta.owner.clone();
        let mut concerned: Vec<OwnerKey> = Vec::new();
        // The same name may come back with another owner, when the deletion in between was missed.
        if self.owner_of.get(&key) != owner.as_ref() {
            concerned.extend(self.remove(&key));
        }
        if let Some(owner) = owner {
            self.owner_of.insert(key.clone(), owner.clone());
            concerned.push(OwnerKey { namespace: key.0.clone(), owner: owner.clone() });
            self.by_owner.entry((key.0, owner.uid)).or_default().insert(key.1, Arc::new(child));
        }
        concerned
    }

    /// Forgets a child that is gone; answers its owner.
    pub fn delete(&mut self, namespace: &str, name: &str) -> Option<OwnerKey> {
        self.remove(&(namespace.to_owned(), name.to_owned()))
    }

    /// A list of everything begins: children are applied one by one until [`OwnedIndex::finish_relist`].
    pub fn begin_relist(&mut self) {
        self.relisting = Some(HashSet::new());
    }

    /// The list is complete: what it did not name is gone. Answers the owners of what is gone.
    pub fn finish_relist(&mut self) -> Vec<OwnerKey> {
        let Some(seen) = self.relisting.take() else { return Vec::new() };
        let gone: Vec<Key> = self.owner_of.keys().filter(|key| !seen.contains(*key)).cloned().collect();
        gone.iter().filter_map(|key| self.remove(key)).collect()
    }

    /// The children of an owner, in order of their names.
    pub fn of(&self, namespace: &str, owner_uid: &str) -> Vec<Arc<T>> {
        let owner = (namespace.to_owned(), owner_uid.to_owned());
        self.by_owner.get(&owner).map(|children| children.values().cloned().collect()).unwrap_or_default()
    }

    /// UIDs of the owners that have children in a namespace.
    pub fn owners<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a str> {
        self.by_owner.keys().filter(move |(place, _)| place == namespace).map(|(_, uid)| uid.as_str())
    }

    fn remove(&mut self, key: &Key) -> Option<OwnerKey> {
        let owner = self.owner_of.remove(key)?;
        let place = (key.0.clone(), owner.uid.clone());
        if let Some(children) = self.by_owner.get_mut(&place) {
            children.remove(&key.1);
            if children.is_empty() {
                self.by_owner.remove(&place);
            }
        }
        Some(OwnerKey { namespace: key.0.clone(), owner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Thing(ChildMeta);

    impl Child for Thing {
        fn meta(&self) -> &ChildMeta {
            &self.0
        }
    }

    fn thing(name: &str, owner_uid: &str) -> Thing {
        let owner = Owner { kind: "TrainingJob".into(), name: "job".into(), uid: owner_uid.into() };
        Thing(ChildMeta { namespace: "ns".into(), name: name.into(), owner: Some(owner), ..ChildMeta::default() })
    }

    fn names(index: &OwnedIndex<Thing>, uid: &str) -> Vec<String> {
        index.of("ns", uid).iter().map(|child| child.0.name.clone()).collect()
    }

    #[test]
    fn only_objects_of_ours_and_replica_sets_control_anything() {
        let cases = [
            ("trainyard.dev/v1alpha1", "TrainingJob", true),
            ("trainyard.dev/v2", "Other", true),
            ("apps/v1", "ReplicaSet", true),
            ("apps/v1", "StatefulSet", false),
            ("nosuch.example/v1", "TrainingJob", false),
            ("trainyard.dev.example/v1", "TrainingJob", false),
            ("v1", "TrainingJob", false),
            ("trainyard.dev", "TrainingJob", false),
        ];
        for (api_version, kind, is_kept) in cases {
            let [api_version, kind] = [api_version, kind].map(str::to_owned);
            let reference = OwnerReference { controller: Some(true), api_version, kind, ..OwnerReference::default() };
            let meta = ObjectMeta { owner_references: Some(vec![reference.clone()]), ..ObjectMeta::default() };
            assert_eq!(ChildMeta::new(&meta).owner.is_some(), is_kept, "{reference:?}");
        }
    }

    #[test]
    fn children_are_found_by_their_owner() {
        let mut index = OwnedIndex::default();
        assert_eq!(index.apply(thing("b", "1")).len(), 1);
        index.apply(thing("a", "1"));
        index.apply(thing("c", "2"));
        assert_eq!(names(&index, "1"), ["a", "b"]);
        let mut owners: Vec<&str> = index.owners("ns").collect();
        owners.sort_unstable();
        assert_eq!((owners, index.owners("other").count()), (vec!["1", "2"], 0));
        assert_eq!(index.delete("ns", "a").unwrap().owner.uid, "1");
        assert_eq!(index.delete("ns", "a"), None);
        assert_eq!(names(&index, "1"), ["b"]);
    }

    #[test]
    fn a_name_with_a_new_owner_leaves_the_old_one() {
        let mut index = OwnedIndex::default();
        index.apply(thing("a", "1"));
        let concerned: Vec<String> = index.apply(thing("a", "2")).into_iter().map(|key| key.owner.uid).collect();
        assert_eq!(concerned, ["1", "2"]);
        assert!(names(&index, "1").is_empty());
    }

    #[test]
    fn a_child_in_another_namespace_is_nobodys() {
        let mut index = OwnedIndex::default();
        let mut stranger = thing("a", "1");
        stranger.0.namespace = "theirs".into();
        index.apply(stranger);
        assert!(names(&index, "1").is_empty());
    }

    #[test]
    fn a_relist_forgets_what_it_does_not_name() {
        let mut index = OwnedIndex::default();
        index.apply(thing("a", "1"));
        index.apply(thing("b", "1"));
        index.begin_relist();
        index.apply(thing("b", "1"));
        assert_eq!(names(&index, "1"), ["a", "b"], "nothing is forgotten before the list is complete");
        assert_eq!(index.finish_relist().len(), 1);
        assert_eq!(names(&index, "1"), ["b"]);
    }
}
