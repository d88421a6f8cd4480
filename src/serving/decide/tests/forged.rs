//! Revisions that somebody else made under our names: no number of theirs holds up, or replaces, what the spec asks for.

use super::*;

/// Revision 1 serves, and is on record.
fn recorded() -> Case {
    serving().status(|status| status.latest_revision = Some(1))
}

fn edited(image: &str, case: Case) -> Case {
    let spec = Case::new(image, json!({})).deployment.spec;
    let mut case = case;
    case.deployment.spec = spec;
    case
}

/// With a Deployment that has a number and no record.
fn with_pods(number: i64, image: &str, case: Case) -> Case {
    let mut case = case.revision(number, image, 2, 2);
    case.observed.revisions.pop();
    case
}

#[test]
fn numbers_that_were_never_given_are_nobodys() {
    for number in [i64::MAX, i64::MAX - 1, 1_000_000_000, 4, 0, -1, i64::MIN] {
        for (what, forged) in [
            ("both", recorded().revision(number, "a:2", 2, 2)),
            ("a record", recorded().record(number, "a:2")),
            ("a Deployment", with_pods(number, "a:2", recorded())),
        ] {
            let plan = forged.decide();
            let told = (short(&plan), state(&plan).to_owned(), plan.status.latest_revision);
            assert_eq!(told, (String::new(), "Serving".to_owned(), Some(1)), "{what} {number}");
            let plan = edited("a:2", forged).decide();
            let told = (short(&plan), state(&plan).to_owned(), plan.status.latest_revision);
            assert_eq!(told, ("+record2 +pods2:1".to_owned(), "RollingOut".to_owned(), Some(2)), "{what} {number}");
            assert!(plan.checks.iter().any(|check| matches!(check, Check::RevisionIsNew { number: 2, most: 2, .. })));
        }
    }
}

#[test]
fn a_number_that_somebody_has_taken_is_stepped_over() {
    let forged = edited("a:2", with_pods(2, "a:2", recorded()));
    let plan = forged.decide();
    assert_eq!((short(&plan).as_str(), plan.status.latest_revision), ("+record3 +pods3:1", Some(3)));
    // The process ended before it could write the status.
    let mut case = edited("a:2", with_pods(2, "a:2", recorded()).revision(3, "a:2", 1, 0));
    let plan = case.decide();
    assert_eq!((short(&plan).as_str(), plan.status.revision, plan.status.latest_revision), ("", Some(3), Some(3)));
    // On record, what was made in between is another revision, and its pods are taken away.
    case.deployment.status = Some(plan.status);
    assert_eq!(short(&case.decide()), "=pods2:0 =pods3:0");
}

#[test]
fn a_number_is_on_record_before_the_next_is_given() {
    let crashed = |image: &str| edited(image, recorded().revision(2, "a:2", 1, 0));
    let plan = crashed("a:2").decide();
    assert_eq!((short(&plan).as_str(), plan.status.latest_revision), ("", Some(2)), "it was just given");
    let mut again = crashed("a:3").status(|status| status.observed_generation = Some(1));
    let plan = again.decide();
    let told = (short(&plan), plan.publish, plan.status.latest_revision);
    assert_eq!(told, (String::new(), Publish::Now, Some(2)));
    again.deployment.status = Some(plan.status);
    assert_eq!(short(&again.decide()), "=pods2:0 +record3");
}

#[test]
fn without_a_number_on_record_the_records_decide() {
    let lost = || serving().revision(7, "a:7", 0, 0);
    for (what, latest) in [("lost", None), ("poisoned by an earlier version", Some(i64::MAX)), ("negative", Some(-3))] {
        for forged in [lost(), lost().record(i64::MAX, "a:2"), with_pods(9, "a:2", lost())] {
            let case = edited("a:2", forged).status(|status| status.latest_revision = latest);
            let plan = case.decide();
            assert_eq!((short(&plan).as_str(), plan.status.latest_revision), ("+record8 +pods8:1", Some(8)), "{what}");
        }
    }
}

#[test]
fn a_deployment_of_another_revision_does_not_pass_for_the_one_asked_for() {
    let mut case = recorded().facts(1, |facts| facts.hash = "v1:of-something-else".into());
    let plan = case.decide();
    assert_eq!((short(&plan).as_str(), state(&plan)), ("+pods1:2", "Scaling"));
    let refusal = refusal(RefusalKind::Foreign, Resource::Deployment, &names::revision("d", UID, 1));
    case.memory.refused.insert(refusal.id.clone(), refusal);
    assert_eq!((short(&case.decide()).as_str(), state(&case.decide())), ("", "NameTaken"));
    let unmarked = recorded().facts(1, |facts| facts.hash = String::new()).decide();
    assert_eq!((short(&unmarked).as_str(), state(&unmarked)), ("", "Serving"), "it says nothing");
}
