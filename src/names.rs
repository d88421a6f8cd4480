//! Names, labels and annotations: what users and tools may rely on, in one place.
//!
//! A child's name is a pure function of its owner, the owner's *incarnation* (a hash of its UID), role, index and
//! attempt. So a create that already happened answers AlreadyExists instead of making a second child, and an object
//! made again under the same name never meets the children of its past self.
//!
//! Host names are at most 63 characters (RFC 1123 label): stem 30, incarnation 5, role 15, index 5, attempt 4, and
//! four hyphens between them. A longer stem is shortened to 23 characters and a 6-character hash of the whole name,
//! so that two names that share a prefix stay distinct.

use sha2::{Digest, Sha256};

use crate::cluster::port::Resource;

/// API group of every kind.
pub const GROUP: &str = "trainyard.dev";
/// The operator's name as server-side apply's field manager, as reporter of events and in `managed-by` labels.
pub const OPERATOR: &str = "trainyard";
/// The Lease by which one operator at a time works, unless `--lease-name` says otherwise.
pub const LEASE: &str = OPERATOR;
/// Namespaces of Kubernetes itself, in which nothing of ours is served: its most powerful ServiceAccounts are there.
pub const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];
/// [`LABEL_SLICE_MANAGER`] of the slices that we write; keeps Kubernetes' own controllers off them.
pub const SLICE_MANAGER: &str = "trainyard.dev";
/// Kubernetes' own label: whose an EndpointSlice is.
pub const LABEL_SLICE_MANAGER: &str = "endpointslice.kubernetes.io/managed-by";
/// Kubernetes' own label: the Service whose names an EndpointSlice answers for.
pub const LABEL_SLICE_SERVICE: &str = "kubernetes.io/service-name";

/// Label: name of the TrainingJob that a child belongs to.
pub const LABEL_JOB: &str = "trainyard.dev/job";
/// Label: role of the pod within its job; `worker` until roles can be named.
pub const LABEL_ROLE: &str = "trainyard.dev/role";
/// Label: index of the pod within its role, from 0.
pub const LABEL_INDEX: &str = "trainyard.dev/index";
/// Label: rank of the pod within the job (PyTorch's node rank), from 0.
pub const LABEL_RANK: &str = "trainyard.dev/rank";
/// Label: attempt that the pod belongs to, from 1.
pub const LABEL_ATTEMPT: &str = "trainyard.dev/attempt";
/// Annotation: hash of what the pod was launched from; differs after an edit of a suspended job.
pub const ANNOTATION_LAUNCH_HASH: &str = "trainyard.dev/launch-hash";
/// Label: name of the ModelDeployment that a child belongs to.
pub const LABEL_DEPLOYMENT: &str = "trainyard.dev/deployment";
/// Label: [`incarnation`] of the ModelDeployment, so that its Service never selects a pod of its past self.
pub const LABEL_INCARNATION: &str = "trainyard.dev/incarnation";
/// Label: number of the revision that a child belongs to.
pub const LABEL_REVISION: &str = "trainyard.dev/revision";
/// Annotation: hash of what a revision was made from.
pub const ANNOTATION_REVISION_HASH: &str = "trainyard.dev/revision-hash";
/// Annotation: what changed from the revision before, for a person.
pub const ANNOTATION_CHANGE: &str = "trainyard.dev/change";
/// Label: name of the PipelineRun that a child belongs to, or that a ModelDeployment was last deployed by.
pub const LABEL_RUN: &str = "trainyard.dev/run";
/// Label: step of the run; of a ModelDeployment, the one that deployed it last.
pub const LABEL_STEP: &str = "trainyard.dev/step";
/// Annotation of a ModelDeployment: UID of the PipelineRun that deployed it last.
pub const ANNOTATION_RUN_UID: &str = "trainyard.dev/run-uid";
/// Annotation of a ModelDeployment: UID of the Pipeline whose runs deploy it, or of the one run that brought its own.
pub const ANNOTATION_PIPELINE_UID: &str = "trainyard.dev/pipeline-uid";
/// Annotation of the pod or TrainingJob of a step: what the operator alone knew before it made the object, so that another's
/// object under its name is not taken for it.
pub const ANNOTATION_LAUNCH_TOKEN: &str = "trainyard.dev/launch-token";
/// Label of a Lease: whether its holder serves the whole cluster (`cluster`) or the Lease's namespace
/// ([`SCOPE_NAMESPACE`]).
pub const LABEL_SCOPE: &str = "trainyard.dev/scope";
/// [`LABEL_SCOPE`] of a Lease that claims its own namespace.
pub const SCOPE_NAMESPACE: &str = "namespace";
/// Every label and annotation of ours begins with this, so a template may not use it.
pub const RESERVED_PREFIX: &str = "trainyard.dev/";
/// Kubernetes' own annotation that names the container a person means when none is given.
pub const ANNOTATION_DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The label by which an owner's children are found: it holds the owner's name.
pub fn owner_label(owner: Resource) -> &'static str {
    match owner {
        Resource::ModelDeployment => LABEL_DEPLOYMENT,
        Resource::PipelineRun => LABEL_RUN,
        _ => LABEL_JOB,
    }
}

/// The only role until roles can be named.
pub const ROLE_WORKER: &str = "worker";

/// Longest owner's name that its children's names begin with as it is.
pub(crate) const STEM: usize = 30;
/// What is kept of a longer one, before a hash of it.
pub(crate) const STEM_KEPT: usize = 23;
const STEM_HASH: usize = 6;
/// Characters of an [`incarnation`].
pub(crate) const INCARNATION: usize = 5;

