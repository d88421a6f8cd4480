//! Programs that are run to their end.

use std::io;
use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Runs a program to its end, with `input` as its standard input. It is killed when this is dropped.
///
/// # Errors
/// If it cannot be run. How it ended is in the answer.
pub async fn output_with_input(command: &mut Command, input: &str) -> io::Result<Output> {
    let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = streams.kill_on_drop(true).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may end without reading: its own words are the answer then, and not that the pipe has broken.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    child.wait_with_output().await
}

/// Runs a program to a good end.
///
/// # Errors
/// If it cannot be run or fails, with its own words.
pub(crate) async fn run_to_a_good_end(command: &mut Command) -> Result<()> {
    let output = command.output().await.with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_does_not_read_answers_nevertheless() {
        let long = "x".repeat(1 << 20);
        let said = output_with_input(Command::new("sh").args(["-c", "echo no >&2; exit 3"]), &long).await.unwrap();
        assert_eq!((said.status.code(), said.stderr.as_slice()), (Some(3), &b"no\n"[..]));
        let said = output_with_input(&mut Command::new("cat"), "input").await.unwrap();
        assert_eq!(said.stdout, b"input");
    }

    #[tokio::test]
    async fn a_bad_end_is_told_in_the_programs_own_words() {
        let told = run_to_a_good_end(Command::new("sh").args(["-c", "echo 'no such image' >&2; exit 1"])).await;
        assert!(told.unwrap_err().to_string().ends_with(": no such image"));
    }
}
