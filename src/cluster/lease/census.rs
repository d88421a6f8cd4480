//! Looking for other operators of the whole cluster, before leading.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::Api;
use kube::api::ListParams;

use super::decision::Record;
use super::rivals::{Rival, Rivals};
use super::{Lease, LeasePlace, LeaseTimes, foreign_record, is_claim, short};
use crate::cluster::client::described;

/// Leases of a page.
const PAGE: u32 = 20;

/// What a look at the other Leases came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// No other operator of the whole cluster is at work.
    Alone,
    /// One may be.
    Beside(Rival),
    /// No answer of use; why, and the remedy if a person has one. One may be: nothing is known.
    Failed(String),
}

/// The Leases of our name in all other namespaces.
pub struct Census {
    leases: Api<Lease>,
    own: LeasePlace,
    rivals: Rivals,
    times: LeaseTimes,
}

impl Census {
    /// Nothing is known of others yet.
    pub fn new(client: kube::Client, own: LeasePlace, times: LeaseTimes) -> Self {
        Census { leases: Api::all(client), own, rivals: Rivals::default(), times }
    }

    /// Looks at them as they are now, past any cache. Takes no longer than a request about our own Lease, so that a lease
    /// that was just acquired still holds afterwards.
    pub async fn look(&mut self) -> Look {
        // The field selector is what lets the right be limited to Leases of that name.
        let named = ListParams::default().fields(&format!("metadata.name={}", self.own.name)).limit(PAGE);
        let limit = self.times.request_limit;
        let leases = match tokio::time::timeout(limit, self.list(named)).await {
            Ok(Ok(leases)) => leases,
            Ok(Err(error)) => return Look::Failed(unseen(&error, &self.own.name)),
            Err(_) => return Look::Failed(format!("no answer within {limit:?}")),
        };
        self.rivals.judge(&leases, Instant::now()).map_or(Look::Alone, Look::Beside)
    }

    /// Who holds the Leases of other operators of the whole cluster, by namespace. A Lease may hold a megabyte of annotations,
    /// so few are asked for at a time.
    async fn list(&self, mut asked: ListParams) -> kube::Result<BTreeMap<String, Record>> {
        let mut others = BTreeMap::new();
        loop {
            let page = self.leases.list(&asked).await?;
            others.extend(page.items.iter().filter(|lease| !is_claim(lease)).filter_map(|lease| {
                let namespace = lease.metadata.namespace.clone()?;
                (namespace != self.own.namespace).then(|| (namespace, foreign_record(lease, self.times.duration)))
            }));
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => asked = asked.continue_token(&next),
                None => return Ok(others),
            }
        }
    }

    /// A pause between two looks: not the same for two operators that met each other, or they would meet again.
    pub fn pause(&self) -> Duration {
        self.times.renew_every.mul_f64(rand::random_range(0.5..1.5))
    }
}

/// Why the Leases of that name cannot be listed or watched, with the remedy if it is the right that is missing.
pub(super) fn unseen(error: &kube::Error, name: &str) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "{}; give this operator a ClusterRole with list and watch of leases (coordination.k8s.io) named {name}, as its \
             chart does",
            short(&status.message)
        ),
        error => short(&described(error)),
    }
}
