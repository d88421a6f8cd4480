//! Leader election by a coordination.k8s.io/v1 Lease.
//!
//! One process leads: the one that the Lease names. Two rules keep it at one, whatever the clocks of the machines say:
//!
//! * A standby takes another's lease only after it has itself seen no change of it, on its own monotonic clock, for
//!   the lease's whole duration. The renewal time inside is for people; nothing here reads it.
//! * A leader counts from when it *sent* its last successful renewal and stops earlier than the lease ends. So a write
//!   that [`LeaseGate::permit`] admits has ended before a standby can have taken over.
//!
//! Takers write with the resourceVersion that they read, so of two only one succeeds. `lease/decision.rs` decides;
//! this file sends and sleeps.
//!
//! That is about one Lease. Operators whose Leases are in different namespaces are kept apart by `rivals` (two that serve
//! the whole cluster) and `claims` (one that serves it, and others that serve some of its namespaces).

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{Api, PostParams};

mod census;
mod claim_watch;
mod claims;
mod decision;
mod gate;
mod object;
mod rivals;
#[cfg(test)]
pub(crate) mod tests;

use super::client::described;
use super::news::News;
use super::scope::Scope;
use crate::names::LABEL_SCOPE;
use crate::text::shorten;
pub use census::{Census, Look};
pub use claim_watch::ClaimWatch;
pub use decision::Loss;
use decision::{Action, Contender, Observation, Record};
pub use gate::LeaseGate;
pub use object::Lease;
use object::LeaseSpec;
pub use rivals::Rival;

/// Longest message of the apiserver's that is printed, in bytes.
const LONGEST_MESSAGE: usize = 512;

/// Time that clearing our name at the end may take: a pod that is deleted has other things to do as well.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// The election's times. `renew_every < renew_deadline < duration` must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long others wait after our last renewal before they take over.
    pub duration: Duration,
    /// Pause between renewals.
    pub renew_every: Duration,
    /// How long after our last renewal we still write; the rest of `duration` is for what is under way then.
    pub renew_deadline: Duration,
    /// Pause after a request that failed, and between a standby's looks.
    pub retry_every: Duration,
    /// Longest that one request about the Lease may take, so that a second try fits before the deadline.
    pub request_limit: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        LeaseTimes {
            duration: Duration::from_secs(15),
            renew_every: Duration::from_secs(5),
            renew_deadline: Duration::from_secs(10),
            retry_every: Duration::from_secs(2),
            request_limit: Duration::from_secs(3),
        }
    }
}

/// Which Lease an operator contends for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasePlace {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What its holder serves.
    pub scope: Scope,
}

impl std::fmt::Display for LeasePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Who else holds the Lease that we wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// As it wrote itself into the Lease.
    pub identity: String,
    /// By the Lease's label it serves the whole cluster where we would serve its namespace, or the other way round. Waiting
    /// for it is in vain: it is no replica of ours.
    pub serves_other_scope: bool,
}

/// Why the election cannot be taken part in.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The apiserver will not let us: rights or the namespace are missing. Waiting alone does not help.
    #[error("the apiserver refuses Lease {place}: {message}")]
    Refused {
        /// The Lease.
        place: LeasePlace,
        /// The apiserver's own words.
        message: String,
    },
    /// The times contradict each other.
    #[error("lease times must be renew_every < renew_deadline < duration, and no limit may be zero: {0:?}")]
    Times(LeaseTimes),
    /// An empty identity means that nobody holds the lease.
    #[error("the identity for leader election is empty")]
    EmptyIdentity,
}

/// How leadership ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// We were asked to stop. The lease is still ours until it is released or runs out.
    Shutdown,
    /// Someone else may lead. The gate is closed; the process should exit rather than go on with stale caches.
    Lost(Loss),
}

/// A request that did not do what it was meant to.
enum Failure {
    Outdated,
    Refused(String),
    Unknown(String),
}

/// The lease, held by this process until [`LeaseHolder::keep`] says otherwise.
#[derive(Debug)]
pub struct LeaseHolder {
    api: Api<Lease>,
    place: LeasePlace,
    identity: String,
    contender: Contender,
    gate: LeaseGate,
    /// The Lease as the last answer showed it: what the next write starts from.
    current: Option<Lease>,
    observation: Observation,
}

