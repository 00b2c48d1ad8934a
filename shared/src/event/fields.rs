//! Reading the fields of a purchase from JSON: every bad field is found at once.

mod object;

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde_json::error::Category;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::callbacks::CallbackUrl;
use crate::price::Price;

/// The longest name, in Unicode scalar values.
const NAME_LENGTH_MAX: usize = 256;

/// What is wrong with one field; the message is for the sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema, thiserror::Error)]
#[error("{field} {message}")]
pub struct FieldError {
    /// The field's name in the JSON.
    pub field: Cow<'static, str>,
    /// What it has to be.
    pub message: Cow<'static, str>,
}

impl FieldError {
    /// A complaint about `field`.
    pub fn new(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Why bytes cannot be read as a purchase at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not UTF-8, or no JSON.
    #[error("not valid JSON: {0}")]
    NotJson(String),
    /// JSON, but not one object with each name once.
    #[error("{0}")]
    NotAnObject(String),
}

/// The raw JSON values of a purchase's fields. Unknown fields are ignored, duplicate names refused.
#[derive(Debug, Default)]
pub struct PurchaseFields<'a> {
    username: Option<&'a RawValue>,
    userid: Option<&'a RawValue>,
    price: Option<&'a RawValue>,
    idempotency_key: Option<&'a RawValue>,
    purchase_id: Option<&'a RawValue>,
    timestamp: Option<&'a RawValue>,
    callback_url: Option<&'a RawValue>,
}

impl<'a> PurchaseFields<'a> {
    /// Splits one JSON object into its fields.
    ///
    /// # Errors
    /// When the bytes are not a JSON object with each name at most once.
    pub fn parse(json: &'a [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(json).map_err(|_| Malformed::NotJson("not UTF-8".to_owned()))?;
        serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Data => Malformed::NotAnObject(brief(&error)),
            _ => Malformed::NotJson(brief(&error)),
        })
    }

    /// The field `username`, or nothing and a complaint in `errors`.
    pub fn username(&self, errors: &mut Vec<FieldError>) -> Option<String> {
        name("username", self.username, errors)
    }

    /// The field `userid`, or nothing and a complaint in `errors`.
    pub fn userid(&self, errors: &mut Vec<FieldError>) -> Option<String> {
        name("userid", self.userid, errors)
    }

    /// The field `price`, or nothing and a complaint in `errors`.
    pub fn price(&self, errors: &mut Vec<FieldError>) -> Option<Price> {
        let Some(raw) = self.price else {
            errors.push(FieldError::new("price", "is required"));
            return None;
        };
        Price::parse_json(raw.get()).map_err(|error| errors.push(FieldError::new("price", error.to_string()))).ok()
    }

    /// The text of an optional field, parsed by `parse`; absent and `null` are the same.
    fn optional<T, E: fmt::Display>(
        field: &'static str,
        raw: Option<&RawValue>,
        parse: impl FnOnce(&str) -> Result<T, E>,
        errors: &mut Vec<FieldError>,
    ) -> Option<T> {
        let raw = raw.filter(|raw| raw.get() != "null")?;
        let parsed = match serde_json::from_str::<String>(raw.get()) {
            Ok(text) => parse(&text).map_err(|error| error.to_string()),
            Err(_) => Err("must be a string".to_owned()),
        };
        parsed.map_err(|message| errors.push(FieldError::new(field, message))).ok()
    }

    /// The field `idempotency_key` of a batch item.
    pub fn idempotency_key(&self, errors: &mut Vec<FieldError>) -> Option<super::IdempotencyKey> {
        Self::optional("idempotency_key", self.idempotency_key, super::IdempotencyKey::parse, errors)
    }

    /// The field `purchase_id` of a record.
    pub fn purchase_id(&self, errors: &mut Vec<FieldError>) -> Option<uuid::Uuid> {
        let parse = |text: &str| uuid::Uuid::try_parse(text).map_err(|_| "must be a UUID");
        Self::optional("purchase_id", self.purchase_id, parse, errors)
    }

    /// Whether somebody is to be called back; absent and `null` are the same.
    #[must_use]
    pub fn wants_callback(&self) -> bool {
        self.callback_url.is_some_and(|raw| raw.get() != "null")
    }

    /// The field `callback_url`, as `parse` takes it.
    pub fn callback_url<E: fmt::Display>(
        &self,
        parse: impl FnOnce(&str) -> Result<CallbackUrl, E>,
        errors: &mut Vec<FieldError>,
    ) -> Option<CallbackUrl> {
        Self::optional("callback_url", self.callback_url, parse, errors)
    }

    /// The field `timestamp` of a record.
    pub fn timestamp(&self, errors: &mut Vec<FieldError>) -> Option<super::Timestamp> {
        Self::optional("timestamp", self.timestamp, super::Timestamp::parse, errors)
    }
}

