//! The claim for a run's files.

use serde_json::{Value, json};

use super::Maker;
use crate::pipelines::validate::{Claim, ValidFiles};

/// Builds the claim, if one is to be made.
pub fn build_claim(run: Maker, files: &ValidFiles) -> Option<Value> {
    let Claim::Made { size, storage_class, access_modes } = &files.claim else { return None };
    let mut claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": run.metadata(&run.claim_name(files)),
        "spec": {"accessModes": access_modes, "resources": {"requests": {"storage": size}}},
    });
    if let Some(class) = storage_class {
        claim["spec"]["storageClassName"] = class.as_str().into();
    }
    Some(claim)
}
