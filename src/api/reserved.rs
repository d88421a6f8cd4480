//! Environment variables that a template may not set, because the operator sets them for every attempt.

use super::Framework;

/// Reserved for every framework, as a prefix.
pub const OWN_PREFIX: &str = "TRAINYARD_";

/// Reserved for framework torch: torch.distributed's environment initialisation and torchrun's, which reads each of its
/// flags from PET_<FLAG>. Flags that we do not set stay the user's.
pub const TORCH: [&str; 11] = [
    "MASTER_ADDR",
    "MASTER_PORT",
    "WORLD_SIZE",
    "RANK",
    "LOCAL_WORLD_SIZE",
    "PET_NNODES",
    "PET_NPROC_PER_NODE",
    "PET_NODE_RANK",
    "PET_MASTER_ADDR",
    "PET_MASTER_PORT",
    "PET_RDZV_ID",
];

/// Whether a training container of that framework may not set this variable.
pub fn is_reserved(framework: Framework, name: &str) -> bool {
    name.starts_with(OWN_PREFIX) || (framework == Framework::Torch && TORCH.contains(&name))
}
