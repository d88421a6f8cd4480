//! One object that cannot be read is an error of its own, and no obstacle to the others in its list or watch.
//!
//! kube's own guard buffers the object as a tree first, and the parser gives up on a tree that is nested too deeply: a
//! user could then stop the watch of everybody's objects with one template. Here the object is taken as text, which is
//! skipped over without recursion. Its metadata is read first and leniently, so that every object keeps its name, and the
//! rest is read as its type.

use std::borrow::Cow;
use std::cell::Cell;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

pub(crate) mod lenient;
#[cfg(test)]
mod tests;

use crate::text::shorten;
use lenient::Fields;

/// Longest error that is kept, in bytes: the parser's may quote a value of any length.
const LONGEST_ERROR: usize = 512;

/// An object, or what is known of one that cannot be read.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Unreadable>);

/// An object that cannot be read as its type.
#[derive(Clone, Debug, Default)]
pub struct Unreadable {
    /// What the parser says. It may quote values, so it belongs into the object's own status and nowhere else.
    pub error: String,
    /// Which part it says that of: `spec` or `status`.
    pub part: &'static str,
    /// Its metadata, as far as that can be read.
    pub metadata: ObjectMeta,
    /// Its status, as JSON text; empty if it has none.
    pub status: Box<str>,
}

impl<K: DeserializeOwned + Resource> Guarded<K> {
    /// Reads an object from its text.
    pub fn of(text: &RawValue) -> Self {
        let fields = Fields::of(text);
        let metadata = fields.inner("metadata").metadata();
        let last = Cell::new("");
        // The type's own reader gets no metadata to stumble over.
        let nothing: &RawValue = serde_json::from_str("{}").expect("an empty object is JSON");
        let others = fields.iter().filter(|(field, _)| *field != "metadata");
        let parts = std::iter::once(("metadata", nothing)).chain(others).inspect(|(field, _)| last.set(field));
        Guarded(match K::deserialize(MapDeserializer::new(parts)) {
            Ok(mut object) => {
                *object.meta_mut() = metadata;
                Ok(object)
            }
            Err(error) => Err(Unreadable {
                error: shorten(&error.to_string(), LONGEST_ERROR).to_owned(),
                part: if last.get() == "status" && fields.get("spec").is_some() { "status" } else { "spec" },
                metadata,
                status: fields.get("status").map(RawValue::get).unwrap_or_default().into(),
            }),
        })
    }
}

impl<K: Resource + Default> Guarded<K> {
    /// The object; of one that cannot be read, the metadata alone. Of a child that means: it is there, and nothing about it
    /// has ended.
    pub fn or_bare(self) -> K {
        self.0.unwrap_or_else(|unreadable| {
            let mut bare = K::default();
            *bare.meta_mut() = unreadable.metadata;
            bare
        })
    }
}

impl<'de, K: DeserializeOwned + Resource> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Guarded::of(&Box::<RawValue>::deserialize(deserializer)?))
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

/// Lets a trimmed type of ours be asked for as the kind that it is read from. The type has a field `metadata`.
macro_rules! watched_as {
    ($watched:ty, $kind:ty) => {
        impl kube::Resource for $watched {
            type DynamicType = ();
            type Scope = k8s_openapi::NamespaceResourceScope;

            fn kind(_: &()) -> std::borrow::Cow<'_, str> {
                <$kind as kube::Resource>::kind(&())
            }

            fn group(_: &()) -> std::borrow::Cow<'_, str> {
                <$kind as kube::Resource>::group(&())
            }

            fn version(_: &()) -> std::borrow::Cow<'_, str> {
                <$kind as kube::Resource>::version(&())
            }

            fn plural(_: &()) -> std::borrow::Cow<'_, str> {
                <$kind as kube::Resource>::plural(&())
            }

            fn meta(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
pub(crate) use watched_as;
