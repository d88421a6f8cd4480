//! What a cluster of a process that is over may have left on the machine.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cache::Cache;
use crate::helper;

/// The cluster's own, and what containerd takes for containers that say nothing.
const CGROUPS: [&str; 2] = ["trainyard-run", "k8s.io"];
/// The kernel takes down namespaces behind the last process's back.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// What is left once everything has had its time to go: processes, links and mounts. There must be no kept cluster.
pub(super) async fn settled() -> Vec<String> {
    let started = Instant::now();
    loop {
        let left = found();
        if left.is_empty() || started.elapsed() > SETTLED_WITHIN {
            return left;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Also the folders that a process which was killed cannot remove; the next start does.
pub(super) fn folders() -> Vec<String> {
    // In version 1 each hierarchy is a folder of its own, in version 2 there is one.
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let cgroups = hierarchies.chain([root.to_owned()]).flat_map(|folder| CGROUPS.map(|name| folder.join(name)));
    let run = Cache::locate().map(|cache| cache.run("in-process"));
    cgroups.chain(run).filter(|folder| folder.exists()).map(|folder| folder.display().to_string()).collect()
}

fn found() -> Vec<String> {
    let Ok(cache) = Cache::locate() else { return Vec::new() };
    let mut left = links();
    left.extend(mounts(cache.root()));
    left.extend(processes(cache.root()));
    left
}

fn links() -> Vec<String> {
    let shown = Command::new("ip").args(["-brief", "link", "show"]).output();
    let text = shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().filter(|line| line.starts_with("ty-run")).map(str::to_owned).collect()
}

fn mounts(cache: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = format!(" {}/", cache.display());
    mounts.lines().filter(|line| line.contains(&below)).map(str::to_owned).collect()
}

/// Every process whose program is in the cache, that is a helper of a cluster or its operator, that builds something in
/// the cache, or that is in a pod's cgroup.
fn processes(cache: &Path) -> Vec<String> {
    let programs = cache.join("bin");
    let [layers, run] = ["layers", "run"].map(|name| cache.join(name).display().to_string());
    let ids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let described = ids.filter_map(|entry| {
        let folder = entry.path();
        let program = fs::read_link(folder.join("exe")).ok()?;
        let words = fs::read(folder.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let cgroups = fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
        let ours = program.starts_with(&programs)
            || program.ends_with("debug/trainyard")
            || words.contains(helper::MARK)
            || words.contains(&layers)
            || words.contains(&run)
            || cgroups.contains("/trainyard-");
        ours.then(|| format!("{}: {words}", folder.display()))
    });
    described.collect()
}
