//! Which commit of a source tree is built, and when it was made.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::run_to_a_good_end;
use crate::operator::source_tree;

/// What the builders of images elsewhere say instead, and the trees without git.
const COMMIT: &str = "TRAINYARD_COMMIT";
/// Seconds since 1970; the name is the one that reproducible builds have agreed on.
const TIME: &str = "SOURCE_DATE_EPOCH";

/// A commit, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Revision {
    /// Its hash, with `-dirty` behind it when the tree has changes that are not committed.
    pub(crate) commit: Option<String>,
    /// When it was made, in seconds since 1970.
    pub(crate) time: Option<i64>,
}

impl Revision {
    /// Asks the environment, then git. A tree without git has none.
    pub(crate) fn of(tree: &Path) -> Self {
        Self::told(tree, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn told(tree: &Path, variable: impl Fn(&str) -> Option<String>) -> Self {
        let commit = variable(COMMIT).or_else(|| {
            let hash = git(tree, &["rev-parse", "HEAD"])?;
            let is_clean = git(tree, &["status", "--porcelain"])?.is_empty();
            Some(if is_clean { hash } else { format!("{hash}-dirty") })
        });
        let time = variable(TIME).or_else(|| git(tree, &["show", "--no-patch", "--format=%ct", "HEAD"]));
        Self { commit, time: time.and_then(|seconds| seconds.parse().ok()) }
    }
}

/// Puts a commit of this source tree into a folder that is not there yet: a clone that shares nothing with the tree.
pub(crate) async fn check_out(commit: &str, folder: &Path) -> Result<()> {
    // The clone knows the branch by another name.
    let commit = git(&source_tree(), &["rev-parse", commit]).with_context(|| format!("there is no commit {commit}"))?;
    let (tree, folder) = (source_tree().display().to_string(), folder.display().to_string());
    for arguments in [
        &["clone", "--quiet", "--no-hardlinks", "--no-checkout", &tree, &folder][..],
        &["-C", &folder, "checkout", "--quiet", &commit],
    ] {
        run_to_a_good_end(tokio::process::Command::new("git").args(arguments)).await?;
    }
    Ok(())
}

fn git(tree: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(tree).args(arguments).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_git(tree: &Path) -> Revision {
        Revision::told(tree, |_| None)
    }

    #[test]
    fn variables_come_first() {
        let told = |name: &str| Some(if name == COMMIT { "abc".to_owned() } else { "12".to_owned() });
        let known = Revision { commit: Some("abc".to_owned()), time: Some(12) };
        assert_eq!(Revision::told(Path::new("/"), told), known);
    }

    #[test]
    fn a_tree_with_changes_is_called_dirty() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path();
        assert_eq!(of_git(tree), Revision::default());
        std::fs::write(tree.join("file"), "one").unwrap();
        git(tree, &["init", "--quiet"]).unwrap();
        git(tree, &["add", "."]).unwrap();
        let author = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"];
        git(tree, &[&author[..], &["commit", "--quiet", "--message", "one", "--date", "@7 +0000"]].concat()).unwrap();
        let clean = of_git(tree);
        let commit = clean.commit.clone().unwrap();
        assert!(commit.len() >= 40 && !commit.contains("dirty"), "{commit}");
        assert!(clean.time.unwrap() > 7, "the commit's own time, not its author's");
        std::fs::write(tree.join("file"), "two").unwrap();
        assert_eq!(of_git(tree), Revision { commit: Some(format!("{commit}-dirty")), ..clean });
    }
}
