//! One callback on its way.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use shared::event::{Purchase, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

/// A callback on its way.
#[derive(Clone, Debug)]
pub struct PendingCallback {
    /// The purchase, with where to call back.
    pub purchase: Purchase,
    /// Whom it is for.
    pub host: Arc<str>,
    /// How often it was tried before.
    pub attempts: u32,
    /// For how long it had been tried when it was claimed.
    pub tried_before: Duration,
    /// When it was claimed.
    pub claimed_at: Instant,
    /// When an attempt must have begun: later, others may have taken it over before it ends.
    pub begin_by: Instant,
    /// Whether it is to find out how its host is, which fails.
    pub is_trial: bool,
    /// The outbox's row that it is in; one that was tried before is in none.
    pub batch_id: Option<Uuid>,
}

impl PendingCallback {
    /// For how long it has been tried.
    #[must_use]
    pub fn tried_for(&self, now: Instant) -> Duration {
        self.tried_before + now.duration_since(self.claimed_at)
    }

    /// When the purchase was recorded.
    #[must_use]
    pub fn recorded_at(&self) -> Timestamp {
        self.purchase.recorded_at.unwrap_or(self.purchase.timestamp)
    }

    /// What is sent: the same with each attempt.
    ///
    /// # Panics
    /// Never: a purchase is always JSON.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let (timestamp, data) = (self.recorded_at(), self.purchase.clone().for_readers());
        let event = Event { r#type: "purchase.recorded", timestamp, data };
        serde_json::to_vec(&event).expect("a purchase is always JSON")
    }
}

/// The body of a callback.
#[derive(Serialize)]
struct Event {
    r#type: &'static str,
    timestamp: Timestamp,
    data: Purchase,
}

#[cfg(test)]
pub(super) mod tests {
    use shared::callbacks::CallbackUrl;
    use shared::event::new_purchase_id;
    use shared::price::Price;

    use super::*;

    pub(in super::super) fn callback(host: &str) -> PendingCallback {
        let recorded_at = Timestamp::from_millis(1_700_000_000_123);
        let purchase = Purchase {
            purchase_id: new_purchase_id(),
            userid: "u".to_owned(),
            username: "n".to_owned(),
            price: Price::parse_json("1.5").expect("it is a price"),
            timestamp: Timestamp::from_millis(1_700_000_000_000).expect("it is a time"),
            recorded_at,
            callback_url: CallbackUrl::from_stored(&format!("https://{host}/done?secret")),
        };
        PendingCallback {
            purchase,
            host: host.into(),
            attempts: 0,
            tried_before: Duration::ZERO,
            claimed_at: Instant::now(),
            begin_by: Instant::now() + Duration::from_secs(20),
            is_trial: false,
            batch_id: None,
        }
    }

    #[tokio::test]
    async fn the_body_says_what_was_recorded_and_not_where_it_goes() {
        let callback = callback("shop.example");
        let body = String::from_utf8(callback.body()).expect("it is text");
        let id = callback.purchase.purchase_id;
        let expected = format!(
            r#"{{"type":"purchase.recorded","timestamp":"2023-11-14T22:13:20.123Z","data":{{"purchase_id":"{id}","userid":"u","username":"n","price":1.5,"timestamp":"2023-11-14T22:13:20.000Z","recorded_at":"2023-11-14T22:13:20.123Z"}}}}"#
        );
        assert_eq!(body, expected);
    }
}
