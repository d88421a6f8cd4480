//! Where the time went.

use std::fmt;
use std::future::Future;
use std::time::Instant;

/// Parts in the order in which they came, in seconds.
#[derive(Debug, Default)]
pub(super) struct Timings(Vec<Part>);

#[derive(Debug)]
struct Part {
    label: String,
    seconds: f64,
    /// Within the part before it.
    is_detail: bool,
}

impl Timings {
    /// Runs `work` and remembers how long it took.
    pub(super) async fn part<T>(&mut self, label: &str, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let done = work.await;
        self.push(label, started.elapsed().as_secs_f64(), false);
        done
    }

    /// Something that took so long within the last part.
    pub(super) fn detail(&mut self, label: &str, seconds: f64) {
        self.push(label, seconds, true);
    }

    /// Everything together.
    pub(super) fn total(&self) -> f64 {
        self.0.iter().filter(|part| !part.is_detail).map(|part| part.seconds).sum()
    }

    fn push(&mut self, label: &str, seconds: f64, is_detail: bool) {
        self.0.push(Part { label: label.to_owned(), seconds, is_detail });
    }
}

impl fmt::Display for Timings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Part { label, seconds, is_detail } in &self.0 {
            let label = if *is_detail { format!("  {label}") } else { label.clone() };
            writeln!(formatter, "  {label:<44} {seconds:>7.1} s")?;
        }
        writeln!(formatter, "  {:<44} {:>7.1} s", "all", self.total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_do_not_count_twice() {
        let mut timings = Timings::default();
        timings.push("training", 10.0, false);
        timings.detail("pods start", 3.0);
        assert!((timings.total() - 10.0).abs() < f64::EPSILON);
        assert!(timings.to_string().contains("    pods start"), "{timings}");
    }
}
