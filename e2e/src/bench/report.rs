//! What a benchmark says: Markdown, for a person and for the file in `e2e/results`.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::machine::{self, megabytes};
use crate::operator::source_tree;

/// The file with the last saved results, from the repository's root.
const RESULTS: &str = "e2e/results/bench.md";

/// The results so far. Each section is also printed as soon as it is there.
#[derive(Debug)]
pub(super) struct Report {
    text: String,
}

impl Report {
    /// Begins with where and when.
    pub(super) fn begin() -> Self {
        let mut report = Self { text: String::new() };
        report.say(&format!("# Benchmarks\n\n{} Budgets are those of DESIGN.md section 6.", machine::describe()));
        report
    }

    /// Adds a paragraph, a heading or a table.
    pub(super) fn say(&mut self, markdown: &str) {
        println!("{markdown}\n");
        let _ = writeln!(self.text, "{markdown}\n");
    }

    /// Writes the whole to the file in the repository.
    pub(super) fn save(&self) -> Result<PathBuf> {
        let path = source_tree().join(RESULTS);
        let folder = path.parent().context("a file has a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        fs::write(&path, self.text.trim_end().to_owned() + "\n")
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// A Markdown table. The first column is text, the others are figures.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).chain([header[column].len(), 2]).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or_default());
    let line = |cells: [&str; N]| {
        let cell = |(column, text): (usize, &str)| match column {
            0 => format!(" {text:<0$} |", widths[0]),
            _ => format!(" {text:>0$} |", widths[column]),
        };
        format!("|{}", cells.into_iter().enumerate().map(cell).collect::<String>())
    };
    let rule = |column: usize| match column {
        0 => format!(" {} |", "-".repeat(widths[0])),
        _ => format!(" {}: |", "-".repeat(widths[column] - 1)),
    };
    let mut lines = vec![line(header), format!("|{}", (0..N).map(rule).collect::<String>())];
    lines.extend(rows.iter().map(|row| line(row.each_ref().map(String::as_str))));
    lines.join("\n")
}

/// The operator's memory beside its budget, if there is one for so many finished objects with pods.
pub(super) fn judged_memory(objects: usize, bytes: u64) -> String {
    let budget = match objects {
        1_000 => 40_000_000,
        10_000 => 100_000_000,
        _ => return megabytes(bytes),
    };
    format!("{}; budget {}: {}", megabytes(bytes), megabytes(budget), verdict(bytes <= budget))
}

/// Whether a budget is kept, as a word.
pub(super) fn verdict(kept: bool) -> String {
    if kept { "kept" } else { "MISSED" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let rows = [["a".to_owned(), "1".to_owned()], ["longer".to_owned(), "1234".to_owned()]];
        assert_eq!(
            table(["what", "n"], &rows),
            "| what   |    n |\n| ------ | ---: |\n| a      |    1 |\n| longer | 1234 |"
        );
    }
}
