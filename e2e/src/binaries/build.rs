//! `go build`, with progress, once for each version.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::recipes::Recipe;
use crate::cache::{self, Cache};
use crate::error::{Error, IoContext};
use crate::lock::{self, Lock};
use crate::process::{self, Lifetime, Process, Program};
use crate::progress;
use crate::tools;

/// Modules, build cache and binaries together, with room to spare.
const FIRST_BUILD_GIB: u64 = 12;

/// Builds those that are missing and says where they all are, in the order of `recipes`.
pub(super) async fn ensure<const N: usize>(recipes: &[Recipe; N], cache: &Cache) -> Result<[PathBuf; N], Error> {
    let missing = || recipes.iter().filter(|recipe| !recipe.target(cache).is_file()).collect::<Vec<_>>();
    if !missing().is_empty() {
        let _lock = Lock::acquire(&cache.build_lock(), lock::PATIENCE).await?;
        let missing = missing();
        if missing.len() == N {
            check_disk(cache)?;
        }
        for (index, recipe) in missing.iter().enumerate() {
            build(recipe, cache, index + 1, missing.len()).await?;
        }
    }
    Ok(std::array::from_fn(|index| recipes[index].target(cache)))
}

/// Go writes to a temporary name, so that a file under the real name is always whole.
async fn build(recipe: &Recipe, cache: &Cache, number: usize, count: usize) -> Result<(), Error> {
    let target = recipe.target(cache);
    let folder = target.with_file_name("");
    cache::create_private(&folder)?;
    let partial = folder.join(format!(".{}.partial", recipe.name));
    let log = folder.join(format!("{}.log", recipe.name));
    let arguments = ["build", "-v", "-o"]
        .map(OsString::from)
        .into_iter()
        .chain([partial.clone().into_os_string(), "-ldflags".into(), recipe.project.linker_flags().into()])
        .chain([recipe.package().into()])
        .collect();
    let program = Program {
        name: recipe.name.to_owned(),
        path: go()?,
        arguments,
        // A go.work file above this repository must not change what is built.
        environment: vec![("CGO_ENABLED", "0".into()), ("GOWORK", "off".into())],
        folder: recipe.project.folder(),
    };
    let mut process = Process::spawn(program, &log, Lifetime::Tied)?;
    let label = format!("[{number}/{count}] building {} {}", recipe.name, recipe.project.version());
    let how_far = || format!("{} (a first build takes about {} s)", describe(&read(&log)), recipe.usual_seconds);
    progress::step(&label, how_far, async {
        if process.wait().await.success() {
            return Ok(());
        }
        Err(Error::Build { what: recipe.name.to_owned(), log: log.clone(), tail: process::tail(&log) })
    })
    .await?;
    fs::rename(&partial, &target).context("renaming", &partial)?;
    fs::remove_file(&log).context("removing", &log)
}

fn read(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

/// How far a build is: `go build -v` prints one line for each package that it compiles, and one for each download.
fn describe(log: &str) -> String {
    let (notes, packages): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| line.starts_with("go: "));
    match notes.iter().filter(|note| note.starts_with("go: downloading")).count() {
        0 => format!("{} packages compiled", packages.len()),
        modules => format!("{modules} modules downloaded, {} packages compiled", packages.len()),
    }
}

fn go() -> Result<PathBuf, Error> {
    tools::find("go").ok_or(Error::MissingTool {
        tool: "go",
        remedy: "install Go 1.26 or newer, which builds the control plane from source",
    })
}

/// A first build that fills the disk fails late and obscurely, so it is refused early.
fn check_disk(cache: &Cache) -> Result<(), Error> {
    let output = Command::new(go()?).args(["env", "GOCACHE", "GOMODCACHE"]).output();
    let output = output.context("running", Path::new("go env"))?;
    let go_folders = String::from_utf8_lossy(&output.stdout).into_owned();
    let folders = go_folders.lines().map(PathBuf::from).chain([cache.root().to_owned()]);
    folders.into_iter().try_for_each(|folder| cache::check_space(&folder, FIRST_BUILD_GIB))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_counts_packages_and_downloads() {
        assert_eq!(describe(""), "0 packages compiled");
        let log = "go: downloading k8s.io/api v0.37.2\nk8s.io/api/core/v1\ncmp\n";
        assert_eq!(describe(log), "1 modules downloaded, 2 packages compiled");
    }
}