impl LeaseHolder {
    /// Waits until the lease is ours; [`LeaseHolder::keep`] must follow at once. `identity` must be unique among terms of
    /// leadership, restarts of a container included. `waiting` is told whenever another is found to hold it, or to serve
    /// something else than before. What another holds is not written to, its label of the scope included.
    ///
    /// Failures of the network are retried for ever; a refusal is an error, so that missing rights are seen at once.
    pub async fn acquire(
        client: kube::Client,
        place: LeasePlace,
        identity: &str,
        times: LeaseTimes,
        waiting: impl Fn(&Holder),
    ) -> Result<LeaseHolder, LeaseError> {
        let limits = [times.renew_every, times.retry_every, times.request_limit];
        let ordered = times.renew_every < times.renew_deadline && times.renew_deadline < times.duration;
        if !ordered || limits.contains(&Duration::ZERO) {
            return Err(LeaseError::Times(times));
        }
        if identity.is_empty() {
            return Err(LeaseError::EmptyIdentity);
        }
        let mut holder = LeaseHolder {
            api: Api::namespaced(client, &place.namespace),
            place,
            identity: identity.to_owned(),
            contender: Contender::new(identity, times),
            gate: LeaseGate::closed(times),
            current: None,
            observation: Observation::Outdated, // read at once
        };
        let (mut announced, mut trouble) = (None, News::default());
        while !holder.contender.leads() {
            let action = holder.contender.step(&holder.observation, Instant::now());
            holder.observation = match holder.perform(action).await {
                Ok(observation) => observation,
                Err(Failure::Outdated) => Observation::Outdated,
                Err(Failure::Refused(message)) => {
                    return Err(LeaseError::Refused { place: holder.place, message });
                }
                Err(Failure::Unknown(message)) => {
                    if trouble.is_new(&message, Instant::now()) {
                        tracing::warn!(lease = %holder.place, "the lease could not be looked at: {message}");
                    }
                    Observation::Unknown
                }
            };
            let other = holder.other();
            if let Some(other) = other.filter(|other| announced.as_ref() != Some(other)) {
                tracing::info!(lease = %holder.place, holder = other.identity, "waiting for the lease");
                waiting(&other);
                announced = Some(other);
            }
        }
        tracing::info!(lease = %holder.place, identity, "the lease is ours");
        Ok(holder)
    }

    /// The gate that every write of this process asks.
    pub fn gate(&self) -> LeaseGate {
        self.gate.clone()
    }

    /// How long to wait before the first write: whoever served our namespace so far has heard of a new claim by then, see
    /// `claims`. To be counted from when the lease was acquired; the gate stays shut until [`LeaseGate::end_wait`] is
    /// called. A lease that is released before counts as never held, so that the next holder waits as well.
    pub fn wait_before_writing(&self) -> Duration {
        if self.gate.waits() { self.contender.times().duration } else { Duration::ZERO }
    }

    /// Whoever else holds the Lease as the last answer showed it.
    fn other(&self) -> Option<Holder> {
        let lease = self.current.as_ref()?;
        let holder = record(lease, Duration::ZERO).holder.filter(|holder| *holder != self.identity)?;
        let serves_other_scope = is_claim(lease) != self.place.scope.is_namespace();
        Some(Holder { identity: holder, serves_other_scope })
    }

    /// Renews until the lease is lost or `shutdown` completes. Call [`LeaseHolder::release`] after a shutdown, once
    /// nothing writes any more; the gate stays open until then, at most until the renewal deadline.
    pub async fn keep(&mut self, shutdown: impl Future) -> Ended {
        let mut shutdown = pin!(shutdown);
        loop {
            let action = self.contender.step(&self.observation, Instant::now());
            if let Action::GiveUp(loss) = action {
                self.gate.close();
                tracing::error!(lease = %self.place, "leading no more: {loss}");
                return Ended::Lost(loss);
            }
            let performed = tokio::select! {
                biased;
                _ = &mut shutdown => return Ended::Shutdown,
                performed = self.perform(action) => performed,
            };
            self.observation = match performed {
                Ok(observation) => observation,
                Err(Failure::Outdated) => Observation::Outdated,
                Err(Failure::Refused(message) | Failure::Unknown(message)) => {
                    tracing::warn!(lease = %self.place, "the lease could not be renewed, trying again: {message}");
                    Observation::Unknown
                }
            };
        }
    }

    /// Clears our name from the Lease, so that the next one starts at once. Nothing may be under way any more: the
    /// gate closes here, but what it admitted before is not called back.
    pub async fn release(self) {
        self.gate.close();
        match tokio::time::timeout(RELEASE_LIMIT, self.clear()).await {
            Ok(Ok(())) => tracing::info!(lease = %self.place, "lease released"),
            Ok(Err(error)) => {
                tracing::warn!(lease = %self.place, "lease not released, it runs out by itself: {}", described(&error))
            }
            Err(_) => tracing::warn!(lease = %self.place, "lease not released in time, it runs out by itself"),
        }
    }

    /// Reads first: a renewal that was interrupted may have been carried out and have changed the version.
    async fn clear(&self) -> kube::Result<()> {
        let Some(mut lease) = self.api.get_opt(&self.place.name).await? else { return Ok(()) };
        let spec = &mut lease.spec;
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = None;
        if self.gate.waits() {
            spec.acquire_time = None;
        }
        spec.renew_time = Some(now());
        self.api.replace(&self.place.name, &PostParams::default(), &lease.into_sendable()).await.map(drop)
    }

