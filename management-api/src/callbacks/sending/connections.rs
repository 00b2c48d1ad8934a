//! Connections that wait for the next callback to the same receiver.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::connector::Sender;

/// The most connections that wait, over all receivers: a file and 10 KiB each, 50 with TLS.
const IDLE_MAX: usize = 256;
/// How long one waits. Receivers keep theirs for a minute or longer.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// How long one is used: a receiver may move, and its name then leads elsewhere.
const USED_FOR: Duration = Duration::from_mins(5);

/// A connection, and since when there is one.
pub(super) struct Connection {
    pub(super) sender: Sender,
    opened_at: Instant,
}

struct Idle {
    origin: String,
    connection: Connection,
    until: Instant,
}

/// Those that wait, the one that was used last at the end.
#[derive(Default)]
pub(super) struct Connections(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    idle: VecDeque<Idle>,
    /// Whether somebody sees to it that none waits too long.
    is_swept: bool,
}

impl Connection {
    pub(super) fn new(sender: Sender) -> Self {
        Self { sender, opened_at: Instant::now() }
    }
}

impl Connections {
    /// One to this scheme, host and port that is ready for a request: the one used last, so that those that are too many end.
    pub(super) async fn take(&self, origin: &str) -> Option<Connection> {
        loop {
            let mut connection = self.take_any(origin)?;
            if connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn take_any(&self, origin: &str) -> Option<Connection> {
        let mut waiting = self.lock();
        let index = waiting.idle.iter().rposition(|idle| idle.origin == origin)?;
        waiting.idle.remove(index).map(|idle| idle.connection)
    }

    /// Keeps one for the next request.
    pub(super) fn keep(self: &Arc<Self>, origin: &str, connection: Connection) {
        let now = Instant::now();
        if connection.sender.is_closed() || now.duration_since(connection.opened_at) > USED_FOR {
            return;
        }
        let mut waiting = self.lock();
        waiting.idle.push_back(Idle { origin: origin.to_owned(), connection, until: now + IDLE_FOR });
        if waiting.idle.len() > IDLE_MAX {
            waiting.idle.pop_front();
        }
        if !waiting.is_swept {
            waiting.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Ends those that have waited long enough, and tells when the next one will have.
    fn end_outdated(&self) -> Option<Instant> {
        let (mut waiting, now) = (self.lock(), Instant::now());
        // A receiver ends some, too.
        waiting.idle.retain(|idle| idle.until > now && !idle.connection.sender.is_closed());
        let next = waiting.idle.front().map(|idle| idle.until);
        waiting.is_swept = next.is_some();
        next
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends what waits too long, until nothing waits any more.
async fn sweep(connections: Weak<Connections>) {
    loop {
        let Some(next) = connections.upgrade().and_then(|connections| connections.end_outdated()) else { return };
        sleep_until(next).await;
    }
}
