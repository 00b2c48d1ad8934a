//! Query parameters, read with one complaint for each that is wrong.

use std::ops::RangeInclusive;

use http::Uri;

use super::Problem;
use crate::event::FieldError;

/// The parameters of one request. Unknown ones are ignored.
pub struct Query {
    pairs: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl Query {
    /// Splits the query of `uri`.
    #[must_use]
    pub fn new(uri: &Uri) -> Self {
        match axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri) {
            Ok(axum::extract::Query(pairs)) => Self { pairs, errors: Vec::new() },
            Err(_) => Self { pairs: Vec::new(), errors: vec![FieldError::new("query", "cannot be read")] },
        }
    }

    /// A parameter's text, if it is given.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        let mut values = self.pairs.iter().filter(|(given, _)| given == name).map(|(_, value)| value.clone());
        let first = values.next();
        if values.next().is_some() {
            self.errors.push(FieldError::new(name, "is given twice"));
        }
        first
    }

    /// A whole number within limits.
    pub fn number(&mut self, name: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let Some(text) = self.text(name) else { return default };
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(value) if plain && range.contains(&value) => value,
            _ => {
                let message = format!("must be a whole number from {} to {}", range.start(), range.end());
                self.errors.push(FieldError::new(name, message));
                default
            }
        }
    }

    /// Adds a complaint about a parameter.
    pub fn refuse(&mut self, error: FieldError) {
        self.errors.push(error);
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// 400 with every bad parameter.
    pub fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}
