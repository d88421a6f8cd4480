//! The targets of `fuzz/`, each for a minute: libFuzzer, which comes as source with `libfuzzer-sys`, in a build of its own. It
//! needs a C++ compiler, but neither a nightly toolchain nor cargo-fuzz: no sanitizer is used, since there is no unsafe code.

use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result, ensure};

use super::run_and_show;
use crate::cache::Cache;
use crate::operator::source_tree;
use crate::operator_binary::cargo;
use crate::process::Program;

const TARGETS: [&str; 2] = ["objects", "events"];
const SECONDS: u32 = 60;
/// What cargo-fuzz would set, without a sanitizer: code tells the fuzzer which of its parts have run.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Runs each target; fails when one finds an input that breaks a promise.
pub(super) async fn run() -> Result<String> {
    let (sources, work) = (source_tree().join("fuzz"), Cache::locate()?.fuzz());
    let mut figures = Vec::new();
    for target in TARGETS {
        let corpus = work.join("corpus").join(target);
        fs::create_dir_all(&corpus).with_context(|| format!("making {}", corpus.display()))?;
        let manifest = sources.join("Cargo.toml");
        let program = cargo(&["run", "--release", "--target", HOST, "--bin", target, "--manifest-path"]);
        let mut arguments = program.arguments.clone();
        let inputs: [OsString; 4] =
            [manifest.into(), "--".into(), corpus.into(), sources.join("seeds").join(target).into()];
        let limits: [OsString; 3] = [
            format!("-max_total_time={SECONDS}").into(),
            "-max_len=8192".into(),
            format!("-artifact_prefix={}/", work.display()).into(),
        ];
        arguments.extend(inputs.into_iter().chain(limits));
        let environment = vec![("RUSTFLAGS", FLAGS.into()), ("CARGO_TARGET_DIR", work.join("target").into())];
        let said = run_and_show(Program { name: format!("fuzzing {target}"), arguments, environment, ..program }).await;
        let said = said.with_context(|| format!("{target}; the input, if one was found, is in {}", work.display()))?;
        figures.push(format!("{target} {}", done(&said)?));
    }
    Ok(figures.join(", "))
}

/// The only machine that the embedded cluster runs on; named, so that build scripts are built without these flags.
const HOST: &str = "x86_64-unknown-linux-gnu";

/// What libFuzzer says at its end: `Done 12345 runs in 61 second(s)`.
fn done(said: &str) -> Result<&str> {
    let done = said.lines().filter_map(|line| line.strip_prefix("Done ")).next_back().context("it was not done")?;
    ensure!(!done.starts_with("0 "), "nothing was run");
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuzzer_is_quoted() {
        assert_eq!(done("#8\tREDUCE\nDone 815 runs in 61 second(s)\n").unwrap(), "815 runs in 61 second(s)");
        assert!(done("Done 0 runs in 0 second(s)").is_err() && done("error: no linker").is_err());
    }
}
