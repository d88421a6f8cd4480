//! The order of steps, and what is wrong with a graph that has none.

use std::collections::{BTreeMap, BTreeSet};

/// Why steps cannot be put in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Two steps have this name.
    Twice(String),
    /// A step depends on one that there is not.
    Unknown {
        /// The step that depends.
        step: String,
        /// What it names.
        dependency: String,
    },
    /// Each of these depends on the next, and the last on the first.
    Cycle(Vec<String>),
}

/// Most faults that are named.
const MOST_FAULTS: usize = 20;

/// Some of the steps, by position: a bit for each, since what comes before what is asked of every pair of five hundred steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions(Vec<u64>);

impl Positions {
    /// None of so many steps.
    fn none_of(steps: usize) -> Self {
        Positions(vec![0; steps.div_ceil(64)])
    }

    fn insert(&mut self, position: usize) {
        self.0[position / 64] |= 1 << (position % 64);
    }

    fn extend(&mut self, others: &Positions) {
        self.0.iter_mut().zip(&others.0).for_each(|(bits, others)| *bits |= others);
    }

    /// Whether the step at that position is among them.
    pub fn contains(&self, position: usize) -> bool {
        self.0.get(position / 64).is_some_and(|bits| bits & (1 << (position % 64)) != 0)
    }
}

/// Steps by position, each with what it waits for, directly and through others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Positions, each after all that it waits for; steps that wait for nothing keep the order they were written in.
    pub order: Vec<usize>,
    /// For each step the positions of all steps that have ended before it starts.
    pub earlier: Vec<Positions>,
}

/// Puts steps in order; each is given as its name and the names that it depends on. The work is in proportion to the number
/// of dependencies, each of which costs one word for every 64 steps.
///
/// # Errors
/// Names that occur twice or do not exist, the first twenty of them; with none of these, the first cycle.
pub fn graph(steps: &[(&str, &[String])]) -> Result<Graph, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut positions = BTreeMap::new();
    for (position, (name, _)) in steps.iter().enumerate() {
        if positions.insert(*name, position).is_some() {
            faults.push(Fault::Twice((*name).to_owned()));
        }
    }
    let mut dependencies = vec![BTreeSet::new(); steps.len()];
    for (position, (step, named)) in steps.iter().enumerate() {
        for dependency in *named {
            match positions.get(dependency.as_str()) {
                Some(found) => _ = dependencies[position].insert(*found),
                None if faults.len() < MOST_FAULTS => {
                    faults.push(Fault::Unknown { step: (*step).to_owned(), dependency: dependency.clone() });
                }
                None => {}
            }
        }
    }
    if !faults.is_empty() {
        faults.truncate(MOST_FAULTS);
        return Err(faults);
    }
    ordered(&dependencies)
        .map_err(|cycle| vec![Fault::Cycle(cycle.into_iter().map(|position| steps[position].0.to_owned()).collect())])
}

/// Takes step after step whose dependencies are all taken. What is left at the end waits for something that is left, so
/// following that from any of them comes back to where it was: a cycle.
fn ordered(dependencies: &[BTreeSet<usize>]) -> Result<Graph, Vec<usize>> {
    let mut dependents = vec![Vec::new(); dependencies.len()];
    for (position, awaited) in dependencies.iter().enumerate() {
        for dependency in awaited {
            dependents[*dependency].push(position);
        }
    }
    let mut awaited: Vec<usize> = dependencies.iter().map(BTreeSet::len).collect();
    let mut free: BTreeSet<usize> = (0..dependencies.len()).filter(|position| awaited[*position] == 0).collect();
    let mut graph = Graph::default();
    graph.earlier.resize(dependencies.len(), Positions::none_of(dependencies.len()));
    while let Some(position) = free.pop_first() {
        graph.order.push(position);
        let mut earlier = Positions::none_of(dependencies.len());
        for dependency in &dependencies[position] {
            earlier.extend(&graph.earlier[*dependency]);
            earlier.insert(*dependency);
        }
        graph.earlier[position] = earlier;
        for dependent in &dependents[position] {
            awaited[*dependent] -= 1;
            if awaited[*dependent] == 0 {
                free.insert(*dependent);
            }
        }
    }
    match awaited.iter().position(|awaited| *awaited > 0) {
        None => Ok(graph),
        Some(start) => Err(cycle(start, dependencies, &awaited)),
    }
}

