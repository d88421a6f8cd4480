//! What a containerd has on disk once it has unpacked images, kept so that the next one need not unpack them.
//!
//! A cluster gets a copy of its own, made of hard links: unpacked images are only ever read, as the lower folders of
//! overlays. So whatever happens to a cluster, what is kept stays as it was, and two clusters share the space.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::Archive;
use crate::cache::{self, Cache};
use crate::error::{Error, IoContext};
use crate::lock::{self, Lock};
use crate::process::{Lifetime, Process, Program};

/// Databases are written to in place, so they are copied.
const COPIED: &str = "db";
/// containerd's content, within its root.
const BLOBS: &str = "io.containerd.content.v1.content/blobs/sha256";

/// The kept images, locked.
pub(crate) struct Store {
    folder: PathBuf,
    /// Digest of each image that was unpacked, by reference.
    contents: BTreeMap<String, String>,
    _lock: Lock,
}

impl Store {
    /// Waits for its turn.
    pub(crate) async fn open() -> Result<Self, Error> {
        let cache = Cache::locate()?;
        let folder = cache.images();
        let lock = Lock::acquire(&folder.with_extension("lock"), lock::PATIENCE).await?;
        // Written last: a store without it is not whole.
        let contents = fs::read(folder.join("contents.json")).ok();
        let contents = contents.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Ok(Self { folder, contents, _lock: lock })
    }

    /// Those of `archives` that it does not have.
    pub(crate) fn missing<'a>(&self, archives: &'a [Archive]) -> Vec<&'a Archive> {
        archives.iter().filter(|archive| self.contents.get(&archive.reference) != Some(&archive.digest())).collect()
    }

    /// Gives a containerd that is about to start at `root` what is kept.
    pub(crate) async fn take(&self, root: &Path) -> Result<(), Error> {
        if self.contents.is_empty() {
            return Ok(());
        }
        copy(&self.folder.join("root"), root).await
    }

    /// Keeps what a containerd, stopped by now, has at `root`, in place of what was kept before.
    pub(crate) async fn keep(&self, root: &Path, archives: &[Archive]) -> Result<(), Error> {
        // containerd has copied the layers; one of the two copies is enough.
        for (digest, path) in archives.iter().flat_map(Archive::layer_files) {
            let blob = root.join(BLOBS).join(digest);
            if blob.exists() {
                fs::remove_file(&blob).context("removing", &blob)?;
                fs::hard_link(path, &blob).context("linking", &blob)?;
            }
        }
        let partial = self.folder.with_extension("partial");
        cache::remove(&partial)?;
        cache::create_private(&partial)?;
        copy(root, &partial.join("root")).await?;
        let mut contents = self.contents.clone();
        contents.extend(archives.iter().map(|archive| (archive.reference.clone(), archive.digest())));
        let file = partial.join("contents.json");
        let text = serde_json::to_vec(&contents).map_err(|source| Error::State { path: file.clone(), source })?;
        fs::write(&file, text).context("writing", &file)?;
        // Moved aside whole: half of it, with the file that says that it is whole, would be taken for all of it.
        let old = self.folder.with_extension("old");
        cache::remove(&old)?;
        if self.folder.exists() {
            fs::rename(&self.folder, &old).context("renaming", &self.folder)?;
        }
        fs::rename(&partial, &self.folder).context("renaming", &partial)?;
        cache::remove(&old)
    }
}

/// A tree of hard links, save for databases. When this is dropped, nothing is copied any more.
async fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let arguments = ["--archive", "--link", "--no-target-directory", "--"].map(OsString::from).into_iter();
    let program = Program {
        name: "cp".to_owned(),
        path: "cp".into(),
        arguments: arguments.chain([from, to].map(OsString::from)).collect(),
        environment: Vec::new(),
        folder: Path::new("/").to_owned(),
    };
    let mut process = Process::spawn(program, &Cache::locate()?.log("cp")?, Lifetime::Tied)?;
    if !process.wait().await.success() {
        return Err(process.failure(format!("could not copy {}", from.display())));
    }
    for folder in entries(to)?.into_iter().filter(|path| path.is_dir()) {
        for link in entries(&folder)?.into_iter().filter(|path| path.extension().is_some_and(|name| name == COPIED)) {
            let own = link.with_extension("copy");
            fs::copy(&link, &own).context("copying", &link)?;
            fs::rename(&own, &link).context("renaming", &own)?;
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).context("reading", folder)?;
    entries.map(|entry| Ok(entry.context("reading", folder)?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn databases_are_copies_and_everything_else_is_shared() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let plugin = from.join("snapshotter");
        fs::create_dir_all(plugin.join("snapshots/1/fs")).unwrap();
        fs::write(plugin.join("metadata.db"), "database").unwrap();
        fs::write(plugin.join("snapshots/1/fs/file"), "file").unwrap();
        copy(&from, &to).await.unwrap();
        fs::write(to.join("snapshotter/metadata.db"), "changed").unwrap();
        assert_eq!(fs::read_to_string(plugin.join("metadata.db")).unwrap(), "database");
        let links = |path: &Path| std::os::unix::fs::MetadataExt::nlink(&fs::metadata(path).unwrap());
        assert_eq!(links(&to.join("snapshotter/snapshots/1/fs/file")), 2);
    }
}
