//! `POST /buy/batch`: up to 500 purchases, each with its own outcome.

mod items;

use std::collections::HashMap;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::join_all;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::value::RawValue;
use shared::api_keys::RequestClass;
use shared::event::{Purchase, purchase_json};
use shared::http::{AnswerRoom, Problem, ProblemBody, kinds, read_json_body};
use utoipa::ToSchema;
use uuid::Uuid;

use self::items::parse_items;
use super::buy::{BuyHeaders, BuyProblems, BuyRequest};
use super::input::{parse_purchase, refuse_before_body};
use super::intake::{Intake, Taken, Wait};
use super::limited::charge;
use super::recent_purchase;
use crate::access::Asker;
use crate::publisher::{NotPublished, Publishing, Receipt};
use crate::shedding::Slot;
use crate::state::{App, AppState};

/// The most that is told of an item that was sent.
const OUTCOME_BYTES_MAX: usize = 768;

/// An item of a batch.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct BatchItem {
    #[serde(flatten)]
    purchase: BuyRequest,
    /// The same key and userid always give the same purchase, stored once.
    #[schema(min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    idempotency_key: Option<String>,
}

/// Up to 500 purchases.
#[derive(ToSchema)]
#[schema(min_items = 1, max_items = 500)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct BatchRequest(Vec<BatchItem>);

/// The outcome of each item, in the order of the batch.
#[derive(Serialize, ToSchema)]
pub struct BatchAnswer<'a> {
    results: Vec<ItemResult<'a>>,
}

/// The outcome of one item.
#[derive(Serialize, ToSchema)]
pub struct ItemResult<'a> {
    /// The item's place in the batch, from 0.
    index: usize,
    /// The HTTP status that the item alone would have had.
    status: u16,
    /// With a 2xx status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    purchase_id: Option<Uuid>,
    /// With any other status: the problem object that the item alone would have been answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<ProblemBody<'a>>,
}

/// Buys a batch: each item has its own outcome, and `Prefer: wait` holds for all of them.
#[utoipa::path(
    post, path = "/buy/batch", tag = "buying", security((), ("access_token" = []), ("api_key" = [])),
    params(BuyHeaders),
    request_body(content = BatchRequest, description = "At most 8 MiB. A header `Idempotency-Key: K` stands for \
        `K:INDEX` on each item without its own"),
    responses(
        (status = 202, description = "All were accepted", body = BatchAnswer),
        (status = 201, description = "All were recorded", body = BatchAnswer),
        (status = 207, description = "Outcomes differ, or none is good: see each item", body = BatchAnswer),
        BuyProblems,
    )
)]
pub async fn buy_batch(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    let admission = app.admit_batch()?;
    let (mut parts, body) = request.into_parts();
    let mut errors = Vec::new();
    let intake = Intake::new(&app, &mut parts, &mut errors);
    refuse_before_body(&parts.headers, &errors)?;
    let asker = app.asker_for(RequestClass::Batch, &parts.extensions)?;
    let body = read_json_body(&parts.headers, body, app.config.batch_body(), &app.budget).await?;
    app.callbacks.prepare(&body).await?;
    let slot = admission.enter()?;
    let items = parse_items(&body, errors)?;
    charge(&app, &parts, items.len())?;
    app.check_admission()?;
    let wait = intake.reserve_wait(items.len())?;
    let purchases = parse_all(&app, &intake, &asker, &items);
    drop(body);
    // A caller who reads nothing makes the service hold the answer: nothing is sent that cannot be told.
    let room = app.budget.reserve_answer(answer_bytes_max(&purchases, intake.context.request_id()))?;
    // All are handed to the producer before the first delivery report is awaited.
    let sending = join_all(send_all(&intake, &purchases, asker.key_id())).boxed();
    let (published, slot) = slot.hold(sending, |published| is_served(published)).await;
    let purchases = confirm_all(&intake, purchases, published);
    let taken = settle_all(&intake, purchases, wait, slot).await;
    let mut response = answer(&taken, intake.context.request_id(), room);
    recent_purchase::mark(&app, response.headers_mut());
    Ok(response)
}

/// Kafka has taken what there was to take, if not all of it.
fn is_served(published: &[Result<Receipt, NotPublished>]) -> bool {
    published.is_empty() || published.iter().any(Result::is_ok)
}

