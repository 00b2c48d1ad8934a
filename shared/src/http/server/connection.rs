//! One connection: at rest, in use, at rest again, and its end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use rand::RngExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, sleep, timeout, timeout_at};
use tower::Service;

use super::ServerLimits;
use super::activity::{Activity, Order, Phase};
use super::answer::AnswerBody;
use super::linger::linger;
use super::places::{LEAVE_TIME, Place};
use super::request::watch;
use super::socket::Socket;
use super::stream::Stream;
use super::verdict::{ANSWER_TIMEOUT_AT_END, Verdict, verdict};
use crate::http::budget::{ByteBudget, BytePermit, Purpose};
use crate::http::{Caller, Certificate};
use crate::shutdown::Shutdown;

/// The most bytes of a request's head that are held.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// What a connection in use costs beyond an idle one: the buffers of its head and of small content, and the tasks' memory.
const IN_USE_BYTES: usize = 24 * 1024;
/// What TLS costs a connection in use besides: a record each way, and what is ready for a socket that has no room.
const TLS_IN_USE_BYTES: usize = 48 * 1024;
/// How often a connection in use looks at its limits.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// The same while it has an answer without an end: there may be thousands, and they have time.
const ENDLESS_LOOK_INTERVAL: Duration = Duration::from_secs(3);
/// What a head that comes too slowly is answered with.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// How long a connection that can only be refused may take to say what it wants: the reserve is for others too.
const NEWCOMER_REST: Duration = Duration::from_secs(2);
/// What all connections of a listener share.
pub(super) struct Shared {
    pub(super) http: http1::Builder,
    pub(super) router: Router,
    pub(super) limits: ServerLimits,
    pub(super) budget: ByteBudget,
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) shutdown: Shutdown,
}

/// A connection as it was accepted.
pub(super) struct Newcomer {
    pub(super) stream: TcpStream,
    pub(super) caller: Caller,
}

/// Set on answers that go on for as long as their callers are there: who closes its sending side has gone.
#[derive(Clone, Copy)]
pub struct Endless;

/// Set on requests that came when there was no room: they are refused, but for health and metrics.
#[derive(Clone, Copy)]
pub(in crate::http) struct Crowded;

/// Serves a connection to its end; its place is given back with it.
pub(super) async fn run(newcomer: Newcomer, place: Place, shared: Arc<Shared>) {
    let Newcomer { stream, caller } = newcomer;
    let mut socket = Socket::new(Stream::Plain(stream), Arc::clone(&place.activity));
    // Spread, so that connections that were opened together do not come back together.
    let ends_at = shared.limits.max_age.map(|age| Instant::now() + age.mul_f64(rand::rng().random_range(0.9..1.1)));
    let mut has_just_agreed = false;
    loop {
        if !rest(&mut socket, &place, &shared, has_just_agreed).await {
            return;
        }
        let to_agree = shared.certificate.as_ref().filter(|_| !socket.is_encrypted());
        // Who has not said yet what it wants does not wait for room at the end.
        let until = if to_agree.is_some() { Order::End } else { Order::CutOff };
        let Some((room, crowded)) = room(&place, &shared, until).await else { return };
        if let Some(certificate) = to_agree {
            // Once the caller has begun to: who connects ahead of time holds no more than without TLS.
            let Some(encrypted) = agree(socket, certificate, &place, &shared).await else { return };
            (socket, has_just_agreed) = (encrypted, true);
            continue;
        }
        has_just_agreed = false;
        let serving = Serving { caller, crowded, ends_at, encrypted: socket.is_encrypted() };
        match serve(socket, &place, &shared, serving).await {
            After::Rest(rested) => socket = rested,
            After::Linger(ended) => {
                drop(room);
                return linger(ended, &place).await;
            }
            After::TooSlow(mut socket) => {
                drop(room);
                if timeout(ANSWER_TIMEOUT_AT_END, socket.write_all(TOO_SLOW)).await.is_ok_and(|written| written.is_ok())
                {
                    linger(socket, &place).await;
                }
                return;
            }
            After::Gone => return,
        }
    }
}

