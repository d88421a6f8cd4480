//! The operator as users run it: a process of its own, under its own ServiceAccount and no other rights.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::process::{Lifetime, Process, Program, tail};

/// Namespace that the operator is installed in.
pub const OPERATOR_NAMESPACE: &str = "trainyard-system";
/// Its ServiceAccount there.
pub const SERVICE_ACCOUNT: &str = "trainyard";
/// Arguments of an operator of the whole cluster.
pub const WHOLE_CLUSTER: [&str; 2] = ["--lease-namespace", OPERATOR_NAMESPACE];
/// The operator as the audit log names it.
pub const OPERATOR_USER: &str = "system:serviceaccount:trainyard-system:trainyard";
/// What tests want to read when one of them fails.
pub const TEST_LOG: &str = "info,trainyard=debug";
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// Longer than anybody keeps a cluster of this kind.
const TOKEN_SECONDS: i64 = 30 * 24 * 3600;

/// The checkout that this program was built from.
pub fn source_tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Writes a kubeconfig for a ServiceAccount, named by its namespace and itself: a copy of an administrator's with the account's token
/// in place of the administrator's credentials.
pub async fn kubeconfig_of(
    admin: &Client,
    (namespace, account): (&str, &str),
    admin_kubeconfig: &Path,
    folder: &Path,
) -> Result<PathBuf> {
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
    let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
    let token =
        answer.context("asking for the operator's token")?.status.context("a token request without a token")?.token;
    let text = fs::read_to_string(admin_kubeconfig).context("reading the kubeconfig")?;
    let mut config: Value = serde_saphyr::from_str(&text).context("reading the kubeconfig")?;
    config["users"][0]["user"] = json!({"token": token});
    let path = folder.join(format!("{namespace}-{account}.kubeconfig"));
    fs::write(&path, config.to_string()).context("writing the operator's kubeconfig")?;
    Ok(path)
}

/// Everything that it takes to start an operator.
#[derive(Clone, Debug)]
pub(crate) struct Spawn {
    pub(crate) binary: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) filter: &'static str,
    /// What it serves and where its leases are, as on its command line.
    pub(crate) scope: Vec<String>,
}

impl Spawn {
    /// Starts it, with its probes on a free port. It dies with us.
    pub(crate) fn start(&self) -> Result<Operator> {
        let free = || TcpListener::bind("127.0.0.1:0").context("finding a free port");
        // Both are held until both are known, so that they differ.
        let (probes, metrics) = (free()?, free()?);
        let address = |free: &TcpListener| free.local_addr().context("finding a free port").map(|it| it.to_string());
        let (probes_at, metrics_at) = (address(&probes)?, address(&metrics)?);
        drop((probes, metrics));
        let arguments = ["run", "--probe-listen", &probes_at, "--metrics-listen", &metrics_at, "--log-format", "text"];
        let program = Program {
            name: "trainyard".to_owned(),
            path: self.binary.clone(),
            arguments: arguments.into_iter().chain(self.scope.iter().map(String::as_str)).map(Into::into).collect(),
            environment: vec![("KUBECONFIG", self.kubeconfig.clone().into()), ("RUST_LOG", self.filter.into())],
            folder: self.log.parent().map(Path::to_owned).unwrap_or_default(),
        };
        let process = Process::spawn(program, &self.log, Lifetime::Tied)?;
        Ok(Operator { process, probes_at, metrics_at, log: self.log.clone() })
    }
}

/// A running operator. Dropping it kills it.
pub struct Operator {
    process: Process,
    /// Address and port of its probes.
    pub probes_at: String,
    /// Address and port of its metrics.
    pub metrics_at: String,
    log: PathBuf,
}

impl Operator {
    /// Starts it for what these arguments say: `--namespaces`, or [`WHOLE_CLUSTER`]. `filter` is its log's.
    pub fn spawn(
        binary: &Path,
        kubeconfig: &Path,
        log: &Path,
        filter: &'static str,
        scope: &[&str],
    ) -> Result<Operator> {
        let [binary, kubeconfig, log] = [binary, kubeconfig, log].map(Path::to_owned);
        Spawn { binary, kubeconfig, log, filter, scope: scope.iter().map(|word| (*word).to_owned()).collect() }.start()
    }

    /// Waits until it is ready: it leads, and its caches are filled. One that ends meanwhile is not waited for.
    pub async fn until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        let running = self.process.record();
        while !self.leads().await {
            ensure!(running.is_alive(), "the operator has ended; its log ends:\n{}", tail(&self.log));
            ensure!(
                Instant::now() < deadline,
                "the operator did not lead with full caches within {READY_WITHIN:?}; its log ends:\n{}",
                tail(&self.log)
            );
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Whether it leads and its caches are filled. A standby is ready as well; only the leader's caches count here.
    pub(crate) async fn leads(&self) -> bool {
        let leads = |line: &str| line.starts_with("trainyard_leader{") && line.ends_with(" 1");
        let leads = self.metrics().await.is_ok_and(|text| text.lines().any(leads));
        leads && self.is_ready().await
    }

    /// Whether its probe says that it does what it is there for, which a standby does as well.
    pub async fn is_ready(&self) -> bool {
        get(&self.probes_at, "/readyz").await.is_ok()
    }

    /// Its metrics, as text.
    pub async fn metrics(&self) -> Result<String> {
        get(&self.metrics_at, "/metrics").await
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid())).context("reading /proc")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().context("reading VmRSS")?;
        Ok(kibibytes * 1024)
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        self.process.record().is_alive()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it with SIGKILL, as a node's failure or the kernel's memory killer would.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Asks it to stop, as Kubernetes does, and waits until it has.
    pub async fn stop(mut self) -> Result<()> {
        let pid = Pid::from_raw(self.process.pid().cast_signed()).context("the operator's pid")?;
        kill_process(pid, Signal::TERM).context("sending SIGTERM")?;
        let deadline = Instant::now() + STOPPED_WITHIN;
        loop {
            match self.process.ended() {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the operator ended with {status}; its log ends:\n{}", tail(&self.log)),
                None => ensure!(Instant::now() < deadline, "the operator did not stop within {STOPPED_WITHIN:?}"),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn get(address: &str, path: &str) -> Result<String> {
    let answer = reqwest::get(format!("http://{address}{path}")).await?.error_for_status()?;
    Ok(answer.text().await?)
}
