//! `POST /buy`: one purchase.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::value::RawValue;
use shared::api_keys::RequestClass;
use shared::event::{Purchase, purchase_json};
use shared::http::{Name, PreferWait, Problem, read_json_body};
use shared::price::Price;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{IntoParams, IntoResponses, PartialSchema, ToSchema};
use uuid::Uuid;

use super::input::{parse_purchase, refuse_before_body};
use super::intake::{Intake, Taken};
use super::recent_purchase;
use crate::state::AppState;

/// One purchase. Unknown fields are ignored, duplicate names refused.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct BuyRequest {
    #[schema(example = "test")]
    username: Name,
    #[schema(example = "loadtest")]
    userid: Name,
    /// Greater than 0, at most 15 integer and 4 fraction digits; exact. A number in any notation whose value fits, or
    /// a string of plain digits with an optional fraction.
    #[schema(example = 10)]
    price: PriceInput,
}

/// A price as callers may write it.
pub struct PriceInput;

impl ToSchema for PriceInput {}

impl PartialSchema for PriceInput {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(r"^(?!0+(\.0+)?$)(0|[1-9][0-9]{0,14})(\.[0-9]{1,4}0*)?$"));
        OneOfBuilder::new().item(Price::schema()).item(text).into()
    }
}

/// The headers of purchase requests.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct BuyHeaders {
    /// The same key and userid always give the same `purchase_id`, stored once however often it is sent.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = "^[!-~]+$", nullable = false)]
    idempotency_key: Option<String>,
    /// Seconds to wait for the purchase to be recorded, 0 to 30; other preferences are ignored.
    #[param(rename = "Prefer", inline, nullable = false)]
    prefer: Option<PreferWait>,
}

/// What can go wrong with every purchase request.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub enum BuyProblems {
    /// Not JSON, or fields, `Prefer` or `Idempotency-Key` that are missing, wrong or out of range: `errors` names them.
    #[response(status = 400)]
    InvalidInput,
    /// No access token or API key where `AUTH` asks for one, or not a good one.
    #[response(status = 401)]
    Unauthorized,
    /// The userid is another's than the token's or key's, or the key's scopes are other ones.
    #[response(status = 403)]
    Forbidden,
    /// The body was too slow.
    #[response(status = 408)]
    BodyTooSlow,
    /// The body is too large.
    #[response(status = 413)]
    BodyTooLarge,
    /// The body is not `application/json`.
    #[response(status = 415)]
    UnsupportedMediaType,
    /// Over the caller's rate; a batch costs as much as its purchases. `violated-policies` names the rate.
    #[response(status = 429)]
    TooManyRequests,
    /// Refused before anything was sent, or certainly not stored: try again.
    #[response(status = 503)]
    Unavailable,
}

/// What the buyer is told.
#[derive(Serialize, ToSchema)]
pub struct BuyAnswer<'a> {
    /// `accepted`: in Kafka; `recorded`: in the database.
    #[schema(example = "accepted")]
    status: &'static str,
    /// The same for people.
    message: &'static str,
    purchase_id: Uuid,
    /// The purchase; when recorded, the stored one.
    #[schema(value_type = Purchase)]
    data: &'a RawValue,
    receipt: KafkaReceipt<'a>,
}

/// Where Kafka has the purchase.
#[derive(Serialize, ToSchema)]
pub struct KafkaReceipt<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
}

/// Buys: 202 once Kafka has the purchase, 201 once the database has it.
#[utoipa::path(
    post, path = "/buy", tag = "buying", security((), ("access_token" = []), ("api_key" = [])),
    params(BuyHeaders),
    request_body(content = BuyRequest, description = "At most 16 KiB"),
    responses(
        (status = 202, description = "Every in-sync replica of Kafka has it", body = BuyAnswer,
            headers(("Location" = String, description = "Where the purchase can be read once it is recorded"))),
        (status = 201, description = "The database has it", body = BuyAnswer,
            headers(("Location" = String, description = "Where the purchase can be read"))),
        BuyProblems,
        (status = 422, description = "The idempotency key already stands for other content (told to who waits)"),
        (status = 504, description = "Sent, and nobody knows: it may still be stored. `purchase_id` names it; \
            repeating with the same Idempotency-Key is safe"),
    )
)]
pub async fn buy(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    let admission = app.admit_purchase()?;
    let (mut parts, body) = request.into_parts();
    let mut errors = Vec::new();
    let intake = Intake::new(&app, &mut parts, &mut errors);
    refuse_before_body(&parts.headers, &errors)?;
    let asker = app.asker_for(RequestClass::Buy, &parts.extensions)?;
    let body = read_json_body(&parts.headers, body, app.config.buy_body(), &app.budget).await?;
    app.callbacks.prepare(&body).await?;
    let slot = admission.enter()?;
    let purchase = parse_purchase(&body, &app.callbacks, errors, |_, _| intake.key.clone())?;
    drop(body);
    asker.require(&purchase.userid)?;
    app.check_admission()?;
    let wait = intake.reserve_wait(1)?;
    let json = purchase_json(&purchase);
    let (published, slot) = slot.hold(intake.send(&purchase, &json, asker.key_id()), Result::is_ok).await;
    let receipt = published.map_err(|error| intake.not_published(purchase.purchase_id, &error))?;
    let stored = intake.recorded(&[purchase.purchase_id], wait, slot).await;
    let stored = stored.into_iter().find(|stored| stored.purchase_id == purchase.purchase_id);
    let (code, status, message, data) = match intake.settle(&purchase, stored)? {
        Taken::Accepted => (StatusCode::ACCEPTED, "accepted", "purchase accepted", json),
        Taken::Recorded(stored) => (StatusCode::CREATED, "recorded", "purchase recorded", purchase_json(&stored)),
    };
    let receipt =
        KafkaReceipt { topic: &app.config.publisher.kafka.topic, partition: receipt.partition, offset: receipt.offset };
    let purchase_id = purchase.purchase_id;
    let mut response = answer(code, &BuyAnswer { status, message, purchase_id, data: &data, receipt });
    recent_purchase::mark(&app, response.headers_mut());
    Ok(response)
}

fn answer(code: StatusCode, answer: &BuyAnswer<'_>) -> Response {
    let body = serde_json::to_vec(answer).unwrap_or_default();
    let mut response = (code, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(location) = HeaderValue::try_from(format!("/purchases/{}", answer.purchase_id)) {
        headers.insert(header::LOCATION, location);
    }
    response
}
