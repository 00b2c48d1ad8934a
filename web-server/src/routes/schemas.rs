//! What callers send and what can go wrong, for the API description only: the code reads raw JSON, to name every bad
//! field at once, and answers with a Problem.
#![expect(dead_code, reason = "descriptions: nothing is ever made of these types")]

use shared::http::{Cursor, Name, PreferWait};
use shared::price::Price;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{IntoParams, IntoResponses, PartialSchema, ToSchema};

/// One purchase. Unknown fields are ignored, duplicate names refused.
#[derive(ToSchema)]
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

/// An item of a batch.
#[derive(ToSchema)]
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
pub struct BatchRequest(Vec<BatchItem>);

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
pub struct BuyHeaders {
    /// The same key and userid always give the same `purchase_id`, stored once however often it is sent.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = "^[!-~]+$", nullable = false)]
    idempotency_key: Option<String>,
    /// Seconds to wait for the purchase to be recorded, 0 to 30; other preferences are ignored.
    #[param(rename = "Prefer", inline, nullable = false)]
    prefer: Option<PreferWait>,
}

/// Waiting for what is not there yet.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct PreferHeader {
    /// Seconds to wait for the purchase to be recorded, 0 to 30; sets the deadline instead of `timeout`.
    #[param(rename = "Prefer", inline, nullable = false)]
    prefer: Option<PreferWait>,
}

/// How many.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LimitParameter {
    /// The most purchases of the answer.
    #[param(minimum = 1, maximum = 1000, default = 1000, nullable = false)]
    limit: Option<u32>,
}

/// How long.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TimeoutParameter {
    /// Milliseconds that the whole call may take.
    #[param(minimum = 50, maximum = 30_000, default = 2_000, nullable = false)]
    timeout: Option<u32>,
}

/// Which page.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageParameters {
    /// Only this user's purchases.
    #[param(inline, nullable = false)]
    userid: Option<Name>,
    /// The most purchases of the page.
    #[param(minimum = 1, maximum = 1000, default = 100, nullable = false)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(inline, nullable = false)]
    cursor: Option<Cursor>,
}

/// What can go wrong with every purchase request.
#[derive(IntoResponses)]
pub enum BuyProblems {
    /// Not JSON, or fields, `Prefer` or `Idempotency-Key` that are missing, wrong or out of range: `errors` names them.
    #[response(status = 400)]
    InvalidInput,
    /// The body was too slow.
    #[response(status = 408)]
    BodyTooSlow,
    /// The body is too large.
    #[response(status = 413)]
    BodyTooLarge,
    /// The body is not `application/json`.
    #[response(status = 415)]
    UnsupportedMediaType,
    /// Refused before anything was sent, or certainly not stored: try again.
    #[response(status = 503)]
    Unavailable,
}

/// What can go wrong with every read.
#[derive(IntoResponses)]
pub enum ReadProblems {
    /// Parameters that are out of range: `errors` names them.
    #[response(status = 400)]
    InvalidInput,
    /// No replica of management-api answered in time: `detail` says how each attempt failed.
    #[response(status = 503)]
    Unavailable,
}
