//! Query parameters, read from the bytes that were sent, with one complaint for each that is wrong.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;

use http::Uri;
use percent_encoding::percent_decode;
use uuid::Uuid;

use super::Problem;
use crate::event::FieldError;

/// The parameters of one request. Unknown ones are ignored.
pub struct Query<'a> {
    /// As they stand in the URI.
    raw: &'a str,
    errors: Vec<FieldError>,
}

impl<'a> Query<'a> {
    /// The query of `uri`.
    #[must_use]
    pub fn new(uri: &'a Uri) -> Self {
        Self { raw: uri.query().unwrap_or_default(), errors: Vec::new() }
    }

    /// A parameter's text, if it is given.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        let mut values = pairs(self.raw).filter(|(given, _)| **given == *name.as_bytes()).map(|(_, value)| value);
        let value = values.next()?;
        if values.next().is_some() {
            self.errors.push(FieldError::new(name, "is given twice"));
        }
        // Bytes that are no text are refused. Made into something else, they would name somebody else.
        let text = String::from_utf8(value.into_owned());
        text.map_err(|_| self.errors.push(FieldError::new(name, "must be UTF-8"))).ok()
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

    /// What `parse` makes of a parameter's text, if it is given; its error is what the caller is told.
    pub fn parsed<T, E: Display>(&mut self, name: &'static str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let parsed = parse(&self.text(name)?);
        parsed.map_err(|error| self.errors.push(FieldError::new(name, error.to_string()))).ok()
    }

    /// A UUID, if it is given.
    pub fn id(&mut self, name: &'static str) -> Option<Uuid> {
        self.parsed(name, |text| Uuid::try_parse(text).map_err(|_| "must be a UUID"))
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

/// Names and values, decoded as forms write them (`+` is a space), byte for byte.
fn pairs(raw: &str) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    raw.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn decode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('+') {
        return percent_decode(text.as_bytes()).into();
    }
    percent_decode(text.replace('+', " ").as_bytes()).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(query: &str) -> (Option<String>, Vec<String>) {
        let uri = format!("/purchases?{query}").parse().unwrap();
        let mut query = Query::new(&uri);
        let text = query.text("userid");
        (text, query.errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn texts_are_read_as_forms_write_them() {
        for (query, expected) in [
            ("userid=ann", Some("ann")),
            ("limit=1&userid=a+b%2B%26%3D&x", Some("a b+&=")),
            ("user%69d=%C3%BC", Some("ü")),
            ("userid=", Some("")),
            ("userid", Some("")),
            ("userid=a=b", Some("a=b")),
            ("userid=100%", Some("100%")),
            ("", None),
            ("Userid=ann&%ff=x&x=%ff", None),
        ] {
            assert_eq!(read(query), (expected.map(str::to_owned), Vec::new()), "{query}");
        }
    }

    #[test]
    fn what_is_no_text_or_stands_twice_is_refused() {
        for query in ["userid=%ff", "userid=%C3", "userid=a%ED%A0%80", "userid=+%80"] {
            assert_eq!(read(query), (None, vec!["userid must be UTF-8".to_owned()]), "{query}");
        }
        assert_eq!(read("userid=a&userid=a").1, ["userid is given twice"]);
        assert_eq!(read("userid=a&user%69d=%ff").1, ["userid is given twice"]);
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read_back(text in any::<String>()) {
            let encoded = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC);
            prop_assert_eq!(read(&format!("a=b&userid={encoded}")), (Some(text), Vec::new()));
        }
    }
}
