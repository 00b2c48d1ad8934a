//! Child processes that leave nothing behind: they die with us, or are found again by pid and start time.

mod id;
mod spawner;
mod sys;

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use tokio::time::{Instant, sleep};

pub use id::{ProcessId, is_root};
pub use spawner::Lifetime;
pub use sys::at_exit;

use crate::error::{Doing, Result, StackError};

/// How often a wait looks again.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How much of a log an error shows.
const TAIL_BYTES: u64 = 4096;

/// A signal this crate sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ends the process at once; it cannot be caught.
    Kill,
    /// Asks for an orderly end.
    Terminate,
    /// For PostgreSQL: end the sessions, write a checkpoint, stop.
    Interrupt,
    /// For PostgreSQL: stop at once, without a checkpoint; recovery runs at the next start.
    Quit,
    /// Freezes the process; it cannot be caught.
    Stop,
    /// Wakes a frozen process.
    Continue,
}

/// A running program with its output in a log file. Dropping it kills it, unless it was started detached.
#[derive(Debug)]
pub struct Process {
    name: String,
    /// None for a process that another run of this program started.
    child: Option<Child>,
    id: ProcessId,
    log: PathBuf,
    lifetime: Lifetime,
}

impl Process {
    /// Starts `command` with nothing on its input and its output appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn spawn(name: &str, mut command: Command, log: &Path, lifetime: Lifetime) -> Result<Self> {
        let output = append(log)?;
        let errors = output.try_clone().doing(format!("opening {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let program = command.get_program().display().to_string();
        let child = spawner::spawn(command, lifetime).doing(format!("starting {name} ({program})"))?;
        // The child is ours and not yet waited for, so its pid cannot have been given to another process.
        let id = ProcessId::of(child.id()).unwrap_or(ProcessId { pid: child.id(), started: 0 });
        Ok(Self { name: name.to_owned(), child: Some(child), id, log: log.to_owned(), lifetime })
    }

    /// A handle for a detached process that another run of this program started.
    pub fn adopt(name: &str, id: ProcessId, log: &Path) -> Self {
        Self { name: name.to_owned(), child: None, id, log: log.to_owned(), lifetime: Lifetime::Detached }
    }

    /// Its name in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Pid and start time.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends a signal; a process that is already gone is no error.
    pub fn signal(&self, signal: Signal) {
        self.id.signal(signal);
    }

    /// The exit status, once the process has ended; that of an adopted process is not known and taken for 0.
    ///
    /// # Errors
    /// When the operating system does not know the child any more.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => child.try_wait().doing(format!("waiting for {}", self.name)),
            None => Ok((!self.id.is_alive()).then(ExitStatus::default)),
        }
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// When it still runs after `deadline`; it is left running.
    pub async fn wait_exit(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                return Err(self.failure(format!("still runs after {deadline:?}")));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Kills the process (signal 9) and waits until it is gone, which takes milliseconds.
    pub fn kill_9(&mut self) {
        self.signal(Signal::Kill);
        match &mut self.child {
            // The error case is a child that was waited for already: gone as well.
            Some(child) => drop(child.wait()),
            None => {
                while self.id.is_alive() {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    /// Asks with `signal`, and kills when the process has not ended after `deadline`. True if it ended by itself.
    ///
    /// # Errors
    /// When the operating system does not know the child any more.
    pub async fn stop(&mut self, signal: Signal, deadline: Duration) -> Result<bool> {
        self.signal(signal);
        self.wait_or_kill(deadline).await
    }

    /// Waits for an end that was asked for, and kills after `deadline`. True if it ended by itself.
    ///
    /// # Errors
    /// When the operating system does not know the child any more.
    pub async fn wait_or_kill(&mut self, deadline: Duration) -> Result<bool> {
        let end = Instant::now() + deadline;
        while self.try_wait()?.is_none() {
            if Instant::now() >= end {
                self.kill_9();
                return Ok(false);
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(true)
    }

    /// An error about this process that shows the end of its log.
    pub fn failure(&self, why: impl Into<String>) -> StackError {
        StackError::Process {
            what: self.name.clone(),
            why: why.into(),
            log: self.log.clone(),
            tail: log_tail(&self.log),
        }
    }

    /// Fails when the process has ended, with its status and the end of its log.
    ///
    /// # Errors
    /// See above.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.try_wait()? {
            Some(status) => Err(self.failure(format!("ended early ({status})"))),
            None => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::WithParent {
            self.kill_9();
        }
    }
}

fn append(log: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(log).doing(format!("opening {}", log.display()))
}

/// The last lines of a log file; says so when there are none.
pub fn log_tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok(tail)
    };
    match read() {
        Ok(tail) if tail.is_empty() => "(empty)\n".to_owned(),
        Ok(tail) => String::from_utf8_lossy(&tail).into_owned(),
        Err(error) => format!("(unreadable: {error})\n"),
    }
}
