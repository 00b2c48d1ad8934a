//! Stops what `stack up` started, and nothing else.

use std::{fs, path::Path, time::Duration};

use super::state::{self, Entry, Kind, StackFolder, State};
use crate::{
    error::{Doing, Result},
    process::{Process, Signal},
};

/// Services drain for some seconds; Kafka and PostgreSQL write their state.
const STOP_DEADLINE: Duration = Duration::from_secs(40);

/// Stops the services first, then PostgreSQL, then Kafka. Data and logs stay, unless `delete_data`.
///
/// # Errors
/// When the stack's folder cannot be read or written, or another `stack` command is at work.
pub async fn down(folder: &Path, delete_data: bool) -> Result<()> {
    let stack = StackFolder::open(folder)?;
    let mut state = state::load(stack.path())?;
    let running: Vec<Entry> = state.processes.drain(..).filter(|entry| entry.id.is_alive()).collect();
    for (kind, signal) in [
        (Kind::WebServer, Signal::Terminate),
        (Kind::ManagementApi, Signal::Terminate),
        (Kind::Postgres, Signal::Interrupt),
        (Kind::Kafka, Signal::Terminate),
    ] {
        stop(running.iter().filter(|entry| entry.kind == kind), signal).await?;
    }
    stack.save(&State::default())?;
    if delete_data {
        let path = stack.path();
        fs::remove_dir_all(path).doing(format!("removing {}", path.display()))?;
        eprintln!("removed {}", path.display());
    }
    Ok(())
}

/// Signals all, then waits for all: brokers of one cluster stop together.
async fn stop(entries: impl Iterator<Item = &Entry>, signal: Signal) -> Result<()> {
    let mut processes: Vec<Process> = entries.map(Entry::process).collect();
    for process in &processes {
        process.signal(signal);
    }
    for process in &mut processes {
        let by_itself = process.wait_or_kill(STOP_DEADLINE).await?;
        let how = if by_itself { "stopped" } else { "killed, because it did not stop in time," };
        eprintln!("{how} {}", process.name());
    }
    Ok(())
}
