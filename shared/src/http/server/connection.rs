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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, sleep, timeout};
use tower::Service;

use super::ServerLimits;
use super::activity::{Activity, Order, Phase};
use super::answer::AnswerBody;
use super::places::{LEAVE_TIME, Place};
use super::request::watch;
use super::socket::Socket;
use crate::http::Caller;
use crate::http::budget::{ByteBudget, BytePermit, Purpose};
use crate::shutdown::Shutdown;

/// The most bytes of a request's head that are held.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// What a connection in use costs beyond an idle one: the buffers of its head and of small content, and the tasks' memory.
const IN_USE_BYTES: usize = 24 * 1024;
/// After so long without a request a connection gives its buffers back.
const REST_AFTER: Duration = Duration::from_secs(1);
/// How often a connection in use looks at its limits.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// What a head that comes too slowly is answered with.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// Who reads an answer more slowly than this, in bytes a second, in the long run, is cut off: a caller who reads a byte now
/// and then would hold it for days. Far below any modem; Kestrel has 240.
const READ_RATE_MIN: u64 = 4 * 1024;
/// How long a connection that can only be refused may take to say what it wants: the reserve is for others too.
const NEWCOMER_REST: Duration = Duration::from_secs(2);
/// When the server ends, who reads nothing is not waited for any longer than this.
const ANSWER_TIMEOUT_AT_END: Duration = Duration::from_secs(2);
/// What a caller may still send after its last answer, and for how long: it is read and thrown away, because closing a socket
/// with unread bytes resets the connection, and the caller may lose the answer to it.
const LINGER_BYTES: usize = 32 * 1024 * 1024;
/// In all, and without a byte.
const LINGER: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(2));

/// What all connections of a listener share.
pub(super) struct Shared {
    pub(super) http: http1::Builder,
    pub(super) router: Router,
    pub(super) limits: ServerLimits,
    pub(super) budget: ByteBudget,
    pub(super) shutdown: Shutdown,
}

/// A connection as it was accepted.
pub(super) struct Newcomer {
    pub(super) stream: TcpStream,
    pub(super) caller: Caller,
}

/// Set on requests that came when there was no room: they are refused, but for health and metrics.
#[derive(Clone, Copy)]
pub(in crate::http) struct Crowded;

