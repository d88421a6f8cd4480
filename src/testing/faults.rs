//! What goes wrong between the operator and the apiserver.

use rand::RngExt;

use super::dice::Dice;
use super::story::Verb;

/// How often which call goes wrong. All are probabilities of one call.
#[derive(Clone, Debug, Default)]
pub(crate) struct ApiFaults {
    /// The call is refused before it is carried out: 429, 503, a connection that never came about.
    pub(crate) refused: f64,
    /// The call is carried out, but its answer is lost.
    pub(crate) answer_lost: f64,
    /// A change is answered with a conflict that nobody can explain.
    pub(crate) conflict: f64,
    /// Something else happens in the cluster before the call is carried out.
    pub(crate) overtaken: f64,
    /// So many faults and no more: a run must be able to come to rest.
    pub(crate) at_most: u32,
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is carried out and answered.
    Served,
    /// It is not carried out.
    Refused,
    /// It is not carried out: Conflict.
    Conflict,
    /// It is carried out, and the answer lost.
    AnswerLost,
}

impl ApiFaults {
    /// Draws whether something else happens before a call is carried out. That is no fault, and happens without limit.
    pub(crate) fn draw_overtaken(&self, dice: &mut Dice) -> bool {
        self.overtaken > 0.0 && dice.random_bool(self.overtaken)
    }

    /// No fault at all.
    pub(crate) fn none() -> Self {
        ApiFaults::default()
    }

    /// Draws what becomes of a call; `None` is a read.
    pub(crate) fn draw(&mut self, verb: Option<Verb>, dice: &mut Dice) -> Fate {
        if self.at_most == 0 {
            return Fate::Served;
        }
        let mut chance = dice.random_range(0.0..1.0);
        let mut falls_into = |probability: f64| {
            let hit = chance < probability;
            chance -= probability;
            hit
        };
        let fate = if falls_into(self.refused) {
            Fate::Refused
        } else if falls_into(self.answer_lost) {
            Fate::AnswerLost
        } else if falls_into(self.conflict) && matches!(verb, Some(Verb::Apply | Verb::PatchStatus)) {
            Fate::Conflict
        } else {
            return Fate::Served;
        };
        self.at_most -= 1;
        fate
    }
}

/// Where the operator dies, counted in its writes from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CrashPoint {
    /// The write is carried out; the operator never learns of it.
    AfterWrite(u64),
    /// The write is not carried out.
    BeforeWrite(u64),
}

impl CrashPoint {
    /// Which of the writes.
    pub(crate) fn write(self) -> u64 {
        match self {
            CrashPoint::AfterWrite(number) | CrashPoint::BeforeWrite(number) => number,
        }
    }
}
