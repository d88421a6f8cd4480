//! Services and EndpointSlices as far as a controller looks at them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use serde::Deserialize;

use super::guard::watched_as;
use super::index::{Child, ChildMeta};

/// What is kept of a Service of ours: that it is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceFacts {
    /// Identity and owner.
    pub meta: ChildMeta,
}

impl Child for ServiceFacts {
    fn meta(&self) -> &ChildMeta {
        &self.meta
    }
}

impl<K> From<PartialObjectMeta<K>> for ServiceFacts {
    fn from(service: PartialObjectMeta<K>) -> Self {
        ServiceFacts { meta: ChildMeta::new(&service.metadata) }
    }
}

/// What is kept of an EndpointSlice of ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SliceFacts {
    /// Identity and owner.
    pub meta: ChildMeta,
    /// Its endpoints, in its order.
    pub endpoints: Vec<EndpointFacts>,
}

impl SliceFacts {
    /// Whether it names a pod of another attempt than this one; a pod's name ends with its attempt.
    pub fn names_other_than(&self, attempt: u32) -> bool {
        let suffix = format!("-{attempt}");
        self.endpoints.iter().any(|endpoint| !endpoint.hostname.ends_with(&suffix))
    }
}

/// A host name and its address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default)]
pub struct EndpointFacts {
    /// First label of the name that DNS answers for.
    pub hostname: String,
    /// What DNS answers.
    pub addresses: Vec<String>,
}

impl Child for SliceFacts {
    fn meta(&self) -> &ChildMeta {
        &self.meta
    }
}

/// An EndpointSlice as it comes from a watch.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WatchedSlice {
    metadata: ObjectMeta,
    // Go writes an empty list as null.
    endpoints: Option<Vec<EndpointFacts>>,
}

impl From<WatchedSlice> for SliceFacts {
    fn from(slice: WatchedSlice) -> Self {
        SliceFacts { meta: ChildMeta::new(&slice.metadata), endpoints: slice.endpoints.unwrap_or_default() }
    }
}

watched_as!(WatchedSlice, k8s_openapi::api::discovery::v1::EndpointSlice);
