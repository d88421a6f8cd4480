//! The image, built twice: whoever builds a commit gets the image that others have got, wherever they do it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::cache::Cache;
use crate::images::{Archive, DEFAULT_REFERENCE, operator_in};
use crate::operator_binary::{Build, Folders};
use crate::progress::say;
use crate::revision::check_out;

/// What two people may have differently: where the source is, what is built, and where cargo keeps what it downloads.
/// The names differ in length too, which shows in a binary that has them.
const PEOPLE: [[&str; 3]; 2] = [["a", "b", "c"], ["home/somebody/src", "var/cache/target", "home/somebody/.cargo"]];

/// Of the last commit: what is not committed is in neither.
pub(super) async fn run(build: Build) -> Result<String> {
    let folder = tempfile::tempdir_in(Cache::locate()?.root()).context("making a folder")?;
    let mut archives = Vec::new();
    for names in PEOPLE {
        archives.push(build_as(names, folder.path(), build).await?);
    }
    let [first, second] = archives.as_slice() else { unreachable!("there are two people") };
    ensure!(
        first.digest() == second.digest(),
        "two digests of one commit: sha256:{} and sha256:{}",
        first.digest(),
        second.digest()
    );
    let file = |number: usize| folder.path().join(format!("{number}.tar"));
    for (number, archive) in archives.iter().enumerate() {
        archive.write(&file(number))?;
    }
    let read = |number| fs::read(file(number)).context("reading an archive");
    ensure!(read(0)? == read(1)?, "two archives of one digest");
    let size = first.size() as f64 / 1e6;
    Ok(format!("two builds in different folders, one digest: sha256:{}, {size:.1} MB", first.digest()))
}

async fn build_as([source, target, cargo_home]: [&str; 3], folder: &Path, build: Build) -> Result<Archive> {
    let [source, target, cargo_home] = [source, target, cargo_home].map(|name| folder.join(name));
    check_out("HEAD", &source).await?;
    // Another place for the same downloads.
    fs::create_dir_all(&cargo_home).context("making a folder for cargo")?;
    for entry in fs::read_dir(Folders::own()?.cargo_home).context("reading cargo's folder")?.flatten() {
        symlink(entry.path(), cargo_home.join(entry.file_name())).context("linking cargo's downloads")?;
    }
    let archive = operator_in(&Folders { source, target, cargo_home }, build, DEFAULT_REFERENCE).await?;
    say(&format!("sha256:{}", archive.digest()));
    Ok(archive)
}
