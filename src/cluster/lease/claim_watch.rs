//! Following the claims of others to namespaces, and our own renewals with them: see `claims` and `gate` for why.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};

use super::census::unseen;
use super::claims::Claims;
use super::gate::LeaseGate;
use super::{Lease, LeasePlace, LeaseTimes, foreign_record, is_claim, resource_version, short};
use crate::cluster::guard::Guarded;
use crate::cluster::news::News;
use crate::cluster::territory::{Change, Territory};
use crate::cluster::watch::broken;
use crate::cluster::watch::events::events;
use crate::cluster::watch::shared::Watches;
use crate::server::metrics::Metrics;

/// A watch of the Leases of our name in the whole cluster.
pub struct ClaimWatch {
    /// Our own Lease.
    pub own: LeasePlace,
    /// How often it is renewed, and for how long a renewal counts.
    pub times: LeaseTimes,
    /// Told of our own renewals that the watch shows.
    pub gate: LeaseGate,
    /// Told of the claims, and when they cannot be followed.
    pub territory: Territory,
    /// Told how many there are.
    pub metrics: Arc<Metrics>,
    /// What it shares with other watches.
    pub watches: Watches,
}

/// What is known between two events.
#[derive(Default)]
struct Known {
    claims: Claims,
    /// Namespaces with a claim in the list that is coming in.
    listed: BTreeSet<String>,
    /// Our own Lease in that list, which is in no order: it vouches for nothing before the list is complete.
    own_listed: Option<String>,
    /// Whether a list was complete.
    complete: bool,
    /// How the watch broke since it showed our own Lease last.
    broke: Option<String>,
    trouble: News,
}

impl ClaimWatch {
    /// Watches for ever.
    ///
    /// A connection that is half open shows no error for minutes, and the gate shuts meanwhile. Our own renewals are due
    /// in this watch, so one that has shown none for as long as they count is begun anew.
    pub async fn run(self, client: kube::Client) {
        self.gate.count_what_is_shown();
        let named = watcher::Config::default().fields(&format!("metadata.name={}", self.own.name));
        let leases = Api::<Guarded<Lease>>::all(client);
        let begin = || events(leases.clone(), named.clone(), self.watches.clone()).boxed();
        let (mut shows, mut known) = (begin(), Known::default());
        let mut too_late = Instant::now() + self.times.renew_deadline;
        loop {
            let event = tokio::select! {
                Some(event) = shows.next() => Some(event),
                () = until(known.claims.next_end()) => None,
                () = until(Some(too_late)) => {
                    let now = Instant::now();
                    let problem = self.problem(&known);
                    self.warn(&mut known, &problem, now);
                    self.territory.set_deaf(Some(problem));
                    (shows, too_late) = (begin(), now + self.times.renew_deadline);
                    None
                }
            };
            let now = Instant::now();
            let shown = match event {
                Some(Ok(event)) => self.take_in(&mut known, event, now),
                Some(Err(error)) => {
                    known.broke = Some(self.reason(&error));
                    let problem = self.problem(&known);
                    self.warn(&mut known, &problem, now);
                    None
                }
                None => None,
            };
            let standing = known.claims.standing(now);
            self.metrics.set_namespaces_left_alone(standing.len());
            self.say(&self.territory.leave_alone(standing));
            if known.complete {
                self.territory.set_known();
            }
            // Only now: what is counted from here on vouches for the claims.
            if let Some(version) = shown {
                self.gate.shown(&version);
                too_late = now + self.times.renew_deadline;
                known.broke = None;
                self.territory.set_deaf(None);
            }
        }
    }

    /// Answers the resourceVersion of our own Lease that is shown with all that came before.
    fn take_in(&self, known: &mut Known, event: Event<Guarded<Lease>>, now: Instant) -> Option<String> {
        match event {
            Event::Init => {
                (known.listed, known.own_listed) = (BTreeSet::new(), None);
                None
            }
            Event::InitApply(lease) => {
                let lease = lease.or_bare();
                let own = self.note(known, &lease, now);
                known.listed.extend(lease.namespace().filter(|_| is_claim(&lease)));
                known.own_listed = own.or(known.own_listed.take());
                None
            }
            Event::InitDone => {
                known.claims.only(&known.listed, now);
                known.complete = true;
                known.own_listed.take()
            }
            Event::Apply(lease) => {
                let own = self.note(known, &lease.or_bare(), now);
                // Not with a list: the watch after it may be as silent as the one before.
                if own.is_some() && known.trouble.settle() {
                    tracing::info!("the watch of Leases named {} shows our renewals again", self.own.name);
                }
                own
            }
            Event::Delete(lease) => {
                known.claims.gone(&lease.namespace().unwrap_or_default(), now);
                None
            }
        }
    }

    /// Takes in one Lease; answers its resourceVersion if it is our own.
    fn note(&self, known: &mut Known, lease: &Lease, now: Instant) -> Option<String> {
        let namespace = lease.namespace().unwrap_or_default();
        if namespace == self.own.namespace {
            return Some(resource_version(lease).to_owned());
        }
        if is_claim(lease) {
            known.claims.seen(&namespace, &foreign_record(lease, self.times.duration));
        } else {
            known.claims.gone(&namespace, now);
        }
        None
    }

    fn reason(&self, error: &watcher::Error) -> String {
        use watcher::Error::{InitialListFailed, WatchStartFailed};
        match error {
            InitialListFailed(error) | WatchStartFailed(error) => unseen(error, &self.own.name),
            error => short(&broken(error)),
        }
    }

    /// What is wrong while our own Lease is not shown.
    fn problem(&self, known: &Known) -> String {
        let (name, limit) = (&self.own.name, self.times.renew_deadline);
        let what = match &known.broke {
            Some(reason) => format!("broke: {reason}"),
            None => "shows nothing, not even our own renewals, and is begun anew".to_owned(),
        };
        format!(
            "the watch of Leases named {name} {what}; nothing is written while the last renewal that it showed is older than {limit:?}"
        )
    }

    fn warn(&self, known: &mut Known, problem: &str, now: Instant) {
        if known.trouble.is_new(problem, now) {
            tracing::warn!("{problem}");
        }
    }

    fn say(&self, change: &Change) {
        let name = &self.own.name;
        for namespace in &change.left {
            tracing::info!(
                namespace,
                "leaving this namespace alone: by its Lease {name} another operator serves it; delete that Lease if none does"
            );
        }
        for namespace in &change.returned {
            tracing::info!(namespace, "serving this namespace again: its Lease {name} is gone");
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => pending().await,
    }
}
