//! The purchase event: its types, the rules of its fields, and its form as a Kafka record.

mod fields;
mod identity;
mod record;
mod timestamp;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

pub use self::fields::{FieldError, Malformed, PurchaseFields, brief, check_name};
pub use self::identity::{
    IdempotencyKey, InvalidIdempotencyKey, new_purchase_id, purchase_id_for_key, purchase_id_for_position,
};
pub use self::record::{
    Decoded, Poison, PoisonReason, RecordPosition, decode_record, encode_record, purchase_json, record_headers,
};
pub use self::timestamp::{STORABLE_MILLIS, Timestamp};
use crate::callbacks::CallbackUrl;
use crate::price::{Amount, Price};

/// One accepted purchase. `userid` and `username` are 1 to 256 characters, `price` is exact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Purchase {
    /// Names the purchase; the same for every repeat of an idempotency key.
    pub purchase_id: Uuid,
    /// Who buys, and the key of the Kafka record.
    #[schema(min_length = 1, max_length = 256)]
    pub userid: String,
    /// The buyer's name as sent.
    #[schema(min_length = 1, max_length = 256)]
    pub username: String,
    /// Exact decimal price.
    pub price: Price,
    /// When the purchase was accepted: UTC, milliseconds.
    pub timestamp: Timestamp,
    /// When it was committed to the database; absent until it is read back from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub recorded_at: Option<Timestamp>,
    /// Where to call back once it is recorded; part of the content, and only the buyer's affair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, nullable = false)]
    pub callback_url: Option<CallbackUrl>,
}

impl Purchase {
    /// Whether `other` is a repeat of this purchase rather than another use of its id.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self.userid == other.userid
            && self.username == other.username
            && self.price == other.price
            && self.callback_url == other.callback_url
    }

    /// The same for others than the buyer: without the URL to call back, which may have a secret in it.
    #[must_use]
    pub fn for_readers(self) -> Self {
        Self { callback_url: None, ..self }
    }
}

/// All of a user's purchases in short, and the newest of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserPurchases {
    /// Whose purchases.
    pub userid: String,
    /// Newest first, at most as many as asked for.
    pub purchases: Vec<Purchase>,
    /// How many purchases the user has in all.
    pub count: u64,
    /// The exact sum of all their prices.
    pub total_spent: Amount,
}

/// One page of purchases, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurchasePage {
    /// The purchases of this page.
    pub purchases: Vec<Purchase>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}
