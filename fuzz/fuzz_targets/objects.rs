//! One object, read as every type that is watched. Reading never fails as a whole, never panics, and an object that has a name
//! keeps it.
#![no_main]

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use kube::Resource;
use kube::core::PartialObjectMeta;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;
use trainyard::api::{ModelDeployment, Pipeline, PipelineRun, TrainingJob};
use trainyard::cluster::endpoints::{SliceFacts, WatchedSlice};
use trainyard::cluster::guard::Guarded;
use trainyard::cluster::lease::Lease;
use trainyard::cluster::pod::{PodFacts, WatchedPod};
use trainyard::cluster::workload::{
    BudgetFacts, DeploymentFacts, RevisionFacts, RouteFacts, WatchedBudget, WatchedDeployment, WatchedRevision,
    WatchedService,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(text) = serde_json::from_str::<&RawValue>(text) else { return };
    // A tree tells what a name is, where the object is not too deep for one.
    let name = serde_json::from_str::<Value>(text.get()).ok();
    let name = name.as_ref().and_then(|object| object["metadata"]["name"].as_str());
    let check = |meta: &kube::core::ObjectMeta| {
        if let Some(name) = name {
            assert_eq!(meta.name.as_deref(), Some(name));
        }
    };
    macro_rules! own {
        ($($kind:ty),*) => { $(check(Guarded::<$kind>::of(text).meta());)* };
    }
    macro_rules! children {
        ($($watched:ty => $facts:ty),*) => { $({
            let object = Guarded::<$watched>::of(text);
            check(object.meta());
            let _ = <$facts>::from(object.or_bare());
        })* };
    }
    own!(TrainingJob, ModelDeployment, Pipeline, PipelineRun, Lease);
    own!(PartialObjectMeta<Service>, PartialObjectMeta<PersistentVolumeClaim>);
    children!(
        WatchedPod => PodFacts, WatchedSlice => SliceFacts, WatchedDeployment => DeploymentFacts,
        WatchedRevision => RevisionFacts, WatchedService => RouteFacts, WatchedBudget => BudgetFacts
    );
});
