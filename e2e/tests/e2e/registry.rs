//! The list of tests, and how one of them is run.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::Handle;

use crate::scenarios::{
    admission, applying, crashes, deletion, failures, fencing, installed, judgement, leadership, lifecycle, namespaces,
    naming, neighbours, pipelines, pipelines_end, pipelines_real, pipelines_trouble, real_pods, refusals, samples,
    serving, serving_fields, serving_real, serving_steady, serving_trouble, suspension, torchrun, training, upgrades,
};
use crate::space::Space;
use crate::suite::Suite;

/// When a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Beside others.
    Parallel,
    /// Beside a few others, after those: real pods need the processors.
    RealPods,
    /// Alone: it stops the operator, or judges the whole run.
    Serial,
}

/// What a test needs of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// Nodes on which annotations say what pods do.
    FakeNodes,
    /// The apiserver's audit log.
    AuditLog,
    /// A real node with our images.
    RealNode,
    /// Likewise, and what nobody would do to a node that is not ours.
    OwnNode,
}

/// A test.
pub(crate) struct Test {
    name: &'static str,
    pub(crate) phase: Phase,
    needs: Needs,
    run: fn(Space) -> LocalBoxFuture<'static, Result<()>>,
}

macro_rules! tests {
    ($($phase:ident $needs:ident { $($module:ident::$name:ident),* $(,)? })*) => {
        vec![$($(Test {
            name: concat!(stringify!($module), "::", stringify!($name)),
            phase: Phase::$phase,
            needs: Needs::$needs,
            run: |space| Box::pin($module::$name(space)),
        }),*),*]
    };
}

/// The variable that adds the tests that are too long for every day; `e2e all` sets it.
pub(crate) const LONG: &str = "TRAINYARD_LONG";

/// Whether the long tests are wanted.
pub(crate) fn is_long() -> bool {
    std::env::var_os(LONG).is_some_and(|value| !value.is_empty())
}

/// Every test of this run, those of one phase in the order in which they start: the slow ones first.
pub(crate) fn tests() -> Vec<Test> {
    let mut tests = usual_tests();
    if is_long() {
        tests.extend(tests! {
            RealPods OwnNode {
                torchrun::needs_no_flags,
                torchrun::starts_again_after_a_pod_was_killed,
            }
        });
    }
    tests
}

