//! Alerts and dashboard: the real parser reads every expression, and every metric in them is one that the operator has.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use promql_parser::parser::{self, Expr};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::{Value, json};
use trainyard::cluster::port::Resource;
use trainyard::server::metrics::{Kind, Metrics, ReconcileOutcome, RequestOutcome, Verb};

use crate::tools::{render, render_as};

/// The names of all samples that an operator has.
fn exposed() -> BTreeSet<String> {
    let metrics = Metrics::new();
    metrics.reconciled(Kind::TrainingJob, ReconcileOutcome::Changed, Duration::from_millis(1));
    metrics.requested(Verb::Create, Resource::Pod, RequestOutcome::Ok, Duration::from_millis(1));
    metrics.change_queue_depth(Kind::TrainingJob, 1);
    metrics.set_leader("cluster", true);
    metrics.set_ready("cluster", true);
    metrics.set_missing_fields(Resource::TrainingJob, 1);
    metrics.unreadable("Pod");
    let text = metrics.text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
    samples.map(name).collect()
}

/// Collects the names of the metrics in an expression.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl ExprVisitor for Names {
    type Error = Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Infallible> {
        let selector = match expression {
            Expr::VectorSelector(selector) => Some(selector),
            Expr::MatrixSelector(selector) => Some(&selector.vs),
            _ => None,
        };
        if let Some(selector) = selector {
            self.0.insert(selector.name.clone().unwrap_or_else(|| panic!("a selector without a name: {selector}")));
        }
        Ok(true)
    }
}

/// The metrics that an expression asks for.
#[track_caller]
fn asked_for(expression: &str) -> BTreeSet<String> {
    let parsed = parser::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    let mut names = Names::default();
    match walk_expr(&mut names, &parsed) {
        Ok(_) => names.0,
        Err(never) => match never {},
    }
}

#[track_caller]
fn assert_exposed(expression: &str, exposed: &BTreeSet<String>) {
    let asked = asked_for(expression);
    assert!(!asked.is_empty(), "{expression} asks for nothing");
    let unknown: Vec<_> = asked.difference(exposed).collect();
    assert!(unknown.is_empty(), "{expression}: no such metrics: {unknown:?}; there are {exposed:?}");
}

#[test]
fn names_are_found_wherever_they_stand() {
    let all =
        asked_for("absent(a) or sum by (x) (rate(b_total{y=\"z\"}[5m])) / -c > 0.1 and max_over_time(d[1h:5m]) == 0");
    assert_eq!(all, ["a", "b_total", "c", "d"].map(str::to_owned).into());
}

#[test]
fn every_alert_explains_itself_and_asks_for_metrics_that_exist() {
    let values = json!({"serviceMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}});
    let rendered = render_as("ml", "ops", &values);
    let rules = &rendered.one("PrometheusRule", "ml-trainyard")["spec"]["groups"][0]["rules"];
    let (rules, exposed) = (rules.as_array().expect("rules"), exposed());
    assert!(rules.len() >= 10, "{} alerts", rules.len());
    for rule in rules {
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{rule}")).to_owned();
        let expression = text(&rule["expr"]);
        assert_exposed(&expression, &exposed);
        let selectors = expression.matches("trainyard_").count();
        let ours = expression.matches(r#"job="ml-trainyard", namespace="ops""#).count();
        let of_neighbours = expression.matches(r#"{scope!="cluster"}"#).count();
        assert_eq!(selectors, ours + of_neighbours, "{expression}: every other selector is of this release");
        assert!(text(&rule["alert"]).starts_with("Trainyard"), "{rule}");
        assert!(["info", "warning", "critical"].contains(&text(&rule["labels"]["severity"]).as_str()), "{rule}");
        assert!(text(&rule["annotations"]["summary"]).len() > 10, "{rule}");
        assert!(text(&rule["annotations"]["description"]).len() > 80, "{rule}");
    }
}

#[test]
fn every_panel_explains_itself_and_asks_for_metrics_that_exist() {
    let rendered = render(&json!({"dashboard": {"enabled": true}}));
    let map = rendered.one("ConfigMap", "trainyard-dashboard");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let dashboard = map["data"]["trainyard.json"].as_str().expect("the dashboard");
    let dashboard: Value = serde_json::from_str(dashboard).expect("JSON");
    let exposed = exposed();
    let mut shown = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 20), "{}", panel["title"]);
        for target in panel["targets"].as_array().expect("targets") {
            // What Grafana fills in before Prometheus reads it.
            let expression = target["expr"].as_str().expect("an expression").replace("$__rate_interval", "5m");
            assert_exposed(&expression, &exposed);
            shown.extend(asked_for(&expression));
        }
    }
    let families: BTreeSet<String> = exposed.iter().map(|name| family(name)).collect();
    let shown: BTreeSet<String> = shown.iter().map(|name| family(name)).collect();
    assert_eq!(shown, families, "every metric has its panel");
}

/// The name without what a histogram adds to it.
fn family(sample: &str) -> String {
    let suffixes = ["_bucket", "_count", "_sum"];
    suffixes.iter().find_map(|suffix| sample.strip_suffix(suffix)).unwrap_or(sample).to_owned()
}
