//! Writes and time for many ModelDeployments at once, until they serve and through a change of them all.

use std::future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, WatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::load::{self, AT_ONCE, Watched};
use super::report::{Report, table};
use super::stage::Stage;
use super::tally::{Tally, Writer, mean, means};
use crate::progress::note;

/// Longer than the operator puts off any status.
const AFTERWARDS: Duration = Duration::from_secs(10);
/// What KServe's deployments of one replica took on such a machine: writes of its own, of the controller manager, of both,
/// and seconds until 100 were ready.
const KSERVE: [&str; 4] = ["10.8", "23.7", "34.5", "48.8 s"];
const POLL: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// How many ModelDeployments.
    #[arg(long, default_value_t = 100)]
    deployments: usize,
    /// Pods of each.
    #[arg(long, default_value_t = 1)]
    replicas: u32,
}

/// What serves.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A Deployment and a Service: the least that Kubernetes itself needs for it.
    Plain,
    ModelDeployment,
}

/// A round of applies, until all serve what was applied.
struct Round {
    what: &'static str,
    took: Duration,
    cpu: String,
    tally: Tally,
}

pub(super) async fn run(stage: &Stage, options: &Options, report: &mut Report) -> Result<()> {
    let mut rows = Vec::new();
    let mut details = Vec::new();
    for kind in [Kind::Plain, Kind::ModelDeployment] {
        load::create_namespace(&stage.client(), kind.namespace()).await?;
        for (generation, what) in [(1, "apply"), (2, "another image")] {
            let round = round(stage, kind, options, generation, what).await?;
            note(&format!("{}, {what}: {:.1} s", kind.name(), round.took.as_secs_f64()));
            rows.push(row(kind, &round, options.deployments));
            let tallies = std::slice::from_ref(&round.tally);
            details.push(format!("- {}, {what}: {}", kind.name(), means(tallies, options.deployments)));
            details.push(format!("- {}, {what}, processor time: {}", kind.name(), round.cpu));
        }
        clear(&stage.client(), kind).await?;
    }
    let [own, controllers, sum, seconds] = KSERVE.map(str::to_owned);
    let unknown = || "-".to_owned();
    let name = "KServe, apply, 100 of 1 pod".to_owned();
    rows.push([name, own, controllers, unknown(), sum, unknown(), unknown(), seconds]);
    say(options, &rows, &details, report);
    Ok(())
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "Deployment and Service",
            Self::ModelDeployment => "ModelDeployment",
        }
    }

    fn namespace(self) -> &'static str {
        match self {
            Self::Plain => "bench-plain-serving",
            Self::ModelDeployment => "bench-serving",
        }
    }

    /// The kind by which it is seen whether it serves.
    fn resource(self) -> ApiResource {
        match self {
            Self::Plain => ApiResource::erase::<Deployment>(&()),
            Self::ModelDeployment => load::resource("ModelDeployment"),
        }
    }

    /// What a user writes for one of them, the object that is watched first.
    fn manifests(self, name: &str, image: &str, replicas: u32) -> Vec<(ApiResource, Value)> {
        let container = json!({"name": "server", "image": image, "ports": [{"containerPort": 8080}]});
        let mut main = json!({
            "metadata": {"name": name},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [container]}}},
        });
        match self {
            Self::ModelDeployment => {
                main["apiVersion"] = "trainyard.dev/v1alpha1".into();
                main["kind"] = "ModelDeployment".into();
                vec![(self.resource(), main)]
            }
            Self::Plain => {
                let labels = json!({"app": name});
                main["apiVersion"] = "apps/v1".into();
                main["kind"] = "Deployment".into();
                main["spec"]["selector"] = json!({"matchLabels": labels});
                main["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
                main["spec"]["template"]["metadata"] = json!({"labels": labels});
                let service = json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                    "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
                });
                vec![(self.resource(), main), (ApiResource::erase::<Service>(&()), service)]
            }
        }
    }

    /// Whether one serves what its spec says since that generation.
    fn serves(self, object: &Watched, generation: i64, replicas: u32) -> bool {
        match self {
            Self::ModelDeployment => load::is_ready(object, generation),
            Self::Plain => object.status.as_ref().is_some_and(|status| {
                let pods = [status.replicas, status.updated_replicas, status.available_replicas];
                load::is_observed(object, generation) && pods.iter().all(|count| *count == replicas)
            }),
        }
    }
}

/// Applies all of them and waits until they serve.
async fn round(stage: &Stage, kind: Kind, options: &Options, generation: i64, what: &'static str) -> Result<Round> {
    let (client, namespace) = (stage.client(), kind.namespace());
    let mark = stage.audit().mark().await?;
    let (before, begun) = (stage.cpu(), Instant::now());
    let apply = async |index: usize| {
        let image = format!("fake:{generation}");
        for (resource, manifest) in kind.manifests(&format!("model-{index:03}"), &image, options.replicas) {
            load::apply(&client, namespace, &resource, &manifest).await?;
        }
        Ok(())
    };
    let applying = stream::iter((0..options.deployments).map(apply))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|()| future::ready(Ok(())));
    let watched: Api<Watched> = Api::namespaced_with(client.clone(), namespace, &kind.resource());
    let all = WatchParams::default();
    let serving = load::until(
        options.deployments,
        async || watched.watch(&all, "0").await,
        |object| kind.serves(object, generation, options.replicas),
    );
    tokio::try_join!(applying, serving).with_context(|| format!("{} in {namespace}", kind.name()))?;
    let (took, cpu) = (begun.elapsed(), stage.cpu().since(&before));
    sleep(AFTERWARDS).await;
    let tally = Tally::of(&stage.audit().since(mark).await?, namespace);
    Ok(Round { what, took, cpu, tally })
}

/// Deletes all of them and waits until their pods are gone.
async fn clear(client: &Client, kind: Kind) -> Result<()> {
    let (background, all) = (DeleteParams::background(), ListParams::default());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), kind.namespace(), &kind.resource());
    api.delete_collection(&background, &all).await.context("deleting what served")?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), kind.namespace());
    while !pods.list_metadata(&all.clone().limit(1)).await?.items.is_empty() {
        sleep(POLL).await;
    }
    Ok(())
}

fn row(kind: Kind, round: &Round, deployments: usize) -> [String; 8] {
    let each = |count| mean(count, deployments);
    let by = |writer| each(round.tally.by(writer));
    [
        format!("{}, {}", kind.name(), round.what),
        by(Writer::Operator),
        by(Writer::Controllers),
        by(Writer::Other),
        each(round.tally.total()),
        each(round.tally.refused),
        each(round.tally.events),
        format!("{:.1} s", round.took.as_secs_f64()),
    ]
}

fn say(options: &Options, rows: &[[String; 8]], details: &[String], report: &mut Report) {
    let Options { deployments, replicas } = options;
    let header = ["", "own", "controller manager", "others", "sum", "refused", "Events", "until all serve"];
    report.say(&format!(
        "## Serving\n\n{deployments} at once with {replicas} pods each, by {AT_ONCE} requests at a time. Writes of every \
         client but scheduler and node, for each of them; the user's own apply, Events and what was refused are not in the sum. \
         KServe's figures are from another run on such a machine; whether they have Events in them is not known.\n\n{}",
        table(header, rows)
    ));
    report.say(&format!("What they were, for each on average:\n\n{}", details.join("\n")));
}