fn usual_tests() -> Vec<Test> {
    tests! {
        Parallel FakeNodes {
            refusals::a_foreign_object_under_a_childs_name_is_left_alone,
            refusals::a_job_waits_for_quota_and_goes_on,
            suspension::a_deadline_ends_the_job,
            suspension::tidies_up_after_the_end,
            failures::a_failed_rank_restarts_all_ranks,
            failures::restarts_are_used_up,
            failures::memory_is_named_as_the_cause,
            failures::a_deleted_pod_counts_as_lost,
            failures::the_training_container_decides_over_sidecars,
            lifecycle::one_pod_runs_to_its_end,
            lifecycle::four_pods_of_torch_find_each_other,
            lifecycle::results_must_be_a_whole_object,
            lifecycle::a_job_in_a_namespace_of_the_same_moment,
            suspension::suspended_and_resumed,
            suspension::made_suspended_edited_and_resumed,
            deletion::a_job_deleted_at_any_moment_leaves_nothing,
            deletion::a_job_made_again_never_meets_its_past_self,
            naming::names_of_63_characters_work_and_do_not_collide,
            serving_trouble::a_foreign_object_under_a_revisions_name_is_left_alone,
            serving_trouble::a_missing_claim_is_named_and_waited_for,
            serving::a_third_revision_starts_from_the_stable_one,
            serving::a_revision_that_never_starts_leaves_the_old_one_serving,
            serving::revisions_follow_each_other_and_can_be_gone_back_to,
            serving::people_and_autoscalers_scale_it,
            serving::a_deployment_deleted_at_any_moment_leaves_nothing,
            serving::a_deployment_made_again_never_meets_its_past_self,
            serving::deployments_with_names_of_63_characters_do_not_collide,
            serving_trouble::an_undo_that_cannot_be_is_told_and_what_serves_goes_on,
            serving_steady::ports_with_and_without_names_work_on_the_host_too,
            serving_steady::what_was_changed_while_asleep_wakes_as_the_new_revision,
            serving_steady::scaling_and_the_service_outlive_an_undo_that_cannot_be,
            serving_steady::readiness_that_comes_and_goes_replaces_nothing_and_is_given_up,
            serving_steady::a_policy_that_edits_deployments_stops_nothing,
            serving_fields::without_surge_pods_are_replaced_in_place,
            serving_fields::half_as_many_pods_more_may_come_first,
            serving_fields::every_port_of_the_server_is_in_the_service,
            serving_fields::log_lines_are_told_unless_they_are_off,
            serving_fields::a_drain_may_take_what_the_budget_says,
            serving_fields::the_progress_deadline_in_force_is_told,
            serving_fields::of_two_containers_the_named_one_serves,
            serving_fields::a_templates_own_draining_is_kept,
            pipelines::values_pass_from_step_to_step,
            pipelines::a_run_trains_and_deploys,
            pipelines::a_run_keeps_what_it_started_with,
            pipelines::files_are_mounted_in_every_step,
            pipelines_end::a_failed_step_is_retried_and_then_told,
            pipelines_end::a_cancelled_run_stops_and_finishes,
            pipelines_end::time_limits_stop_pods_and_jobs,
            pipelines_end::a_false_condition_skips_what_follows,
            pipelines_end::history_keeps_the_newest_runs,
            pipelines_end::a_deleted_run_leaves_nothing,
            pipelines_trouble::a_deployment_of_somebody_else_is_left_alone,
            pipelines_trouble::outputs_must_be_as_declared,
            samples::gpus_by_the_dozen,
        }
        Parallel Nothing {
            installed::resources_and_policies_are_accepted,
            installed::stored_objects_are_still_admitted,
            admission::bad_specs_are_refused_with_field_and_remedy,
            admission::running_jobs_are_immutable,
            admission::the_operator_writes_no_endpoint_slices_but_its_own,
            refusals::a_pod_that_the_apiserver_refuses_stalls_its_job_alone,
            refusals::pod_security_is_told_in_its_own_words,
            serving::a_revision_never_changes,
            serving_trouble::bad_deployments_are_refused_with_field_and_remedy,
            serving_trouble::what_the_apiserver_refuses_is_told_in_its_own_words,
            pipelines_trouble::bad_pipelines_are_told_with_field_and_remedy,
            pipelines_trouble::bad_runs_are_told_with_field_and_remedy,
            namespaces::two_teams_meet_nowhere,
        }
        RealPods OwnNode {
            fencing::a_straggler_neither_resolves_nor_joins_the_next_attempt,
            training::a_killed_worker_is_followed_by_an_attempt_that_goes_on,
            samples::jobs_deployments_and_runs,
            samples::a_model_from_a_claim,
        }
        RealPods RealNode {
            training::two_pods_train_a_model,
            real_pods::suspended_and_resumed,
            real_pods::a_deadline_ends_pods_that_do_not_listen,
            real_pods::results_and_the_end_of_the_log_are_told,
            real_pods::memory_is_named_as_the_cause,
            real_pods::restricted_namespaces_run_restricted_pods,
            real_pods::nothing_is_left,
            pipelines_real::values_and_files_reach_programs_as_they_are,
            serving_real::replaced_under_load_without_a_lost_request,
            serving_real::a_revision_that_crashes_leaves_the_old_one_serving,
            serving_real::a_model_from_a_volume_is_served_read_only,
            serving_real::a_deleted_server_leaves_nothing,
        }
        Serial FakeNodes {
            crashes::crashes_at_any_moment_change_no_outcome,
            crashes::a_killed_leaders_lease_runs_out,
            serving_trouble::crashes_while_revisions_change_alter_no_outcome,
            pipelines_end::crashes_at_any_moment_change_no_run,
            leadership::a_graceful_stop_releases_the_lease,
            leadership::a_standby_takes_over_at_once,
            leadership::a_missing_lease_is_made,
            neighbours::a_second_operator_of_the_cluster_does_nothing,
            neighbours::missing_fields_are_told,
        }
        Serial AuditLog {
            neighbours::a_namespace_with_an_operator_of_its_own_is_left_to_it,
        }
        Serial OwnNode {
            samples::the_loop_of_the_demo,
            upgrades::an_upgrade_restarts_nothing,
            upgrades::an_uninstall_keeps_what_is_the_users,
        }
        Serial Nothing {
            installed::an_object_that_nobody_has_looked_at_says_so,
            admission::what_slipped_past_admission_is_reported,
            applying::manifests_applied_twice_change_nothing,
            applying::a_release_installed_twice_changes_nothing,
            applying::jobs_and_samples_applied_twice_change_nothing,
        }
        Serial FakeNodes {
            judgement::metrics_count_what_a_job_took,
            judgement::metrics_count_what_a_deployment_took,
        }
        Serial AuditLog {
            judgement::nothing_is_written_while_nothing_happens,
        }
        Serial OwnNode {
            samples::every_sample_has_come_to_its_end,
        }
        Serial FakeNodes {
            judgement::later_attempts_were_watched,
        }
        Serial AuditLog {
            judgement::rights_suffice_and_are_all_used,
        }
    }
}

