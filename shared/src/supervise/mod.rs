//! Long-lived tasks and threads: none ends unnoticed.
//!
//! What ends though it should not is logged, counted in `task_failures_total`, and then starts anew where that is safe;
//! where it is not, the service stops with an error.

mod faults;

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

pub use self::faults::Faults;
use crate::backoff::Backoff;
use crate::metrics::{Counter, Registry};
use crate::shutdown::Shutdown;

/// The first and the longest pause before work starts anew: what dies at once does not spin, and is back within 5 s.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3));
/// Work that has run for so long is well again: its next pause is the first one.
const WELL_AFTER: Duration = Duration::from_secs(30);

/// Starts the long-lived tasks and threads of one service and notices their ends. Clones share one state.
#[derive(Clone)]
pub struct Supervisor {
    shutdown: Shutdown,
    registry: Registry,
}

impl Supervisor {
    /// Of a service whose tasks have these names; their failures are counted from 0 on.
    #[must_use]
    pub fn new(registry: &Registry, tasks: &[&'static str], shutdown: &Shutdown) -> Self {
        let supervisor = Self { shutdown: shutdown.clone(), registry: registry.clone() };
        for task in tasks {
            let _ = supervisor.failures(task);
        }
        supervisor
    }

    /// Of a command or a test: with metrics that nobody looks at.
    #[must_use]
    pub fn alone() -> Self {
        Self::new(&Registry::new(&[]), &[], &Shutdown::new())
    }

    /// The service's shutdown.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// The service's metrics.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Work that goes on until the service stops: whether it panics or returns before, it starts anew. To be spawned.
    pub fn restart<F>(
        &self,
        task: &'static str,
        start: impl FnMut() -> F + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.clone().repeat(task, start, false)
    }

    /// Work that is done when it returns: only if it panics, it starts anew. To be spawned.
    pub fn complete<F>(
        &self,
        task: &'static str,
        start: impl FnMut() -> F + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.clone().repeat(task, start, true)
    }

    /// Work that the service cannot do without and that cannot start anew: if it panics, or ends before the service
    /// stops, the service fails. Nothing, when it has panicked.
    pub async fn vital<T>(&self, task: &'static str, work: impl Future<Output = T>) -> Option<T> {
        let ended = self.watch(task, work).await;
        if !self.shutdown.is_stopped() {
            self.shutdown.fail(task);
            if ended.is_some() {
                self.failed(task, "it has returned");
            }
        }
        ended
    }

    /// Work whose panic is noticed and left to the caller. Nothing, when it has panicked.
    pub async fn watch<T>(&self, task: &'static str, work: impl Future<Output = T>) -> Option<T> {
        let breakable = async {
            tokio::select! {
                biased;
                () = self.shutdown.faults().killed(task) => panic!("killed by a test"),
                output = work => output,
            }
        };
        let ended = AssertUnwindSafe(breakable).catch_unwind().await;
        ended.map_err(|panic| self.failed(task, panic_text(panic.as_ref()))).ok()
    }

    /// A thread that has done its work when `run` returns: if it panics, it starts anew.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn thread(
        &self,
        task: &'static str,
        mut run: impl FnMut() + Send + 'static,
    ) -> io::Result<thread::JoinHandle<()>> {
        let supervisor = self.clone();
        thread::Builder::new().name(task.to_owned()).spawn(move || {
            let mut pauses = Pauses::new();
            while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut run)) {
                supervisor.failed(task, panic_text(panic.as_ref()));
                thread::sleep(pauses.next());
            }
        })
    }

    /// Takes note of an end that should not be.
    pub fn failed(&self, task: &'static str, error: &str) {
        self.failures(task).increment(1);
        tracing::error!(task, error, "a task has ended that should have gone on");
    }

    fn failures(&self, task: &str) -> Counter {
        let help = "Ends of long-lived tasks and threads that should have gone on.";
        self.registry.counter("task_failures_total", help, &[("task", task)])
    }

    async fn repeat<F>(self, task: &'static str, mut start: impl FnMut() -> F, once: bool)
    where
        F: Future<Output = ()>,
    {
        let mut pauses = Pauses::new();
        loop {
            // The call itself may panic as well as what it gives.
            let ended = self.watch(task, async { start().await }).await;
            if self.shutdown.is_stopped() || (once && ended.is_some()) {
                return;
            }
            if ended.is_some() {
                self.failed(task, "it has returned");
            }
            tokio::select! {
                () = tokio::time::sleep(pauses.next()) => {}
                () = self.shutdown.stopped() => return,
            }
        }
    }
}

/// The pauses before work starts anew: ever longer, until the work has been well for a while.
struct Pauses {
    backoff: Backoff,
    began: Instant,
}

impl Pauses {
    fn new() -> Self {
        Self { backoff: Backoff::new(PAUSE.0, PAUSE.1), began: Instant::now() }
    }

    /// How long to rest before work starts again.
    fn next(&mut self) -> Duration {
        if self.began.elapsed() > WELL_AFTER {
            self.backoff.reset();
        }
        self.began = Instant::now();
        self.backoff.pause()
    }
}

/// What a panic says.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic")
}
