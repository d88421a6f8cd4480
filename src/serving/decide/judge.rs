//! How the revision that is asked for is doing.

use jiff::Timestamp;

use super::view::View;
use crate::api::{ContainerFailure, RolloutStatus};
use crate::serving::policy::progress::{Count, deadline, record, steps};
use crate::serving::policy::retry::retry_at;
use crate::serving::policy::share::{Goal, Pods, heading};
use crate::serving::policy::trouble::{Trouble, TroubleKind, trouble};

/// What a decision goes by.
pub(super) struct Judgement {
    /// Whether a revision has just been given up: to be put on record before anything is done about it.
    pub(super) is_news: bool,
    /// Whether the revision that is asked for has all pods, and they serve.
    pub(super) is_complete: bool,
    /// Whether nothing has come further for too long, and there is nothing to go back to.
    pub(super) is_overdue: bool,
    /// The revision that has proven itself, this one included.
    pub(super) stable: Option<i64>,
    /// Where pods should go.
    pub(super) goal: Goal,
    /// The revision that they move towards now.
    pub(super) heading: i64,
    /// The rollout's record; `None` once it is complete.
    pub(super) rollout: Option<RolloutStatus>,
    /// What keeps pods of that revision from serving.
    pub(super) trouble: Option<Trouble>,
    /// The container that is, or was, to blame.
    pub(super) failure: Option<ContainerFailure>,
    /// When too long will have passed without progress; of a revision that was given up, when it is tried again.
    pub(super) deadline: Option<Timestamp>,
}

/// Judges the revision that is asked for.
pub(super) fn judge(view: &View) -> Judgement {
    let known = view.status.rollout.as_ref().filter(|rollout| rollout.revision == view.asked);
    let fallback = view.stable.filter(|stable| *stable != view.asked);
    let was_given_up = known.is_some_and(|rollout| rollout.failed.is_some());
    let retry = known.and_then(|rollout| retry_at(rollout, view.valid.patience()));
    let is_given_up = was_given_up && fallback.is_some() && retry.is_none_or(|at| view.now < at);
    let goal = Goal {
        replicas: view.valid.replicas,
        max_surge: view.valid.max_surge,
        max_unavailable: view.valid.max_unavailable,
        revision: fallback.filter(|_| is_given_up).unwrap_or(view.asked),
        stable: view.stable,
    };
    let heading = heading(&goal, &pods(view));
    if is_complete(view) {
        return complete(view, known, goal, heading);
    }
    let trouble = trouble(view.pods(heading), view.revision(heading).wanted(), view.valid.failure_logs);
    let mut rollout = match known.filter(|_| is_given_up) {
        Some(given_up) => given_up.clone(),
        None => renewed(view, heading),
    };
    let deadline = deadline(&rollout, view.valid.patience());
    // Where all pods serve that there should be, the next move is ours.
    let is_expected =
        rollout.counting.is_some() && view.revision(heading).available() < view.revision(heading).wanted();
    let is_overdue = !is_given_up && is_expected && deadline <= view.now;
    // What is to be restored does not come back: it is stable no more, and no obstacle to what is asked for.
    let is_dethroned = is_overdue && heading != view.asked;
    let is_news = is_overdue && fallback.is_some();
    if is_news && !is_dethroned {
        rollout.failed = Some(why(view, trouble.as_ref()));
        if found_no_room(view, trouble.as_ref()) {
            rollout.counting = None;
        }
    } else if !is_given_up {
        // What it would go back to is gone, or it is tried again.
        rollout.failed = None;
    }
    let blamed = trouble.as_ref().and_then(|trouble| trouble.failure.clone());
    let failure = blamed.or_else(|| view.status.failure.clone().filter(|_| is_given_up || is_news));
    Judgement {
        is_news,
        is_complete: false,
        is_overdue: is_overdue && !is_news,
        stable: view.stable.filter(|_| !is_dethroned),
        goal,
        heading,
        deadline: match is_given_up || is_news {
            true => retry_at(&rollout, view.valid.patience()),
            false => Some(deadline).filter(|deadline| is_expected && *deadline > view.now),
        },
        rollout: Some(rollout),
        trouble,
        failure,
    }
}

/// The judgement of a revision that has all pods. With no pods wanted none has proven anything: what was stable stays so,
/// and what was given up stays given up.
fn complete(view: &View, known: Option<&RolloutStatus>, goal: Goal, heading: i64) -> Judgement {
    let is_asleep = view.valid.replicas == 0;
    Judgement {
        is_news: false,
        is_complete: true,
        is_overdue: false,
        stable: view.stable.filter(|_| is_asleep).or(Some(view.asked)),
        goal,
        heading,
        rollout: known.filter(|rollout| is_asleep && rollout.failed.is_some()).cloned(),
        trouble: None,
        failure: None,
        deadline: None,
    }
}

/// The rollout's record with the progress of now. Steps are counted of the revision that pods move towards: before a
/// third revision begins, that is the stable one.
fn renewed(view: &View, heading: i64) -> RolloutStatus {
    let revision = view.revision(heading);
    let edited = view.status.observed_generation != view.deployment.metadata.generation;
    let count = Count {
        revision: view.asked,
        counting: revision.deployment.map(|_| heading),
        // A pod that has served for long enough is a step further, and so is one more that we have asked for.
        steps: steps(view.pods(heading)).saturating_add(revision.available() + revision.wanted()),
        is_edited: edited,
        has_pods: view.pods(heading).next().is_some(),
        patience: view.valid.patience(),
    };
    record(view.status.rollout.as_ref(), count, view.now)
}

fn is_complete(view: &View) -> bool {
    let asked = view.revision(view.asked);
    let replicas = view.valid.replicas;
    let others = view.revisions.iter().filter(|(number, _)| **number != view.asked);
    asked.deployment.is_some()
        && asked.wanted() == replicas
        && asked.available() >= replicas
        && others.map(|(_, revision)| revision.wanted()).sum::<i32>() == 0
}

/// Whether its pods found no room, which the cluster may have later, and did not fail by themselves.
fn found_no_room(view: &View, trouble: Option<&Trouble>) -> bool {
    let is_refused = view.revision(view.asked).deployment.is_some_and(|deployment| deployment.refused.is_some());
    is_refused || view.misses_claim() || trouble.is_some_and(|trouble| trouble.kind == TroubleKind::Unschedulable)
}

/// Why a revision is given up, for a person: its pods will be gone.
fn why(view: &View, trouble: Option<&Trouble>) -> String {
    let refused = view.revision(view.asked).deployment.and_then(|deployment| deployment.refused.as_deref());
    let trouble = trouble.map(|trouble| trouble.words.as_str());
    let cause = refused.or(trouble).unwrap_or("its pods did not come to serve");
    format!("no progress for {:#} (progressDeadline): {cause}", view.valid.patience())
}

/// The pods of all revisions.
pub(super) fn pods(view: &View) -> Vec<Pods> {
    let pods = |(number, revision): (&i64, &super::view::Revision)| Pods {
        revision: *number,
        wanted: revision.wanted(),
        ready: revision.ready(),
        available: revision.available(),
    };
    view.revisions.iter().map(pods).collect()
}
