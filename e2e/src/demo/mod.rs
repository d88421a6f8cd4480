//! The main job, from one command: a model from its data to the answers that it gives, on real pods, with everything
//! that it takes; then the next model in its place, while requests come in.
//!
//! | module | what |
//! | --- | --- |
//! | `place` | where it runs: a cluster of its own, or the user's |
//! | `watch` | watches over the operator in it, and kills it when that is asked for |
//! | `samples` | what is applied |
//! | `story` | two runs, and what their models are asked |
//! | `follow`, `step`, `teller` | what happens to a run and its steps, shown as it happens |
//! | `outcome`, `digit` | what came of a run; the image that its model is shown |
//! | `timings` | where the time went |

mod digit;
mod follow;
mod outcome;
mod place;
mod samples;
mod step;
mod story;
mod teller;
mod timings;
mod watch;

use anyhow::Result;
use serde_json::Value;

use crate::error::Error;
use crate::install::only_context;
use crate::interrupt::until_interrupted;
use crate::keep;
use crate::node::check_requirements;
use crate::progress::say;
use place::Place;
use samples::Samples;
use timings::Timings;

/// What a person can say.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Leaves the cluster running, and says how to look around in it.
    #[arg(long, conflicts_with = "context")]
    keep: bool,
    /// Uses the cluster of this kubeconfig context, in a namespace of its own, instead of an embedded one. Its default
    /// StorageClass makes the claim for data and models, 1 GiB and ReadWriteOnce: its volumes have to be of a kind that
    /// leads all their pods to one node.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// With --context: where that cluster finds the images `base:1`, `digits:1`, `server:1` and the operator's, such as
    /// registry.example.com/team. `cargo e2e images` writes them to files.
    #[arg(long, value_name = "REGISTRY", requires = "context")]
    registry: Option<String>,
    /// An argument of both runs, such as epochs=10 or least=0.9: see the parameters in
    /// config/samples/digits-pipeline.yaml. May be repeated.
    #[arg(long = "argument", value_name = "NAME=VALUE", value_parser = samples::argument)]
    arguments: Vec<(String, Value)>,
    /// Kills the operator with SIGKILL so many times, at random moments of the two runs, which then take longer.
    #[arg(long, value_name = "TIMES", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=4))]
    #[arg(conflicts_with = "context")]
    kill_operator: u32,
}

/// What came out of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The share of held-out images that the first model got right, as its run reported it.
    pub accuracy: f64,
    /// How long everything took.
    pub seconds: f64,
}

/// Trains two models, tells the story on standard output, and takes down what it put up, also when it is interrupted.
pub async fn run(arguments: Arguments) -> Result<Outcome> {
    let mut timings = Timings::default();
    say(
        "Trainyard trains a classifier of handwritten digits and serves it: PyTorch DDP on two pods of a real Kubernetes,\n\
         MLServer on two more. Then the next one takes its place, while requests come in.\n",
    );
    let samples = Samples::read(&arguments)?;
    let mut place = until_interrupted(async {
        // First, so that nobody waits for a build that cannot be used.
        match &arguments.context {
            Some(context) => only_context(context).map(drop)?,
            None => check_requirements().await?,
        }
        if arguments.keep && keep::status().await?.is_some() {
            return Err(Error::AlreadyUp.into());
        }
        Place::prepare(&arguments, &mut timings).await
    })
    .await?;
    let told = until_interrupted(tell(&arguments, &mut place, &samples, &mut timings)).await;
    let kept = match &told {
        Ok(_) if arguments.keep => Some(place.leave().await?),
        _ => {
            // A second signal ends that as well.
            timings.part("taking everything down", until_interrupted(place.take_down())).await?;
            None
        }
    };
    let accuracy = told?;
    say(&format!("\nWhere the time went\n{timings}"));
    if let Some(advice) = kept {
        say(&advice);
    }
    Ok(Outcome { accuracy, seconds: timings.total() })
}

/// Installs Trainyard and tells the story, while the operator is looked after; answers the accuracy.
async fn tell(arguments: &Arguments, place: &mut Place, samples: &Samples, timings: &mut Timings) -> Result<f64> {
    let client = place.client();
    timings.part("installing Trainyard", place.install(arguments.registry.as_deref())).await?;
    tokio::select! {
        told = story::tell(&client, samples, timings) => told,
        failure = place.until_the_operator_fails(arguments.kill_operator) => Err(failure),
    }
}
