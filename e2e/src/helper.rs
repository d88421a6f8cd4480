//! This very program, started again to do one thing in another place.
//!
//! Every program that boots a cluster with a real node calls [`dispatch`](crate::dispatch) first, before it looks at its
//! own arguments.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext};

/// Marks the argument that a helper is started with. No user would type it.
pub(crate) const MARK: &str = "--trainyard-e2e-helper=";

/// What a helper does.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Helper {
    /// The first process of a machine.
    Machine {
        /// The machine's folder.
        folder: PathBuf,
    },
    /// Makes volumes for claims.
    Volumes {
        /// How to reach the cluster.
        kubeconfig: PathBuf,
        /// Where the volumes are, seen from outside the node.
        folder: PathBuf,
    },
}

/// The command line that starts a helper.
pub(crate) fn command(helper: &Helper) -> Result<[OsString; 2], Error> {
    let program = std::env::current_exe().context("finding", std::path::Path::new("this program"))?;
    let what = serde_json::to_string(helper).map_err(|source| Error::State { path: program.clone(), source })?;
    Ok([program.into_os_string(), format!("{MARK}{what}").into()])
}

/// The helper that this process was started as, if it was.
pub(crate) fn asked() -> Option<Result<Helper, Error>> {
    let argument = std::env::args().nth(1)?;
    let helper = serde_json::from_str(argument.strip_prefix(MARK)?);
    Some(helper.map_err(|source| Error::State { path: argument.into(), source }))
}
