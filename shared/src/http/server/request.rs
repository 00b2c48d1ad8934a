//! The body of a request, which tells whether it was read to its end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// So much of a body that nobody reads has mostly come with its head; hyper throws it away and keeps the connection.
const UNREAD_BYTES_MAX: u64 = 16 * 1024;

/// A body on its way in.
pub(super) struct RequestBody {
    body: Incoming,
    unread: Option<Arc<AtomicBool>>,
}

/// Knows whether the caller still sends what nobody will read.
pub(super) struct Unread(Option<Arc<AtomicBool>>);

/// Makes a request's body tell how far it was read.
pub(super) fn watch(request: Request<Incoming>) -> (Request<RequestBody>, Unread) {
    let body = request.body();
    let small = body.size_hint().exact().is_some_and(|bytes| bytes <= UNREAD_BYTES_MAX);
    let watched = !body.is_end_stream() && (!small || request.headers().contains_key(header::EXPECT));
    let unread = watched.then(|| Arc::new(AtomicBool::new(true)));
    let state = Unread(unread.clone());
    (request.map(|body| RequestBody { body, unread }), state)
}

impl Unread {
    /// Whether the answer is the last one of its connection, because the rest of the body stands in the way of the next request.
    pub(super) fn ends_connection(&self) -> bool {
        self.0.as_ref().is_some_and(|unread| unread.load(Ordering::Relaxed))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(unread) = &self.unread
            && (matches!(frame, Poll::Ready(None)) || self.body.is_end_stream())
        {
            unread.store(false, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
