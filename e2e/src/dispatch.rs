//! What the helpers do.

use std::process::ExitCode;

use crate::error::Error;
use crate::helper::{self, Helper};
use crate::{node, volumes};

/// Does a helper's work if this process was started as one.
pub fn dispatch() -> Option<ExitCode> {
    Some(match helper::asked()?.and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    })
}

fn run(helper: Helper) -> Result<(), Error> {
    match helper {
        Helper::Machine { folder } => node::first_process(&folder),
        Helper::Volumes { kubeconfig, folder } => volumes::provision(&kubeconfig, &folder),
    }
}
