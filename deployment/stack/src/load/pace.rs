//! When the next purchase is due.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};

use super::LoadPlan;

/// How purchases follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Each connection sends the next purchase when it has the answer to the last one. Hides pauses of the server: fewer
    /// purchases are sent while it pauses.
    ClosedLoop,
    /// So many a second, whatever the server does. Latencies count from the moment a purchase was *due*.
    PerSecond(f64),
}

/// One permission to send a purchase.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub number: u64,
    pub due: Instant,
}

/// Hands out turns until the plan's limit or until the load is stopped.
#[derive(Debug, Clone)]
pub(super) enum Turns {
    Free { next: Arc<AtomicU64>, number_max: u64, end: Option<Instant>, stopping: Arc<AtomicBool> },
    Timed { queue: Arc<Mutex<mpsc::UnboundedReceiver<Turn>>>, stopping: Arc<AtomicBool> },
}

impl Turns {
    pub(super) fn start(plan: &LoadPlan, stopping: Arc<AtomicBool>) -> Self {
        let start = Instant::now();
        let end = plan.time_max.map(|time| start + time);
        let number_max = plan.purchases_max.unwrap_or(u64::MAX);
        match plan.pace {
            Pace::ClosedLoop => Self::Free { next: Arc::default(), number_max, end, stopping },
            Pace::PerSecond(rate) => {
                let (sender, receiver) = mpsc::unbounded_channel();
                let stopped = Arc::clone(&stopping);
                // A thread of its own: the runtime's timer is a millisecond coarse and shares its threads with the load.
                thread::spawn(move || {
                    for number in 0..u32::try_from(number_max).unwrap_or(u32::MAX) {
                        // Counted from the start each time, so that rounding does not add up.
                        let due = start + Duration::from_secs_f64(f64::from(number) / rate);
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        let is_over = stopped.load(Ordering::Relaxed) || end.is_some_and(|end| due >= end);
                        if is_over || sender.send(Turn { number: number.into(), due }).is_err() {
                            return;
                        }
                    }
                });
                Self::Timed { queue: Arc::new(Mutex::new(receiver)), stopping }
            }
        }
    }

    /// The next turn, when it is due; none when the load is over.
    pub(super) async fn next(&self) -> Option<Turn> {
        match self {
            Self::Free { next, number_max, end, stopping } => {
                let now = Instant::now();
                if stopping.load(Ordering::Relaxed) || end.is_some_and(|end| now >= end) {
                    return None;
                }
                let number = next.fetch_add(1, Ordering::Relaxed);
                (number < *number_max).then_some(Turn { number, due: now })
            }
            Self::Timed { queue, stopping } => {
                let turn = queue.lock().await.recv().await;
                turn.filter(|_| !stopping.load(Ordering::Relaxed))
            }
        }
    }
}
