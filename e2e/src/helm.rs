//! Helm, of a version of our own, against one cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::command::output_with_input;
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
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HELM_CACHE_HOME", self.home.join("cache"))
            .env("HELM_CONFIG_HOME", self.home.join("config"))
            .env("HELM_DATA_HOME", self.home.join("data"));
        let output = output_with_input(&mut command, &values.to_string()).await.context("running helm")?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        ensure!(output.status.success(), "helm {}: {}", arguments.join(" "), said(&output.stderr));
        Ok(said(&output.stdout))
    }
}
