//! Settings: read from the environment in this one place, every mistake reported at once.

mod file;
mod kafka;
mod secret;
mod table;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

pub use self::kafka::{KafkaConfig, PartitionBy, Security};
pub use self::secret::Secret;
pub use self::table::{SettingRow, render_table, settings_table};
pub use self::tokens::TokenConfig;

/// The exit code for bad settings (`EX_CONFIG` of sysexits.h).
pub const EXIT_BAD_SETTINGS: u8 = 78;

/// Reads settings and keeps note of every mistake and every name asked for.
pub struct Settings {
    values: BTreeMap<String, String>,
    /// Names whose values are no text.
    unreadable: BTreeSet<String>,
    /// Settings whose value came from a file.
    from_file: BTreeSet<&'static str>,
    rows: Vec<SettingRow>,
    mistakes: Vec<String>,
}

/// All mistakes in the settings, one line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct BadSettings(pub Vec<String>);

impl Settings {
    /// Settings from the process's environment.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    #[must_use]
    pub fn from_environment() -> Self {
        Self::from_variables(std::env::vars_os())
    }

    fn from_variables(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut settings = Self::from_pairs::<String, String>([]);
        for (name, value) in variables {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(settings.values.insert(name, value)),
                Err(_) => drop(settings.unreadable.insert(name)),
            }
        }
        settings
    }

    /// Settings from pairs, for tests and the embedded mode.
    #[must_use]
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let values = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { values, unreadable: BTreeSet::new(), from_file: BTreeSet::new(), rows: Vec::new(), mistakes: Vec::new() }
    }

    /// The settings, changed by `pairs` wherever the environment does not say otherwise.
    #[must_use]
    pub fn with_defaults(mut self, pairs: &[(&str, &str)]) -> Self {
        for (name, value) in pairs {
            if !self.unreadable.contains(*name) {
                self.values.entry((*name).to_owned()).or_insert_with(|| (*value).to_owned());
            }
        }
        self
    }

    /// The settings, with these values whatever the environment says.
    #[must_use]
    pub fn with_fixed(mut self, pairs: &[(&str, String)]) -> Self {
        for (name, value) in pairs {
            self.values.insert((*name).to_owned(), value.clone());
            self.values.remove(&format!("{name}_FILE"));
            self.unreadable.remove(*name);
            self.unreadable.remove(&format!("{name}_FILE"));
        }
        self
    }

    /// A setting that parses from text.
    ///
    /// # Panics
    /// When the default itself does not parse, which any run of any test shows.
    pub fn parsed<T>(&mut self, name: &'static str, default: &str, help: &'static str) -> T
    where
        T: FromStr,
        T::Err: Display,
    {
        self.add_row(name, default, help);
        let fallback = || match default.parse() {
            Ok(value) => value,
            Err(error) => panic!("default of {name}: {error}"),
        };
        match self.value(name) {
            None => fallback(),
            Some(text) => text.trim().parse().unwrap_or_else(|error: T::Err| {
                self.mistake(name, &format!("{error}"));
                fallback()
            }),
        }
    }

    /// A whole number within limits.
    pub fn number(&mut self, name: &'static str, default: u64, range: RangeInclusive<u64>, help: &'static str) -> u64 {
        self.add_row(name, &default.to_string(), help);
        let Some(text) = self.value(name) else { return default };
        match text.trim().parse() {
            Ok(value) if range.contains(&value) => value,
            _ => {
                self.mistake(name, &format!("must be a whole number from {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    /// A whole number within limits, for sizes of things in memory.
    pub fn size(&mut self, name: &'static str, default: u64, range: RangeInclusive<u64>, help: &'static str) -> usize {
        usize::try_from(self.number(name, default, range, help)).unwrap_or(usize::MAX)
    }

    /// A duration in milliseconds, within limits.
    pub fn millis(
        &mut self,
        name: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        help: &'static str,
    ) -> Duration {
        Duration::from_millis(self.number(name, default, range, help))
    }

    /// A text that must not be empty.
    pub fn text(&mut self, name: &'static str, default: &str, help: &'static str) -> String {
        self.add_row(name, default, help);
        match self.value(name) {
            None => default.to_owned(),
            Some(text) if !text.trim().is_empty() => text.trim().to_owned(),
            Some(_) => {
                self.mistake(name, "must not be empty");
                default.to_owned()
            }
        }
    }

    /// An optional text; empty counts as unset.
    pub fn optional(&mut self, name: &'static str, help: &'static str) -> Option<String> {
        self.add_row(name, "unset", help);
        self.value(name).filter(|text| !text.trim().is_empty())
    }

    /// An optional file that must be there and readable.
    pub fn file(&mut self, name: &'static str, help: &'static str) -> Option<PathBuf> {
        let path = PathBuf::from(self.optional(name, help)?);
        if let Err(problem) = file::check(&path) {
            self.mistake(name, &problem);
        }
        Some(path)
    }

    /// An optional secret, from `NAME` or from the file that `NAME_FILE` names.
    pub fn secret(&mut self, name: &'static str, help: &'static str) -> Option<Secret<String>> {
        self.add_row(name, "unset", help);
        self.secret_value(name).map(Secret::new)
    }

    /// A secret with a default, from `NAME` or from the file that `NAME_FILE` names.
    pub fn secret_or(&mut self, name: &'static str, default: &str, help: &'static str) -> Secret<String> {
        self.add_row(name, default, help);
        Secret::new(self.secret_value(name).unwrap_or_else(|| default.to_owned()))
    }

    fn secret_value(&mut self, name: &'static str) -> Option<String> {
        let given = self.value(name).filter(|text| !text.is_empty());
        let file_name = format!("{name}_FILE");
        let Some(path) = self.value(&file_name).filter(|path| !path.is_empty()) else { return given };
        if given.is_some() {
            self.mistake(name, &format!("is set twice: directly and by {file_name}"));
        }
        self.from_file.insert(name);
        match file::read_secret(Path::new(&path)) {
            Ok(text) => Some(text),
            Err(problem) => {
                self.mistake(name, &problem);
                None
            }
        }
    }

    /// Notes a mistake in a setting, under the name of the variable that was set. The value is not repeated: it may be a
    /// secret.
    pub fn mistake(&mut self, name: &str, message: &str) {
        let variable = if self.from_file.contains(name) { format!("{name}_FILE") } else { name.to_owned() };
        self.mistakes.push(format!("{variable}: {message}"));
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// All mistakes found.
    pub fn finish(&self) -> Result<(), BadSettings> {
        if self.mistakes.is_empty() { Ok(()) } else { Err(BadSettings(self.mistakes.clone())) }
    }

    /// Ends the reading; bad settings end the process, with all mistakes on standard error.
    pub fn finish_or_exit(&self) {
        if let Err(mistakes) = self.finish() {
            eprintln!("{mistakes}");
            std::process::exit(i32::from(EXIT_BAD_SETTINGS));
        }
    }

    /// The rows of all settings asked for so far.
    #[must_use]
    pub fn rows(&self) -> &[SettingRow] {
        &self.rows
    }

    fn value(&mut self, name: &str) -> Option<String> {
        // Told once, however often it is asked for.
        if self.unreadable.remove(name) {
            self.mistakes.push(format!("{name}: must be UTF-8 text"));
        }
        self.values.get(name).cloned()
    }

    fn add_row(&mut self, name: &'static str, default: &str, help: &'static str) {
        if self.rows.iter().all(|row| row.name != name) {
            self.rows.push(SettingRow { name, default: default.to_owned(), help });
        }
    }
}

#[cfg(test)]
mod tests;
