//! Which finished runs are kept.

use super::facts::{Finished, RunFacts};
use crate::pipelines::runs::status::State;

/// The runs that have finished, the newest first.
pub fn newest_first<'a>(runs: impl Iterator<Item = &'a RunFacts>) -> Vec<(Finished, &'a RunFacts)> {
    let mut finished: Vec<_> =
        runs.filter(|run| !run.is_deleted).filter_map(|run| run.finished.map(|finished| (finished, run))).collect();
    finished.sort_by(|(one, a), (other, b)| other.at.cmp(&one.at).then_with(|| b.meta.name.cmp(&a.meta.name)));
    finished
}

/// The runs that are more than the history holds: of those that succeeded, and of the others, all but the newest.
pub fn surplus<'a>(
    runs: impl Iterator<Item = &'a RunFacts>,
    successful_limit: usize,
    failed_limit: usize,
) -> Vec<&'a RunFacts> {
    let finished = newest_first(runs);
    let (succeeded, others): (Vec<_>, Vec<_>) =
        finished.into_iter().partition(|(finished, _)| finished.result == State::Succeeded);
    let beyond = |runs: Vec<(_, &'a RunFacts)>, limit| runs.into_iter().skip(limit).map(|(_, run)| run);
    beyond(succeeded, successful_limit).chain(beyond(others, failed_limit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::index::ChildMeta;
    use jiff::Timestamp;

    #[test]
    fn the_newest_of_each_outcome_are_kept() {
        let run = |name: &str, finished: Option<(i64, State)>| RunFacts {
            meta: ChildMeta { name: name.to_owned(), ..ChildMeta::default() },
            finished: finished.map(|(at, result)| Finished { at: Timestamp::from_second(at).unwrap(), result }),
            is_deleted: name == "going",
        };
        let runs = [
            run("a", Some((1, State::Succeeded))),
            run("b", Some((2, State::Succeeded))),
            run("c", Some((3, State::Failed))),
            run("d", Some((4, State::Cancelled))),
            run("e", None),
            run("f", Some((2, State::Succeeded))),
            run("going", Some((0, State::Succeeded))),
        ];
        let names = |successful, failed| -> Vec<&str> {
            surplus(runs.iter(), successful, failed).iter().map(|run| run.meta.name.as_str()).collect()
        };
        assert_eq!(names(1, 1), ["b", "a", "c"]);
        assert_eq!(names(10, 10), [""; 0]);
        assert_eq!(names(0, 0), ["f", "b", "a", "d", "c"]);
    }
}
