//! Until this operator leads: the lease, and for the whole cluster, a look at who else is there.

use std::time::Instant;

use tokio::time::sleep;

use super::service::Service;
use super::{OperatorError, Shutdown};
use crate::cluster::lease::{Census, Holder, LeaseHolder, LeasePlace, Look, Rival};
use crate::cluster::news::News;
use crate::cluster::scope::Scope;
use crate::server::health::Stage;

impl Service {
    /// Waits until it may lead; nothing when told to stop before.
    ///
    /// # Errors
    /// The apiserver will not let us have a lease.
    pub(super) async fn win(&self, shutdown: &Shutdown) -> Result<Option<LeaseHolder>, OperatorError> {
        let mut census = match self.scope() {
            Scope::Cluster => Census::new(self.lease_client.clone(), self.place.clone(), self.times),
            // The Lease itself is the claim, and others respect it.
            Scope::Namespace(_) => return self.acquire(shutdown).await,
        };
        loop {
            let Some(lease) = self.acquire(shutdown).await? else { return Ok(None) };
            // The order matters: first our Lease, then a look at the others', see `cluster::lease::rivals`.
            let look = census.look().await;
            if look == Look::Alone {
                return Ok(Some(lease));
            }
            lease.release().await;
            let cleared = self.stand_back(&mut census, look);
            tokio::select! {
                () = cleared => {}
                () = shutdown.clone() => return Ok(None),
            }
        }
    }

    async fn acquire(&self, shutdown: &Shutdown) -> Result<Option<LeaseHolder>, OperatorError> {
        let waiting = |holder: &Holder| {
            let stage = behind(&self.place, holder);
            if let Stage::Hindered(problem) = &stage {
                tracing::warn!(holder = holder.identity, "doing nothing: {problem}");
            }
            self.enter(stage);
        };
        let (client, place, identity) = (self.lease_client.clone(), self.place.clone(), identity());
        tokio::select! {
            lease = LeaseHolder::acquire(client, place, &identity, self.times, waiting) => Ok(Some(lease?)),
            () = shutdown.clone() => Ok(None),
        }
    }

    /// Says why it does nothing, and returns when that is over.
    async fn stand_back(&self, census: &mut Census, mut look: Look) {
        let (mut news, name) = (News::default(), &self.place.name);
        loop {
            let problem = match &look {
                Look::Alone => return,
                Look::Beside(Rival { namespace, holder }) => format!(
                    "another operator serves the whole cluster: {holder}, by its Lease {namespace}/{name}; {BESIDE}"
                ),
                Look::Failed(message) => {
                    format!("whether another operator serves the whole cluster could not be seen: {message}")
                }
            };
            if news.is_new(&problem, Instant::now()) {
                tracing::warn!("doing nothing: {problem}");
            }
            self.enter(Stage::Hindered(for_everyone(&look).to_owned()));
            sleep(census.pause()).await;
            look = census.look().await;
        }
    }
}

/// What to do about another operator of the whole cluster.
const BESIDE: &str = "uninstall one of the two, or have this one serve only some namespaces (--namespaces); if the other is dead, \
                      this one begins by itself once that Lease has run out";

/// What `/readyz` says: whoever reaches the probes' port need not know what is in other namespaces. The log has it all.
fn for_everyone(look: &Look) -> &'static str {
    match look {
        Look::Alone => "",
        Look::Beside(_) => "another operator serves the whole cluster; the log names its Lease and what to do",
        Look::Failed(_) => "whether another operator serves the whole cluster could not be seen; the log says why",
    }
}

/// What it means that another holds the Lease we contend for. Who it is stays out of it, since `/readyz` says the same.
fn behind(place: &LeasePlace, holder: &Holder) -> Stage {
    let Holder { serves_other_scope, .. } = holder;
    let LeasePlace { namespace, .. } = place;
    match &place.scope {
        _ if !serves_other_scope => Stage::Standby,
        Scope::Cluster => Stage::Hindered(format!(
            "Lease {place} is held by an operator that serves only some namespaces, {namespace} among them (--namespaces); \
             install this operator in another namespace, or uninstall that one"
        )),
        Scope::Namespace(_) => Stage::Hindered(format!(
            "Lease {place} is held by an operator that serves the whole cluster from this namespace; leave {namespace} out \
             of --namespaces, or uninstall that one"
        )),
    }
}

/// Unlike any other term's, those of this process included: the pod's name and something random.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "trainyard".to_owned());
    format!("{host}-{:08x}", rand::random::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_name_no_other_lease() {
        let rival = Rival { namespace: "team-a".to_owned(), holder: "team-a-pod".to_owned() };
        for look in [Look::Beside(rival), Look::Failed("leases in team-a are forbidden".to_owned())] {
            assert!(!for_everyone(&look).contains("team-a"), "{look:?}");
        }
    }

    #[test]
    fn a_standby_waits_for_its_own_kind_only() {
        let serving = |scope| LeasePlace { namespace: "a".to_owned(), name: "trainyard".to_owned(), scope };
        let namespace = || Scope::Namespace("a".to_owned());
        for (scope, serves_other_scope, remedy) in [
            (Scope::Cluster, false, None),
            (namespace(), false, None),
            (Scope::Cluster, true, Some("install this operator in another namespace")),
            (namespace(), true, Some("leave a out of --namespaces")),
        ] {
            let holder = Holder { identity: "other".to_owned(), serves_other_scope };
            match (behind(&serving(scope.clone()), &holder), remedy) {
                (Stage::Standby, None) => {}
                (Stage::Hindered(problem), Some(remedy)) => {
                    assert!(problem.starts_with("Lease a/trainyard is held by an operator that "), "{problem}");
                    assert!(problem.contains(remedy), "{problem}");
                }
                (stage, _) => panic!("{scope}, {serves_other_scope}: {stage:?}"),
            }
        }
    }
}
