//! What the probes answer from.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::cluster::scope::Scope;
use crate::cluster::watch::locked;

/// How far the operator has come in one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing is known of the lease yet.
    Starting,
    /// The lease is someone else's and we wait for it. A standby is ready: it does what it is there for, and a
    /// Deployment's rollout must not hang on it.
    Standby,
    /// Something that a person can change keeps us from working; what, and the remedy. It names no Lease and no
    /// namespace of others, since strangers may read it.
    Hindered(String),
    /// The lease is ours, and caches are being filled; of what.
    Filling(String),
    /// Reconciling.
    Working,
    /// A controller's task has ended by itself: a defect, and the process should be started again.
    Stopped,
}

impl Stage {
    /// Whether this scope works or stands by.
    pub fn is_ready(&self) -> bool {
        self.problem().is_none()
    }

    /// Why it is not ready, in words that anybody may read who reaches the port; `None` if it is.
    fn problem(&self) -> Option<&str> {
        match self {
            Stage::Starting => Some("nothing is known of the lease yet"),
            Stage::Hindered(why) => Some(why),
            Stage::Filling(what) => Some(what),
            Stage::Stopped => Some("a controller's task has stopped"),
            Stage::Standby | Stage::Working => None,
        }
    }
}

/// What `/readyz` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// At least one scope works or stands by, and all others are hindered.
    pub is_ready: bool,
    /// A line for each scope that neither works nor stands by, also of a ready process. It names nothing of others.
    pub problems: Vec<String>,
}

/// The stage of every scope. Cheap to read; written by those who run the terms of leadership.
#[derive(Debug)]
pub struct Health(Mutex<BTreeMap<Scope, Stage>>);

impl Health {
    /// Alive, and nothing known yet of these scopes.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Self {
        Health(Mutex::new(scopes.into_iter().map(|scope| (scope, Stage::Starting)).collect()))
    }

    /// A scope has come to this stage.
    pub fn set(&self, scope: &Scope, stage: Stage) {
        locked(&self.0).insert(scope.clone(), stage);
    }

    /// Whether the process should live on.
    pub fn is_alive(&self) -> bool {
        locked(&self.0).values().all(|stage| *stage != Stage::Stopped)
    }

    /// Whether the process does what it is there for, and what is missing.
    ///
    /// A scope that is hindered, say because its namespace was deleted, takes the readiness from no other: no new pod would
    /// change it, and a rolling update that waits for this one would hang for ever.
    pub fn readiness(&self) -> Readiness {
        let stages = locked(&self.0);
        let on_its_way = stages.values().any(|stage| !stage.is_ready() && !matches!(stage, Stage::Hindered(_)));
        let is_ready = !on_its_way && stages.values().any(Stage::is_ready);
        let problems = stages.iter().filter_map(|(scope, stage)| Some(format!("{scope}: {}", stage.problem()?)));
        Readiness { is_ready, problems: problems.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hindered_scope_takes_the_readiness_from_no_other() {
        let hindered = || Stage::Hindered("no right to leases".to_owned());
        let filling = || Stage::Filling("pods are still listed".to_owned());
        for (stages, is_ready, is_alive, problems) in [
            (vec![Stage::Starting], false, true, vec!["a: nothing is known of the lease yet"]),
            (vec![Stage::Standby], true, true, vec![]),
            (vec![hindered()], false, true, vec!["a: no right to leases"]),
            (vec![Stage::Working, Stage::Standby], true, true, vec![]),
            (vec![Stage::Working, hindered()], true, true, vec!["b: no right to leases"]),
            (vec![hindered(), Stage::Standby], true, true, vec!["a: no right to leases"]),
            (vec![hindered(), hindered()], false, true, vec!["a: no right to leases", "b: no right to leases"]),
            (vec![Stage::Working, filling()], false, true, vec!["b: pods are still listed"]),
            (vec![hindered(), filling()], false, true, vec!["a: no right to leases", "b: pods are still listed"]),
            (vec![Stage::Working, Stage::Stopped], false, false, vec!["b: a controller's task has stopped"]),
        ] {
            let scopes = ["a", "b"].map(|name| Scope::Namespace(name.to_owned()));
            let health = Health::new(scopes.iter().take(stages.len()).cloned());
            for (scope, stage) in scopes.iter().zip(&stages) {
                health.set(scope, stage.clone());
            }
            let Readiness { is_ready: ready, problems: told } = health.readiness();
            assert_eq!((ready, health.is_alive()), (is_ready, is_alive), "{stages:?}");
            assert_eq!(told, problems, "{stages:?}");
        }
    }
}
