//! kubectl, where it matters what a person sees.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use e2e::command::output_with_input;
use tokio::process::Command;

/// kubectl with the administrator's kubeconfig.
#[derive(Clone, Debug)]
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

/// What it said.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Its output, if it was content.
    pub(crate) fn good(self) -> Result<String> {
        ensure!(self.ok, "kubectl failed: {}{}", self.out, self.err);
        Ok(self.out)
    }
}

impl Kubectl {
    pub(crate) fn new(program: &Path, kubeconfig: &Path, folder: &Path) -> Self {
        let (program, kubeconfig) = (program.to_owned(), kubeconfig.to_owned());
        Kubectl { program, kubeconfig, cache: folder.join("kubectl-cache") }
    }

    /// Runs it, with `input` as standard input.
    pub(crate) async fn run(&self, arguments: &[&str], input: &str) -> Result<Said> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).env("KUBECACHEDIR", &self.cache);
        let output = output_with_input(&mut command, input).await.context("running kubectl")?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Said { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) })
    }
}
