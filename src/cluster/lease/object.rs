//! A Lease as far as an election looks at it. Its times are text: nothing here computes with them, and whoever may write Leases
//! may write times that no clock knows.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::cluster::guard::lenient::Fields;
use crate::cluster::guard::watched_as;
use crate::text::shorten;

/// Longest text that is kept of a field, in bytes. Ours are a pod's name and a few characters.
const LONGEST_TEXT: usize = 512;

/// A Lease. Reading it never fails: a field that is not what it should be is as if it were not there.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    api_version: &'static str,
    kind: &'static str,
    pub(super) metadata: ObjectMeta,
    pub(super) spec: LeaseSpec,
}

/// What an election writes, and what others may have written beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeaseSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) holder_identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lease_duration_seconds: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acquire_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) renew_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lease_transitions: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strategy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_holder: Option<String>,
}

watched_as!(Lease, k8s_openapi::api::coordination::v1::Lease);

impl Lease {
    /// One that is to be created.
    pub(super) fn named(name: &str) -> Self {
        Lease {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            ..Lease::of(&Fields::default(), &Fields::default())
        }
    }

    fn of(metadata: &Fields<'_>, spec: &Fields<'_>) -> Self {
        let text = |field| spec.text(field).map(|text| shorten(&text, LONGEST_TEXT).to_owned());
        Lease {
            api_version: "coordination.k8s.io/v1",
            kind: "Lease",
            metadata: metadata.metadata(),
            spec: LeaseSpec {
                holder_identity: text("holderIdentity"),
                lease_duration_seconds: spec.read("leaseDurationSeconds"),
                acquire_time: text("acquireTime"),
                renew_time: text("renewTime"),
                lease_transitions: spec.read("leaseTransitions"),
                strategy: text("strategy"),
                preferred_holder: text("preferredHolder"),
            },
        }
    }

    /// What a replacement of it is sent with: without what the apiserver keeps itself, and takes from the object that is there.
    pub(super) fn into_sendable(mut self) -> Self {
        let meta = &mut self.metadata;
        (meta.managed_fields, meta.creation_timestamp, meta.deletion_timestamp) = (None, None, None);
        meta.deletion_grace_period_seconds = None;
        self
    }
}

impl<'de> Deserialize<'de> for Lease {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Both parts as text, and not the whole object: a watch hands it over field by field.
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Parts {
            metadata: Box<RawValue>,
            spec: Box<RawValue>,
        }
        let Parts { metadata, spec } = Parts::deserialize(deserializer).unwrap_or_default();
        Ok(Lease::of(&Fields::of(&metadata), &Fields::of(&spec)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::guard::Guarded;
    use serde_json::{Value, json};

    fn read(lease: &Value) -> Lease {
        serde_json::from_str(&lease.to_string()).unwrap()
    }

    #[test]
    fn whatever_is_in_a_lease_its_name_and_holder_are_read() {
        let good = json!({
            "metadata": {"name": "trainyard", "namespace": "a", "labels": {"trainyard.dev/scope": "namespace"}},
            "spec": {"holderIdentity": "x", "leaseDurationSeconds": 15},
        });
        for (pointer, odd) in [
            ("/spec/renewTime", json!("9999-12-31T23:59:59.000000Z")),
            ("/spec/acquireTime", json!("-292277022399-01-01T00:00:00Z")),
            ("/spec/renewTime", json!(7)),
            ("/spec/leaseTransitions", json!("many")),
            ("/spec/leaseTransitions", json!(9_223_372_036_854_775_807_i64)),
            ("/metadata/managedFields", json!([{"time": "9999-12-31T23:59:59Z", "manager": 5}, 3])),
            ("/metadata/creationTimestamp", json!("9999-12-31T23:59:59Z")),
            ("/metadata/labels/odd", json!({"a": 1})),
        ] {
            let mut lease = good.clone();
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            lease.pointer_mut(parent).unwrap()[field] = odd;
            let lease = read(&lease);
            assert_eq!(lease.metadata.name.as_deref(), Some("trainyard"), "{pointer}");
            assert_eq!(lease.metadata.labels.as_ref().unwrap()["trainyard.dev/scope"], "namespace", "{pointer}");
            assert_eq!(lease.spec.holder_identity.as_deref(), Some("x"), "{pointer}");
            assert_eq!(lease.spec.lease_duration_seconds, Some(15), "{pointer}");
        }
        for odd in [json!({"spec": []}), json!({"spec": null, "metadata": null}), json!(1), json!([])] {
            assert_eq!(read(&odd).spec, LeaseSpec::default(), "{odd}");
        }
    }

    #[test]
    fn a_watch_reads_it_like_any_other_reader() {
        let text = json!({"metadata": {"name": "trainyard"}, "spec": {"holderIdentity": "x"}}).to_string();
        let lease = Guarded::<Lease>::of(&RawValue::from_string(text).unwrap()).0.expect("it is readable");
        assert_eq!(
            (lease.metadata.name.as_deref(), lease.spec.holder_identity.as_deref()),
            (Some("trainyard"), Some("x"))
        );
    }

    #[test]
    fn a_long_identity_is_cut_off_and_what_is_not_ours_is_sent_back() {
        let mut lease = read(&json!({
            "metadata": {"name": "trainyard", "resourceVersion": "7", "annotations": {"a": "b"}, "creationTimestamp": "2026-01-01T00:00:00Z",
                "managedFields": [{"manager": "m"}]},
            "spec": {"holderIdentity": "x".repeat(100_000), "acquireTime": "9999-12-31T23:59:59.000000Z", "strategy": "OldestEmulationVersion"},
        }));
        assert_eq!(lease.spec.holder_identity.as_ref().unwrap().len(), LONGEST_TEXT);
        lease.spec.holder_identity = Some("me".to_owned());
        let sent = serde_json::to_value(lease.into_sendable()).unwrap();
        let expected = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "trainyard", "resourceVersion": "7", "annotations": {"a": "b"}},
            "spec": {"holderIdentity": "me", "acquireTime": "9999-12-31T23:59:59.000000Z", "strategy": "OldestEmulationVersion"},
        });
        assert_eq!(sent, expected);
    }
}
