//! The machine that a benchmark ran on, and what its processes used of it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use jiff::Timestamp;

use crate::binaries::KUBERNETES_VERSION;
use crate::operator::source_tree;

/// Megabytes, as the budgets are given.
pub(super) fn megabytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.1} MB")
}

/// Date, commit, cores, memory, and what else was going on.
pub(crate) fn describe() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(source_tree()).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let commit = git(&["rev-parse", "--short", "HEAD"]);
    let changed = if git(&["status", "--porcelain", "--", "src", "Cargo.lock"]).is_empty() { "" } else { ", changed" };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let kibibytes = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let gibibytes = kibibytes.and_then(|text| text.parse::<u64>().ok()).unwrap_or_default() >> 20;
    let load = read("/proc/loadavg").split_whitespace().next().unwrap_or("?").to_owned();
    let date = Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    format!(
        "{date}, commit {commit}{changed}, {cores} cores, {gibibytes} GiB, load {load} at the start, Kubernetes \
         {KUBERNETES_VERSION} with etcd on loopback (no fsync) and everything else on the same machine."
    )
}

/// Processor seconds by process name, since each process began. What is none of these is there as well, since a
/// measurement beside somebody's build is worth little.
#[derive(Clone, Debug, Default)]
pub(super) struct Cpu {
    seconds: BTreeMap<String, f64>,
}

impl Cpu {
    /// As it is now.
    pub(super) fn now(processes: impl IntoIterator<Item = (String, u32)>) -> Self {
        let read = |path: String| fs::read_to_string(path).ok();
        let used = |(name, pid)| Some((name, seconds(&read(format!("/proc/{pid}/stat"))?)?));
        let mut seconds: BTreeMap<String, f64> = processes.into_iter().filter_map(used).collect();
        if let Some(busy) = read("/proc/stat".to_owned()).as_deref().and_then(busy_seconds) {
            let elsewhere = busy - seconds.values().sum::<f64>();
            seconds.insert("everything else".to_owned(), elsewhere);
        }
        Self { seconds }
    }

    /// What was used since `earlier`, the largest first, for instance `kube-apiserver 4.2 s, etcd 1.0 s`.
    pub(super) fn since(&self, earlier: &Self) -> String {
        let used =
            |(name, seconds): (&String, &f64)| (name.clone(), seconds - earlier.seconds.get(name).unwrap_or(&0.0));
        // The kernel's own books differ by some ticks, so that next to nothing may come out as less than nothing.
        let mut used: Vec<(String, f64)> = self.seconds.iter().map(used).filter(|(_, used)| *used >= 0.05).collect();
        used.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        used.iter().map(|(name, seconds)| format!("{name} {seconds:.1} s")).collect::<Vec<_>>().join(", ")
    }
}

/// Time in user and kernel mode from /proc/<pid>/stat, whose second field may itself hold spaces.
fn seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, kernel): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + kernel) / ticks())
}

/// Time that all processors were busy, from /proc/stat: user, nice, system, idle, waiting for disks, interrupts of both
/// kinds, stolen.
fn busy_seconds(stat: &str) -> Option<f64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8).map(str::parse);
    let fields: Vec<f64> = fields.collect::<Result<_, _>>().ok()?;
    Some((fields.iter().sum::<f64>() - fields.get(3)? - fields.get(4)?) / ticks())
}

fn ticks() -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "it is 100")]
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_the_name() {
        let stat = "77 (a b) c) S 1 77 77 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9";
        assert!((seconds(stat).unwrap() - 2.0).abs() < 0.01);
        assert_eq!(seconds("nonsense"), None);
    }

    #[test]
    fn idling_is_not_being_busy() {
        let busy = busy_seconds("cpu  100 10 50 9000 700 5 5 30 0 0\ncpu0 1 1 1\n").unwrap();
        assert!((busy - 2.0).abs() < 0.01);
        assert_eq!(busy_seconds("intr 1"), None);
    }

    #[test]
    fn usage_is_a_difference_and_sorted() {
        let cpu = |a, b| Cpu { seconds: [("a".to_owned(), a), ("b".to_owned(), b)].into() };
        assert_eq!(cpu(2.0, 5.0).since(&cpu(1.0, 1.0)), "b 4.0 s, a 1.0 s");
        assert_eq!(cpu(1.0, 5.0).since(&cpu(1.1, 1.0)), "b 4.0 s");
    }
}