/// Agrees with the caller on TLS. Until then it is of no use, and leaves for others as one at rest does.
async fn agree(socket: Socket, certificate: &Certificate, place: &Place, shared: &Shared) -> Option<Socket> {
    let Stream::Plain(stream) = socket.into_stream() else { return None };
    place.activity.enter(Phase::Head);
    // A caller who speaks something else, or knows nobody who vouches for us, is answered by TLS itself.
    let agreeing = timeout(shared.limits.header_timeout, certificate.accept(stream));
    let told = async {
        while place.activity.order() == Order::None {
            place.activity.told().await;
        }
        wait_at_end(place, ANSWER_TIMEOUT_AT_END).await;
    };
    let agreed = tokio::select! {
        agreed = agreeing => agreed.ok()?,
        () = told => return None,
    };
    let stream = agreed.inspect_err(|error| tracing::debug!(%error, "no TLS with a caller")).ok()?;
    place.activity.enter(Phase::Idle);
    Some(Socket::new(Stream::Tls(Box::new(stream)), Arc::clone(&place.activity)))
}

/// At the end, waits so long for who has begun to agree on TLS: its request is the next thing that comes. Any other order is one to leave.
async fn wait_at_end(place: &Place, patience: Duration) {
    let until = Instant::now() + patience;
    while place.activity.order() == Order::End && timeout_at(until, place.activity.told()).await.is_ok() {}
}

/// Waits, without any buffer, for the first byte of a request. Says no when the connection is to be closed instead.
async fn rest(socket: &mut Socket, place: &Place, shared: &Shared, has_just_agreed: bool) -> bool {
    let (_, age) = place.activity.phase_age();
    let keep_alive = shared.limits.keep_alive_timeout;
    let limit = if place.is_crowded { NEWCOMER_REST.min(keep_alive) } else { keep_alive };
    let mut readable = pin!(socket.readable());
    let told = async {
        // An end is no order to leave who has just begun to speak.
        while place.activity.order() == Order::None {
            place.activity.told().await;
        }
        if has_just_agreed {
            let (_, quiet) = place.activity.phase_age();
            wait_at_end(place, ANSWER_TIMEOUT_AT_END.saturating_sub(quiet)).await;
        }
    };
    tokio::select! {
        biased;
        readable = &mut readable => readable,
        () = told => false,
        () = sleep(limit.saturating_sub(age)) => false,
    }
}

/// Room for a request; when there is none, room for refusing it, and that it is so.
async fn room(place: &Place, shared: &Shared, until: Order) -> Option<(BytePermit, bool)> {
    let deadline = Instant::now() + shared.limits.header_timeout;
    let bytes = IN_USE_BYTES + if shared.certificate.is_some() { TLS_IN_USE_BYTES } else { 0 };
    // Nobody else's request is worth more than this one, which has come already.
    place.activity.enter(Phase::Waiting);
    place.activity.stay();
    let mut patience = None;
    while Instant::now() < deadline && place.activity.order() < Order::CutOff {
        let room = if place.is_crowded { None } else { shared.budget.take_for(Purpose::Connection, bytes) };
        if let Some(room) = room {
            return Some((room, false));
        }
        if place.activity.order() >= until {
            return None;
        }
        // Several leave for it, one after the other.
        let patience = *patience.get_or_insert_with(|| {
            let may_leave = !place.is_crowded && place.make_room(bytes);
            Instant::now() + if may_leave { LEAVE_TIME } else { Duration::ZERO }
        });
        if Instant::now() >= patience
            && let Some(room) = shared.budget.take_for(Purpose::Reserve, bytes)
        {
            return Some((room, true));
        }
        place.somebody_left().await;
    }
    None
}

