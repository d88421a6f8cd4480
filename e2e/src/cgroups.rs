//! The cgroups of a node: one folder in every hierarchy, below which the kubelet keeps its pods.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, IoContext};

/// Processes that were killed leave their cgroup a moment later.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);
/// What the kubelet cannot do without.
const NEEDED: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// Where this machine has its hierarchies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchies(Vec<Hierarchy>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    folder: PathBuf,
    controllers: Vec<String>,
}

impl Hierarchies {
    /// Finds them, and checks that the kubelet has what it needs.
    pub(crate) fn find() -> Result<Self, Error> {
        let path = Path::new("/proc/self/mountinfo");
        let found = parse(&fs::read_to_string(path).context("reading", path)?, |folder| {
            fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default()
        });
        let has = |name: &str| found.iter().any(|one| one.controllers.iter().any(|controller| controller == name));
        match NEEDED.into_iter().find(|name| !has(name)) {
            Some(controller) => Err(Error::NoController { controller }),
            None => Ok(Self(found)),
        }
    }

    /// Tries whether cgroups can be made here at all: in many containers they are there to read only.
    pub(crate) fn probe(&self) -> Result<(), Error> {
        for hierarchy in &self.0 {
            let folder = hierarchy.folder.join("trainyard-probe");
            fs::create_dir_all(&folder)
                .and_then(|()| fs::remove_dir(&folder))
                .map_err(|source| Error::ReadOnlyCgroups { folder: hierarchy.folder.clone(), source })?;
        }
        Ok(())
    }

    /// Makes the node's cgroup in each.
    pub(crate) fn create(&self, name: &str) -> Result<(), Error> {
        for hierarchy in &self.0 {
            let folder = hierarchy.folder.join(name);
            fs::create_dir_all(&folder).context("creating", &folder)?;
            // In version 1 a new cpuset has neither processors nor memory, and takes no process.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(value) = fs::read(hierarchy.folder.join(file))
                    && folder.join(file).exists()
                {
                    fs::write(folder.join(file), value).context("writing", &folder.join(file))?;
                }
            }
        }
        Ok(())
    }

    /// Removes it again from each, with all below it.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Error> {
        self.0.iter().try_for_each(|hierarchy| {
            let folder = hierarchy.folder.join(name);
            let started = Instant::now();
            loop {
                match remove_tree(&folder) {
                    Ok(()) => return Ok(()),
                    Err(_) if started.elapsed() < EMPTY_WITHIN => std::thread::sleep(Duration::from_millis(20)),
                    Err(error) => return Err(error).context("removing", &folder),
                }
            }
        })
    }
}

/// Removes the cgroup of a node that was killed together with whoever would have removed it.
pub(crate) fn sweep(name: &str) -> Result<(), Error> {
    match Hierarchies::find() {
        Ok(hierarchies) => hierarchies.remove(name),
        // Nothing can have been made here then.
        Err(_) => Ok(()),
    }
}

/// A cgroup's files cannot be removed, only its folders, the deepest first.
fn remove_tree(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

/// The lines of proc_pid_mountinfo(5): field 5 is the mount point; type, source and options follow a lone dash.
fn parse(mountinfo: &str, controllers_of: impl Fn(&Path) -> String) -> Vec<Hierarchy> {
    let line = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let folder = PathBuf::from(mount.split(' ').nth(4)?);
        let mut kind = kind.split(' ');
        let controllers = match kind.next()? {
            "cgroup" => kind.nth(1)?.split(',').map(str::to_owned).collect(),
            "cgroup2" => controllers_of(&folder).split_whitespace().map(str::to_owned).collect(),
            _ => return None,
        };
        Some(Hierarchy { folder, controllers })
    };
    mountinfo.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
22 21 0:20 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
23 22 0:21 / /sys/fs/cgroup/cpu rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
24 22 0:22 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn both_versions_are_found() {
        let found = parse(HYBRID, |_| "memory pids\n".to_owned());
        let folders: Vec<&str> = found.iter().filter_map(|one| one.folder.to_str()).collect();
        assert_eq!(folders, ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"]);
        assert_eq!(found[0].controllers, ["rw", "cpu", "cpuacct"]);
        assert_eq!(found[1].controllers, ["memory", "pids"]);
    }

    #[test]
    fn a_tree_goes_deepest_first() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("node");
        fs::create_dir_all(root.join("kubepods/burstable/pod1")).unwrap();
        fs::create_dir_all(root.join("kubepods/pod2")).unwrap();
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        remove_tree(&root).unwrap();
    }
}
