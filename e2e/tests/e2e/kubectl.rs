//! kubectl, where it matters what a person sees.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
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
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", &self.cache)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl's standard input")?;
        // It may end without reading: that is its answer then, and not a failure of ours.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.context("waiting for kubectl")?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Said { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) })
    }
}
