//! What the operator measures about itself, in OpenMetrics text.
//!
//! Every label is an enum, so that the number of series is fixed by the code, whatever users create. The one exception is
//! the scope of a lease, whose values are in the operator's own configuration.

use std::fmt::{self, Write};
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::cluster::port::{ApiError, Resource};
use crate::version::{COMMIT, VERSION};

/// Media type of [`Metrics::text`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds. The design's budgets (20 ms from job to pod, 50 ms from step to step) fall between bounds, not on the edge
/// of the scale; 10 s is the longest that a single write may take.
const RECONCILE_BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];
const REQUEST_BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Kind whose objects are reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Kind {
    /// TrainingJob.
    TrainingJob,
    /// ModelDeployment.
    ModelDeployment,
    /// Pipeline.
    Pipeline,
    /// PipelineRun.
    PipelineRun,
}

/// How one reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ReconcileOutcome {
    /// Something was written.
    Changed,
    /// Nothing had to be written.
    Unchanged,
    /// Nothing can be done until something outside changes: quota, a name that is taken, a refused template.
    Waiting,
    /// It failed and is tried again.
    Error,
}

/// What a request to the apiserver asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Verb {
    /// GET of one object.
    Read,
    /// GET of one page of the objects with a label.
    List,
    /// POST of a new object.
    Create,
    /// POST of an object that is judged and not created.
    DryRun,
    /// Server-side apply.
    Apply,
    /// Merge patch of the status subresource.
    PatchStatus,
    /// DELETE.
    Delete,
}

/// How a request to the apiserver ended: the variants of [`ApiError`], and Ok.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum RequestOutcome {
    /// Carried out.
    Ok,
    /// [`ApiError::AlreadyExists`].
    AlreadyExists,
    /// [`ApiError::NotFound`].
    NotFound,
    /// [`ApiError::Conflict`].
    Conflict,
    /// [`ApiError::QuotaExceeded`].
    QuotaExceeded,
    /// [`ApiError::Refused`].
    Refused,
    /// [`ApiError::Unavailable`].
    Unavailable,
    /// [`ApiError::NotLeader`]: never sent.
    NotLeader,
}

impl<T> From<&Result<T, ApiError>> for RequestOutcome {
    fn from(result: &Result<T, ApiError>) -> Self {
        match result {
            Ok(_) => RequestOutcome::Ok,
            Err(ApiError::AlreadyExists(_)) => RequestOutcome::AlreadyExists,
            Err(ApiError::NotFound(_)) => RequestOutcome::NotFound,
            Err(ApiError::Conflict(_)) => RequestOutcome::Conflict,
            Err(ApiError::QuotaExceeded(_)) => RequestOutcome::QuotaExceeded,
            Err(ApiError::Refused(_)) => RequestOutcome::Refused,
            Err(ApiError::Unavailable(_)) => RequestOutcome::Unavailable,
            Err(ApiError::NotLeader) => RequestOutcome::NotLeader,
        }
    }
}

impl EncodeLabelValue for Resource {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), fmt::Error> {
        encoder.write_str(self.kind())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    kind: Kind,
    outcome: ReconcileOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: Verb,
    resource: Resource,
    outcome: RequestOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabels {
    verb: Verb,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ScopeLabels {
    scope: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServedKindLabels {
    kind: Resource,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchedKindLabels {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    commit: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Every metric of the operator. One per process, shared by reference.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<ReconcileLabels, Counter>,
    reconcile_duration: Histograms<ReconcileLabels>,
    requests: Family<RequestLabels, Counter>,
    request_duration: Histograms<VerbLabels>,
    queue_depth: Family<KindLabels, Gauge>,
    leader: Family<ScopeLabels, Gauge>,
    ready: Family<ScopeLabels, Gauge>,
    namespaces_left_alone: Gauge,
    missing_fields: Family<ServedKindLabels, Gauge>,
    unreadable_objects: Family<WatchedKindLabels, Counter>,
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("trainyard"),
            reconciles: Family::default(),
            reconcile_duration: Family::new_with_constructor(|| Histogram::new(RECONCILE_BUCKETS)),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS)),
            queue_depth: Family::default(),
            leader: Family::default(),
            ready: Family::default(),
            namespaces_left_alone: Gauge::default(),
            missing_fields: Family::default(),
            unreadable_objects: Family::default(),
        };
        metrics.register();
        metrics
    }

