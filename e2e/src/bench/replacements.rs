//! Replacements of real pods under a steady load: what becomes of the requests.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, WatchParams};
use serde_json::{Value, json};

use super::load::{self, Watched};
use super::report::{Report, table, verdict};
use super::stage::Stage;
use super::statistics::percentile;
use crate::images::Image;
use crate::node::placement;
use crate::progress::note;
use crate::server::{INFER, container, question};
use crate::steady_load::{Figures, SteadyLoad, Target};

const NAMESPACE: &str = "bench-replacements";
const NAME: &str = "digits";

#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// How often all pods are replaced.
    #[arg(long, default_value_t = 10)]
    replacements: i64,
    /// Pods.
    #[arg(long, default_value_t = 2)]
    replicas: u32,
    /// Requests in a second; half of them on new connections.
    #[arg(long, default_value_t = 50)]
    rate: u32,
}

/// The images that the node must have.
pub(super) const IMAGES: [Image; 2] = [Image::Base, Image::Server];

pub(super) async fn run(stage: &Stage, options: &Options, report: &mut Report) -> Result<()> {
    stage.node().await?;
    let client = stage.client();
    load::create_namespace(&client, NAMESPACE).await?;
    apply(stage, options, 1).await?;
    let target = Target {
        url: format!("http://{NAME}{INFER}"),
        body: question(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        rate: options.rate,
        image: Image::Base.reference(),
        placement: placement(),
    };
    let load = SteadyLoad::start(&client, NAMESPACE, &target).await?;
    let mut seconds = Vec::new();
    for replacement in 1..=options.replacements {
        let took = apply(stage, options, replacement + 1).await?;
        seconds.push(took.as_secs_f64());
        note(&format!("replacement {replacement} of {}: {:.1} s", options.replacements, took.as_secs_f64()));
    }
    let figures = load.stop().await?;
    let deployments: Api<DynamicObject> = Api::namespaced_with(client, NAMESPACE, &load::resource("ModelDeployment"));
    deployments.delete(NAME, &DeleteParams::background()).await.context("deleting the deployment")?;
    say(options, &seconds, &figures, report);
    Ok(())
}

fn manifest(replicas: u32, version: i64) -> Value {
    let mut pod = placement();
    pod["containers"] = json!([container(&Image::Server.reference(), &version.to_string())]);
    json!({
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": NAME},
        "spec": {"replicas": replicas, "template": {"spec": pod}},
    })
}

/// Applies the spec of that generation, whose number is the version, and waits until it serves.
async fn apply(stage: &Stage, options: &Options, generation: i64) -> Result<Duration> {
    let (client, kind, begun) = (stage.client(), load::resource("ModelDeployment"), Instant::now());
    load::apply(&client, NAMESPACE, &kind, &manifest(options.replicas, generation)).await?;
    let (watched, all): (Api<Watched>, _) = (Api::namespaced_with(client, NAMESPACE, &kind), WatchParams::default());
    load::until(1, async || watched.watch(&all, "0").await, |object| load::is_ready(object, generation)).await?;
    Ok(begun.elapsed())
}

fn say(options: &Options, seconds: &[f64], figures: &Figures, report: &mut Report) {
    let Options { replacements, replicas, rate } = options;
    let Figures { sent, answered, lost, retried, replaced, p50, p99, max, errors, .. } = figures;
    let header = ["requests", "answered", "lost", "retried", "connections replaced", "p50", "p99", "max"];
    let counts = [sent, answered, lost, retried, replaced].map(ToString::to_string);
    let times = [p50, p99, max].map(|milliseconds| format!("{milliseconds:.1} ms"));
    let row: Vec<String> = counts.into_iter().chain(times).collect();
    let row: [String; 8] = std::array::from_fn(|column| row[column].clone());
    let [shortest, middle, longest] = [0.0, 50.0, 100.0].map(|percent| percentile(seconds, percent));
    report.say(&format!(
        "## Replacements under load\n\n{replacements} replacements of {replicas} real pods of an inference server, each \
         answer taking 50 ms, with {rate} requests a second, half of them on new connections. A retried one met the end of \
         a kept connection and was sent again, as HTTP clients do.\n\n{}\n\n\
         - a replacement takes {shortest:.1} / {middle:.1} / {longest:.1} s\n\
         - no request lost: {}",
        table(header, &[row]),
        verdict(*lost == 0),
    ));
    if !errors.is_empty() {
        report.say(&format!("The first that were lost: {}", errors.join("; ")));
    }
}