/// The purchases, or what is wrong with them, in their order.
fn parse_all(app: &App, intake: &Intake<'_>, asker: &Asker, items: &[&RawValue]) -> Vec<Result<Purchase, Problem>> {
    let parse = |(index, item): (usize, &&RawValue)| {
        let purchase = parse_purchase(item.get().as_bytes(), &app.callbacks, Vec::new(), |fields, errors| {
            let own = fields.idempotency_key(errors);
            own.or_else(|| intake.key.as_ref().map(|key| key.for_item(index)))
        })?;
        asker.require(&purchase.userid)?;
        Ok(purchase)
    };
    items.iter().enumerate().map(parse).collect()
}

/// As long as the answer can become: what is wrong is known, what becomes of the good items is not.
fn answer_bytes_max(purchases: &[Result<Purchase, Problem>], request_id: &str) -> usize {
    let item = |(index, item): (usize, &Result<Purchase, Problem>)| match item {
        Ok(_) => OUTCOME_BYTES_MAX,
        Err(problem) => ItemResult::failed(index, problem, request_id).bytes(),
    };
    r#"{"results":[]}"#.len() + purchases.iter().enumerate().map(item).sum::<usize>()
}

/// Sends every good item; gives what each of them waits for.
fn send_all(intake: &Intake<'_>, purchases: &[Result<Purchase, Problem>], key_id: Option<Uuid>) -> Vec<Publishing> {
    purchases.iter().flatten().map(|purchase| intake.send(purchase, &purchase_json(purchase), key_id)).collect()
}

/// Keeps the purchases that have a receipt; `published` has one outcome for each that was sent.
fn confirm_all(
    intake: &Intake<'_>,
    purchases: Vec<Result<Purchase, Problem>>,
    published: Vec<Result<Receipt, NotPublished>>,
) -> Vec<Result<Purchase, Problem>> {
    let mut published = published.into_iter();
    let mut confirm = |purchase: Purchase| match published.next() {
        Some(Ok(_)) => Ok(purchase),
        Some(Err(error)) => Err(intake.not_published(purchase.purchase_id, &error)),
        None => Err(Problem::new(kinds::INTERNAL, "an internal error")),
    };
    purchases.into_iter().map(|item| item.and_then(&mut confirm)).collect()
}

async fn settle_all(
    intake: &Intake<'_>,
    published: Vec<Result<Purchase, Problem>>,
    wait: Option<Wait<'_>>,
    slot: Slot,
) -> Vec<Result<(Uuid, Taken), Problem>> {
    let mut purchase_ids: Vec<Uuid> = published.iter().flatten().map(|purchase| purchase.purchase_id).collect();
    purchase_ids.sort_unstable();
    purchase_ids.dedup();
    let stored = intake.recorded(&purchase_ids, wait, slot).await;
    let stored: HashMap<Uuid, Purchase> = stored.into_iter().map(|stored| (stored.purchase_id, stored)).collect();
    let settle = |purchase: Purchase| {
        // Two items may have one key: both are answered with the one stored purchase.
        let taken = intake.settle(&purchase, stored.get(&purchase.purchase_id).cloned())?;
        Ok((purchase.purchase_id, taken))
    };
    published.into_iter().map(|item| item.and_then(settle)).collect()
}

fn answer(taken: &[Result<(Uuid, Taken), Problem>], request_id: &str, room: AnswerRoom) -> Response {
    let results: Vec<_> =
        taken.iter().enumerate().map(|(index, item)| ItemResult::new(index, item, request_id)).collect();
    let all = |status: StatusCode| results.iter().all(|result| result.status == status.as_u16());
    let status = [StatusCode::ACCEPTED, StatusCode::CREATED].into_iter().find(|status| all(*status));
    let status = status.unwrap_or(StatusCode::MULTI_STATUS);
    let body = serde_json::to_vec(&BatchAnswer { results }).unwrap_or_default();
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (status, content_type, room.answer(body)).into_response()
}

impl<'a> ItemResult<'a> {
    fn new(index: usize, item: &'a Result<(Uuid, Taken), Problem>, request_id: &'a str) -> Self {
        let taken = |status: StatusCode, id: &Uuid| Self {
            index,
            status: status.as_u16(),
            purchase_id: Some(*id),
            error: None,
        };
        match item {
            Ok((id, Taken::Accepted)) => taken(StatusCode::ACCEPTED, id),
            Ok((id, Taken::Recorded(_))) => taken(StatusCode::CREATED, id),
            Err(problem) => Self::failed(index, problem, request_id),
        }
    }

    fn failed(index: usize, problem: &'a Problem, request_id: &'a str) -> Self {
        let error = Some(problem.body(request_id));
        Self { index, status: problem.status().as_u16(), purchase_id: None, error }
    }

    /// How long its JSON is, with a comma.
    fn bytes(&self) -> usize {
        serde_json::to_vec(self).map_or(0, |json| json.len() + 1)
    }
}
