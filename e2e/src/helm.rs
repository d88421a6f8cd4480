//! Helm, of a version of our own, against one cluster.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::ensure_helm;

/// Helm with a kubeconfig. What a person has configured for a Helm of theirs is not looked at.
#[derive(Clone, Debug)]
pub struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Helm {
    /// Builds Helm if it is missing. It keeps its caches in `folder`.
    pub async fn new(kubeconfig: &Path, folder: &Path) -> Result<Self> {
        let (kubeconfig, home) = (kubeconfig.to_owned(), folder.join("helm"));
        Ok(Self { program: ensure_helm().await?, kubeconfig, home })
    }

    /// Runs it with values on its standard input, where `--values -` finds them, and answers what it prints.
    ///
    /// # Errors
    /// If it fails, with its own words.
    pub async fn run(&self, arguments: &[&str], values: &Value) -> Result<String> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HELM_CACHE_HOME", self.home.join("cache"))
            .env("HELM_CONFIG_HOME", self.home.join("config"))
            .env("HELM_DATA_HOME", self.home.join("data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting helm")?;
        let mut stdin = child.stdin.take().context("helm's standard input")?;
        // It may refuse its arguments and read nothing; its own words are the error then.
        let _ = stdin.write_all(values.to_string().as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.context("waiting for helm")?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        ensure!(output.status.success(), "helm {}: {}", arguments.join(" "), said(&output.stderr));
        Ok(said(&output.stdout))
    }
}
