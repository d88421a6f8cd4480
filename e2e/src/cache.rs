//! The folders on disk, all below one cache folder that no repository contains.
//!
//! ```text
//! bin/<project>-<version>/<binary>   what `go build` made
//! run/<name>/                        a running cluster: keys, data, logs, state.json
//! run/<name>.lock                    who may touch it
//! layers/<key>/                      the layers of container images
//! images/                            what a containerd that has unpacked them has on disk
//! logs/<name>.log                    what was printed while something was installed or built
//! failed/<name>/                     the logs of the last cluster that did not come up
//! ```

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::error::{Error, IoContext};

/// A cluster's folder has tens of thousands of files. Disks take as long for one of them as for several at once.
const REMOVALS_AT_ONCE: usize = 8;

/// The cache folder.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$TRAINYARD_CACHE`, else `$XDG_CACHE_HOME/trainyard`, else `~/.cache/trainyard`.
    pub(crate) fn locate() -> Result<Self, Error> {
        Self::choose(|name| env::var_os(name).map(PathBuf::from)).ok_or(Error::NoCacheFolder)
    }

    /// Relative paths are passed over, as the XDG specification wants: they would depend on the caller's folder.
    fn choose(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<Self> {
        let absolute = |name| variable(name).filter(|path| path.is_absolute());
        let root = absolute("TRAINYARD_CACHE")
            .or_else(|| absolute("XDG_CACHE_HOME").map(|path| path.join("trainyard")))
            .or_else(|| absolute("HOME").map(|path| path.join(".cache/trainyard")))?;
        Some(Self { root })
    }

    /// The cache folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of one project's binaries at one version.
    pub(crate) fn binaries(&self, project: &str, version: &str) -> PathBuf {
        self.root.join("bin").join(format!("{project}-{version}"))
    }

    /// The lock that one builder at a time holds.
    pub(crate) fn build_lock(&self) -> PathBuf {
        self.root.join("bin.lock")
    }

    /// The log of something that is done to the machine or the cache; the one before it is overwritten.
    pub(crate) fn log(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.root.join("logs");
        create_private(&folder)?;
        Ok(folder.join(format!("{name}.log")))
    }

    /// The folder of what fuzzing builds and has found.
    pub(crate) fn fuzz(&self) -> PathBuf {
        self.root.join("fuzz")
    }

    /// The folder of one layer of container images.
    pub(crate) fn layer(&self, key: &str) -> PathBuf {
        self.root.join("layers").join(key)
    }

    /// The lock that one builder of layers at a time holds.
    pub(crate) fn layers_lock(&self) -> PathBuf {
        self.root.join("layers.lock")
    }

    /// The folder of unpacked images.
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The folder of a running cluster.
    pub(crate) fn run(&self, name: &str) -> PathBuf {
        self.root.join("run").join(name)
    }

    /// The lock of that folder; beside it, so that it outlives the folder.
    pub(crate) fn run_lock(&self, name: &str) -> PathBuf {
        self.root.join("run").join(format!("{name}.lock"))
    }

    /// Where the logs of a cluster that failed are kept.
    pub(crate) fn failed(&self, name: &str) -> PathBuf {
        self.root.join("failed").join(name)
    }
}

/// Makes a folder that only its owner can read, and its parents: run folders hold private keys.
pub(crate) fn create_private(folder: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).context("creating", folder)
}

/// Removes a folder and what is in it; one that is not there is fine.
pub(crate) fn remove(folder: &Path) -> Result<(), Error> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(REMOVALS_AT_ONCE).build();
    let pool = pool.map_err(io::Error::other).context("removing", folder)?;
    match pool.install(|| remove_tree(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.context("removing", folder),
    }
}

/// The standard library removes one file after the other, and the crate of this purpose no sockets.
fn remove_tree(folder: &Path) -> io::Result<()> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.into_par_iter().try_for_each(|entry| match entry.file_type()?.is_dir() {
        true => remove_tree(&entry.path()),
        false => fs::remove_file(entry.path()),
    })?;
    fs::remove_dir(folder)
}

const GIB: u64 = 1 << 30;

/// Refuses to begin what would fill the disk: that would fail late and obscurely.
pub(crate) fn check_space(folder: &Path, needed_gib: u64) -> Result<(), Error> {
    // What is not made yet will be on the file system of its closest parent.
    let Some(existing) = folder.ancestors().find(|ancestor| ancestor.exists()) else { return Ok(()) };
    let stat = rustix::fs::statvfs(existing).map_err(std::io::Error::from).context("examining", existing)?;
    let free = stat.f_bavail * stat.f_frsize;
    if free < needed_gib * GIB {
        return Err(Error::DiskSpace { folder: folder.to_owned(), free_gib: free / GIB, needed_gib });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_whatever_is_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let (folder, other) = (parent.path().join("run"), parent.path().join("other"));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/file"), "").unwrap();
        fs::write(&other, "stays").unwrap();
        std::os::unix::fs::symlink(parent.path(), folder.join("link")).unwrap();
        std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
        remove(&folder).unwrap();
        assert!(!folder.exists() && other.exists());
        remove(&folder).unwrap();
    }

    fn root(variables: &[(&str, &str)]) -> Option<PathBuf> {
        Cache::choose(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
            .map(|cache| cache.root)
    }

    #[test]
    fn the_most_specific_variable_wins() {
        let home = ("HOME", "/home/me");
        let xdg = ("XDG_CACHE_HOME", "/xdg");
        assert_eq!(root(&[home]), Some("/home/me/.cache/trainyard".into()));
        assert_eq!(root(&[home, xdg]), Some("/xdg/trainyard".into()));
        assert_eq!(root(&[home, xdg, ("TRAINYARD_CACHE", "/own")]), Some("/own".into()));
    }

    #[test]
    fn relative_paths_do_not_count() {
        assert_eq!(root(&[("HOME", "/h"), ("TRAINYARD_CACHE", "")]), Some("/h/.cache/trainyard".into()));
        assert_eq!(root(&[("HOME", "h")]), None);
    }
}
