//! What a run is given, and what it may come to.

use std::fmt;

use jiff::SignedDuration;

use super::faults::ApiFaults;
use crate::cluster::port::Resource;

/// What may happen in a run besides its script.
#[derive(Clone, Debug)]
pub(crate) struct SimOptions {
    /// What goes wrong between operator and apiserver.
    pub(crate) faults: ApiFaults,
    /// Probability, in each step, that a watch starts over.
    pub(crate) relist: f64,
    /// Kinds of objects whose lists may show the past: such an apiserver lags behind the one that was used before.
    pub(crate) rewound: Vec<Resource>,
    /// Probability, in each delivery, that the watch hangs for a while.
    pub(crate) freeze: f64,
    /// Probability, in each step, that the operator is killed between two reconciles.
    pub(crate) crash: f64,
    /// So many relists, freezes and kills by chance, and no more.
    pub(crate) mishaps: u32,
    /// By how much the operator's clock is wrong.
    pub(crate) clock_error: SignedDuration,
    /// How many objects each controller takes for active: the load, by which statuses that can wait are put off.
    pub(crate) active: usize,
}

impl SimOptions {
    /// Lag, and nothing worse.
    pub(crate) fn calm() -> Self {
        SimOptions {
            faults: ApiFaults::none(),
            relist: 0.0,
            rewound: Vec::new(),
            freeze: 0.0,
            crash: 0.0,
            mishaps: 0,
            clock_error: SignedDuration::ZERO,
            active: 0,
        }
    }
}

/// A run that did not go as it must.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What is wrong.
    pub(crate) what: String,
    /// What led to it: the last lines of the run's story, and the objects.
    pub(crate) account: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.what, self.account)
    }
}

/// How many lines of its story a failed run tells: as many as `TRAINYARD_STORY` says, or 80.
pub(crate) fn story_lines() -> usize {
    std::env::var("TRAINYARD_STORY").ok().and_then(|text| text.parse().ok()).unwrap_or(80)
}
