//! Looks after the operator, as a Deployment would: whoever kills it costs time and nothing else.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rand::RngExt;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::operator::{Operator, Spawn};
use crate::process::Lifetime;
use crate::progress::{self, say};

const LOG_FILTER: &str = "info";
/// The operator is looked at this often.
const LOOK: Duration = Duration::from_millis(100);
/// An operator that ends by itself so often will not do better the next time.
const OWN_ENDS: u32 = 5;

/// How operators are started here, each with a log of its own.
#[derive(Clone, Debug)]
pub(super) struct Starter {
    pub(super) binary: PathBuf,
    pub(super) kubeconfig: PathBuf,
    pub(super) folder: PathBuf,
    started: u32,
}

impl Starter {
    pub(super) fn new(binary: PathBuf, kubeconfig: PathBuf, folder: PathBuf) -> Self {
        Self { binary, kubeconfig, folder, started: 0 }
    }

    pub(super) fn start(&mut self, lifetime: Lifetime) -> Result<Operator> {
        self.started += 1;
        let log = self.folder.join(format!("operator-{}.log", self.started));
        let (binary, kubeconfig) = (self.binary.clone(), self.kubeconfig.clone());
        Spawn { binary, kubeconfig, log, filter: LOG_FILTER, lifetime }.start()
    }
}

/// The task that looks after it.
pub(super) struct Supervisor {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(Operator, Starter)>>,
}

impl Supervisor {
    /// Starts an operator and waits until it leads. It is killed `kills` times while it leads, at random moments.
    pub(super) async fn start(starter: Starter, kills: u32) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (leads, led) = oneshot::channel();
        let task = tokio::spawn(supervise(starter, kills, leads, stopped));
        let mut supervisor = Self { stop, task };
        let leading = async {
            match led.await {
                Ok(()) => Ok(()),
                // It has given up, and says why.
                Err(_) => Err(supervisor.failure().await),
            }
        };
        progress::step("starting the operator", String::new, leading).await?;
        Ok(supervisor)
    }

    /// Comes to an end only if the operator cannot be kept alive; says why.
    pub(super) async fn failure(&mut self) -> anyhow::Error {
        match (&mut self.task).await.context("looking after the operator").flatten() {
            Ok(_) => anyhow!("nobody looks after the operator any more"),
            Err(error) => error,
        }
    }

    /// The operator, which nobody starts again from now on.
    pub(super) async fn dismiss(self) -> Result<(Operator, Starter)> {
        let _ = self.stop.send(());
        self.task.await.context("looking after the operator")?
    }
}

async fn supervise(
    mut starter: Starter,
    mut kills: u32,
    leads: oneshot::Sender<()>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<(Operator, Starter)> {
    let (mut leads, mut own_ends, mut next_kill) = (Some(leads), 0, None);
    let mut operator = starter.start(Lifetime::Tied)?;
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => return Ok((operator, starter)),
            () = sleep(LOOK) => {}
        }
        if let Some(status) = operator.ended() {
            own_ends += u32::from(status.signal().is_none());
            if own_ends > OWN_ENDS {
                bail!(
                    "the operator has ended by itself {own_ends} times ({status}); its logs are in {}",
                    starter.folder.display()
                );
            }
            say(&format!("          (the operator has ended, {status}, and is started again)"));
            operator = starter.start(Lifetime::Tied)?;
            next_kill = None;
        } else if next_kill.is_some_and(|moment| moment <= Instant::now()) {
            operator.kill();
            say("          (the operator is killed with SIGKILL, and started again)");
            kills -= 1;
            operator = starter.start(Lifetime::Tied)?;
            next_kill = None;
        } else if (leads.is_some() || (kills > 0 && next_kill.is_none())) && operator.leads().await {
            if let Some(leads) = leads.take() {
                let _ = leads.send(());
            }
            next_kill = (kills > 0).then(|| Instant::now() + random_moment());
        }
    }
}

fn random_moment() -> Duration {
    Duration::from_millis(rand::rng().random_range(300..12_000))
}