/// What a JSON parser says, cut short: it may repeat all of a sender's text, and answers and log lines must not grow with it.
#[must_use]
pub fn brief(error: &serde_json::Error) -> String {
    const BYTES_MAX: usize = 200;
    let mut text = error.to_string();
    if text.len() > BYTES_MAX {
        text.truncate(text.floor_char_boundary(BYTES_MAX));
        text.push('…');
    }
    text
}

fn name(field: &'static str, raw: Option<&RawValue>, errors: &mut Vec<FieldError>) -> Option<String> {
    let parsed = match raw {
        None => Err("is required"),
        Some(raw) => match serde_json::from_str::<String>(raw.get()) {
            Ok(text) => check_name(&text).map(|()| text),
            Err(_) => Err("must be a string"),
        },
    };
    parsed.map_err(|message| errors.push(FieldError::new(field, message))).ok()
}

/// Whether a text may be a username or a userid.
///
/// # Errors
/// What it has to be instead.
pub fn check_name(text: &str) -> Result<(), &'static str> {
    if text.len() > NAME_LENGTH_MAX && text.chars().count() > NAME_LENGTH_MAX {
        return Err("must have at most 256 characters");
    }
    if text.chars().any(char::is_control) {
        return Err("must not have control characters");
    }
    if text.trim().is_empty() {
        return Err("must not be empty or only white space");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn complaints(json: &str) -> Vec<String> {
        let mut errors = Vec::new();
        match PurchaseFields::parse(json.as_bytes()) {
            Ok(fields) => {
                fields.username(&mut errors);
                fields.userid(&mut errors);
                fields.price(&mut errors);
                errors.iter().map(ToString::to_string).collect()
            }
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let found = complaints(r#"{"username":" ","userid":7,"price":true}"#);
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(complaints("{}"), ["username is required", "userid is required", "price is required"]);
    }

    #[test]
    fn any_script_passes_and_control_characters_do_not() {
        let good = format!(r#"{{"username":"Ωmega 漢字 👩‍💻","userid":"{}","price":1}}"#, "é".repeat(256));
        assert_eq!(complaints(&good), Vec::<String>::new());
        assert_eq!(complaints(r#"{"username":"a\u0000b","userid":"\u0085","price":1}"#).len(), 2);
        let long = format!(r#"{{"username":"{}","userid":"u","price":1}}"#, "x".repeat(257));
        assert_eq!(complaints(&long), ["username must have at most 256 characters"]);
    }

    #[test]
    fn a_complaint_does_not_repeat_what_was_sent() {
        let json = format!("\"{}\"", "é".repeat(1_000_000));
        let Err(Malformed::NotAnObject(error)) = PurchaseFields::parse(json.as_bytes()) else { panic!("taken") };
        assert!(error.len() < 250, "{} bytes", error.len());
    }

    #[test]
    fn what_is_no_json_is_told_from_what_is_no_object() {
        for json in ["", "{", "nope", "{\"userid\":\"\\ud800\"", "{} x"] {
            assert!(matches!(PurchaseFields::parse(json.as_bytes()), Err(Malformed::NotJson(_))), "{json}");
        }
        assert!(matches!(PurchaseFields::parse(b"[1]"), Err(Malformed::NotAnObject(_))));
        assert!(matches!(PurchaseFields::parse(&[0xff, 0xfe]), Err(Malformed::NotJson(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = PurchaseFields::parse(&bytes);
        }

        #[test]
        fn names_read_back_as_sent(text in "\\PC{0,300}") {
            let json = serde_json::json!({ "username": text, "userid": "u", "price": 1 }).to_string();
            let fields = PurchaseFields::parse(json.as_bytes()).unwrap();
            let mut errors = Vec::new();
            if let Some(read) = fields.username(&mut errors) {
                prop_assert_eq!(read, text);
            } else {
                prop_assert_eq!(errors.len(), 1);
            }
        }
    }
}
