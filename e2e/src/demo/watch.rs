//! Watches over the operator's pod, which its Deployment keeps alive: whoever kills it costs time and nothing else.

use std::time::Duration;

use anyhow::{Result, anyhow};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use rand::RngExt;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::progress::say;
use crate::release::Release;

/// The operator is looked at this often.
const LOOK: Duration = Duration::from_millis(250);
/// An operator that ends by itself so often will not do better the next time.
const OWN_ENDS: i32 = 5;

/// Comes to an end only if the operator keeps ending by itself; says why. While it leads it is killed with SIGKILL
/// `kills` times, at random moments.
pub(super) async fn until_it_fails(release: &Release, cluster: Option<&Cluster>, kills: u32) -> anyhow::Error {
    let (mut killed, mut planned) = (Vec::new(), None);
    loop {
        sleep(LOOK).await;
        // The apiserver may be busy; the next look will do.
        let Ok(containers) = release.pods().await.map(|pods| containers(&pods)) else { continue };
        let restarts: i32 = containers.iter().map(|container| container.restart_count).sum();
        if restarts > OWN_ENDS + i32::try_from(killed.len()).unwrap_or(i32::MAX) {
            let logs = release.logs().await.unwrap_or_default().join("\n");
            return anyhow!("the operator has ended by itself {restarts} times; its log:\n{logs}");
        }
        let (Some(cluster), true) = (cluster, killed.len() < kills as usize) else { continue };
        let leader = release.leader().await.ok().flatten();
        let Some(leader) = leader.filter(|leader| !killed.contains(leader)) else { continue };
        if Instant::now() < *planned.get_or_insert_with(|| Instant::now() + random_moment()) {
            continue;
        }
        match kill(cluster, &containers).await {
            Ok(()) => {
                say("          (the operator is killed with SIGKILL; its Deployment starts it again)");
                killed.push(leader);
            }
            Err(error) => say(&format!("          (the operator could not be killed: {error:#})")),
        }
        planned = None;
    }
}

async fn kill(cluster: &Cluster, containers: &[ContainerStatus]) -> Result<()> {
    let id = containers.iter().find_map(|container| container.container_id.as_deref());
    cluster.node().await?.kill_container(id.ok_or_else(|| anyhow!("it has no container"))?).await
}

fn containers(pods: &[Pod]) -> Vec<ContainerStatus> {
    let statuses = pods.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.clone());
    statuses.flatten().collect()
}

fn random_moment() -> Duration {
    Duration::from_millis(rand::rng().random_range(300..12_000))
}
