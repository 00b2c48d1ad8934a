//! Exact prices: decimal digits from the request to the SQL column, never a binary float.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Digits allowed before the decimal point.
const INTEGER_DIGITS_MAX: i64 = 15;
/// Digits allowed after the decimal point.
const FRACTION_DIGITS_MAX: i64 = 4;
/// Exponents past this are not worth counting: no such value fits, whatever its digits.
const EXPONENT_MAX: i64 = 100_000;

/// An exact decimal amount; in JSON a number in canonical plain notation (`19.90` is written `19.9`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = f64, example = 1234.5)]
pub struct Amount(Decimal);

impl Amount {
    /// An amount from an exact decimal, for example a sum read from SQL.
    #[must_use]
    pub fn new(value: Decimal) -> Self {
        Self(value.normalize())
    }

    /// The decimal itself, for SQL.
    #[must_use]
    pub fn decimal(self) -> Decimal {
        self.0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A raw JSON value is the one way to hand serde_json digits without a float in between.
        RawValue::from_string(self.to_string()).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

/// The price of one purchase: greater than 0, at most 15 integer and 4 fraction digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = f64, exclusive_minimum = 0, exclusive_maximum = 1e15, multiple_of = 0.0001, example = 19.9)]
pub struct Price(Amount);

/// Why a text is not a price. The message is for the buyer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// Neither a JSON number nor a plain decimal string.
    #[error("must be a number, or a string of plain digits such as \"19.90\"")]
    NotANumber,
    /// Zero or below.
    #[error("must be greater than 0")]
    NotPositive,
    /// More than 15 digits before or 4 after the decimal point.
    #[error("must have at most 15 integer and 4 fraction digits")]
    OutOfRange,
}

impl Price {
    /// A price from a decimal that some store gives back.
    ///
    /// # Errors
    /// When the value breaks the rules of a price.
    pub fn new(value: Decimal) -> Result<Self, PriceError> {
        Self::parse_number(&value.to_string())
    }

    /// Parses one JSON value: a number in any notation (`1e3`, `1.00000`) or a string of plain digits.
    ///
    /// # Errors
    /// When it is of another type, not positive, or does not fit.
    pub fn parse_json(json: &str) -> Result<Self, PriceError> {
        match json.as_bytes().first() {
            Some(b'"') => {
                let text: String = serde_json::from_str(json).map_err(|_| PriceError::NotANumber)?;
                Self::parse_plain(&text)
            }
            Some(b'-' | b'0'..=b'9') => Self::parse_number(json),
            _ => Err(PriceError::NotANumber),
        }
    }

    /// Parses plain digits with an optional fraction: no sign, exponent, space or leading zero.
    fn parse_plain(text: &str) -> Result<Self, PriceError> {
        let (integer, fraction) = match text.split_once('.') {
            Some((integer, fraction)) => (integer, Some(fraction)),
            None => (text, None),
        };
        let plain =
            is_digits(integer) && (integer == "0" || !integer.starts_with('0')) && fraction.is_none_or(is_digits);
        if plain { Self::parse_number(text) } else { Err(PriceError::NotANumber) }
    }

    /// Parses the text of a number in JSON notation; its value must fit, its spelling may be long.
    fn parse_number(text: &str) -> Result<Self, PriceError> {
        if text.starts_with('-') {
            return Err(PriceError::NotPositive);
        }
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (text, 0),
        };
        let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if !is_digits(integer) || !(fraction.is_empty() || is_digits(fraction)) {
            return Err(PriceError::NotANumber);
        }
        let length = |digits: &str| i64::try_from(digits.len()).unwrap_or(i64::MAX);
        let scale = length(fraction).saturating_sub(exponent);
        Self::from_digits(integer.bytes().chain(fraction.bytes()), scale)
    }

    /// The value `digits × 10^-scale`, if it fits.
    fn from_digits(digits: impl Iterator<Item = u8>, mut scale: i64) -> Result<Self, PriceError> {
        let mut significant: Vec<u8> = digits.skip_while(|digit| *digit == b'0').collect();
        while significant.last() == Some(&b'0') {
            significant.pop();
            scale -= 1;
        }
        if significant.is_empty() {
            return Err(PriceError::NotPositive);
        }
        let count = i64::try_from(significant.len()).unwrap_or(i64::MAX);
        if scale > FRACTION_DIGITS_MAX || count.saturating_sub(scale) > INTEGER_DIGITS_MAX {
            return Err(PriceError::OutOfRange);
        }
        let mantissa = significant.iter().fold(0_i128, |value, digit| value * 10 + i128::from(digit - b'0'));
        let scaled_up = u32::try_from(-scale).unwrap_or(0);
        let value = Decimal::from_i128_with_scale(mantissa * 10_i128.pow(scaled_up), u32::try_from(scale).unwrap_or(0));
        Ok(Self(Amount(value)))
    }

    /// The decimal itself, for SQL.
    #[must_use]
    pub fn decimal(self) -> Decimal {
        self.0.decimal()
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn parse_exponent(text: &str) -> Result<i64, PriceError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !is_digits(digits) {
        return Err(PriceError::NotANumber);
    }
    // Digits too many for an i64 mean a value that is far out of range on either side.
    let value = digits.parse::<i64>().unwrap_or(EXPONENT_MAX).min(EXPONENT_MAX);
    Ok(if text.starts_with('-') { -value } else { value })
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse_json(raw.get()).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Decimal::from_str_exact(raw.get()).map(Self::new).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(json: &str) -> Result<String, PriceError> {
        Price::parse_json(json).map(|price| price.to_string())
    }

    #[test]
    fn any_notation_of_a_fitting_value_is_taken_exactly() {
        for (json, expected) in [
            ("10", "10"),
            ("1e3", "1000"),
            ("1.00000", "1"),
            ("19.90", "19.9"),
            ("\"19.90\"", "19.9"),
            ("0.0001", "0.0001"),
            ("999999999999999.9999", "999999999999999.9999"),
            ("0.000000000000000000000000000000000001e36", "1"),
            ("100000000000000000000000000000000000000e-38", "1"),
            ("1.0000000000000000000000000000000000000000", "1"),
            ("0.1", "0.1"),
        ] {
            assert_eq!(canonical(json).as_deref(), Ok(expected), "{json}");
        }
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for json in ["0", "0.0", "-1", "-0", "0e99999999999999999999"] {
            assert_eq!(canonical(json), Err(PriceError::NotPositive), "{json}");
        }
        for json in ["1e400", "1000000000000000", "0.00001", "1e-5", "1e99999999999999999999", "\"1.00001\""] {
            assert_eq!(canonical(json), Err(PriceError::OutOfRange), "{json}");
        }
        for json in [
            "true", "null", "{}", "[]", "\"\"", "\" 1\"", "\"+1\"", "\"1e3\"", "\"01\"", "\"1.\"", "\".5\"", "\"NaN\"",
            "NaN",
        ] {
            assert_eq!(canonical(json), Err(PriceError::NotANumber), "{json}");
        }
    }

    proptest! {
        #[test]
        fn digits_survive_the_way_through_json(units in 1_u64..=9_999_999_999_999_999_999) {
            let text = format!("{}.{:04}", units / 10_000, units % 10_000);
            let price = Price::parse_json(&text).unwrap();
            let json = serde_json::to_string(&price).unwrap();
            let back: Price = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(back, price);
            prop_assert_eq!(price.decimal() * Decimal::from(10_000), Decimal::from(units));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}|[-+0-9.eE\"]{0,60}") {
            let _ = Price::parse_json(&text);
        }
    }
}
