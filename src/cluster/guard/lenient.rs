//! Reading an object's parts one by one, so that one that cannot be read costs no other.
//!
//! serde reads a struct as a whole: a time in the year 9999 among `managedFields` would lose the name. Here an object is
//! first split into the text of its fields, which the parser skips over without recursion, however deep they are.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference, Time};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::text::shorten;

/// Longest name, UID or kind that the apiserver gives an object. An ownerReference may hold longer ones; it names nothing then.
const LONGEST_NAME: usize = 253;
/// Number of ownerReferences and of managers that are kept. Kubernetes itself keeps 10 managers that update; those that apply
/// are not limited.
const MOST_ENTRIES: usize = 64;
/// Times are believed up to the beginning of the year 9000, in seconds since 1970: nothing that is added to one may overflow.
const LAST_SECOND: i64 = 221_845_392_000;

/// The fields of a JSON object, each as text. Of a field that is there twice the last one counts, as in Go.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Fields<'a> {
    /// The fields of that object; none if it is no object.
    pub(crate) fn of(text: &'a RawValue) -> Self {
        Fields(serde_json::from_str(text.get()).unwrap_or_default())
    }

    /// The text of a field; nothing for null.
    pub(crate) fn get(&self, field: &str) -> Option<&'a RawValue> {
        self.0.get(field).copied().filter(|text| text.get() != "null")
    }

    /// A field as its type; nothing if it is not there or is something else.
    pub(crate) fn read<T: DeserializeOwned>(&self, field: &str) -> Option<T> {
        serde_json::from_str(self.get(field)?.get()).ok()
    }

    /// A string; a number or truth value counts as what was written.
    pub(crate) fn text(&self, field: &str) -> Option<String> {
        scalar(self.get(field)?)
    }

    /// The fields of a field.
    pub(crate) fn inner(&self, field: &str) -> Fields<'a> {
        self.get(field).map(Fields::of).unwrap_or_default()
    }

    /// All fields, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(field, text)| (field.as_ref(), *text))
    }

    /// Reads them as an object's metadata. Who manages which field (`fieldsV1`) is skipped: it is nothing to us, and often
    /// longer and deeper than the object.
    pub(crate) fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: self.text("name"),
            namespace: self.text("namespace"),
            uid: self.text("uid"),
            resource_version: self.text("resourceVersion"),
            generation: self.read("generation"),
            labels: self.get("labels").map(strings),
            annotations: self.get("annotations").map(strings),
            finalizers: self.get("finalizers").map(|texts| elements(texts).into_iter().filter_map(scalar).collect()),
            owner_references: self.get("ownerReferences").map(owners),
            managed_fields: self.get("managedFields").map(managers),
            creation_timestamp: self.get("creationTimestamp").and_then(time),
            // That deletion was asked for is known, even where the moment is not.
            deletion_timestamp: self.get("deletionTimestamp").map(|text| time(text).unwrap_or(Time(Timestamp::MAX))),
            deletion_grace_period_seconds: self.read("deletionGracePeriodSeconds"),
            ..ObjectMeta::default()
        }
    }
}

fn scalar(text: &RawValue) -> Option<String> {
    match text.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str(text.get()).ok(),
        Some(b'{' | b'[') | None => None,
        Some(_) => Some(text.get().to_owned()),
    }
}

fn strings(map: &RawValue) -> BTreeMap<String, String> {
    let fields = Fields::of(map);
    fields.iter().filter_map(|(key, text)| Some((key.to_owned(), scalar(text)?))).collect()
}

fn elements(list: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(list.get()).unwrap_or_default()
}

fn owners(list: &RawValue) -> Vec<OwnerReference> {
    let owner = |text| {
        let fields = Fields::of(text);
        let name = |field| fields.text(field).filter(|text| text.len() <= LONGEST_NAME);
        Some(OwnerReference {
            api_version: name("apiVersion").unwrap_or_default(),
            kind: name("kind")?,
            name: name("name")?,
            uid: name("uid")?,
            controller: fields.read("controller"),
            block_owner_deletion: fields.read("blockOwnerDeletion"),
        })
    };
    elements(list).into_iter().filter_map(owner).take(MOST_ENTRIES).collect()
}

fn managers(list: &RawValue) -> Vec<ManagedFieldsEntry> {
    let manager = |text| {
        let fields = Fields::of(text);
        let short = |field| fields.text(field).map(|text| shorten(&text, LONGEST_NAME).to_owned());
        ManagedFieldsEntry {
            manager: short("manager"),
            operation: short("operation"),
            subresource: short("subresource"),
            // What cannot be read is not the oldest.
            time: fields.get("time").map(|text| time(text).unwrap_or(Time(Timestamp::MAX))),
            ..ManagedFieldsEntry::default()
        }
    };
    elements(list).into_iter().take(MOST_ENTRIES).map(manager).collect()
}

/// A moment, if it is one.
fn time(text: &RawValue) -> Option<Time> {
    let moment: Timestamp = scalar(text)?.parse().ok()?;
    (0..LAST_SECOND).contains(&moment.as_second()).then_some(Time(moment))
}

/// For a time among other fields: one that cannot be read is none.
pub(crate) fn time_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Time>, D::Error> {
    let text = Box::<RawValue>::deserialize(deserializer)?;
    Ok(time(&text))
}

/// An object as a tree, without who manages which field. A part that is nested too deeply for a tree is left out.
///
/// # Errors
/// It is no JSON object.
pub(crate) fn tree(text: &str) -> serde_json::Result<Value> {
    let parts = |fields: BTreeMap<String, &RawValue>, without: &str| -> serde_json::Map<String, Value> {
        let kept = fields.into_iter().filter(|(field, _)| field != without);
        kept.filter_map(|(field, text)| Some((field, serde_json::from_str(text.get()).ok()?))).collect()
    };
    let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
    let metadata = fields.remove("metadata").and_then(|text| serde_json::from_str(text.get()).ok());
    let mut object = parts(fields, "");
    if let Some(metadata) = metadata {
        object.insert("metadata".to_owned(), Value::Object(parts(metadata, "managedFields")));
    }
    Ok(Value::Object(object))
}
