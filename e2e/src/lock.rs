//! One at a time: a file lock, which the kernel lets go of when its holder dies, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cache;
use crate::error::{Error, IoContext};
use crate::progress;

/// Longer than a whole first build, so that whoever waits for one gets its result.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45 * 60);
const RETRY: Duration = Duration::from_millis(200);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, and waits for its holder first, saying who that is.
    pub(crate) async fn acquire(path: &Path, patience: Duration) -> Result<Self, Error> {
        if let Some(lock) = Self::try_acquire(path)? {
            return Ok(lock);
        }
        let describe = || format!("held by {}", holder(path));
        let label = format!("waiting for {}", path.display());
        progress::step(&label, describe, Self::wait(path, patience)).await
    }

    async fn wait(path: &Path, patience: Duration) -> Result<Self, Error> {
        let started = Instant::now();
        loop {
            if let Some(lock) = Self::try_acquire(path)? {
                return Ok(lock);
            }
            if started.elapsed() >= patience {
                return Err(Error::Locked {
                    lock: path.to_owned(),
                    holder: holder(path),
                    waited_seconds: patience.as_secs(),
                });
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Takes the lock if nobody holds it.
    pub(crate) fn try_acquire(path: &Path) -> Result<Option<Self>, Error> {
        if let Some(folder) = path.parent() {
            cache::create_private(folder)?;
        }
        // Not truncated on opening: the text belongs to the holder.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .context("opening", path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => {
                return Err(Error::Io { action: "locking", path: path.to_owned(), source });
            }
        }
        file.set_len(0).and_then(|()| file.rewind()).context("writing", path)?;
        write!(file, "{}", std::process::id()).context("writing", path)?;
        Ok(Some(Self { _file: file }))
    }
}

/// Whom to name; only a courtesy, since the lock itself is the kernel's.
fn holder(path: &Path) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("pid {pid}"),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_one_holds_it_and_the_other_learns_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.lock");
        let first = Lock::acquire(&path, Duration::ZERO).await.unwrap();
        let refused = Lock::acquire(&path, Duration::ZERO).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("held by pid {}", std::process::id())), "{refused}");
        drop(first);
        Lock::acquire(&path, Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn whoever_waits_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::try_acquire(&path).unwrap().unwrap();
        let waiting = tokio::spawn({
            let path = path.clone();
            async move { Lock::acquire(&path, Duration::from_secs(10)).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(first);
        waiting.await.unwrap().unwrap();
    }

    #[test]
    fn the_file_of_a_dead_holder_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        std::fs::write(&path, "999999999").unwrap();
        assert!(Lock::try_acquire(&path).unwrap().is_some());
    }
}
