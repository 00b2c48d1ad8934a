//! Connections to replicas that break at once when nobody waits for their answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

/// How long a connection may take to be made. An address whose pod is gone answers nothing, and another replica may be asked.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

/// Opens plain TCP.
#[derive(Clone)]
pub struct Connector(HttpConnector);

impl Connector {
    /// Nothing is open yet.
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Self(connector)
    }
}

type ConnectError = <HttpConnector as Service<Uri>>::Error;

impl Service<Uri> for Connector {
    type Response = Abrupt;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Abrupt, ConnectError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            let stream = connecting.await?;
            // Where this is not taken, the replica only hears of the end when it answers.
            let _ = stream.inner().set_zero_linger();
            Ok(Abrupt(stream))
        })
    }
}

/// A connection that is reset instead of ended. A replica could not tell an orderly end from a caller who only sends no more,
/// and would work on for it; a reset ends its work, down to the statement in the database.
pub struct Abrupt(TokioIo<TcpStream>);

impl Abrupt {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut TokioIo<TcpStream>> {
        Pin::new(&mut self.get_mut().0)
    }
}

impl Read for Abrupt {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl Write for Abrupt {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Connection for Abrupt {
    fn connected(&self) -> Connected {
        self.0.connected()
    }
}
