//! The main job, from one command: a model trained on real pods, with everything that it takes.
//!
//! | module | what |
//! | --- | --- |
//! | `place` | where it runs: a cluster of its own, or the user's |
//! | `supervisor` | keeps the operator running there |
//! | `follow` | what happens to the job, shown as it happens |
//! | `timings` | where the time went |

mod follow;
mod place;
mod supervisor;
mod timings;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::error::Error;
use crate::images::Image;
use crate::install::{apply, objects, only_context};
use crate::interrupt::until_interrupted;
use crate::keep;
use crate::node::check_requirements;
use crate::operator::source_tree;
use crate::operator_binary::{Build, build_operator};
use crate::progress::say;
use place::Place;
use timings::Timings;

/// The job that it runs; users read it too.
const SAMPLE: &str = "config/samples/digits.yaml";
/// Where it runs in a cluster of somebody else's.
const NAMESPACE: &str = "trainyard-demo";

/// What a person can say.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Leaves the cluster running, and says how to look around in it.
    #[arg(long, conflicts_with = "context")]
    keep: bool,
    /// Uses the cluster of this kubeconfig context, in a namespace of its own, instead of an embedded one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// With --context: where that cluster finds the image `digits:1`, such as registry.example.com/team. `e2e images`
    /// writes it to a file.
    #[arg(long, value_name = "REGISTRY", requires = "context")]
    registry: Option<String>,
    /// Kills the operator with SIGKILL so many times, at random moments while the job runs, which then takes longer.
    #[arg(long, value_name = "TIMES", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=4))]
    kill_operator: u32,
}

/// What came out of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The share of held-out images that the model got right, as the job reported it.
    pub accuracy: f64,
    /// How long everything took.
    pub seconds: f64,
}

/// Trains the model, tells the story on standard output, and takes down what it put up, also when it is interrupted.
pub async fn run(arguments: Arguments) -> Result<Outcome> {
    let mut timings = Timings::default();
    say("Trainyard trains a classifier of handwritten digits: PyTorch DDP, on two pods of a real Kubernetes.\n");
    let sample = sample(&arguments)?;
    let mut place = until_interrupted(async {
        // First, so that nobody waits for a build that cannot be used.
        match &arguments.context {
            Some(context) => only_context(context).map(drop)?,
            None => check_requirements().await?,
        }
        if arguments.keep && keep::status().await?.is_some() {
            return Err(Error::AlreadyUp.into());
        }
        let binary = timings.part("building the operator", build_operator(Build::Debug)).await?;
        let place = Place::prepare(&arguments, &mut timings).await?;
        anyhow::Ok((place, binary))
    })
    .await?;
    let trained = until_interrupted(train(&arguments, &mut place.0, &sample, &place.1, &mut timings)).await;
    let place = place.0;
    let kept = match &trained {
        Ok(_) if arguments.keep => Some(place.leave().await?),
        _ => {
            // A second signal ends that as well.
            timings.part("taking everything down", until_interrupted(place.take_down())).await?;
            None
        }
    };
    let accuracy = trained?;
    say(&format!("\nWhere the time went\n{timings}"));
    if let Some(advice) = kept {
        say(&advice);
    }
    Ok(Outcome { accuracy, seconds: timings.total() })
}

/// Runs the job; answers the accuracy.
async fn train(
    arguments: &Arguments,
    place: &mut Place,
    sample: &Value,
    binary: &Path,
    timings: &mut Timings,
) -> Result<f64> {
    let client = place.client();
    timings.part("installing Trainyard", place.install(binary, arguments.kill_operator)).await?;
    say(&format!("$ kubectl apply -f {SAMPLE}"));
    let job = apply(&client, sample).await?;
    let following = async {
        tokio::select! {
            followed = follow::until_finished(&client, &job) => followed,
            failure = place.until_the_operator_fails() => Err(failure),
        }
    };
    let followed = timings.part("training", following).await?;
    for (part, seconds) in followed.parts {
        timings.detail(part, seconds);
    }
    judge(&followed.job)
}

/// The accuracy, if the job came to a good end.
fn judge(job: &Value) -> Result<f64> {
    let status = &job["status"];
    let succeeded = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Complete" && condition["status"] == "True");
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(succeeded, "the job has failed: {message}; its last attempts: {}", status["attempts"]);
    let results = &status["results"];
    let accuracy = results["accuracy"].as_f64();
    let accuracy = accuracy.with_context(|| format!("the job reported no accuracy, only {results}"))?;
    say(&format!("\nAccuracy on {} held-out images: {accuracy}", results["heldOut"]));
    Ok(accuracy)
}

/// The job of the sample, as it is to be here.
fn sample(arguments: &Arguments) -> Result<Value> {
    let path = source_tree().join(SAMPLE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut job = objects(&text)?.into_iter().next().with_context(|| format!("{SAMPLE} is empty"))?;
    if arguments.kill_operator > 0 {
        // Long enough for each operator to take over from the one before it, whose lease lasts 15 s.
        let command = job.pointer_mut("/spec/template/spec/containers/0/command").and_then(Value::as_array_mut);
        command.context("the sample has no command")?.push("--pause=4".into());
    }
    if arguments.context.is_some() {
        let registry = arguments.registry.as_deref().context(
            "with --context, --registry says where that cluster finds the image digits:1; `cargo e2e images FOLDER` \
             writes it to a file to push",
        )?;
        job["metadata"]["namespace"] = NAMESPACE.into();
        let containers = job.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            container["image"] = Image::Digits.reference_in(registry).into();
        }
    }
    Ok(job)
}
