//! A batch's items as they came.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use shared::event::{FieldError, brief};
use shared::http::Problem;

/// The most purchases of one batch.
const ITEMS_MAX: usize = 500;

/// The items of a body; complaints so far are in `errors`.
///
/// # Errors
/// 400 with every complaint.
pub(super) fn parse_items(body: &[u8], mut errors: Vec<FieldError>) -> Result<Vec<&RawValue>, Problem> {
    match serde_json::from_slice::<Items>(body) {
        Ok(Items(items)) if errors.is_empty() => return Ok(items),
        Ok(_) => {}
        Err(error) if error.classify() == Category::Data => {
            let message = format!("must be an array of 1 to {ITEMS_MAX} purchases: {}", brief(&error));
            errors.push(FieldError::new("body", message));
        }
        Err(error) => errors.push(FieldError::new("body", format!("is not valid JSON: {}", brief(&error)))),
    }
    Err(Problem::invalid(errors))
}

/// Reading stops at the first one too many.
struct Items<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor)
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == ITEMS_MAX {
                return Err(A::Error::custom("there are more"));
            }
            items.push(item);
        }
        if items.is_empty() { Err(A::Error::custom("there are none")) } else { Ok(Items(items)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_items(&body, Vec::new());
        }

        #[test]
        fn exactly_1_to_500_items_are_a_batch(count in 0_usize..600, item in "[0-9]{1,3}|\"[a-z]*\"|\\{\\}|\\[\\]") {
            let item = item.trim_start_matches('0');
            let item = if item.is_empty() { "0" } else { item };
            let body = format!("[{}]", vec![item; count].join(" ,\n"));
            match parse_items(body.as_bytes(), Vec::new()) {
                Ok(items) => prop_assert!(items.len() == count && items.iter().all(|raw| raw.get() == item)),
                Err(_) => prop_assert!(!(1..=ITEMS_MAX).contains(&count)),
            }
        }
    }
}
