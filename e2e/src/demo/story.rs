//! The story itself: one run of the pipeline, a question to the model that it deployed, and a second run under load.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::follow;
use super::outcome::{Deployed, share};
use super::samples::{PIPELINE, RUN, Samples};
use super::step::{Scene, read};
use super::timings::Timings;
use crate::images::Image;
use crate::install::{apply, create};
use crate::progress::say;
use crate::server::{INFER, ask, predicted};
use crate::steady_load::{Figures, SteadyLoad, Target};

/// Requests in a second, while the model is replaced.
const RATE: u32 = 20;
/// The apiserver hears of a change a moment later than we do.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// A pod that is to go answers for 10 s more, and may take a minute to end.
const GONE_WITHIN: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(200);

/// Tells it, and answers the accuracy of the first model; an error unless each answer came from the model of its run.
pub(super) async fn tell(client: &Client, samples: &Samples, timings: &mut Timings) -> Result<f64> {
    say(&format!("$ kubectl apply -f {PIPELINE}"));
    for object in &samples.definition {
        apply(client, object).await?;
    }
    let run = begin(client, samples, &[]).await?;
    let first = follow(client, samples, &run, ("the first run", timings)).await?;
    timings.part("asking its model", question_and_answer(client, samples, &first)).await?;

    // Another network, so that nobody takes its answers for the first one's.
    let hidden = if first.parameters["hidden"] == 128 { 64 } else { 128 };
    say(&format!("\nThe next run has {hidden} hidden neurons. While it deploys, {RATE} requests a second come in.\n"));
    let run = begin(client, samples, &[("hidden".to_owned(), hidden.into())]).await?;
    let (second, load) = tokio::try_join!(
        follow(client, samples, &run, ("the second run", timings)),
        start_load(client, samples, &run, &first),
    )?;
    timings.part("asking its model", question_and_answer(client, samples, &second)).await?;
    let figures = timings.part("until the first model was gone", end_load(client, samples, load, &second)).await?;
    say(&format!("\n{figures}"));
    for deployed in [&first, &second] {
        let count = figures.versions.get(&deployed.digest).copied().unwrap_or_default();
        say(&format!("{count:>6} answered by the model of run {} ({})", deployed.run, deployed.digest));
    }
    share(&figures, &first, &second)?;
    Ok(first.accuracy)
}

/// Creates a run; answers its name.
async fn begin(client: &Client, samples: &Samples, arguments: &[(String, Value)]) -> Result<String> {
    let run = samples.run(arguments);
    let given = run["spec"]["arguments"].as_array().into_iter().flatten();
    let given = given.map(|each| format!("{}={}", each["name"].as_str().unwrap_or_default(), each["value"]));
    let given: Vec<String> = given.collect();
    let remark = if given.is_empty() { String::new() } else { format!("   # with {}", given.join(", ")) };
    say(&format!("$ kubectl create -f {RUN}{remark}"));
    Ok(create(client, &run).await?.name_any())
}

/// Shows what happens to a run until its model is served.
async fn follow(
    client: &Client,
    samples: &Samples,
    run: &str,
    (part, timings): (&str, &mut Timings),
) -> Result<Deployed> {
    let following = follow::until_over(client, &samples.namespace, run, samples.pipeline()?);
    let followed = timings.part(part, following).await?;
    for (step, seconds) in &followed.parts {
        timings.detail(step, *seconds);
    }
    let deployed = Deployed::judge(&followed.run)?;
    say(&format!("\nAccuracy on {} held-out images: {}", deployed.held_out, deployed.accuracy));
    Ok(deployed)
}

/// Shows the model the image that the run kept for it, and draws both. Over HTTP, through the apiserver, which leads to
/// the deployment's Service from wherever the cluster can be reached.
async fn question_and_answer(client: &Client, samples: &Samples, deployed: &Deployed) -> Result<()> {
    let Deployed { digit, digest, run, .. } = deployed;
    let class = answer_of(client, samples, deployed).await?;
    let verdict = if class == digit.label { "right" } else { "wrong" };
    let words = [
        format!("POST {}", deployed.infer()),
        String::new(),
        format!("the model says {class}; it is {}: {verdict}", digit.label),
        String::new(),
        format!("answered by {digest},"),
        format!("which is what run {run} has trained and evaluated"),
    ];
    let mut words = words.iter().map(String::as_str);
    say("");
    for row in digit.picture() {
        say(format!("    {row}    {}", words.next().unwrap_or_default()).trim_end());
    }
    Ok(())
}

/// What the model of that very run makes of the image.
async fn answer_of(client: &Client, samples: &Samples, deployed: &Deployed) -> Result<i64> {
    let Deployed { run, name, digest, digit, .. } = deployed;
    let deadline = Instant::now() + ANSWERS_WITHIN;
    loop {
        let answer = ask(client, &samples.namespace, name, INFER, &digit.question()).await;
        let failure = match &answer {
            Ok(answer) if answer["model_version"] == digest.as_str() => return predicted(answer),
            Ok(answer) => format!("{} answers", answer["model_version"]),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > deadline {
            bail!("within {ANSWERS_WITHIN:?} the model of run {run}, {digest}, did not answer: {failure}");
        }
        sleep(POLL).await;
    }
}

/// Starts the requests when a run has trained its model: from then on they need the processors more than it does.
async fn start_load(client: &Client, samples: &Samples, run: &str, served: &Deployed) -> Result<SteadyLoad> {
    let runs = Scene::new(client, &samples.namespace).runs;
    while read(&runs, run).await?["status"]["steps"]["evaluate"].is_null() {
        sleep(POLL).await;
    }
    let target = Target {
        url: served.infer(),
        body: served.digit.question(),
        rate: RATE,
        image: samples.image(Image::Base),
        placement: Value::Null,
    };
    SteadyLoad::start(client, &samples.namespace, &target).await
}

/// Ends the requests when no pod serves another model than that one.
async fn end_load(client: &Client, samples: &Samples, load: SteadyLoad, serving: &Deployed) -> Result<Figures> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &samples.namespace);
    let Deployed { name, revision, .. } = serving;
    let others = format!("trainyard.dev/deployment={name},trainyard.dev/revision!={revision}");
    let others = ListParams::default().labels(&others);
    let deadline = Instant::now() + GONE_WITHIN;
    while !pods.list(&others).await.context("listing the pods that serve")?.items.is_empty() {
        ensure!(Instant::now() < deadline, "pods of earlier revisions were not gone within {GONE_WITHIN:?}");
        sleep(POLL).await;
    }
    load.stop().await
}
