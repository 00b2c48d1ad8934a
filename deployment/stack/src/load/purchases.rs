//! What is bought: purchases that can be told apart afterwards, or one and the same body.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::LoadPlan;

/// The one purchase that the load test of the autoscaling guide sends, again and again: all of one user.
pub const GUIDE_BODY: &str = r#"{"username":"test","userid":"loadtest","price":10}"#;

/// Where purchases come from.
#[derive(Debug, Clone)]
pub enum Purchases {
    /// Each has a user name of its own, by which its row is found again, and a key; kept in the ledger.
    Unique {
        /// Tells this load's purchases from another's.
        tag: String,
        /// Over how many userids they are spread.
        users: u64,
        /// Whether an `Idempotency-Key` is sent.
        with_key: bool,
    },
    /// This body again and again, without a key; nothing is kept but counts.
    Same {
        /// The JSON body.
        body: String,
    },
}

/// One purchase to send.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub username: String,
    pub userid: String,
    pub price: Decimal,
    pub key: Option<String>,
}

impl Purchases {
    /// The guide's purchase, again and again.
    pub fn of_the_guide() -> Self {
        Self::Same { body: GUIDE_BODY.to_owned() }
    }

    /// Unique purchases of `users` users, with keys.
    pub fn unique(users: u64) -> Self {
        Self::Unique { tag: Uuid::new_v4().simple().to_string(), users, with_key: true }
    }

    /// Who buys; nobody when all are the same.
    #[must_use]
    pub fn userids(&self) -> Vec<String> {
        match self {
            Self::Unique { tag, users, .. } => (0..*users).map(|user| userid(user, tag)).collect(),
            Self::Same { .. } => Vec::new(),
        }
    }

    /// The purchase with this number; none when all are the same.
    pub(super) fn order(&self, number: u64) -> Option<Order> {
        let Self::Unique { tag, users, with_key } = self else { return None };
        Some(Order {
            // Beyond ASCII on purpose: what is stored must be what was sent.
            username: format!("Zoë {number} {tag}"),
            userid: userid(number % users, tag),
            price: price(number),
            key: with_key.then(|| format!("{tag}-{number}")),
        })
    }
}

fn userid(user: u64, tag: &str) -> String {
    format!("user {user} {}", &tag[..tag.len().min(8)])
}

impl Order {
    /// The JSON body, with the price's digits as they are.
    pub(super) fn body(&self, callback_url: Option<&str>) -> String {
        let [username, userid] = [&self.username, &self.userid].map(|text| serde_json::Value::from(text.as_str()));
        let url = callback_url.map(|url| format!(r#","callback_url":"{url}""#)).unwrap_or_default();
        format!(r#"{{"username":{username},"userid":{userid},"price":{}{url}}}"#, self.price)
    }
}

/// A whole request for `POST /buy`.
pub(super) fn request(body: &str, key: Option<&str>, plan: &LoadPlan) -> Vec<u8> {
    let key = key.map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
    let prefer = plan.prefer_wait_seconds.map(|seconds| format!("Prefer: wait={seconds}\r\n")).unwrap_or_default();
    let api_key = plan.api_key.as_ref().map(|key| format!("X-API-Key: {key}\r\n")).unwrap_or_default();
    let length = body.len();
    format!(
        "POST /buy HTTP/1.1\r\nHost: stack\r\nContent-Type: application/json\r\n{key}{prefer}{api_key}Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A text as one part of a path.
pub(crate) fn path_part(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Prices of all shapes: 0 to 4 fraction digits, from a hundredth of a cent to ten millions.
fn price(number: u64) -> Decimal {
    let digits = i64::try_from(number.wrapping_mul(7919) % 10_000_000).unwrap_or(0) + 1;
    let scale = u32::try_from(number % 5).unwrap_or(0);
    Decimal::new(digits, scale)
}
