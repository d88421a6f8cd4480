//! Volumes for claims: folders of the real node, made and removed as the claims come and go.
//!
//! A storage class of this kind is what a person's own cluster usually has as its default; on one node a folder can be
//! shared by any number of pods.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};

use crate::control_plane::api;
use crate::error::{Error, IoContext};

/// Their folder below the node's `/var/lib`.
pub(crate) const FOLDER: &str = "volumes";
/// The class that makes them, and the name of what makes them.
const CLASS: &str = "local";
const PROVISIONER: &str = "e2e.trainyard.dev/folders";
/// Who is to make a claim's volume, and where the claim's pod will run: both noted by Kubernetes itself.
const ASKED: &str = "volume.kubernetes.io/storage-provisioner";
const NODE: &str = "volume.kubernetes.io/selected-node";
const MADE_BY: &str = "pv.kubernetes.io/provisioned-by";

const TRIES: u32 = 10;

/// Makes the default storage class.
pub(crate) async fn create_class(client: &Client) -> Result<(), Error> {
    let class = json!({
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    });
    create::<StorageClass>(client, class).await
}

/// Makes and removes volumes until it is killed.
pub(crate) fn provision(kubeconfig: &Path, folder: &Path) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting", Path::new("a runtime"))?;
    runtime.block_on(async {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config).map_err(api("making a client"))?;
        let claims = watcher(Api::<PersistentVolumeClaim>::all(client.clone()), watcher::Config::default());
        let volumes = watcher(Api::<PersistentVolume>::all(client.clone()), watcher::Config::default());
        let mut claims = claims.default_backoff().applied_objects().boxed();
        let mut volumes = volumes.default_backoff().applied_objects().boxed();
        loop {
            let done = tokio::select! {
                Some(claim) = claims.next() => match claim {
                    Ok(claim) => persistently(async || make(&client, &claim, folder).await).await,
                    Err(error) => Err(watching(error)),
                },
                Some(volume) = volumes.next() => match volume {
                    Ok(volume) => persistently(async || remove(&client, &volume, folder).await).await,
                    Err(error) => Err(watching(error)),
                },
                else => return Ok(()),
            };
            // The log is read when something fails.
            if let Err(error) = done {
                eprintln!("{error}");
            }
        }
    })
}

/// Tries again a few times: no event would bring the next try.
async fn persistently(attempt: impl AsyncFn() -> Result<(), Error>) -> Result<(), Error> {
    for _ in 0..TRIES {
        if attempt().await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    attempt().await
}

fn watching(error: watcher::Error) -> Error {
    Error::Io { action: "watching", path: "claims and volumes".into(), source: std::io::Error::other(error) }
}

async fn make(client: &Client, claim: &PersistentVolumeClaim, folder: &Path) -> Result<(), Error> {
    let Some(volume) = volume_for(claim) else { return Ok(()) };
    let path = folder.join(volume["metadata"]["name"].as_str().unwrap_or_default());
    fs::create_dir_all(&path).context("creating", &path)?;
    // Whoever the pod runs as.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).context("opening", &path)?;
    create::<PersistentVolume>(client, volume).await
}

async fn remove(client: &Client, volume: &PersistentVolume, folder: &Path) -> Result<(), Error> {
    let released = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Released");
    if !released || volume.annotations().get(MADE_BY).map(String::as_str) != Some(PROVISIONER) {
        return Ok(());
    }
    let name = volume.name_any();
    crate::cache::remove(&folder.join(&name))?;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    match volumes.delete(&name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).map_err(api(format!("removing volume {name}"))),
    }
}

/// The volume that a claim waits for, if it waits for one of ours.
fn volume_for(claim: &PersistentVolumeClaim) -> Option<Value> {
    let asked = |key: &str| claim.annotations().get(key).map(String::as_str);
    let spec = claim.spec.as_ref()?;
    if asked(ASKED) != Some(PROVISIONER) || spec.volume_name.is_some() {
        return None;
    }
    let (node, uid) = (asked(NODE)?, claim.uid()?);
    let requests: &BTreeMap<_, _> = spec.resources.as_ref()?.requests.as_ref()?;
    let name = format!("pvc-{uid}");
    // As the node sees it.
    let path = PathBuf::from("/var/lib").join(FOLDER).join(&name);
    Some(json!({
        "metadata": {"name": name, "annotations": {(MADE_BY): PROVISIONER}},
        "spec": {
            "accessModes": spec.access_modes,
            "capacity": {"storage": requests.get("storage")?},
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace()?, "name": claim.name_any(), "uid": uid,
            },
            "hostPath": {"path": path, "type": "Directory"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
            ]}]}},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": spec.storage_class_name,
        },
    }))
}

/// Makes an object that may be there already.
async fn create<K>(client: &Client, object: Value) -> Result<(), Error>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let action = format!("creating {} {}", K::kind(&()), object["metadata"]["name"]);
    let object: K =
        serde_json::from_value(object).map_err(|error| api(action.clone())(kube::Error::SerdeError(error)))?;
    match Api::<K>::all(client.clone()).create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop).map_err(api(action)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(annotations: &[(&str, &str)]) -> PersistentVolumeClaim {
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        serde_json::from_value(json!({
            "metadata": {"name": "data", "namespace": "ml", "uid": "u", "annotations": annotations},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_claim_gets_a_volume_where_its_pod_will_run() {
        let volume = volume_for(&claim(&[(ASKED, PROVISIONER), (NODE, "node-1")])).unwrap();
        assert_eq!(volume["spec"]["hostPath"]["path"], "/var/lib/volumes/pvc-u");
        assert_eq!(volume["spec"]["claimRef"]["name"], "data");
        assert_eq!(volume["spec"]["capacity"]["storage"], "1Gi");
    }

    #[test]
    fn other_claims_are_left_alone() {
        assert!(volume_for(&claim(&[(ASKED, PROVISIONER)])).is_none());
        assert!(volume_for(&claim(&[(ASKED, "ebs.csi.aws.com"), (NODE, "node-1")])).is_none());
    }
}
