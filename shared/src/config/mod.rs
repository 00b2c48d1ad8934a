//! Settings: read from the environment in this one place, every mistake reported at once.

mod kafka;
mod secret;
mod table;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use self::kafka::{KafkaConfig, PartitionBy, Security};
pub use self::secret::Secret;
pub use self::table::{SettingRow, render_table, settings_table};

/// The exit code for bad settings (`EX_CONFIG` of sysexits.h).
pub const EXIT_BAD_SETTINGS: u8 = 78;

/// Reads settings and keeps note of every mistake and every name asked for.
pub struct Settings {
    values: BTreeMap<String, String>,
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
        let values = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { values, rows: Vec::new(), mistakes: Vec::new() }
    }

    /// Settings from pairs, for tests and the embedded mode.
    #[must_use]
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let values = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { values, rows: Vec::new(), mistakes: Vec::new() }
    }

    /// The settings, changed by `pairs` wherever the environment does not say otherwise.
    #[must_use]
    pub fn with_defaults(mut self, pairs: &[(&str, &str)]) -> Self {
        for (name, value) in pairs {
            self.values.entry((*name).to_owned()).or_insert_with(|| (*value).to_owned());
        }
        self
    }

    /// The settings, with these values whatever the environment says.
    #[must_use]
    pub fn with_fixed(mut self, pairs: &[(&str, String)]) -> Self {
        for (name, value) in pairs {
            self.values.insert((*name).to_owned(), value.clone());
            self.values.remove(&format!("{name}_FILE"));
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

    /// An optional file that must exist.
    pub fn file(&mut self, name: &'static str, help: &'static str) -> Option<PathBuf> {
        let path = PathBuf::from(self.optional(name, help)?);
        if !path.is_file() {
            self.mistake(name, "names no file");
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
        let Some(path) = self.values.get(&format!("{name}_FILE")).cloned() else { return given };
        if given.is_some() {
            self.mistake(name, "is set twice: directly and by its _FILE");
        }
        match std::fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
            Ok(_) => {
                self.mistake(name, &format!("the file {path} is empty"));
                None
            }
            Err(error) => {
                self.mistake(name, &format!("cannot read {path}: {error}"));
                None
            }
        }
    }

    /// Notes a mistake in a setting. The value is not repeated: it may be a secret.
    pub fn mistake(&mut self, name: &str, message: &str) {
        self.mistakes.push(format!("{name}: {message}"));
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

    fn value(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }

    fn add_row(&mut self, name: &'static str, default: &str, help: &'static str) {
        if self.rows.iter().all(|row| row.name != name) {
            self.rows.push(SettingRow { name, default: default.to_owned(), help });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_told_at_once_and_no_value_is_repeated() {
        let mut settings = Settings::from_pairs([("A", "x"), ("B", "99"), ("C", " ")]);
        assert_eq!(settings.number("A", 5, 1..=9, "a"), 5);
        assert_eq!(settings.number("B", 5, 1..=9, "b"), 5);
        assert_eq!(settings.text("C", "c", "c"), "c");
        let mistakes = settings.finish().unwrap_err().0;
        assert_eq!(
            mistakes,
            ["A: must be a whole number from 1 to 9", "B: must be a whole number from 1 to 9", "C: must not be empty"]
        );
    }

    #[test]
    fn a_secret_comes_from_its_file_and_is_never_shown() {
        let path = std::env::temp_dir().join(format!("secret-{}", std::process::id()));
        std::fs::write(&path, "hush\n").unwrap();
        let mut settings = Settings::from_pairs([("TOKEN_FILE", path.to_str().unwrap())]);
        let secret = settings.secret("TOKEN", "a token").unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(secret.expose(), "hush");
        assert_eq!(format!("{secret:?} {secret}"), "*** ***");
    }
}
