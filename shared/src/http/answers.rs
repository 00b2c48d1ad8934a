//! Room in the budget for answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::Method;
use hyper::body::{Frame, SizeHint};

use super::budget::{Purpose, SMALL_BYTES};
use super::operations::is_operations;
use super::server::Crowded;
use super::{ByteBudget, BytePermit};

/// Marks an answer whose bytes are counted already: who made it has tied a permit to them.
#[derive(Clone, Copy)]
pub struct Counted;

/// Whether a request may be handled: health and metrics are answered whatever is full.
pub(super) fn is_admitted(request: &Request, path: &str) -> bool {
    request.extensions().get::<Crowded>().is_none() || is_operations(path)
}

impl ByteBudget {
    /// Counts an answer for as long as any of it is held. A read's answer for which there is no room becomes a refusal; any
    /// other tells of something that is done already, and a refusal would say that it is not: it is counted past the limit.
    pub(super) fn hold_answer(&self, response: Response, method: &Method, path: &str) -> Response {
        let bytes = usize::try_from(response.body().size_hint().lower()).unwrap_or(usize::MAX);
        if bytes <= SMALL_BYTES || response.extensions().get::<Counted>().is_some() {
            return response;
        }
        let reserve = || self.take_for(Purpose::Reserve, bytes).filter(|_| is_operations(path));
        let done = || (!method.is_safe()).then(|| self.take_past_the_limit(bytes));
        match self.take(bytes).or_else(reserve).or_else(done) {
            Some(permit) => response.map(|body| Body::new(HeldBody { body, permit: Some(permit) })),
            None => self.refuse().into_response(),
        }
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
