//! The bodies that are about keys.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use shared::api_keys::{RATE_MAX, Scope};
use shared::event::{FieldError, Timestamp};
use shared::http::Problem;
use uuid::Uuid;

use crate::accounts::{KeyWish, parse_key_name};
use crate::routes::accounts::object;

/// The longest that an old secret may count beside the new one, in seconds, and how long it does when nobody says.
pub const OVERLAP_SECONDS: (u32, u32) = (604_800, 3_600);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Given<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    scopes: Option<&'a RawValue>,
    #[serde(borrow)]
    expires_at: Option<&'a RawValue>,
    #[serde(borrow)]
    rate_per_second: Option<&'a RawValue>,
    #[serde(borrow)]
    overlap_seconds: Option<&'a RawValue>,
}

/// Reads what somebody wants of a new key.
pub(super) fn parse_wish(account_id: Uuid, json: &[u8]) -> Result<KeyWish, Problem> {
    let given: Given<'_> = object(json)?;
    let mut errors = Vec::new();
    let mut take = |name, error: String| errors.push(FieldError::new(name, error));
    let name = match field::<String>(given.name) {
        None => Err("is required".to_owned()),
        Some(Err(_)) => Err("must be a string".to_owned()),
        Some(Ok(name)) => parse_key_name(&name),
    };
    let name = name.map_err(|error| take("name", error)).ok();
    let scopes = match field::<Vec<Scope>>(given.scopes) {
        None => vec![Scope::Buy, Scope::Read],
        Some(Ok(mut scopes)) if !scopes.is_empty() => {
            scopes.sort_unstable();
            scopes.dedup();
            scopes
        }
        Some(_) => {
            take("scopes", "must be a list of buy, read or service".to_owned());
            Vec::new()
        }
    };
    let expires_at = field::<Timestamp>(given.expires_at).and_then(|time| {
        time.map_err(|_| take("expires_at", "must be an RFC 3339 time such as 2026-01-31T12:00:00.000Z".to_owned()))
            .ok()
    });
    let rate_per_second = field::<u32>(given.rate_per_second).and_then(|rate| {
        let rate = rate.ok().filter(|rate| (1..=RATE_MAX).contains(rate));
        if rate.is_none() {
            take("rate_per_second", format!("must be a whole number from 1 to {RATE_MAX}"));
        }
        rate
    });
    match name {
        Some(name) if errors.is_empty() => Ok(KeyWish { account_id, name, scopes, expires_at, rate_per_second }),
        _ => Err(Problem::invalid(errors)),
    }
}

/// Reads how many seconds an old secret counts on.
pub(super) fn parse_overlap(json: &[u8]) -> Result<u32, Problem> {
    let (longest, default) = OVERLAP_SECONDS;
    let seconds = field::<u32>(object::<Given<'_>>(json)?.overlap_seconds).unwrap_or(Ok(default));
    seconds.ok().filter(|seconds| *seconds <= longest).ok_or_else(|| {
        let message = format!("must be a whole number from 0 to {longest}");
        Problem::invalid(vec![FieldError::new("overlap_seconds", message)])
    })
}

/// A field's value, if it is given and is one.
fn field<T: DeserializeOwned>(raw: Option<&RawValue>) -> Option<serde_json::Result<T>> {
    Some(serde_json::from_str(raw?.get()))
}
