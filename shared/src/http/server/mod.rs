//! The accept loop: HTTP/1.1 with limits on heads, connections, idle time and memory, and a graceful end.

mod activity;
mod answer;
mod connection;
mod linger;
mod places;
mod request;
mod socket;
mod stream;
mod verdict;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use self::activity::Order;
pub(super) use self::connection::Crowded;
pub use self::connection::Endless;
use self::connection::{HEAD_BYTES_MAX, Newcomer, Shared};
use self::places::Places;
use super::{ByteBudget, Caller, Certificate};
use crate::metrics::Gauge;
use crate::shutdown::Shutdown;

/// How long to rest when the process is out of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// What the kernel holds at most of a connection's answers (it doubles this for its own needs). Without it that grows to megabytes
/// for each caller who does not read, and counts against the pod's limit as our own memory does.
const SEND_BUFFER_BYTES: usize = 32 * 1024;
/// The largest segment: on one machine it would be 64 KiB, as much as that buffer holds, and then each waits 40 ms for the receiver,
/// who confirms at once only what comes in twos. Networks have far smaller ones.
const SEGMENT_BYTES: u32 = 8 * 1024;
/// Connections that wait for a place at most; more wait in the kernel.
const NEWCOMERS_MAX: usize = 64;
/// How long connections that are cut off at the end may take to notice.
const CUT_OFF_DEADLINE: Duration = Duration::from_millis(500);

/// Limits of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections held at once. For one more the longest idle one is closed; if none is idle, it is refused.
    pub connections: usize,
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// From a connection's opening, or its last answer, to the first byte of the next request.
    pub keep_alive_timeout: Duration,
    /// How long a caller may read nothing of an answer that is ready; in all, so long and what it takes at the least rate.
    pub answer_timeout: Duration,
    /// When a connection is told to end with its next answer, so that callers spread over new replicas; nothing for never.
    pub max_age: Option<Duration>,
    /// How long running requests may take to end after the shutdown began.
    pub drain_timeout: Duration,
    /// Whether a caller that closes its sending side is answered (RFC 9112, 9.6). A caller that is gone cannot be told from it,
    /// so where callers cancel by closing, its request is dropped instead.
    pub half_close: bool,
}

/// What a listener serves, and within which limits.
pub struct Server {
    /// What answers.
    pub router: Router,
    /// Limits.
    pub limits: ServerLimits,
    /// What callers may make it hold.
    pub budget: ByteBudget,
    /// Shows the connections that are open.
    pub connections: Gauge,
    /// For TLS; none for plain HTTP.
    pub certificate: Option<Arc<Certificate>>,
}

impl Server {
    /// Serves until `shutdown` says stop, then lets running requests end. Gives how many of them were cut off.
    pub async fn serve(self, listener: TcpListener, shutdown: &Shutdown) -> usize {
        let Self { router, limits, budget, connections, certificate } = self;
        if let Err(error) = limit_sockets(&listener, limits.answer_timeout) {
            tracing::warn!(%error, "the kernel does not limit what it holds for callers");
        }
        let places = Places::new(limits.connections, certificate.is_some(), budget.clone(), connections);
        let mut http = http1::Builder::new();
        // Times are looked after here: hyper has one limit for slow heads and idle connections together.
        http.header_read_timeout(None).half_close(limits.half_close).max_buf_size(HEAD_BYTES_MAX);
        let shared = Arc::new(Shared { http, router, limits, budget, certificate, shutdown: shutdown.clone() });
        tokio::select! {
            () = accept_all(&listener, &places, &shared) => {}
            () = shutdown.stopped() => {}
        }
        drop(listener);
        places.tell_all(Order::End);
        if tokio::time::timeout(shutdown.patience(limits.drain_timeout), places.all_left()).await.is_ok() {
            return 0;
        }
        let cut_off = places.serving();
        places.tell_all(Order::CutOff);
        let _ = tokio::time::timeout(CUT_OFF_DEADLINE, places.all_left()).await;
        cut_off
    }
}

/// Limits what the kernel holds for a caller who does not read, in bytes and in time. Accepted sockets inherit it.
fn limit_sockets(listener: &TcpListener, answer_timeout: Duration) -> io::Result<()> {
    let listener = SockRef::from(listener);
    listener.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    listener.set_tcp_mss(SEGMENT_BYTES)?;
    listener.set_tcp_user_timeout(Some(answer_timeout))
}

async fn accept_all(listener: &TcpListener, places: &Arc<Places>, shared: &Arc<Shared>) {
    let newcomers = Arc::new(Semaphore::new(NEWCOMERS_MAX));
    loop {
        let newcomer = match listener.accept().await {
            Ok((stream, address)) => Newcomer { stream, caller: Caller { address: Some(address) } },
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted; trying on");
                places.make_room(1, None);
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        // Answers are single small writes; waiting to fill a packet only adds delay. It fails for who is gone already.
        if newcomer.stream.set_nodelay(true).is_ok() {
            admit(newcomer, places, shared, &newcomers).await;
        }
    }
}

/// Serves a connection, at once or when it has a place. It is seen before it has one, because another may leave for it.
async fn admit(newcomer: Newcomer, places: &Arc<Places>, shared: &Arc<Shared>, newcomers: &Arc<Semaphore>) {
    if let Some(place) = places.try_take() {
        tokio::spawn(connection::run(newcomer, place, Arc::clone(shared)));
    } else if let Ok(turn) = Arc::clone(newcomers).acquire_owned().await {
        let (places, shared) = (Arc::clone(places), Arc::clone(shared));
        tokio::spawn(async move {
            let place = tokio::select! {
                biased;
                () = shared.shutdown.stopped() => return,
                place = places.take() => place,
            };
            drop(turn);
            connection::run(newcomer, place, shared).await;
        });
    }
}

/// Whether an error of accepting tells of a connection that is gone, and not of this process.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
