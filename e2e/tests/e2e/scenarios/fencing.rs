//! A process of an attempt that is over, kept alive by nobody's leave, must not meet the next attempt.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use e2e::images::Image;
use serde_json::Value;
use tokio::process::Child;

use super::training::{kill, until_over};
use crate::manifest::Job;
use crate::objects::{attempt, name, state, text};
use crate::space::{Space, variable};
use crate::wait::eventually;

/// What the straggler does: it looks its leader up, and tries to join it, again and again.
const STRAGGLE: &str = r#"
import datetime, os, socket, sys, threading, time
import torch.distributed as dist

def look():
    while True:
        try:
            found = socket.getaddrinfo(os.environ["MASTER_ADDR"], None)[0][4][0]
            print("name leads to", found, flush=True)
        except OSError:
            print("name leads nowhere", flush=True)
        time.sleep(0.5)

threading.Thread(target=look, daemon=True).start()
# Attempt 1 is whole: another rank 1 would only disturb it.
sys.stdin.readline()
while True:
    try:
        dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=5))
        print("JOINED", flush=True)
        break
    except Exception as error:
        print("kept out:", str(error).splitlines()[0][:120], flush=True)
    time.sleep(0.5)
time.sleep(3600)
"#;

/// The straggler: a container that no kubelet knows, in a network namespace that is joined to the pods' network. If
/// nobody ends it, it ends with the node.
struct Straggler {
    process: Child,
    log: std::path::PathBuf,
}

impl Straggler {
    /// Starts it with everything that the training container of `pod` was given.
    async fn start(space: &Space, pod: &Value) -> Result<Self> {
        let cluster = space.suite.cluster_with_node().await?;
        let node = cluster.node().await?;
        let joined = node.join_pod_network("straggler").output().await.context("joining the pod network")?;
        ensure!(joined.status.success(), "joining the pod network: {}", String::from_utf8_lossy(&joined.stderr));
        let resolver = node.resolver_of(&space.namespace)?;
        let mut ctr = node.ctr();
        ctr.args(["run", "--rm", "--with-ns", "network:/run/netns/straggler"]);
        ctr.arg(format!("--cgroup={}/straggler", node.cgroup()));
        ctr.arg(format!("--mount=type=bind,src={},dst=/etc/resolv.conf,options=rbind:ro", resolver.display()));
        for key in ["MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK"] {
            ctr.arg(format!("--env={key}={}", variable(pod, key)?));
        }
        ctr.args([&Image::Digits.reference(), "straggler", "python3", "-c", STRAGGLE]);
        let log = space.suite.log_of("straggler");
        let output = std::fs::File::create(&log).context("creating the straggler's log")?;
        let errors = output.try_clone().context("opening the straggler's log")?;
        let process = ctr.stdin(Stdio::piped()).stdout(output).stderr(errors).spawn().context("starting ctr")?;
        Ok(Self { process, log })
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it.
    async fn end(mut self, space: &Space) -> Result<()> {
        let cluster = space.suite.cluster_with_node().await?;
        let mut ctr = cluster.node().await?.ctr();
        ctr.args(["tasks", "kill", "--signal", "SIGKILL", "straggler"]).status().await.context("starting ctr")?;
        self.process.wait().await.context("waiting for the straggler's end").map(drop)
    }

    /// Its last words about the name.
    fn name_leads(&self) -> String {
        let said = self.said();
        let last = said.lines().rev().find(|line| line.starts_with("name leads"));
        last.unwrap_or_default().trim_start_matches("name leads ").to_owned()
    }
}

pub(crate) async fn a_straggler_neither_resolves_nor_joins_the_next_attempt(space: Space) -> Result<()> {
    let job =
        Job::torch("fenced", 2).command(&["python3", "/app/train.py", "--epochs=50", "--pause=1"]).restarting_soon();
    space.submit(&space.real(job, Image::Digits)).await?;
    let pods = space.running("fenced", 1, 2).await?;
    eventually("the first attempt trains", async || {
        let log = space.kubectl(&["logs", name(&pods[0])]).await?.out;
        ensure!(log.contains("epoch  1"), "{log}");
        Ok(())
    })
    .await?;
    let mut straggler = Straggler::start(&space, &pods[1]).await?;
    // It is in the pods' network, and would find its peers.
    let leader = text(&pods[0], "/status/podIP").to_owned();
    eventually("the straggler resolves its own attempt", async || {
        ensure!(straggler.name_leads() == format!("to {leader}"), "{}", straggler.said());
        Ok(())
    })
    .await?;

    kill(&space, &pods[1]).await?;
    let second = space.running("fenced", 2, 2).await?;
    // An end of input is a line, too: now it may join.
    drop(straggler.process.stdin.take());
    ensure!(variable(&second[0], "MASTER_PORT")? != variable(&pods[0], "MASTER_PORT")?, "the port is the same");
    // What DNS remembers of the first attempt for a while leads to nobody.
    eventually("the straggler's name leads nowhere", async || {
        let addresses = second.iter().map(|pod| text(pod, "/status/podIP"));
        let leads = straggler.name_leads();
        ensure!(
            addresses.into_iter().all(|address| leads != format!("to {address}")),
            "it {leads}: {}",
            name(&second[0])
        );
        ensure!(leads == "nowhere", "{leads}");
        Ok(())
    })
    .await?;
    eventually("the straggler was kept out", async || {
        ensure!(straggler.said().contains("kept out"), "{}", straggler.said());
        Ok(())
    })
    .await?;
    // All that while there was an attempt that it might have joined.
    let job = space.job("fenced").await?;
    ensure!(state(&job) == "Running" && attempt(&job) == 2, "too late to prove anything: {}", job["status"]);
    let job = until_over(&space, "fenced").await?;
    ensure!(!straggler.said().contains("JOINED"), "{}", straggler.said());
    ensure!(attempt(&job) == 2 && job["status"]["results"]["world"] == 2, "{}", job["status"]);
    let log = space.kubectl(&["logs", name(&second[0])]).await?.good()?;
    ensure!(log.contains("rank 0 of 2 has joined, attempt 2"), "{log}");
    straggler.end(&space).await
}
