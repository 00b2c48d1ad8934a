//! What buyers send, checked: every bad field and header is named at once.

use http::{HeaderMap, header};
use shared::event::{
    FieldError, IdempotencyKey, Malformed, Purchase, PurchaseFields, Timestamp, new_purchase_id, purchase_id_for_key,
};
use shared::http::Problem;

use crate::callbacks::Callbacks;

/// Whoever asks before it sends its body is told at once what is wrong with the head, instead of being invited.
///
/// # Errors
/// 400 with every bad header.
pub fn refuse_before_body(headers: &HeaderMap, errors: &[FieldError]) -> Result<(), Problem> {
    if headers.contains_key(header::EXPECT) && !errors.is_empty() {
        Err(Problem::invalid(errors.to_vec()))
    } else {
        Ok(())
    }
}

/// Reads one purchase from a JSON object. `key` may look at the fields; complaints so far are in `errors`.
///
/// # Errors
/// 400 with every bad field.
pub fn parse_purchase(
    json: &[u8],
    callbacks: &Callbacks,
    mut errors: Vec<FieldError>,
    key: impl FnOnce(&PurchaseFields<'_>, &mut Vec<FieldError>) -> Option<IdempotencyKey>,
) -> Result<Purchase, Problem> {
    let fields = match PurchaseFields::parse(json) {
        Ok(fields) => fields,
        Err(malformed) => {
            errors.push(body_error(&malformed));
            return Err(Problem::invalid(errors));
        }
    };
    let username = fields.username(&mut errors);
    let userid = fields.userid(&mut errors);
    let price = fields.price(&mut errors);
    let callback_url = fields.callback_url(|text| callbacks.parse(text).map_err(|error| error.message), &mut errors);
    let key = key(&fields, &mut errors);
    match (username, userid, price) {
        (Some(username), Some(userid), Some(price)) if errors.is_empty() => Ok(Purchase {
            purchase_id: key.map_or_else(new_purchase_id, |key| purchase_id_for_key(&userid, &key)),
            userid,
            username,
            price,
            timestamp: Timestamp::now(),
            recorded_at: None,
            callback_url,
        }),
        _ => Err(Problem::invalid(errors)),
    }
}

fn body_error(malformed: &Malformed) -> FieldError {
    let message = match malformed {
        Malformed::NotJson(_) => format!("is {malformed}"),
        Malformed::NotAnObject(_) => format!("must be a JSON object with each name once: {malformed}"),
    };
    FieldError::new("body", message)
}

/// The header `Idempotency-Key`; complaints about it go to `errors`.
pub fn idempotency_key(headers: &HeaderMap, errors: &mut Vec<FieldError>) -> Option<IdempotencyKey> {
    let mut values = headers.get_all("idempotency-key").iter();
    let first = values.next()?;
    let parsed = match first.to_str().map(IdempotencyKey::parse) {
        Ok(Ok(key)) if values.next().is_none() => Ok(key),
        Ok(Ok(_)) => Err("is given twice".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("must be 1 to 255 visible ASCII characters".to_owned()),
    };
    parsed.map_err(|message| errors.push(FieldError::new("Idempotency-Key", message))).ok()
}
