//! Progress on standard error: what is being done, how far it is, how long it has taken.

use std::future::Future;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval_at};

/// How often a line that is not on a terminal is followed by the next: often enough that nobody thinks it hangs.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often a line on a terminal is rewritten.
const REFRESH: Duration = Duration::from_secs(1);

/// Runs `work` and says so: at once when it takes more than a moment, then at each heartbeat, then its end.
///
/// `detail` is asked at each heartbeat how far the work is.
pub(crate) async fn step<T, E>(
    label: &str,
    detail: impl Fn() -> String,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let started = Instant::now();
    let mut line = Line { label, open: false };
    let period = if stderr().is_terminal() { REFRESH } else { HEARTBEAT };
    let mut ticks = interval_at(tokio::time::Instant::now() + REFRESH.min(period), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => {
                line.end(if result.is_ok() { "done" } else { "failed" }, started.elapsed());
                return result;
            }
            _ = ticks.tick() => line.refresh(&detail(), started.elapsed()),
        }
    }
}

/// Says one thing that has no duration.
pub(crate) fn note(message: &str) {
    write(&format!("{message}\n"));
}

/// Prints a line of the result on standard output. That nobody reads it any more (`| head`) is no failure.
pub(crate) fn say(line: &str) {
    let mut stream = stdout().lock();
    let _ = writeln!(stream, "{line}").and_then(|()| stream.flush());
}

/// The line of the step that is going on. A step that is dropped was interrupted, and says so.
struct Line<'a> {
    label: &'a str,
    open: bool,
}

impl Line<'_> {
    fn refresh(&mut self, detail: &str, elapsed: Duration) {
        self.open = true;
        let separator = if detail.is_empty() { "" } else { ", " };
        let text = format!("{} ... {} s{separator}{detail}", self.label, elapsed.as_secs());
        write(&if stderr().is_terminal() { format!("\r\x1b[K{text}") } else { format!("{text}\n") });
    }

    fn end(&mut self, outcome: &str, elapsed: Duration) {
        self.open = false;
        let clear = if stderr().is_terminal() { "\r\x1b[K" } else { "" };
        write(&format!("{clear}{}: {outcome} in {:.1} s\n", self.label, elapsed.as_secs_f64()));
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.open {
            let clear = if stderr().is_terminal() { "\r\x1b[K" } else { "" };
            write(&format!("{clear}{}: interrupted\n", self.label));
        }
    }
}

/// Progress is a courtesy: a closed standard error must not end the work, as `eprintln` would.
fn write(text: &str) {
    let mut stream = stderr().lock();
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}
