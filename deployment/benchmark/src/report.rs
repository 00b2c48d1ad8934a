//! The table: on the terminal, and saved as Markdown and JSON.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use serde::Serialize;

use crate::{Section, machine::Machine, row::Row};
use stack::error::{Doing, Result, StackError};

/// What a run found out.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    quick: bool,
    seconds: u64,
    load_average_at_end: String,
    rows: Vec<Row>,
    failures: Vec<Failure>,
}

/// A part that could not be measured.
#[derive(Debug, Serialize)]
struct Failure {
    section: Section,
    error: String,
}

impl Report {
    /// An empty one, of this machine.
    pub fn begin(quick: bool) -> Self {
        Self {
            machine: Machine::describe(),
            quick,
            seconds: 0,
            load_average_at_end: String::new(),
            rows: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Takes what a section measured.
    pub fn add(&mut self, rows: Vec<Row>) {
        for row in &rows {
            eprintln!("  {}", row.cells().join(" | "));
        }
        self.rows.extend(rows);
    }

    /// Takes note of a section that failed; the others go on.
    pub fn fail(&mut self, section: Section, error: &StackError) {
        eprintln!("bench: {section:?} failed: {error}");
        self.failures.push(Failure { section, error: error.to_string() });
    }

    /// The run is over.
    pub fn end(&mut self, elapsed: Duration) {
        self.seconds = elapsed.as_secs();
        self.load_average_at_end = super::machine::load_average();
    }

    /// Whether every section was measured.
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    /// Writes the table to standard output.
    pub fn print(&self) {
        // A reader that went away is no error.
        let _ = io::stdout().write_all(self.markdown().as_bytes());
    }

    /// Writes results.md and results.json.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).doing(format!("making {}", folder.display()))?;
        let json = serde_json::to_string_pretty(self).map_err(|error| StackError::Refused(error.to_string()))?;
        for (name, text) in [("results.md", self.markdown()), ("results.json", json + "\n")] {
            let path = folder.join(name);
            fs::write(&path, text).doing(format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    fn markdown(&self) -> String {
        let mut text = "# Benchmarks\n\nWritten by `make bench`; do not edit.\n\n".to_owned();
        if self.quick {
            text += "A quick trial: these figures mean little.\n\n";
        }
        let (minutes, end) = (self.seconds.div_ceil(60), &self.load_average_at_end);
        let _ =
            writeln!(text, "{} The run took {minutes} minutes (load average at the end {end}).\n", self.machine.text());
        text += "Measured: median (smallest–largest) of the repeats. Ratio: measured to baseline, the median of the rounds.\n\n";
        text += "| what | target | measured | baseline | ratio | reached |\n|---|---|---|---|---|---|\n";
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.cells().join(" | "));
        }
        for Failure { section, error } in &self.failures {
            let error = error.lines().next().unwrap_or_default();
            let _ = writeln!(text, "| {section:?} could not be measured: {error} | | | | | **no** |");
        }
        text
    }
}