/// How a connection goes on after its requests.
enum After {
    /// Nothing is going on; the next request may come.
    Rest(Socket),
    /// The last answer is sent, and the caller may still be sending.
    Linger(Socket),
    /// The head of a request came too slowly.
    TooSlow(Socket),
    /// There is nothing left of it.
    Gone,
}

/// What holds for all requests of a connection while it is in use.
#[derive(Clone, Copy)]
struct Serving {
    /// Who asks.
    caller: Caller,
    /// There is no room but for refusing.
    crowded: bool,
    /// When the connection is old.
    ends_at: Option<Instant>,
    /// TLS protects it.
    encrypted: bool,
}

impl Serving {
    fn is_last_answer(&self) -> bool {
        self.crowded || self.ends_at.is_some_and(|end| Instant::now() >= end)
    }
}

async fn serve(socket: Socket, place: &Place, shared: &Arc<Shared>, serving: Serving) -> After {
    let activity = &place.activity;
    // From its first byte on, also where TLS has to wait for others to make sense of it.
    activity.enter(Phase::Head);
    let handler = hyper::service::service_fn({
        let (shared, activity) = (Arc::clone(shared), Arc::clone(activity));
        move |request| call(Arc::clone(&shared), Arc::clone(&activity), request, serving)
    });
    // In a box, so that the task of a connection at rest has no part of it.
    let mut connection = Box::pin(shared.http.serve_connection(TokioIo::new(socket), handler));
    let mut looks = tokio::time::interval_at(Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Once it is so, every answer ends its connection.
    let mut ending = activity.order() == Order::End;
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                // What is no HTTP has been answered too.
                let answered = ended.as_ref().map_or_else(hyper::Error::is_parse, |()| true);
                let linger = answered && !activity.has_caller_closed();
                return if linger { After::Linger(std::pin::Pin::into_inner(connection).into_parts().io.into_inner()) } else { After::Gone };
            }
            _ = looks.tick() => match verdict(activity, &shared.limits, ending) {
                Verdict::GoOn if activity.is_answer_endless() => looks.reset_after(ENDLESS_LOOK_INTERVAL),
                Verdict::GoOn => {}
                Verdict::Rest => {
                    let parts = std::pin::Pin::into_inner(connection).into_parts();
                    return if parts.read_buf.is_empty() { After::Rest(parts.io.into_inner()) } else { After::Gone };
                }
                Verdict::TooSlow => return After::TooSlow(std::pin::Pin::into_inner(connection).into_parts().io.into_inner()),
                Verdict::CutOff => return After::Gone,
            },
            () = activity.told() => match activity.order() {
                Order::MakeRoom if activity.unused_since().is_some() => return After::Gone,
                Order::CutOff => return After::Gone,
                Order::End if !ending => {
                    ending = true;
                    // Who has begun to ask is answered with `Connection: close`; hyper would drop who has asked nothing that it can read.
                    if activity.phase() != Phase::Head {
                        connection.as_mut().graceful_shutdown();
                    }
                }
                _ => {}
            },
        }
    }
}

async fn call(
    shared: Arc<Shared>,
    activity: Arc<Activity>,
    request: Request<Incoming>,
    serving: Serving,
) -> Result<Response<AnswerBody<Body>>, Infallible> {
    activity.enter(Phase::Serving);
    let (mut request, unread) = watch(request);
    request.extensions_mut().insert(serving.caller);
    if serving.crowded {
        request.extensions_mut().insert(Crowded);
    }
    activity.begin_answer(false);
    let mut response = shared.router.clone().call(request).await?;
    activity.begin_answer(response.extensions().get::<Endless>().is_some());
    if serving.is_last_answer() || unread.ends_connection() || shared.shutdown.is_draining() {
        // Callers that keep connections open go elsewhere before this one closes.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if serving.encrypted {
        // Whoever has come by HTTPS once shall not be led to come without it (RFC 6797).
        let a_year = HeaderValue::from_static("max-age=31536000");
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, a_year);
    }
    Ok(response.map(|body| AnswerBody::new(body, activity)))
}
