//! How the pipeline stands, from what every replica of management-api says of itself. However many ask, each replica is asked once a
//! second at most.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::recording::RecordingState;
use shared::shutdown::Shutdown;
use shared::supervise::Supervisor;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::management_client::ManagementClient;

/// How often replicas are asked at most, and how old an answer may be.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(1);
/// How long a caller waits for news: for the pause after the last question, and the next one's answer.
const PATIENCE: Duration = Duration::from_millis(2_500);
const TARGET: &str = "/internal/recording";

/// How far recording is, over all replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recording {
    /// Replicas that are ready.
    pub replicas_ready: usize,
    /// Replicas that are known.
    pub replicas_total: usize,
    /// What is not recorded yet; nothing while nobody has told of some partition.
    pub lag: Option<Lag>,
}

/// What is not recorded yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    /// How many records.
    pub records: u64,
    /// The age of the oldest, in seconds.
    pub seconds: f64,
}

/// What was told last, and when.
#[derive(Clone, Copy)]
struct Told {
    recording: Recording,
    at: Instant,
}

/// What is known of recording.
pub struct Status {
    told: watch::Receiver<Option<Told>>,
    look: Arc<Notify>,
}

impl Status {
    /// Asks when somebody wants to know, until the service stops.
    pub fn start(management: &Arc<ManagementClient>, supervisor: &Supervisor) -> Self {
        let (sender, told) = watch::channel(None);
        let (sender, look) = (Arc::new(sender), Arc::new(Notify::new()));
        let (management, asked, shutdown) = (Arc::clone(management), Arc::clone(&look), supervisor.shutdown().clone());
        // What was told stays in the channel.
        tokio::spawn(supervisor.restart("status", move || {
            answer(Arc::clone(&management), Arc::clone(&sender), Arc::clone(&asked), shutdown.clone())
        }));
        Self { told, look }
    }

    /// How far recording is, a second ago at most; nothing if that cannot be found out in time.
    pub async fn recording(&self) -> Option<Recording> {
        let mut told = self.told.clone();
        if let Some(recording) = recent(*told.borrow_and_update()) {
            return Some(recording);
        }
        self.look.notify_one();
        timeout(PATIENCE, told.changed()).await.ok()?.ok()?;
        let told = *told.borrow();
        told.map(|told| told.recording)
    }
}

fn recent(told: Option<Told>) -> Option<Recording> {
    told.filter(|told| told.at.elapsed() < INTERVAL).map(|told| told.recording)
}

async fn answer(
    management: Arc<ManagementClient>,
    told: Arc<watch::Sender<Option<Told>>>,
    look: Arc<Notify>,
    shutdown: Shutdown,
) {
    loop {
        tokio::select! {
            () = look.notified() => {}
            () = shutdown.stopped() => return,
        }
        let answers = management.ask_each(TARGET, DEADLINE).await;
        let states = answers.into_iter().map(|answer| serde_json::from_slice(&answer?.into_json().ok()?).ok());
        let recording = add_up(&states.collect::<Vec<_>>());
        told.send_replace(Some(Told { recording, at: Instant::now() }));
        sleep(INTERVAL).await;
    }
}

/// What all replicas together have told. While nobody has told of some partition, its lag and so that of all is not known.
fn add_up(states: &[Option<RecordingState>]) -> Recording {
    let told = || states.iter().flatten();
    let partitions: usize = told().map(|state| state.partitions).sum();
    let is_whole = told().map(|state| state.partitions_total).max().is_some_and(|all| all > 0 && partitions >= all);
    Recording {
        replicas_ready: told().filter(|state| state.is_ready).count(),
        replicas_total: states.len(),
        lag: is_whole.then(|| Lag {
            records: told().map(|state| state.lag_records).sum(),
            seconds: told().map(|state| state.lag_seconds).fold(0.0, f64::max),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(partitions: usize, lag_records: u64) -> RecordingState {
        RecordingState { is_ready: true, partitions, partitions_total: 10, lag_records, lag_seconds: 0.5 }
    }

    #[test]
    fn lag_is_that_of_all_partitions_or_nobody_knows_it() {
        let lag = |states: &[_]| add_up(states).lag.map(|lag| lag.records);
        assert_eq!(lag(&[Some(state(4, 1)), Some(state(6, 2))]), Some(3));
        assert_eq!(lag(&[Some(state(10, 1)), None]), Some(1));
        assert_eq!(lag(&[Some(state(4, 1)), None]), None);
        assert_eq!(lag(&[None]), None);
        assert_eq!(lag(&[]), None);
        let starting = RecordingState { partitions_total: 0, is_ready: false, ..state(0, 0) };
        assert_eq!(lag(&[Some(starting)]), None);
        let recording = add_up(&[Some(state(10, 0)), Some(starting), None]);
        assert_eq!((recording.replicas_ready, recording.replicas_total), (1, 3));
    }
}
