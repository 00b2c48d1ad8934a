//! Request bodies, bounded in size and time and counted in the budget.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;

use super::budget::SMALL_BYTES;
use super::{ByteBudget, Problem, kinds};

/// A body is counted once for its bytes and once for what is made of them: names to compare, purchases, records.
const COPIES: usize = 2;

/// How large a body may be and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Inclusive.
    pub bytes: usize,
    /// From the first look at the body to its end.
    pub timeout: Duration,
}

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCollected {
    /// It has more bytes than it may.
    TooLarge,
    /// Callers hold too much already.
    NoRoom,
    /// Its connection broke.
    Broken,
}

/// Reads a body that must be `application/json`. Room is taken in `budget` as the body comes, and given back with the bytes.
///
/// What the head tells already is refused before the body is looked at, so that nobody who asks (`Expect: 100-continue`) is invited
/// to send it.
///
/// # Errors
/// 415, 413, 408, 503 when there is no room for it, or 400 when the connection breaks in the middle.
pub async fn read_json_body(
    headers: &HeaderMap,
    body: Body,
    limits: BodyLimits,
    budget: &ByteBudget,
) -> Result<Bytes, Problem> {
    if !is_json(headers) {
        return Err(Problem::new(kinds::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json"));
    }
    if headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(Problem::new(kinds::UNSUPPORTED_ENCODING, "the body must be sent without Content-Encoding"));
    }
    match tokio::time::timeout(limits.timeout, collect(body, limits.bytes, COPIES, budget)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(NotCollected::TooLarge)) => Err(too_large(limits)),
        Ok(Err(NotCollected::NoRoom)) => Err(budget.refuse()),
        Ok(Err(NotCollected::Broken)) => Err(Problem::new(kinds::INVALID_INPUT, "the body ended early")),
        Err(_) => {
            let seconds = limits.timeout.as_secs_f64();
            Err(Problem::new(kinds::BODY_TOO_SLOW, format!("the body must arrive within {seconds} s")))
        }
    }
}

/// Reads a body of at most `bytes_max` into one piece. Room for `copies` of it is taken as it comes, and given back with the bytes.
///
/// # Errors
/// When the body is too large, there is no room for it, or its connection breaks.
pub async fn collect<B>(
    mut body: B,
    bytes_max: usize,
    copies: usize,
    budget: &ByteBudget,
) -> Result<Bytes, NotCollected>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let declared = declared(&body);
    if declared > bytes_max {
        return Err(NotCollected::TooLarge);
    }
    if declared > SMALL_BYTES && !budget.has_room(declared * copies) {
        return Err(NotCollected::NoRoom);
    }
    let mut whole = BytesMut::new();
    let mut permit = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| NotCollected::Broken)?.into_data() else { continue };
        let length = whole.len() + data.len();
        if length > bytes_max {
            return Err(NotCollected::TooLarge);
        }
        if length > SMALL_BYTES {
            let permit = permit.get_or_insert_with(|| budget.take(0)).as_mut();
            let more = if whole.len() > SMALL_BYTES { data.len() } else { length };
            if !permit.is_some_and(|permit| permit.grow(more * copies)) {
                return Err(NotCollected::NoRoom);
            }
        } else if whole.is_empty() && body.is_end_stream() {
            // Nearly every purchase: it came with its head, in one piece.
            return Ok(data);
        }
        if whole.is_empty() {
            // Of what is only declared no page is touched, so it holds no memory yet.
            whole.reserve(declared);
        }
        whole.extend_from_slice(&data);
    }
    let whole = whole.freeze();
    Ok(match permit.flatten() {
        Some(permit) => permit.hold(whole),
        None => whole,
    })
}

/// What a body is said to hold at least.
fn declared(body: &impl HttpBody) -> usize {
    usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX)
}

fn too_large(limits: BodyLimits) -> Problem {
    Problem::new(kinds::BODY_TOO_LARGE, format!("the body must be at most {} bytes", limits.bytes))
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}
