//! What came of a run, and of the requests while its model was replaced.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::digit::Digit;
use super::teller::holds;
use crate::server::INFER;
use crate::steady_load::Figures;

/// A run that has deployed its model.
#[derive(Clone, Debug)]
pub(super) struct Deployed {
    /// The run's name.
    pub(super) run: String,
    /// What its parameters were.
    pub(super) parameters: Value,
    /// The share of held-out images that step evaluate found right.
    pub(super) accuracy: f64,
    pub(super) held_out: i64,
    /// SHA-256 of the weights, which train and evaluate report, and by which the server names what it serves.
    pub(super) digest: String,
    /// An image that the model has not seen.
    pub(super) digit: Digit,
    /// Name of the ModelDeployment, and of its Service.
    pub(super) name: String,
    /// The revision that serves this model.
    pub(super) revision: i64,
    /// Where it is served.
    url: String,
}

impl Deployed {
    /// From a run that is over; an error unless it has deployed the model that it has trained and evaluated.
    pub(super) fn judge(run: &Value) -> Result<Self> {
        let (name, status) = (run["metadata"]["name"].as_str().unwrap_or_default(), &run["status"]);
        let steps = &status["steps"];
        let message = status["message"].as_str().unwrap_or_default();
        ensure!(holds(run, "Complete"), "run {name} has not succeeded: {message}");
        if steps["deploy"]["state"] != "Succeeded" {
            let why = steps["deploy"]["message"].as_str().unwrap_or("no reason is known");
            bail!(
                "run {name} has deployed no model: {why}; accuracy is {}, params.least {}",
                steps["evaluate"]["outputs"]["accuracy"],
                status["parameters"]["least"]
            );
        }
        let output = |step: &str, output: &str| {
            let value = &steps[step]["outputs"][output];
            (!value.is_null()).then(|| value.clone()).with_context(|| format!("step {step} reports no {output}"))
        };
        let text = |value: Value| value.as_str().map(str::to_owned).with_context(|| format!("{value} is no text"));
        let (trained, evaluated) = (text(output("train", "digest")?)?, text(output("evaluate", "digest")?)?);
        ensure!(trained == evaluated, "run {name} has trained {trained} and evaluated {evaluated}");
        Ok(Self {
            run: name.to_owned(),
            parameters: status["parameters"].clone(),
            accuracy: output("evaluate", "accuracy")?.as_f64().context("the accuracy is no number")?,
            held_out: output("prepare", "heldOut")?.as_i64().context("heldOut is no number")?,
            digest: trained,
            digit: Digit::reported(&steps["prepare"]["outputs"])?,
            name: text(steps["deploy"]["child"].clone())?,
            revision: output("deploy", "revision")?.as_i64().context("the revision is no number")?,
            url: text(output("deploy", "url")?)?,
        })
    }

    /// Where the model is asked, within the cluster.
    pub(super) fn infer(&self) -> String {
        format!("{}{INFER}", self.url.trim_end_matches('/'))
    }
}

/// An error unless the two models have shared all requests between them.
pub(super) fn share(figures: &Figures, first: &Deployed, second: &Deployed) -> Result<()> {
    let Figures { sent, answered, lost, versions, errors, .. } = figures;
    ensure!(*lost == 0 && answered == sent, "of {sent} requests {lost} were lost: {}", errors.join("; "));
    let of = |deployed: &Deployed| versions.get(&deployed.digest).copied().unwrap_or_default();
    let (before, after) = (of(first), of(second));
    ensure!(before > 0 && after > 0, "one of the models has answered nothing: {versions:?}");
    ensure!(before + after == *answered, "somebody else has answered, too: {versions:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(edit: impl Fn(&mut Value)) -> Value {
        let mut run = json!({
            "metadata": {"name": "digits-a"},
            "status": {
                "message": "4 of 4 steps succeeded",
                "conditions": [{"type": "Complete", "status": "True"}],
                "parameters": {"least": 0.95},
                "steps": {
                    "prepare": {"outputs": {"heldOut": 360, "image": "0 ".repeat(64), "label": 0}},
                    "train": {"outputs": {"digest": "d"}},
                    "evaluate": {"outputs": {"digest": "d", "accuracy": 0.97}},
                    "deploy": {"state": "Succeeded", "child": "digits", "outputs": {"url": "http://digits.ml.svc", "revision": 1}},
                },
            },
        });
        edit(&mut run);
        run
    }

    #[test]
    fn only_a_run_that_deploys_what_it_trained_will_do() {
        let deployed = Deployed::judge(&run(|_| {})).unwrap();
        assert_eq!((deployed.digest.as_str(), deployed.name.as_str()), ("d", "digits"));
        assert_eq!(deployed.infer(), "http://digits.ml.svc/v2/models/digits/infer");
        let skipped = json!({"state": "Skipped", "message": "when is false: accuracy"});
        let failed = json!([{"type": "Failed", "status": "True"}]);
        type Edit<'a> = Box<dyn Fn(&mut Value) + 'a>;
        let cases: [(Edit, &str); 4] = [
            (
                Box::new(|run| run["status"]["steps"]["deploy"] = skipped.clone()),
                "no model: when is false: accuracy; accuracy is 0.97",
            ),
            (Box::new(|run| run["status"]["conditions"] = failed.clone()), "not succeeded: 4 of 4"),
            (Box::new(|run| run["status"]["steps"]["evaluate"]["outputs"]["digest"] = "e".into()), "evaluated e"),
            (Box::new(|run| run["status"]["steps"]["train"]["outputs"] = json!({})), "step train reports no digest"),
        ];
        for (edit, expected) in cases {
            let error = Deployed::judge(&run(edit)).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn every_request_is_answered_by_one_of_the_two() {
        let first = Deployed::judge(&run(|_| {})).unwrap();
        let second = Deployed { digest: "e".to_owned(), ..first.clone() };
        let figures = |sent, answered, lost, versions: &[(&str, usize)]| {
            let versions = versions.iter().map(|(version, count)| ((*version).to_owned(), *count)).collect();
            Figures { sent, answered, lost, versions, ..Figures::default() }
        };
        assert!(share(&figures(5, 5, 0, &[("d", 3), ("e", 2)]), &first, &second).is_ok());
        for (figures, expected) in [
            (figures(5, 4, 1, &[("d", 3), ("e", 1)]), "of 5 requests 1 were lost"),
            (figures(5, 5, 0, &[("d", 5)]), "has answered nothing"),
            (figures(5, 5, 0, &[("d", 3), ("e", 1), ("f", 1)]), "somebody else"),
        ] {
            let error = share(&figures, &first, &second).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