    /// The registry adds what OpenMetrics asks for: `_total` to counters, the unit to durations, `_info` to the build.
    fn register(&mut self) {
        let Metrics { registry, reconciles, reconcile_duration, requests, request_duration, queue_depth, .. } = self;
        registry.register("reconciles", "Reconciles that ended", reconciles.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "How long a reconcile took",
            Unit::Seconds,
            reconcile_duration.clone(),
        );
        registry.register(
            "api_requests",
            "Requests of the reconcilers, without watches and what feeds them, events and the lease",
            requests.clone(),
        );
        registry.register_with_unit(
            "api_request_duration",
            "How long the apiserver took to answer a request of a reconciler",
            Unit::Seconds,
            request_duration.clone(),
        );
        registry.register("queue_depth", "Objects that wait to be reconciled now", queue_depth.clone());
        registry.register(
            "leader",
            "1 while this process leads in the cluster, or in a namespace",
            self.leader.clone(),
        );
        registry.register(
            "ready",
            "1 while the cluster, or a namespace, is served or waits for its leader; the log says why it is not",
            self.ready.clone(),
        );
        registry.register(
            "namespaces_left_alone",
            "Namespaces that other operators have claimed",
            self.namespaces_left_alone.clone(),
        );
        registry.register(
            "missing_fields",
            "Fields of this version that the installed CRD lacks",
            self.missing_fields.clone(),
        );
        registry.register(
            "unreadable_objects",
            "Times that a list or watch showed an object that cannot be read",
            self.unreadable_objects.clone(),
        );
        let build = Info::new(BuildLabels { version: VERSION, commit: COMMIT.unwrap_or_default() });
        registry.register("build", "The version that runs, and its git commit where the build was told of it", build);
    }

