//! Stand-ins for replicas of management-api that answer reads by the clock: to watch and to measure how reads are balanced.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

use crate::{Result, error::Doing};

/// How many a busy one answers at once.
const AT_ONCE: usize = 4;

/// How a stand-in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// In 2 to 5 ms, as a page comes from a database on a busy machine.
    Well,
    /// The same, but in 300 ms for one call in twenty.
    Hiccups,
    /// In 10 ms, four at once: 400 a second at most. More wait for their turn.
    Busy,
    /// In a second.
    Slow,
    /// At once, with 503.
    Failing,
    /// Never.
    Silent,
}

/// One stand-in; it ends when this is dropped.
#[derive(Debug)]
pub struct StandIn {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl StandIn {
    /// Starts one at a port, or at a free one for 0.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn start(port: u16, pace: Pace) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.doing(format!("listening at port {port}"))?;
        let address = listener.local_addr().doing("listening")?;
        let asked = Arc::new(AtomicU64::new(0));
        let router =
            Router::new().fallback(answer).with_state((pace, Arc::new(Semaphore::new(AT_ONCE)), Arc::clone(&asked)));
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, asked, task })
    }

    /// How often it was asked.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State((pace, turns, asked)): State<(Pace, Arc<Semaphore>, Arc<AtomicU64>)>) -> Response {
    let number = asked.fetch_add(1, Ordering::Relaxed);
    let time = match pace {
        Pace::Failing => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Pace::Silent => return std::future::pending().await,
        Pace::Hiccups if number % 20 == 7 => Duration::from_millis(300),
        // The same in every run, and no two in a row alike.
        Pace::Well | Pace::Hiccups => Duration::from_micros(2_000 + number * 787 % 3_000),
        Pace::Busy => Duration::from_millis(10),
        Pace::Slow => Duration::from_secs(1),
    };
    let _turn = if pace == Pace::Busy { turns.acquire().await.ok() } else { None };
    tokio::time::sleep(time).await;
    ([(CONTENT_TYPE, "application/json")], r#"{"purchases":[],"next_cursor":null}"#).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_answers_at_its_pace_and_counts() {
        const PATIENCE: Duration = Duration::from_secs(10);
        for (pace, status) in [(Pace::Well, StatusCode::OK), (Pace::Failing, StatusCode::SERVICE_UNAVAILABLE)] {
            let stand_in = StandIn::start(0, pace).await.unwrap();
            for times in 1..=3 {
                let answer = crate::http::get(&stand_in.address.to_string(), "/purchases", PATIENCE).await.unwrap();
                assert_eq!((answer.status, stand_in.asked()), (status, times), "{pace:?}");
            }
        }
        let silent = StandIn::start(0, Pace::Silent).await.unwrap();
        assert!(crate::http::get(&silent.address.to_string(), "/", Duration::from_millis(100)).await.is_err());
        assert_eq!(silent.asked(), 1);
    }
}
