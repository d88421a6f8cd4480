//! One reconcile of one Pipeline: decide, execute, publish. The operator and the simulated cluster both call this.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::decide::decide;
use super::facts::{Memory, RunFacts};
use super::status::{describe, events};
use crate::api::conditions::Seen;
use crate::api::{Pipeline, PipelineStatus};
use crate::cluster::managed::{Managed, Said};
use crate::cluster::port::{ApiError, ApiServer, EventDraft, Resource};
use crate::cluster::problem::Problem;
use crate::cluster::reconcile::{Reconciled, carry_out, is_behind};

impl Managed for Pipeline {
    const RESOURCE: Resource = Resource::Pipeline;
    const NOUN: &'static str = "pipeline";
    type Status = PipelineStatus;
    type Memory = Memory;

    fn status(&self) -> Option<&PipelineStatus> {
        self.status.as_ref()
    }

    fn events(old: &PipelineStatus, new: &PipelineStatus) -> Vec<EventDraft> {
        events(old, new)
    }

    fn unreadable(conditions: Vec<Condition>, problem: Problem, seen: Seen) -> Said {
        let mut status = PipelineStatus { conditions, ..PipelineStatus::default() };
        describe(&mut status, &[problem], &[], seen);
        let PipelineStatus { observed_generation, message, conditions, .. } = status;
        Said { observed_generation, message, conditions }
    }
}

/// Says whether one Pipeline can be run and how its runs went, and deletes finished runs that are more than it keeps.
///
/// `pipeline` and `runs` are as the caches have them; `memory` is what this process knows of its own writes to this very
/// object (by UID) and is brought up to date.
///
/// # Errors
/// What the apiserver answered, if it is worth another try soon.
pub async fn reconcile<A: ApiServer>(
    api: &A,
    pipeline: &Pipeline,
    runs: &[Arc<RunFacts>],
    memory: &mut Memory,
    now: Timestamp,
) -> Result<Reconciled, ApiError> {
    if is_behind(pipeline, memory) {
        return Ok(Reconciled::stale(now));
    }
    memory.writes.catch_up(std::iter::empty(), now);
    memory.check(api, pipeline).await?;
    carry_out(api, pipeline, memory, |memory| decide(pipeline, runs, memory, now), now).await
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::port::ObjectId;
    use crate::testing::faults::ApiFaults;
    use crate::testing::world::World;

    #[test]
    fn a_field_that_nobody_knows_is_reported_and_asked_about_once() {
        for (container, expected, requests) in [
            (json!({"name": "c", "image": "i"}), "can be run", 0),
            (json!({"name": "c", "image": "i", "fieldOfTomorrow": {"a": 1}}), "can be run", 1),
            (
                json!({"name": "c", "imagee": "i", "fieldOfTomorrow": 1}),
                "spec.steps[1].run.spec.containers[0].imagee: there is no such field: rename it to image, or remove it",
                1,
            ),
        ] {
            let world = World::new(1, ApiFaults::none());
            let step =
                |name: &str, container: Value| json!({"name": name, "run": {"spec": {"containers": [container]}}});
            let steps =
                [step("a", json!({"name": "c", "image": "i"})), step("b", container.clone()), step("c", container)];
            let manifest = json!({"metadata": {"name": "p", "namespace": "ml"}, "spec": {"steps": steps}});
            world.create_by_person(Resource::Pipeline, manifest);
            let id = ObjectId::new(Resource::Pipeline, "ml", "p");
            let mut memory = Memory::default();
            let mut message = String::new();
            for _ in 0..3 {
                let pipeline: Pipeline = serde_json::from_value(Value::clone(&world.get(&id).unwrap())).unwrap();
                block_on(reconcile(&world, &pipeline, &[], &mut memory, world.now())).unwrap();
                message = pipeline.status.and_then(|status| status.message).unwrap_or_default();
            }
            assert!(message.starts_with(expected), "{message}");
            assert_eq!(world.reads().len(), requests, "dry runs");
        }
    }
}
