//! A part of a spec that is kept as the user wrote it.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::Value;

/// A JSON object as text.
///
/// Text, because a typed PodSpec of one Kubernetes version would drop the fields of a newer one, and because ten
/// thousand idle jobs should cost their templates' bytes and not their trees. It is parsed where it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawObject(Arc<str>);

impl RawObject {
    /// Keeps an object; its keys come out sorted, so that equal objects are equal text.
    pub fn new(object: &Value) -> Self {
        RawObject(object.to_string().into())
    }

    /// The object as a tree.
    pub fn parse(&self) -> Value {
        serde_json::from_str(&self.0).expect("the text was made from a JSON tree")
    }

    /// The object as canonical JSON text, for hashing.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Value::deserialize(deserializer)?;
        if !object.is_object() {
            return Err(de::Error::custom("a pod template, or the spec of a step, must be an object"));
        }
        Ok(RawObject::new(&object))
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<Value>(&self.0).map_err(ser::Error::custom)?.serialize(serializer)
    }
}
