//! What runs, written down after each start, so that a later command finds exactly those processes again.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Options;
use crate::{
    error::{Doing, Result, StackError},
    process::{Process, ProcessId},
};

/// What kind of process it is: how to ask whether it is ready, and how to stop it. In the order of their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Kafka,
    Postgres,
    ManagementApi,
    WebServer,
}

/// One process of the stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub name: String,
    pub kind: Kind,
    pub id: ProcessId,
    pub port: u16,
    pub log: PathBuf,
}

impl Entry {
    pub(super) fn process(&self) -> Process {
        Process::adopt(&self.name, self.id, &self.log)
    }
}

/// The options everything was started with, and the processes in the order of their start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub options: Option<Options>,
    pub processes: Vec<Entry>,
}

impl State {
    pub(super) fn find(&self, name: &str) -> Option<&Entry> {
        self.processes.iter().find(|entry| entry.name == name)
    }
}

/// The stack's folder, locked against other `stack` commands while this lives.
#[derive(Debug)]
pub(super) struct StackFolder {
    path: PathBuf,
    _lock: File,
}

impl StackFolder {
    pub(super) fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).doing(format!("making {}", path.display()))?;
        let path = path.canonicalize().doing(format!("finding {}", path.display()))?;
        let lock = File::create(path.join("lock")).doing(format!("making a lock in {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                Err(StackError::Refused("another `stack up` or `stack down` is at work".to_owned()))
            }
            Err(TryLockError::Error(error)) => Err(error).doing(format!("locking {}", path.display())),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).doing(format!("making {}", path.display()))?;
        Ok(path)
    }

    /// Replaces the state as a whole: whoever reads it sees the old or the new one.
    pub(super) fn save(&self, state: &State) -> Result<()> {
        let text = serde_json::to_string_pretty(state).map_err(|error| StackError::Refused(error.to_string()))?;
        let new = self.path.join("state.json.new");
        fs::write(&new, text).doing(format!("writing {}", new.display()))?;
        fs::rename(&new, state_file(&self.path)).doing(format!("renaming {}", new.display()))
    }
}

/// The state as last saved; an empty one when there is none.
pub(super) fn load(folder: &Path) -> Result<State> {
    let path = state_file(folder);
    if !path.exists() {
        return Ok(State::default());
    }
    let text = fs::read_to_string(&path).doing(format!("reading {}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| StackError::Refused(format!("{}: {error}", path.display())))
}

fn state_file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}