    /// A reconcile ended.
    pub fn reconciled(&self, kind: Kind, outcome: ReconcileOutcome, took: Duration) {
        let labels = ReconcileLabels { kind, outcome };
        self.reconciles.get_or_create(&labels).inc();
        self.reconcile_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A request to the apiserver ended, or was not sent. Only what was sent counts towards the durations.
    pub fn requested(&self, verb: Verb, resource: Resource, outcome: RequestOutcome, took: Duration) {
        self.requests.get_or_create(&RequestLabels { verb, resource, outcome }).inc();
        if outcome != RequestOutcome::NotLeader {
            self.request_duration.get_or_create(&VerbLabels { verb }).observe(took.as_secs_f64());
        }
    }

    /// So many more objects wait to be reconciled, or fewer. Several controllers of a kind, each of a namespace, count
    /// together.
    pub fn change_queue_depth(&self, kind: Kind, by: i64) {
        self.queue_depth.get_or_create(&KindLabels { kind }).inc_by(by);
    }

    /// Whether this process leads in a scope, by its name.
    pub fn set_leader(&self, scope: &str, leads: bool) {
        self.leader.get_or_create(&ScopeLabels { scope: scope.to_owned() }).set(leads.into());
    }

    /// Whether a scope is served by this process or another one, by its name.
    pub fn set_ready(&self, scope: &str, is_ready: bool) {
        self.ready.get_or_create(&ScopeLabels { scope: scope.to_owned() }).set(is_ready.into());
    }

    /// So many namespaces are left to other operators.
    pub fn set_namespaces_left_alone(&self, number: usize) {
        self.namespaces_left_alone.set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// The installed CRD of a kind lacks so many fields that we know.
    pub fn set_missing_fields(&self, kind: Resource, number: usize) {
        let labels = ServedKindLabels { kind };
        self.missing_fields.get_or_create(&labels).set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// A list or watch showed an object of that kind that cannot be read.
    pub fn unreadable(&self, kind: &str) {
        self.unreadable_objects.get_or_create(&WatchedKindLabels { kind: kind.to_owned() }).inc();
    }

    /// Everything, as [`OPENMETRICS`].
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail, nor do our label values.
        text::encode(&mut out, &self.registry).expect("a String takes any text");
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> String {
        let metrics = Metrics::new();
        metrics.reconciled(Kind::TrainingJob, ReconcileOutcome::Changed, Duration::from_millis(3));
        metrics.requested(Verb::Create, Resource::Pod, RequestOutcome::Ok, Duration::from_millis(4));
        metrics.requested(Verb::Create, Resource::Pod, RequestOutcome::NotLeader, Duration::ZERO);
        metrics.change_queue_depth(Kind::TrainingJob, 9);
        metrics.change_queue_depth(Kind::TrainingJob, -2);
        metrics.set_leader("cluster", true);
        metrics.set_leader("team-a", true);
        metrics.set_leader("team-a", false);
        metrics.set_ready("team-a", false);
        metrics.set_namespaces_left_alone(3);
        metrics.set_missing_fields(Resource::ModelDeployment, 2);
        metrics.unreadable("Pod");
        metrics.text()
    }

    #[test]
    fn every_metric_has_its_help_and_its_sample() {
        let text = filled();
        let build = format!(r#"trainyard_build_info{{version="{VERSION}",commit="{}"}} 1"#, COMMIT.unwrap_or_default());
        let samples = [
            r#"trainyard_reconciles_total{kind="TrainingJob",outcome="Changed"} 1"#,
            r#"trainyard_reconcile_duration_seconds_count{kind="TrainingJob",outcome="Changed"} 1"#,
            r#"trainyard_api_requests_total{verb="Create",resource="Pod",outcome="Ok"} 1"#,
            r#"trainyard_api_requests_total{verb="Create",resource="Pod",outcome="NotLeader"} 1"#,
            r#"trainyard_api_request_duration_seconds_count{verb="Create"} 1"#,
            r#"trainyard_queue_depth{kind="TrainingJob"} 7"#,
            r#"trainyard_leader{scope="cluster"} 1"#,
            r#"trainyard_leader{scope="team-a"} 0"#,
            r#"trainyard_ready{scope="team-a"} 0"#,
            "trainyard_namespaces_left_alone 3",
            r#"trainyard_missing_fields{kind="ModelDeployment"} 2"#,
            r#"trainyard_unreadable_objects_total{kind="Pod"} 1"#,
            &build,
        ];
        for sample in samples {
            assert!(text.lines().any(|line| line == sample), "no {sample} in\n{text}");
        }
        let families = [
            "reconciles",
            "reconcile_duration_seconds",
            "api_requests",
            "api_request_duration_seconds",
            "queue_depth",
            "leader",
            "namespaces_left_alone",
            "missing_fields",
            "unreadable_objects",
            "build",
        ];
        for family in families {
            let help = format!("# HELP trainyard_{family} ");
            assert_eq!(text.lines().filter(|line| line.starts_with(&help)).count(), 1, "{help} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn units_are_base_units_and_end_the_name() {
        let text = filled();
        let units: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# UNIT ")).collect();
        assert_eq!(units.len(), 2);
        for unit in units {
            let (name, unit) = unit.split_once(' ').expect("a name and a unit");
            assert_eq!(unit, "seconds");
            assert!(name.ends_with("_seconds"), "{name}");
        }
        // 4 ms is 0.004 seconds: neither 4 nor 4000.
        assert!(text.contains(r#"trainyard_api_request_duration_seconds_sum{verb="Create"} 0.004"#), "{text}");
        assert!(!text.contains("_milliseconds") && !text.contains("_ms"));
    }
}