/// Five characters that tell one life of an object from another of the same name.
pub fn incarnation(uid: &str) -> String {
    short_hash(uid.as_bytes(), INCARNATION)
}

/// First `length` characters of the lower-case base32 form of the SHA-256 of `bytes`.
pub fn short_hash(bytes: &[u8], length: usize) -> String {
    let mut text = data_encoding::BASE32_NOPAD.encode(&Sha256::digest(bytes)).to_ascii_lowercase();
    text.truncate(length);
    text
}

fn stem(name: &str) -> String {
    if name.len() <= STEM {
        return name.to_owned();
    }
    // Names of our kinds are ASCII by admission; `char_indices` keeps an unadmitted one from panicking.
    let cut = name.char_indices().map(|(at, _)| at).take_while(|at| *at <= STEM_KEPT).last().unwrap_or(0);
    format!("{}-{}", &name[..cut], short_hash(name.as_bytes(), STEM_HASH))
}

/// Name, and host name, of one pod of a job.
pub fn pod(job: &str, uid: &str, role: &str, index: u32, attempt: u32) -> String {
    pod_under(&service(job, uid), role, index, attempt)
}

/// The same, when the name of the job's [`service`] is at hand.
pub fn pod_under(service: &str, role: &str, index: u32, attempt: u32) -> String {
    format!("{service}-{role}-{index}-{attempt}")
}

/// What the names of an owner's children begin with; the name of a child of which there is only one.
pub fn family(owner: &str, uid: &str) -> String {
    format!("{}-{}", stem(owner), incarnation(uid))
}

/// Name of the headless Service that carries the pods' host names.
pub fn service(job: &str, uid: &str) -> String {
    family(job, uid)
}

/// Name of one revision of a ModelDeployment: of its ControllerRevision, and of its Deployment.
pub fn revision(deployment: &str, uid: &str, number: i64) -> String {
    format!("{}-{number}", family(deployment, uid))
}

/// Name of the pod, or TrainingJob, of one attempt of a step. A step's name longer than 20 characters is shortened to 13 and
/// a hash, which leaves the whole at most 62.
pub fn step_child(run: &str, uid: &str, step: &str, attempt: u32) -> String {
    const LONGEST: usize = 20;
    const KEPT: usize = 13;
    let run = family(run, uid);
    if step.len() <= LONGEST {
        return format!("{run}-{step}-{attempt}");
    }
    let kept = crate::text::shorten(step, KEPT);
    format!("{run}-{kept}-{}-{attempt}", short_hash(step.as_bytes(), STEM_HASH))
}

/// Name of the EndpointSlice behind [`service`] for one address family.
pub fn endpoint_slice(job: &str, uid: &str, family: AddressFamily) -> String {
    format!("{}-{}", service(job, uid), family.suffix())
}

/// Address family of an EndpointSlice; a slice holds addresses of one family only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressFamily {
    /// IPv4 addresses.
    V4,
    /// IPv6 addresses.
    V6,
}

impl AddressFamily {
    /// Both families, in the order in which their slices are written.
    pub const ALL: [AddressFamily; 2] = [AddressFamily::V4, AddressFamily::V6];

    /// Value of EndpointSlice's `addressType`.
    pub fn address_type(self) -> &'static str {
        match self {
            AddressFamily::V4 => "IPv4",
            AddressFamily::V6 => "IPv6",
        }
    }

    /// How the name of an [`endpoint_slice`] ends.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            AddressFamily::V4 => "ipv4",
            AddressFamily::V6 => "ipv6",
        }
    }

    /// Family of a textual address; `None` for what is no address.
    pub fn of(address: &str) -> Option<AddressFamily> {
        match address.parse::<std::net::IpAddr>().ok()? {
            std::net::IpAddr::V4(_) => Some(AddressFamily::V4),
            std::net::IpAddr::V6(_) => Some(AddressFamily::V6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UID: &str = "5f0f6f4c-6b0e-4b7e-9a55-0d1c6ad0a001";

    #[test]
    fn short_names_stay_readable() {
        assert_eq!(pod("digits", UID, "worker", 0, 1), format!("digits-{}-worker-0-1", incarnation(UID)));
        assert_eq!(service("digits", UID), format!("digits-{}", incarnation(UID)));
    }

    #[test]
    fn another_life_of_the_same_name_has_other_children() {
        assert_ne!(pod("digits", UID, "worker", 0, 1), pod("digits", "another-uid", "worker", 0, 1));
    }

    proptest! {
        #[test]
        fn every_name_is_a_dns_label(name in "[a-z]([-a-z0-9]{0,61}[a-z0-9])?", uid in ".{0,40}", index in 0u32..99_999, attempt in 1u32..=9_999) {
            let longest_role = "a-role-of-15-ch";
            let step = step_child(&name, &uid, &name, attempt);
            for child in [pod(&name, &uid, longest_role, index, attempt), service(&name, &uid), endpoint_slice(&name, &uid, AddressFamily::V6), step] {
                prop_assert!(child.len() <= 63, "{child}");
                prop_assert!(child.starts_with(|c: char| c.is_ascii_lowercase()), "{child}");
                prop_assert!(child.ends_with(|c: char| c.is_ascii_alphanumeric()), "{child}");
                prop_assert!(child.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{child}");
            }
        }

        #[test]
        fn long_names_with_one_prefix_stay_distinct(prefix in "[a-z][a-z0-9]{39}", a in "[a-z0-9]{1,23}", b in "[a-z0-9]{1,23}") {
            prop_assume!(a != b);
            prop_assert_ne!(service(&format!("{prefix}{a}"), UID), service(&format!("{prefix}{b}"), UID));
        }
    }
}
