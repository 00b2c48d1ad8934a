//! What one purchase and a batch of them have in common, from the parsed body to the stored row.

use std::time::{Duration, Instant};

use http::request::Parts;
use serde_json::value::RawValue;
use shared::event::{FieldError, IdempotencyKey, Purchase};
use shared::http::{Problem, RequestContext, kinds, parse_wait};
use uuid::Uuid;

use super::input::idempotency_key;
use crate::management_client::calls::Place;
use crate::metrics::Refusal;
use crate::publisher::{NotPublished, Publishing, PurchaseRecord};
use crate::shedding::Slot;
use crate::state::App;

/// When a caller whose purchase failed may try again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The pause before a wait that ended too early is begun again.
const WAIT_AGAIN: Duration = Duration::from_millis(100);

/// A request that brings purchases.
pub struct Intake<'a> {
    app: &'a App,
    started: Instant,
    /// Names the request.
    pub context: RequestContext,
    /// The header `Idempotency-Key`.
    pub key: Option<IdempotencyKey>,
    wait: Option<Duration>,
}

/// What became of a purchase that was taken.
pub enum Taken {
    /// It is in Kafka.
    Accepted,
    /// It is in the database: this is the stored one, maybe of an earlier request with the same key.
    Recorded(Purchase),
}

/// How long a buyer waits for the record, and the places that this takes.
pub struct Wait<'a> {
    duration: Duration,
    places: Place<'a>,
}

impl<'a> Intake<'a> {
    /// Begins with a request's head; complaints about its headers go to `errors`.
    pub fn new(app: &'a App, parts: &mut Parts, errors: &mut Vec<FieldError>) -> Self {
        let context = parts.extensions.remove::<RequestContext>();
        let wait = parse_wait(&parts.headers).unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        Self {
            app,
            started: Instant::now(),
            context: context.unwrap_or_else(|| RequestContext::new(&parts.extensions, &parts.headers)),
            key: idempotency_key(&parts.headers, errors),
            wait: app.recording_wait(wait),
        }
    }

    /// Takes places among the waiting buyers for so many purchases, before any is sent; nothing when the caller does not wait,
    /// or too many wait already.
    ///
    /// # Errors
    /// 503 when only a stored purchase may be confirmed and there is no place to wait for it.
    pub fn reserve_wait(&self, purchases: usize) -> Result<Option<Wait<'a>>, Problem> {
        let Some(duration) = self.wait else { return Ok(None) };
        match self.app.management.buyer_places(purchases) {
            None if self.app.config.always_wait => Err(self.app.refuse(Refusal::InFlight)),
            places => Ok(places.map(|places| Wait { duration, places })),
        }
    }

    /// Sends a purchase, whose JSON is `json`, and which this API key buys, if one does.
    pub fn send(&self, purchase: &Purchase, json: &RawValue, key_id: Option<Uuid>) -> Publishing {
        self.app.read_cache.buys(&purchase.userid);
        let record = PurchaseRecord { purchase, value: json.get().as_bytes(), trace: self.context.trace, key_id };
        self.app.publisher.publish(record)
    }

    /// What the caller is told of a purchase that has no receipt: 503 when it is certainly not in Kafka, 504 when nobody knows.
    pub fn not_published(&self, purchase_id: Uuid, error: &NotPublished) -> Problem {
        match error {
            NotPublished::Refused(reason) => self.app.refuse(*reason),
            NotPublished::Failed(_) => Problem::unavailable(
                "Kafka did not take the purchase; it is not stored: try again",
                RETRY_AFTER_SECONDS,
            ),
            NotPublished::Unknown(_) => outcome_unknown(purchase_id, "Kafka has not confirmed it in time"),
        }
    }

    /// Waits, as far as the caller wants to, until the published purchases are recorded; gives those that are. The place among
    /// the requests in flight is free for other buyers meanwhile, unless a purchase counts only once it is stored. Each id stands
    /// once in `purchase_ids`.
    pub async fn recorded(&self, purchase_ids: &[Uuid], wait: Option<Wait<'_>>, slot: Slot) -> Vec<Purchase> {
        let _slot = self.app.config.always_wait.then_some(slot);
        let Some(wait) = wait else { return Vec::new() };
        // In a box: most callers do not wait, and would move its kilobyte about for nothing.
        if self.app.config.always_wait {
            return Box::pin(self.wait_until_recorded(purchase_ids, &wait)).await;
        }
        tokio::select! {
            purchases = Box::pin(self.wait_once(purchase_ids, &wait)) => purchases,
            // A server that ends does not make its callers wait: "accepted" is true already.
            () = self.app.shutdown.stopped() => Vec::new(),
        }
    }

    async fn wait_once(&self, purchase_ids: &[Uuid], wait: &Wait<'_>) -> Vec<Purchase> {
        let remaining = wait.duration.saturating_sub(self.started.elapsed());
        if remaining.is_zero() || purchase_ids.is_empty() {
            return Vec::new();
        }
        self.app.management.wait(purchase_ids, remaining, &wait.places, &self.context).await
    }

    /// Where nothing less than a stored purchase can be confirmed, a wait that ended before its time is begun again.
    async fn wait_until_recorded(&self, purchase_ids: &[Uuid], wait: &Wait<'_>) -> Vec<Purchase> {
        loop {
            let recorded = self.wait_once(purchase_ids, wait).await;
            let remaining = wait.duration.saturating_sub(self.started.elapsed());
            if recorded.len() >= purchase_ids.len() || remaining.is_zero() {
                return recorded;
            }
            tokio::time::sleep(WAIT_AGAIN.min(remaining)).await;
        }
    }

    /// What to tell of a published purchase whose row, if there is one by now, is `stored`.
    ///
    /// # Errors
    /// 422 when the id stands for other content; 504 when only a stored purchase may be confirmed and it is not.
    pub fn settle(&self, purchase: &Purchase, stored: Option<Purchase>) -> Result<Taken, Problem> {
        // Once more: sending and waiting may have taken longer than a buyer is remembered.
        self.app.read_cache.buys(&purchase.userid);
        match stored {
            Some(stored) if stored.same_content(purchase) => Ok(Taken::Recorded(stored)),
            Some(_) => Err(Problem::new(
                kinds::KEY_CONFLICT,
                "this idempotency key already stands for a purchase with other content",
            )),
            None if self.app.config.always_wait => {
                Err(outcome_unknown(purchase.purchase_id, "it is not recorded in time"))
            }
            None => Ok(Taken::Accepted),
        }
    }
}

fn outcome_unknown(purchase_id: Uuid, reason: &str) -> Problem {
    let advice = "it may still be stored; repeating it with the same Idempotency-Key is safe";
    Problem::new(kinds::OUTCOME_UNKNOWN, format!("the purchase was sent, but {reason}: {advice}"))
        .with("purchase_id", purchase_id.to_string())
}