    async fn perform(&mut self, action: Action) -> Result<Observation, Failure> {
        if let Action::Read(pause) | Action::Renew(pause) = action {
            tokio::time::sleep(pause).await;
        }
        let sent = Instant::now();
        // One that names us already is of a write of which no answer came: it may have been the first.
        let was_claimed = self.current.as_ref().is_some_and(|lease| was_claimed(lease, &self.identity));
        let limit = self.contender.request_limit(sent);
        let api = self.api.clone();
        let params = PostParams::default();
        let answer = match action {
            Action::Read(_) => tokio::time::timeout(limit, api.get_opt(&self.place.name)).await,
            Action::Create => {
                let lease = self.held(None);
                tokio::time::timeout(limit, async { api.create(&params, &lease).await.map(Some) }).await
            }
            Action::Take | Action::Renew(_) => {
                let lease = self.held(self.current.clone());
                tokio::time::timeout(limit, async { api.replace(&self.place.name, &params, &lease).await.map(Some) })
                    .await
            }
            Action::GiveUp(_) => return Ok(Observation::Unknown),
        };
        let answer = answer.map_err(|_| Failure::Unknown(format!("no answer within {limit:?}")))?;
        self.current = answer.map_err(|error| failure(error, action == Action::Create))?;
        if !matches!(action, Action::Read(_)) {
            if !self.contender.leads() && self.place.scope.is_namespace() && !was_claimed {
                self.gate.begin_wait();
            }
            self.contender.won(sent);
            self.gate.open(sent, self.current.as_ref().map(resource_version).unwrap_or_default());
        }
        let found = self.current.as_ref().map(|lease| record(lease, self.contender.times().duration));
        Ok(found.map_or(Observation::Absent, Observation::Found))
    }

    /// The Lease as we want it: ours, renewed now. What else is in it stays.
    fn held(&self, found: Option<Lease>) -> Lease {
        let mut lease = found.unwrap_or_else(|| Lease::named(&self.place.name)).into_sendable();
        let labels = lease.metadata.labels.get_or_insert_default();
        labels.insert(LABEL_SCOPE.to_owned(), self.place.scope.kind().to_owned());
        let (spec, now): (&mut LeaseSpec, _) = (&mut lease.spec, now());
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            let transitions = spec.lease_transitions.map_or(0, |count| count.saturating_add(1));
            spec.lease_transitions = Some(transitions);
            spec.acquire_time = Some(now.clone());
            spec.holder_identity = Some(self.identity.clone());
        }
        // Rounded up: the API has whole seconds, and others waiting longer is the safe side.
        let seconds = self.contender.times().duration.as_millis().div_ceil(1000);
        spec.lease_duration_seconds = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
        spec.renew_time = Some(now);
        lease
    }
}

/// This moment as the API writes it, in microseconds. It is for people: nothing reads it.
fn now() -> String {
    format!("{:.6}", Timestamp::now())
}

/// Who holds a Lease; `fallback` is its duration if it names none.
fn record(lease: &Lease, fallback: Duration) -> Record {
    let seconds = lease.spec.lease_duration_seconds.and_then(|it| u64::try_from(it).ok());
    Record {
        holder: lease.spec.holder_identity.clone().filter(|holder| !holder.is_empty()),
        version: resource_version(lease).to_owned(),
        duration: seconds.map_or(fallback, Duration::from_secs),
    }
}

/// Who holds a Lease outside our own namespace. Whoever may write Leases there may write any duration into it, and could
/// hold us up for years: it counts for no longer than ours, which every operator has.
fn foreign_record(lease: &Lease, ours: Duration) -> Record {
    let found = record(lease, ours);
    Record { duration: found.duration.min(ours), ..found }
}

fn resource_version(lease: &Lease) -> &str {
    lease.metadata.resource_version.as_deref().unwrap_or_default()
}

/// Whether a Lease lays claim to its namespace. One without the label, made by hand, counts as one of the whole cluster,
/// which at most keeps an operator from beginning.
fn is_claim(lease: &Lease) -> bool {
    lease.metadata.labels.iter().flatten().any(|(key, value)| key == LABEL_SCOPE && value == "namespace")
}

/// Whether it does, and somebody other than we has held it, long enough to write.
fn was_claimed(lease: &Lease, we: &str) -> bool {
    let held = lease.spec.acquire_time.is_some() && lease.spec.holder_identity.as_deref() != Some(we);
    held && is_claim(lease)
}

/// The apiserver's words as far as they are printed: a message may quote what others wrote.
fn short(message: &str) -> String {
    shorten(message, LONGEST_MESSAGE).to_owned()
}

fn failure(error: kube::Error, creates: bool) -> Failure {
    match error {
        kube::Error::Api(status) => match status.code {
            409 => Failure::Outdated,
            // The Lease was deleted after we read it. On create it is the namespace that is missing.
            404 if !creates => Failure::Outdated,
            400 | 403 | 404 | 422 => Failure::Refused(short(&status.message)),
            _ => Failure::Unknown(short(&status.message)),
        },
        error => Failure::Unknown(short(&described(&error))),
    }
}
