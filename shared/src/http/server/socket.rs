//! A socket that notes what passes through it.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use super::activity::{Activity, Phase};
use super::stream::Stream;

/// A caller's connection.
pub(super) struct Socket {
    stream: Stream,
    activity: Arc<Activity>,
    /// Whether the socket has been asked why it is readable while a request is being answered.
    asked: bool,
}

impl Socket {
    pub(super) fn new(stream: Stream, activity: Arc<Activity>) -> Self {
        Self { stream, activity, asked: false }
    }

    /// Waits for the first byte of a request; says no when the caller has closed instead.
    pub(super) async fn readable(&mut self) -> bool {
        self.stream.readable().await
    }

    /// The bytes alone.
    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Whether what passes through it is secret.
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Breaks off when the connection is gone while a request is being answered. A caller that has only closed its sending side
    /// still wants its answer, so nothing is read then, and a reset would not be noticed.
    fn check_reset(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.activity.phase() != Phase::Serving {
            self.asked = false;
            return Ok(());
        }
        let is_endless = self.activity.is_answer_endless();
        if self.asked && !is_endless {
            return Ok(());
        }
        let Poll::Ready(ready) = pin!(self.stream.tcp().ready(Interest::READABLE)).poll(cx)? else { return Ok(()) };
        self.asked = true;
        if let Some(error) = self.stream.tcp().take_error()? {
            return Err(error);
        }
        // Nobody waits for the end of an answer without one.
        if is_endless && ready.is_read_closed() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    fn note_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => self.activity.write_blocked(),
            Poll::Ready(written) => self.activity.written(*written.as_ref().unwrap_or(&0)),
        }
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.activity.received();
        } else if room > 0 {
            self.activity.caller_closed();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Called when nothing is left to be written: after each answer, and whenever a request makes no progress.
        self.check_reset(cx)?;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        match &flushed {
            // TLS takes more than the socket has room for.
            Poll::Pending => self.activity.write_blocked(),
            Poll::Ready(_) => self.activity.flushed(),
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
