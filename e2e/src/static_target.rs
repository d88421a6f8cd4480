//! The target whose programs need nothing of the system that they run on, since musl's C library is linked into them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::Cache;
use crate::error::Error;
use crate::process::{Lifetime, Process, Program, last_line, tail};
use crate::progress;
use crate::tools::{self, Tool};

/// What compiles the C code of dependencies: `ring`'s, and the allocator's.
pub(crate) const COMPILER: Tool = Tool { program: "musl-gcc", package: "musl-tools" };

/// Flags of that compiler which keep the moment of the build out of what it makes: the allocator tells it in its messages.
///
/// The usual way is `SOURCE_DATE_EPOCH`; but cargo knows that a crate is to be compiled again when flags change, not that.
pub(crate) const C_FLAGS_WITHOUT_TIME: &str =
    r#"-Wno-builtin-macro-redefined -D__DATE__="unknown" -D__TIME__="unknown""#;

/// Its name, for this machine's kind of processor.
pub(crate) fn triple() -> String {
    format!("{}-unknown-linux-musl", env::consts::ARCH)
}

/// Makes sure that programs can be built for it. What is missing is installed where that is possible, and is named with
/// the remedy where it is not. `source` is the tree that is built, which may ask for a toolchain of its own.
pub(crate) async fn ensure(source: &Path) -> Result<(), Error> {
    tools::ensure(&[COMPILER]).await?;
    if has_standard_library(source)? {
        return Ok(());
    }
    let target = triple();
    let Some(rustup) = tools::find("rustup") else {
        return Err(Error::NoTarget { target, words: "rustup is not on the PATH".to_owned() });
    };
    let log = Cache::locate()?.log("rustup")?;
    let program = Program {
        name: "rustup".to_owned(),
        path: rustup,
        arguments: ["target", "add", &target].map(Into::into).to_vec(),
        environment: Vec::new(),
        folder: source.to_owned(),
    };
    let mut process = Process::spawn(program, &log, Lifetime::Tied)?;
    let label = format!("installing Rust's standard library for {target}");
    progress::step(&label, || last_line(&log), async {
        // What rustup installs it for must be what cargo takes.
        match process.wait().await.success() && has_standard_library(source)? {
            true => Ok(()),
            false => Err(Error::NoTarget { target: target.clone(), words: tail(&log) }),
        }
    })
    .await
}

fn has_standard_library(source: &Path) -> Result<bool, Error> {
    let folder = rustc(source, &["--print", "target-libdir", "--target", &triple()])?;
    let mut files = fs::read_dir(folder).into_iter().flatten().flatten();
    Ok(files.any(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
}

/// Flags of rustc that keep the folders of this machine out of what it makes, so that another one makes the same.
///
/// Cargo has a profile setting for this, `trim-paths`, which is not stable yet.
pub(crate) fn flags_without_paths(source: &Path, target: &Path, cargo_home: &Path) -> Result<Vec<String>, Error> {
    let said = rustc(source, &["-vV"])?;
    let commit = said.lines().find_map(|line| line.strip_prefix("commit-hash: ")).unwrap_or("unknown");
    // With the component rust-src, the standard library's files are named by where that is, else by this folder.
    let library = PathBuf::from(rustc(source, &["--print", "sysroot"])?).join("lib/rustlib/src/rust");
    let mut folders = [
        (source.to_owned(), "/trainyard".to_owned()),
        (target.to_owned(), "/target".to_owned()),
        (cargo_home.to_owned(), "/cargo".to_owned()),
        (library, format!("/rustc/{commit}")),
    ];
    // One may be within another, and rustc takes the last that fits.
    folders.sort_by_key(|(folder, _)| folder.as_os_str().len());
    Ok(folders.iter().map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display())).collect())
}

/// As cargo asks the compiler that it will take.
fn rustc(source: &Path, arguments: &[&str]) -> Result<String, Error> {
    let program = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program).args(arguments).current_dir(source).output();
    let words = match output {
        Ok(output) if output.status.success() => return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Error::NoTarget { target: triple(), words: format!("rustc {}: {words}", arguments.join(" ")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_builds_with_the_same_flags() {
        assert!(include_str!("../../Dockerfile").contains(C_FLAGS_WITHOUT_TIME));
    }

    #[test]
    fn the_folder_within_the_other_comes_last() {
        let source = tempfile::tempdir().unwrap();
        let [target, home] = ["target", "target/home"].map(|name| source.path().join(name));
        let flags = flags_without_paths(source.path(), &target, &home).unwrap();
        let position = |folder: &Path, name: &str| {
            let flag = format!("--remap-path-prefix={}={name}", folder.display());
            flags.iter().position(|candidate| *candidate == flag).unwrap()
        };
        let order = [(source.path(), "/trainyard"), (&target, "/target"), (&home, "/cargo")];
        assert!(order.map(|(folder, name)| position(folder, name)).is_sorted(), "{flags:?}");
    }
}