/// Serves a connection to its end; its place is given back with it.
pub(super) async fn run(newcomer: Newcomer, place: Place, shared: Arc<Shared>) {
    let Newcomer { stream, caller } = newcomer;
    let mut socket = Socket::new(stream, Arc::clone(&place.activity));
    // Spread, so that connections that were opened together do not come back together.
    let ends_at = shared.limits.max_age.map(|age| Instant::now() + age.mul_f64(rand::rng().random_range(0.9..1.1)));
    loop {
        if !rest(&socket, &place, &shared).await {
            return;
        }
        let Some((room, crowded)) = room(&place, &shared).await else { return };
        match serve(socket, &place, &shared, Serving { caller, crowded, ends_at }).await {
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

/// Waits, without any buffer, for the first byte of a request. Says no when the connection is to be closed instead.
async fn rest(socket: &Socket, place: &Place, shared: &Shared) -> bool {
    let (_, age) = place.activity.phase_age();
    let keep_alive = shared.limits.keep_alive_timeout;
    let limit = if place.is_crowded { NEWCOMER_REST.min(keep_alive) } else { keep_alive };
    let mut readable = pin!(socket.readable());
    let told = async {
        // An end is no order to leave who has just begun to speak.
        while place.activity.order() == Order::None {
            place.activity.told().await;
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
async fn room(place: &Place, shared: &Shared) -> Option<(BytePermit, bool)> {
    let deadline = Instant::now() + shared.limits.header_timeout;
    // Nobody else's request is worth more than this one, which has come already.
    place.activity.enter(Phase::Waiting);
    place.activity.stay();
    let mut patience = None;
    while Instant::now() < deadline && place.activity.order() < Order::CutOff {
        let room = if place.is_crowded { None } else { shared.budget.take_for(Purpose::Connection, IN_USE_BYTES) };
        if let Some(room) = room {
            return Some((room, false));
        }
        // Several leave for it, one after the other.
        let patience = *patience.get_or_insert_with(|| {
            let may_leave = !place.is_crowded && place.make_room(IN_USE_BYTES);
            Instant::now() + if may_leave { LEAVE_TIME } else { Duration::ZERO }
        });
        if Instant::now() >= patience
            && let Some(room) = shared.budget.take_for(Purpose::Reserve, IN_USE_BYTES)
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
}

impl Serving {
    fn is_last_answer(&self) -> bool {
        self.crowded || self.ends_at.is_some_and(|end| Instant::now() >= end)
    }
}

async fn serve(socket: Socket, place: &Place, shared: &Arc<Shared>, serving: Serving) -> After {
    let activity = &place.activity;
    let handler = hyper::service::service_fn({
        let (shared, activity) = (Arc::clone(shared), Arc::clone(activity));
        move |request| call(Arc::clone(&shared), Arc::clone(&activity), request, serving)
    });
    // In a box, so that the task of a connection at rest has no part of it.
    let mut connection = Box::pin(shared.http.serve_connection(TokioIo::new(socket), handler));
    let mut looks = tokio::time::interval_at(Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ending = false;
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
                    connection.as_mut().graceful_shutdown();
                }
                _ => {}
            },
        }
    }
}

enum Verdict {
    GoOn,
    Rest,
    TooSlow,
    CutOff,
}

fn verdict(activity: &Activity, limits: &ServerLimits, ending: bool) -> Verdict {
    let answer_timeout = if ending { limits.answer_timeout.min(ANSWER_TIMEOUT_AT_END) } else { limits.answer_timeout };
    let stands_still = activity.blocked_for().is_some_and(|blocked| blocked >= answer_timeout);
    if stands_still || activity.backlog().is_some_and(|(age, written)| is_too_slow(age, written, answer_timeout)) {
        return Verdict::CutOff;
    }
    match activity.phase_age() {
        (Phase::Idle, age) if age >= REST_AFTER.min(limits.keep_alive_timeout) => Verdict::Rest,
        // In the middle of an answer another one would be taken for its content.
        (Phase::Head, age) if age >= limits.header_timeout && activity.blocked_for().is_none() => Verdict::TooSlow,
        (Phase::Head, age) if age >= limits.header_timeout => Verdict::CutOff,
        _ => Verdict::GoOn,
    }
}

/// Whether so many bytes are too few for the time that a caller was behind with reading.
fn is_too_slow(age: Duration, written: u64, answer_timeout: Duration) -> bool {
    age >= answer_timeout + Duration::from_secs(written / READ_RATE_MIN)
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
    let mut response = shared.router.clone().call(request).await?;
    if serving.is_last_answer() || unread.ends_connection() || shared.shutdown.is_draining() {
        // Callers that keep connections open go elsewhere before this one closes.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| AnswerBody::new(body, activity)))
}

async fn linger(mut socket: Socket, place: &Place) {
    place.activity.enter(Phase::Lingering);
    let (in_all, without_a_byte) = LINGER;
    let drain = async {
        let (mut left, mut buffer) = (LINGER_BYTES, vec![0; 4096]);
        let _ = socket.shutdown().await;
        while left > 0 {
            let read = timeout(without_a_byte, socket.read(&mut buffer)).await.ok()?.ok()?;
            left = left.saturating_sub(if read == 0 { left } else { read });
        }
        Some(())
    };
    let told = async {
        while place.activity.order() == Order::None {
            place.activity.told().await;
        }
    };
    tokio::select! {
        _ = timeout(in_all, drain) => {}
        () = told => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_who_reads_a_little_now_and_then_is_cut_off_in_the_long_run() {
        let limit = Duration::from_secs(30);
        let too_slow = |seconds, written| is_too_slow(Duration::from_secs(seconds), written, limit);
        assert!(!too_slow(29, 0) && too_slow(30, 0));
        assert!(too_slow(60, 30 * 20), "20 bytes a second");
        assert!(!too_slow(3_600, 3_600 * READ_RATE_MIN), "an hour at the least rate");
    }

    #[test]
    fn a_connection_is_judged_by_what_its_caller_has_read_since_it_fell_behind() {
        let limits = ServerLimits {
            connections: 1,
            header_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(90),
            answer_timeout: Duration::from_secs(30),
            max_age: None,
            drain_timeout: Duration::ZERO,
            half_close: true,
        };
        let after_a_minute = |bytes_a_second, ending| {
            let mut activity = Activity::new(std::time::Instant::now());
            activity.enter(Phase::Answered);
            activity.write_blocked();
            for _ in 0..60 {
                activity.grow_older(Duration::from_secs(1));
                activity.written(bytes_a_second);
                activity.write_blocked();
            }
            verdict(&activity, &limits, ending)
        };
        assert!(matches!(after_a_minute(20, false), Verdict::CutOff));
        assert!(matches!(after_a_minute(4096, false), Verdict::GoOn));
        assert!(matches!(after_a_minute(2000, false), Verdict::CutOff));
        assert!(matches!(after_a_minute(3072, false), Verdict::GoOn), "not yet");
        assert!(matches!(after_a_minute(3072, true), Verdict::CutOff), "at the end there is less patience");
    }
}
