//! Several operators, of which one leads.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::operator::OPERATOR_NAMESPACE;
use e2e::release::without_pods;

use crate::manifest::Job;
use crate::metrics::Samples;
use crate::objects::{LEASES, Objects, uid};
use crate::space::Space;
use crate::wait::eventually;

/// The lease lasts 15 s; a standby that saw it released need not wait for that.
const AT_ONCE: Duration = Duration::from_secs(10);

pub(crate) async fn a_graceful_stop_releases_the_lease(space: Space) -> Result<()> {
    space.submit(&Job::torch("undisturbed", 2).runs_for("never")).await?;
    let before = space.running("undisturbed", 1, 2).await?;
    space.until_state("undisturbed", "Running").await?;
    ensure!(space.suite.release.leader().await?.is_some(), "nobody holds the lease");

    // Its exit code is part of this.
    space.suite.stop_operator().await?;
    let holder = space.suite.release.leader().await?;
    ensure!(holder.is_none(), "{holder:?} still holds the lease");

    let started = Instant::now();
    let next = space.suite.spawn_operator().await?;
    next.until_ready().await?;
    ensure!(started.elapsed() < AT_ONCE, "the next one led only after {:?}", started.elapsed());
    space.suite.operator().await.replace(next);
    space.finish("undisturbed").await?;
    space.until_state("undisturbed", "Succeeded").await?;
    let after = space.pods("undisturbed").await?;
    ensure!(after.iter().map(uid).eq(before.iter().map(uid)), "its pods were replaced");
    Ok(())
}

pub(crate) async fn a_standby_takes_over_at_once(space: Space) -> Result<()> {
    let standby = space.suite.spawn_operator().await?;
    eventually("the standby is ready and does not lead", async || {
        ensure!(standby.is_ready().await, "not ready");
        ensure!(leads(&standby.metrics().await?) == 0.0, "it leads");
        Ok(())
    })
    .await?;
    {
        let operator = space.suite.operator().await;
        let leader = operator.as_ref().context("no operator runs")?;
        ensure!(leads(&leader.metrics().await?) == 1.0, "the first one does not lead");
    }
    space.suite.stop_operator().await?;
    let stopped = Instant::now();
    standby.until_ready().await?;
    ensure!(stopped.elapsed() < AT_ONCE, "it led only after {:?}", stopped.elapsed());
    ensure!(leads(&standby.metrics().await?) == 1.0, "it says that it does not lead");
    space.suite.operator().await.replace(standby);
    space.submit(&Job::new("next")).await?;
    space.until_state("next", "Succeeded").await.map(drop)
}

/// The chart brings the Lease, but Argo CD leaves Leases out; whoever deletes it does no harm either.
pub(crate) async fn a_missing_lease_is_made(space: Space) -> Result<()> {
    space.suite.stop_operator().await?;
    let operators = Objects::namespaced(space.suite.client.clone(), OPERATOR_NAMESPACE);
    operators.delete(LEASES, "trainyard").await?;
    space.suite.ensure_operator().await?;
    let lease = operators.get(LEASES, "trainyard").await?;
    ensure!(lease["metadata"]["labels"]["trainyard.dev/scope"] == "cluster", "{}", lease["metadata"]);
    // As the chart has it again.
    space.suite.release.install(&without_pods()).await
}

fn leads(metrics: &str) -> f64 {
    Samples::parse(metrics).sum("trainyard_leader", &[])
}