impl Test {
    /// Whether the command line means this test.
    pub(crate) fn is_chosen(&self, arguments: &Arguments) -> bool {
        !arguments.is_filtered_out(&Trial::test(self.name, || Ok(())))
    }

    /// Whether it needs a real node.
    pub(crate) fn needs_node(&self) -> bool {
        matches!(self.needs, Needs::RealNode | Needs::OwnNode)
    }

    /// The test as `--list` shows it.
    pub(crate) fn listed(self) -> Trial {
        Trial::test(self.name, || Ok(()))
    }

    /// The test as it runs: in a namespace of its own, which is described if the test fails and removed in any case.
    pub(crate) fn trial(self, suite: &Arc<Suite>, handle: &Handle) -> Trial {
        let (suite, handle) = (suite.clone(), handle.clone());
        Trial::ignorable_test(self.name, move || {
            if let Some(missing) = self.missing(&suite) {
                eprintln!("skipped {}: {missing}", self.name);
                return Ok(Completion::ignored_with(missing));
            }
            let outcome = handle.block_on(suite.unless_stopped(self.run_in_a_space(&suite)));
            let outcome = outcome.map_err(|error| format!("{error:#}"));
            outcome.map(|()| Completion::Completed).map_err(Failed::from)
        })
    }

    fn missing(&self, suite: &Suite) -> Option<&'static str> {
        match self.needs {
            Needs::FakeNodes if !suite.has_fake_nodes => Some("this cluster's nodes are real"),
            Needs::AuditLog if suite.audit.is_none() => Some("there is no audit log of this cluster"),
            Needs::OwnNode if !suite.is_embedded() => Some("this cluster's nodes are not ours"),
            Needs::RealNode if !suite.is_embedded() && suite.has_fake_nodes => Some("this cluster's nodes are fake"),
            Needs::RealNode if !suite.is_embedded() && suite.registry.is_none() => {
                Some("TRAINYARD_REGISTRY does not say where this cluster finds the images of `cargo e2e images`")
            }
            _ => None,
        }
    }

    async fn run_in_a_space(&self, suite: &Arc<Suite>) -> Result<()> {
        // A test before may have left none.
        suite.ensure_operator().await?;
        if self.needs_node() && suite.is_embedded() {
            suite.cluster_with_node().await?;
        }
        let space = Space::open(suite, self.name).await?;
        let outcome = caught((self.run)(space.clone())).await.and_then(|()| {
            // Whatever a test is about, this must hold.
            let met = suite.fence.met(&space.namespace);
            ensure!(met.is_empty(), "attempts of one job met: {met:?}");
            Ok(())
        });
        let report = match &outcome {
            Ok(()) => String::new(),
            Err(_) => space.report().await,
        };
        let closed = space.close().await;
        outcome.and(closed).map_err(|error| anyhow!("{error:#}\n\n{report}"))
    }
}

/// A panic as an error, so that the namespace is described and removed after it as well.
async fn caught(test: impl Future<Output = Result<()>>) -> Result<()> {
    AssertUnwindSafe(test).catch_unwind().await.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(anyhow!("panicked: {}", words.unwrap_or("no words")))
    })
}
