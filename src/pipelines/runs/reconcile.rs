//! One reconcile of one PipelineRun: decide, execute, publish. The operator and the simulated cluster both call this.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::ahead::look_ahead;
use super::decide::{decide, pipeline_path};
use super::events::events;
use super::observe::{Asked, Memory, Observed, PipelineRead};
use super::status::{Situation, describe};
use crate::api::conditions::{self, READY, Seen};
use crate::api::{Pipeline, PipelineRun, PipelineRunStatus};
use crate::cluster::managed::{Managed, Said};
use crate::cluster::plan::earliest;
use crate::cluster::port::{ApiError, ApiServer, EventDraft, ObjectId, Resource};
use crate::cluster::problem::Problem;
use crate::cluster::reconcile::{Reconciled, carry_out, is_behind};
use crate::pipelines::probe::ask;
use crate::pipelines::validate::validate;

impl Managed for PipelineRun {
    const RESOURCE: Resource = Resource::PipelineRun;
    const NOUN: &'static str = "run";
    type Status = PipelineRunStatus;
    type Memory = Memory;

    fn status(&self) -> Option<&PipelineRunStatus> {
        self.status.as_ref()
    }

    fn events(old: &PipelineRunStatus, new: &PipelineRunStatus) -> Vec<EventDraft> {
        events(old, new)
    }

    fn unreadable(conditions: Vec<Condition>, problem: Problem, seen: Seen) -> Said {
        let mut status = PipelineRunStatus { conditions, ..PipelineRunStatus::default() };
        describe(&mut status, &Situation::Invalid(vec![problem]), None, seen);
        let PipelineRunStatus { observed_generation, message, conditions, .. } = status;
        Said { observed_generation, message, conditions }
    }
}

