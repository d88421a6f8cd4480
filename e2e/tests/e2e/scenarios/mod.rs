//! The tests, by subject. `registry` lists them all.

pub(crate) mod admission;
pub(crate) mod applying;
pub(crate) mod crashes;
pub(crate) mod deletion;
pub(crate) mod failures;
pub(crate) mod fencing;
pub(crate) mod installed;
pub(crate) mod judgement;
pub(crate) mod leadership;
pub(crate) mod lifecycle;
pub(crate) mod naming;
pub(crate) mod pipelines;
pub(crate) mod pipelines_end;
pub(crate) mod pipelines_real;
pub(crate) mod pipelines_trouble;
pub(crate) mod real_pods;
pub(crate) mod refusals;
pub(crate) mod serving;
pub(crate) mod serving_fields;
pub(crate) mod serving_real;
pub(crate) mod serving_trouble;
pub(crate) mod suspension;
pub(crate) mod torchrun;
pub(crate) mod training;
