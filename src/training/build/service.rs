//! The names by which pods of one attempt find each other: a headless Service and its EndpointSlices.
//!
//! The Service has no selector. The operator writes the slices itself, with the addresses of the attempt in force and
//! of no other, so that DNS fences: a process of an older attempt can neither be found nor find the newer one by name.

use serde_json::{Value, json};

use super::{common_labels, owner_reference};
use crate::cluster::endpoints::EndpointFacts;
use crate::cluster::index::ChildMeta;
use crate::cluster::pod::PodFacts;
use crate::names::{self, AddressFamily};
use crate::training::validate::ValidJob;

/// Builds the headless Service.
pub fn build_service(job: &ValidJob) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": names::service(&job.name, &job.uid),
            "namespace": job.namespace,
            "labels": common_labels(job),
            "ownerReferences": [owner_reference(job)],
        },
        "spec": {"clusterIP": "None"},
    })
}

/// The endpoints that the slice of one address family should hold: every pod that has an address, by rank. Pods that
/// have ended stay, so that an orderly finish costs no writes.
pub fn endpoints<'a>(pods: impl Iterator<Item = &'a PodFacts>, family: AddressFamily) -> Vec<EndpointFacts> {
    let mut ranked: Vec<(u32, EndpointFacts)> = pods
        .filter_map(|pod| {
            let address = pod.addresses.iter().find(|address| AddressFamily::of(address) == Some(family))?;
            let endpoint = EndpointFacts { hostname: pod.meta.name.clone(), addresses: vec![address.clone()] };
            Some((pod.rank, endpoint))
        })
        .collect();
    ranked.sort();
    ranked.into_iter().map(|(_, endpoint)| endpoint).collect()
}

/// Builds a slice that does not exist yet.
pub fn build_slice(job: &ValidJob, family: AddressFamily, endpoints: &[EndpointFacts]) -> Value {
    let mut labels = common_labels(job);
    labels[names::LABEL_SLICE_SERVICE] = names::service(&job.name, &job.uid).into();
    labels[names::LABEL_SLICE_MANAGER] = names::SLICE_MANAGER.into();
    labels["service.kubernetes.io/headless"] = "".into();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": names::endpoint_slice(&job.name, &job.uid, family),
            "namespace": job.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(job)],
        },
        "addressType": family.address_type(),
        "endpoints": endpoint_list(endpoints),
    })
}

/// Builds the change of a slice that is there, bound to the very state that was decided upon.
pub fn build_slice_change(slice: &ChildMeta, family: AddressFamily, endpoints: &[EndpointFacts]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": slice.name,
            "namespace": slice.namespace,
            "uid": slice.uid,
            "resourceVersion": slice.resource_version,
        },
        "addressType": family.address_type(),
        "endpoints": endpoint_list(endpoints),
    })
}

fn endpoint_list(endpoints: &[EndpointFacts]) -> Value {
    // Ready from the start: ranks must find each other before any of them is ready to serve anything.
    let endpoint = |EndpointFacts { hostname, addresses }: &EndpointFacts| json!({"hostname": hostname, "addresses": addresses, "conditions": {"ready": true}});
    endpoints.iter().map(endpoint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, rank: u32, addresses: &[&str]) -> PodFacts {
        PodFacts {
            meta: ChildMeta { name: name.into(), ..ChildMeta::default() },
            rank,
            addresses: addresses.iter().map(ToString::to_string).collect(),
            ..PodFacts::default()
        }
    }

    #[test]
    fn each_family_has_its_addresses_in_order_of_rank() {
        let pods = [pod("p10", 10, &["10.0.0.1"]), pod("p2", 2, &["10.0.0.2", "fd00::2"]), pod("p3", 3, &[])];
        let names = |family| -> Vec<String> {
            endpoints(pods.iter(), family).into_iter().map(|endpoint| endpoint.hostname).collect()
        };
        assert_eq!(names(AddressFamily::V4), ["p2", "p10"]);
        assert_eq!(names(AddressFamily::V6), ["p2"]);
    }
}