/// Brings one run a step closer to its end.
///
/// `run` and `observed` are as the caches have them; `memory` is what this process knows of its own writes to this very
/// object (by UID) and is brought up to date.
///
/// # Errors
/// What the apiserver answered, if it is worth another try soon.
pub async fn reconcile<A: ApiServer>(
    api: &A,
    run: &PipelineRun,
    observed: &Observed,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<Reconciled, ApiError> {
    if is_behind(run, memory) {
        return Ok(Reconciled::stale(now));
    }
    // Since long created, and not shown yet: it may have lost its labels at once.
    let overdue: Vec<_> = memory.writes.overdue(now).map(|(resource, name)| (resource, name.to_owned())).collect();
    let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
    for (resource, name) in overdue {
        memory.hidden.note(&ObjectId::new(resource, namespace, &name));
    }
    let uid = run.metadata.uid.as_deref().unwrap_or_default();
    let with_hidden = memory.hidden.look(api, uid, observed, now).await?;
    let observed = with_hidden.as_ref().unwrap_or(observed);
    memory.catch_up(run.status.as_ref(), observed, now);
    look_at_pipeline(api, run, memory, now).await?;
    ask_about_fields(api, run, memory).await?;
    let has_started = run.status.as_ref().is_some_and(|status| status.start_time.is_some());
    if let Some(prepared) = memory.prepared().filter(|_| !has_started && memory.ahead.is_none()).cloned() {
        memory.ahead = Some(look_ahead(api, namespace, uid, &prepared).await?);
    }
    let done = carry_out(api, run, memory, |memory| decide(run, observed, memory, now), now).await?;
    // What was created just now and never comes into a cache is looked for even if nothing else happens.
    let doubt_at = memory.writes.doubt_at().filter(|_| done.changed);
    let wake_at = earliest(earliest(done.wake_at, doubt_at), memory.hidden.due_at());
    Ok(Reconciled { wake_at, ..done })
}

/// Reads the Pipeline that a run names, until the run starts or its record is made.
async fn look_at_pipeline<A: ApiServer>(
    api: &A,
    run: &PipelineRun,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<(), ApiError> {
    let started = run.status.as_ref().is_some_and(|status| status.start_time.is_some());
    let Some(named) = run.spec.pipeline_ref.as_ref().filter(|_| !started) else {
        memory.pipeline = None;
        return Ok(());
    };
    if memory.pipeline.as_ref().is_some_and(|read| read.is_recorded || now < read.due_at()) {
        return Ok(());
    }
    let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
    let live = api.read(&ObjectId::new(Resource::Pipeline, namespace, &named.name)).await?;
    let pipeline = live.map(serde_json::from_value).transpose().map_err(|error| error.to_string());
    let reads = memory.pipeline.as_ref().map_or(0, |read| read.reads).saturating_add(1);
    memory.pipeline = Some(PipelineRead { pipeline, read_at: now, reads, is_recorded: false });
    Ok(())
}

/// Asks the apiserver about fields of the pipeline that the operator does not know, once before the run starts; a Pipeline that is
/// known to be Runnable was asked about already.
async fn ask_about_fields<A: ApiServer>(api: &A, run: &PipelineRun, memory: &mut Memory) -> Result<(), ApiError> {
    let started = run.status.as_ref().is_some_and(|status| status.start_time.is_some());
    if started {
        memory.asked = None;
        return Ok(());
    }
    let named = memory.pipeline.as_ref().and_then(|read| read.pipeline.as_ref().ok()?.as_deref());
    let (definition, path, about) = match (&run.spec.pipeline, &run.spec.pipeline_ref, named) {
        (Some(definition), None, _) => (definition, "spec.pipeline".to_owned(), (None, run.metadata.generation)),
        (None, Some(_), Some(pipeline)) if !is_runnable(pipeline) => {
            let about = (pipeline.metadata.uid.clone(), pipeline.metadata.generation);
            (&pipeline.spec.definition, pipeline_path(pipeline.metadata.name.as_deref().unwrap_or_default()), about)
        }
        _ => {
            memory.asked = None;
            return Ok(());
        }
    };
    if memory.asked.as_ref().is_some_and(|asked| asked.about == about) {
        return Ok(());
    }
    let unknown = validate(definition, &path, None).map(|valid| valid.unknown_fields).unwrap_or_default();
    let problems = ask(api, run.metadata.namespace.as_deref().unwrap_or_default(), &unknown).await?;
    memory.asked = Some(Asked { about, problems });
    Ok(())
}

/// Whether the status of a Pipeline says of its present spec that it can be run.
fn is_runnable(pipeline: &Pipeline) -> bool {
    pipeline.status.as_ref().is_some_and(|status| {
        status.observed_generation == pipeline.metadata.generation && conditions::holds(&status.conditions, READY)
    })
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::faults::ApiFaults;
    use crate::testing::world::World;

    fn pipeline(field: &str) -> Value {
        json!({"steps": [{"name": "a", "run": {"spec": {"containers": [{"name": "c", "image": "i", field: "i"}]}}}]})
    }

    /// Reconciles a new run a few times; answers its message, how many records there are, and how many dry runs there were.
    fn look_at(world: &World, spec: Value) -> (String, usize, usize) {
        world.create_by_person(
            Resource::PipelineRun,
            json!({"metadata": {"name": "r", "namespace": "ml"}, "spec": spec}),
        );
        let id = ObjectId::new(Resource::PipelineRun, "ml", "r");
        let (mut memory, mut message) = (Memory::default(), String::new());
        for _ in 0..3 {
            let run: PipelineRun = serde_json::from_value(Value::clone(&world.get(&id).unwrap())).unwrap();
            block_on(reconcile(world, &run, &Observed::default(), &mut memory, world.now())).unwrap();
            message = run.status.and_then(|status| status.message).unwrap_or_default();
        }
        let dry_runs = world.reads().iter().filter(|(_, id)| id.resource == Resource::Pod).count();
        (message, world.objects(Resource::ControllerRevision).len(), dry_runs)
    }

    #[test]
    fn a_run_with_a_field_that_nobody_knows_never_starts() {
        let world = World::new(1, ApiFaults::none());
        let (message, records, dry_runs) = look_at(&world, json!({"pipeline": pipeline("imagee")}));
        assert!(
            message.starts_with("spec.pipeline.steps[0].run.spec.containers[0].imagee: there is no such field"),
            "{message}"
        );
        assert_eq!((records, dry_runs), (0, 1));
        let world = World::new(1, ApiFaults::none());
        assert_eq!(
            look_at(&world, json!({"pipeline": pipeline("fieldOfTomorrow")})).1,
            1,
            "a newer field is let through"
        );
    }

    #[test]
    fn a_record_that_no_watch_shows_is_read_by_its_name() {
        let world = World::new(1, ApiFaults::none());
        look_at(&world, json!({"pipeline": pipeline("image")}));
        let (record, _) = world.objects(Resource::ControllerRevision).pop().unwrap();
        let id = ObjectId::new(Resource::PipelineRun, "ml", "r");
        world.change(crate::testing::story::Actor::Operator, &id, |run| {
            run["status"] = json!({"observedGeneration": 1, "startTime": "2026-01-01T00:00:00Z"});
        });
        let look = || {
            let mut memory = Memory::default();
            for _ in 0..3 {
                let run: PipelineRun = serde_json::from_value(Value::clone(&world.get(&id).unwrap())).unwrap();
                block_on(reconcile(&world, &run, &Observed::default(), &mut memory, world.now())).unwrap();
            }
            crate::testing::json::reason(&world.get(&id).unwrap(), "Ready").unwrap_or_default().to_owned()
        };
        assert_eq!(look(), "Running");
        world.delete_as(crate::testing::story::Actor::Person, &record);
        assert_eq!(look(), "RecordNotFound");
    }

    #[test]
    fn a_pipeline_that_is_known_to_be_runnable_is_not_asked_about_again() {
        for (status, expected) in [
            (json!({"observedGeneration": -1}), 1),
            (
                json!({"observedGeneration": 1, "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Runnable", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
                }]}),
                0,
            ),
        ] {
            let world = World::new(1, ApiFaults::none());
            let manifest = json!({
                "metadata": {"name": "p", "namespace": "ml"}, "spec": pipeline("fieldOfTomorrow"),
            });
            world.create_by_person(Resource::Pipeline, manifest);
            let id = ObjectId::new(Resource::Pipeline, "ml", "p");
            world.change(crate::testing::story::Actor::Operator, &id, |pipeline| pipeline["status"] = status);
            let (_, records, dry_runs) = look_at(&world, json!({"pipelineRef": {"name": "p"}}));
            assert_eq!((records, dry_runs), (1, expected));
        }
    }
}
