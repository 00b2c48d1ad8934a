//! The texts of a JSON object. What is told of them never repeats them: they may be secrets.

use serde::Deserialize;
use serde_json::value::RawValue;
use shared::event::FieldError;
use shared::http::Problem;

/// The fields of a body, each once.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Given<'a> {
    #[serde(borrow)]
    username: Option<&'a RawValue>,
    #[serde(borrow)]
    password: Option<&'a RawValue>,
    #[serde(borrow)]
    email: Option<&'a RawValue>,
    #[serde(borrow)]
    refresh_token: Option<&'a RawValue>,
    #[serde(borrow)]
    old_password: Option<&'a RawValue>,
    #[serde(borrow)]
    new_password: Option<&'a RawValue>,
}

/// The fields of a body, and what is wrong with them.
pub(super) struct Fields<'a> {
    given: Given<'a>,
    errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// Splits a JSON object into its fields. Unknown ones are ignored.
    ///
    /// # Errors
    /// 400 when it is none, or has a name twice.
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, Problem> {
        Ok(Self { given: object(json)?, errors: Vec::new() })
    }

    /// A field that must be there.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        let raw = match name {
            "username" => self.given.username,
            "password" => self.given.password,
            "email" => self.given.email,
            "refresh_token" => self.given.refresh_token,
            "old_password" => self.given.old_password,
            "new_password" => self.given.new_password,
            _ => None,
        };
        let text = match raw.map(|raw| serde_json::from_str(raw.get())) {
            None => Err("is required"),
            Some(Err(_)) => Err("must be a string"),
            Some(Ok(text)) => Ok(text),
        };
        text.map_err(|message| self.errors.push(FieldError::new(name, message))).ok()
    }

    /// A field that must be there, and something.
    pub(super) fn parse_field<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        let text = self.text(name)?;
        parse(&text).map_err(|message| self.errors.push(FieldError::new(name, message))).ok()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// 400 with every bad field.
    pub(super) fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}

/// The fields of a body, as they were sent.
///
/// # Errors
/// 400 when it is no JSON object, or has a name twice.
pub(in crate::routes) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(json)
        .map_err(|_| Problem::invalid(vec![FieldError::new("body", "must be a JSON object with each name once")]))
}