fn cycle(start: usize, dependencies: &[BTreeSet<usize>], awaited: &[usize]) -> Vec<usize> {
    let mut path = vec![start];
    // Where in the path each step was met.
    let mut met = vec![None; dependencies.len()];
    met[start] = Some(0);
    loop {
        let last = path[path.len() - 1];
        let next = dependencies[last].iter().copied().find(|dependency| awaited[*dependency] > 0).unwrap_or(last);
        match met[next] {
            Some(first) => return path.split_off(first),
            None => {
                met[next] = Some(path.len());
                path.push(next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn graph_of(steps: &[(&str, &[&str])]) -> Result<Graph, Vec<Fault>> {
        let owned: Vec<(&str, Vec<String>)> = steps
            .iter()
            .map(|(name, dependencies)| (*name, dependencies.iter().map(|name| (*name).to_owned()).collect()))
            .collect();
        graph(&owned.iter().map(|(name, dependencies)| (*name, &dependencies[..])).collect::<Vec<_>>())
    }

    #[test]
    fn steps_come_after_what_they_wait_for() {
        let diamond = graph_of(&[("d", &["b", "c"]), ("b", &["a"]), ("c", &["a", "a"]), ("a", &[])]).unwrap();
        assert_eq!(diamond.order, [3, 1, 2, 0]);
        let earlier = |step: usize| (0..4).filter(|other| diamond.earlier[step].contains(*other)).collect::<Vec<_>>();
        assert_eq!((earlier(0), earlier(1), earlier(3)), (vec![1, 2, 3], vec![3], vec![]));
        assert_eq!(graph_of(&[("a", &[]), ("b", &[])]).unwrap().order, [0, 1]);
        assert_eq!(graph_of(&[]), Ok(Graph::default()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let unknown =
            |step: &str, dependency: &str| Fault::Unknown { step: step.into(), dependency: dependency.into() };
        let cycle = |steps: &[&str]| Fault::Cycle(steps.iter().map(|step| (*step).to_owned()).collect());
        for (steps, faults) in [
            (&[("a", &[][..]), ("a", &[])][..], vec![Fault::Twice("a".into())]),
            (&[("a", &["x", "b"]), ("b", &["y"])], vec![unknown("a", "x"), unknown("b", "y")]),
            (&[("a", &["a"])], vec![cycle(&["a"])]),
            (&[("a", &["c"]), ("b", &["a"]), ("c", &["b"])], vec![cycle(&["a", "c", "b"])]),
            // What only waits for a cycle is no part of it.
            (&[("first", &[]), ("late", &["x"]), ("x", &["y", "first"]), ("y", &["x"])], vec![cycle(&["x", "y"])]),
        ] {
            assert_eq!(graph_of(steps), Err(faults), "{steps:?}");
        }
    }

    #[test]
    fn a_dense_graph_costs_a_word_for_every_64_steps_and_few_faults_are_named() {
        let names: Vec<String> = (0..500).map(|step| format!("s{step}")).collect();
        let dense: Vec<(&str, &[String])> =
            names.iter().enumerate().map(|(step, name)| (name.as_str(), &names[..step])).collect();
        let graph = graph(&dense).unwrap();
        assert!(graph.earlier.iter().all(|earlier| earlier.0.len() == 8));
        assert!(graph.earlier[499].contains(0) && !graph.earlier[0].contains(499));
        let unknown: Vec<String> = (0..500).map(|step| format!("x{step}")).collect();
        let wrong: Vec<(&str, &[String])> = names.iter().map(|name| (name.as_str(), &unknown[..])).collect();
        assert_eq!(super::graph(&wrong).unwrap_err().len(), MOST_FAULTS);
    }

    proptest! {
        #[test]
        fn an_order_or_a_true_cycle(edges in prop::collection::vec((0..8_usize, 0..8_usize), 0..16)) {
            let mut dependencies = vec![BTreeSet::new(); 8];
            for (from, to) in edges {
                dependencies[from].insert(to);
            }
            match ordered(&dependencies) {
                Ok(graph) => {
                    prop_assert_eq!(graph.order.len(), 8);
                    for (at, position) in graph.order.iter().enumerate() {
                        prop_assert!(dependencies[*position].iter().all(|earlier| graph.order[..at].contains(earlier)));
                    }
                }
                Err(cycle) => {
                    for (at, position) in cycle.iter().enumerate() {
                        prop_assert!(dependencies[*position].contains(&cycle[(at + 1) % cycle.len()]));
                    }
                }
            }
        }
    }
}
