//! Room in the budget for answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::budget::{Purpose, SMALL_BYTES};
use super::operations::is_operations;
use super::server::Crowded;
use super::{ByteBudget, BytePermit, Problem};

/// Marks an answer whose bytes are counted already: who made it has tied a permit to them.
#[derive(Clone, Copy)]
pub struct Counted;

/// Room for an answer that is made later. Who does something that cannot be undone takes it before.
#[must_use]
pub struct AnswerRoom {
    bytes_max: usize,
    /// None for a small answer.
    permit: Option<BytePermit>,
}

/// Whether a request may be handled: health and metrics are answered whatever is full.
pub(super) fn is_admitted(request: &Request, path: &str) -> bool {
    request.extensions().get::<Crowded>().is_none() || is_operations(path)
}

impl ByteBudget {
    /// Room for an answer of at most `bytes_max`.
    ///
    /// # Errors
    /// 503 when there is none.
    pub fn reserve_answer(&self, bytes_max: usize) -> Result<AnswerRoom, Problem> {
        let permit = match bytes_max {
            ..=SMALL_BYTES => None,
            _ => Some(self.take(bytes_max).ok_or_else(|| self.refuse())?),
        };
        Ok(AnswerRoom { bytes_max, permit })
    }

    /// Counts an answer for as long as any of it is held; one for which there is no room becomes a refusal. It has been
    /// reserved, or is small, when it tells of something that a refusal would deny.
    pub(super) fn hold_answer(&self, response: Response, path: &str) -> Response {
        let bytes = usize::try_from(response.body().size_hint().lower()).unwrap_or(usize::MAX);
        if bytes <= SMALL_BYTES || response.extensions().get::<Counted>().is_some() {
            return response;
        }
        let reserve = || self.take_for(Purpose::Reserve, bytes).filter(|_| is_operations(path));
        match self.take(bytes).or_else(reserve) {
            Some(permit) => response.map(|body| Body::new(HeldBody { body, permit: Some(permit) })),
            None => self.refuse().into_response(),
        }
    }
}

impl AnswerRoom {
    /// An answer of these bytes, which keeps the room that they need until the last of them is written.
    pub fn answer(self, body: Vec<u8>) -> Response {
        debug_assert!(body.len() <= self.bytes_max, "{} bytes, and room for {}", body.len(), self.bytes_max);
        let Some(mut permit) = self.permit else { return body.into_response() };
        let body = Bytes::from(body.into_boxed_slice());
        permit.shrink(body.len());
        (Extension(Counted), permit.hold(body)).into_response()
    }
}

/// A body with the permit for its bytes, which goes with the last of them.
struct HeldBody {
    body: Body,
    permit: Option<BytePermit>,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let Poll::Ready(Some(Ok(data))) = frame else { return frame };
        let permit = if self.body.is_end_stream() { self.permit.take() } else { None };
        let data = match permit {
            Some(permit) => data.map_data(|bytes| permit.hold(bytes)),
            None => data,
        };
        Poll::Ready(Some(Ok(data)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
