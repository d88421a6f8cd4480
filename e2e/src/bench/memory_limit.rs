//! A limit on the memory of one process, as a container's: a cgroup of version 1 or 2.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The cgroup; it is removed with the value.
#[derive(Debug)]
pub(super) struct MemoryLimit {
    folder: PathBuf,
    files: &'static Files,
}

/// What the files of a version are called.
#[derive(Debug)]
struct Files {
    root: &'static str,
    limit: &'static str,
    peak: &'static str,
}

const VERSION_1: Files =
    Files { root: "/sys/fs/cgroup/memory", limit: "memory.limit_in_bytes", peak: "memory.max_usage_in_bytes" };
const VERSION_2: Files = Files { root: "/sys/fs/cgroup", limit: "memory.max", peak: "memory.peak" };

impl MemoryLimit {
    /// Makes a cgroup of that name for that many bytes.
    pub(super) fn create(name: &str, bytes: u64) -> Result<Self> {
        let files = if Path::new(VERSION_1.root).exists() { &VERSION_1 } else { &VERSION_2 };
        let folder = Path::new(files.root).join(name);
        fs::create_dir_all(&folder).with_context(|| format!("creating {} (needs root)", folder.display()))?;
        let made = MemoryLimit { folder, files };
        made.write(files.limit, &bytes.to_string())?;
        Ok(made)
    }

    /// Puts a process under the limit.
    pub(super) fn confine(&self, pid: u32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// The most that was used at a time, in bytes.
    pub(super) fn peak(&self) -> Result<u64> {
        let path = self.folder.join(self.files.peak);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        text.trim().parse().with_context(|| format!("reading {}", path.display()))
    }

    /// Measures from now on.
    pub(super) fn forget_peak(&self) -> Result<()> {
        self.write(self.files.peak, "0")
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // One whose process still ends stays empty behind, and is used again by the next run.
        let _ = fs::remove_dir(&self.folder);
    }
}
