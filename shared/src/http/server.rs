//! The accept loop: HTTP/1.1 with limits on headers, connections and idle time, and a graceful end.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::Service;

use crate::shutdown::Shutdown;

/// The most bytes of a request's head that are held.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long to rest when the process is out of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Limits of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections held at once; more wait in the kernel's backlog.
    pub connections: usize,
    /// From a connection's opening, or its last answer, to the end of the next request's head.
    pub header_timeout: Duration,
    /// How long running requests may take to end after the shutdown began.
    pub drain_timeout: Duration,
}

/// Serves until `shutdown` says stop, then lets running requests end. Gives how many connections were cut off.
///
/// # Errors
/// None now; accept errors are retried.
pub async fn serve(listener: TcpListener, router: Router, limits: ServerLimits, shutdown: &Shutdown) -> usize {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(HEAD_BYTES_MAX);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = shutdown.stopped() => break,
        };
        let Ok((stream, slot)) = accepted else {
            tokio::time::sleep(ACCEPT_BACKOFF).await;
            continue;
        };
        let (router, ending) = (router.clone(), shutdown.clone());
        let service = hyper::service::service_fn(move |request| call(router.clone(), request, ending.is_draining()));
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // Errors here are a peer's broken connection or timeout; the peer knows, and nobody else cares.
            let _ = connection.await;
            drop(slot);
        });
    }
    drop(listener);
    let open = || limits.connections - slots.available_permits();
    tokio::select! {
        () = graceful.shutdown() => 0,
        () = tokio::time::sleep(limits.drain_timeout) => open(),
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Answers are single small writes; waiting to fill a packet only adds delay.
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}

async fn call(mut router: Router, request: Request<Incoming>, draining: bool) -> Result<Response<Body>, Infallible> {
    let mut response = router.call(request).await?;
    if draining {
        // Callers that keep connections open go elsewhere before the listener closes.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
