//! SIGTERM and SIGINT, heard whatever else hangs, and the last resort when the end does not come.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Shutdown;

/// The name of the thread.
const TASK: &str = "signals";
/// The end of a service that has failed comes within five seconds of the failure.
const FAILED_LIMIT: Duration = Duration::from_secs(4);
/// How long the last line of the log may take: whoever reads it may hang too.
const LOG_PATIENCE: Duration = Duration::from_millis(200);

impl Shutdown {
    /// On SIGTERM or SIGINT drains, and `drain_delay` later stops; a second signal stops at once. A process that has not
    /// ended `end_limit` after the stop is ended with exit code 1.
    ///
    /// All of it runs on a thread of its own: no task that hangs can keep the process from hearing and ending.
    ///
    /// # Errors
    /// When the process cannot listen to signals.
    pub fn on_signals(&self, drain_delay: Duration, end_limit: Duration) -> io::Result<()> {
        let shutdown = self.clone();
        let (sender, listening) = mpsc::channel();
        thread::Builder::new().name(TASK.to_owned()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(sender.send(Err(error))),
            };
            let heard = catch_unwind(AssertUnwindSafe(|| {
                runtime.block_on(async {
                    match Signals::listen() {
                        Ok(signals) => {
                            let _ = sender.send(Ok(()));
                            signals.see_to_the_end(&shutdown, drain_delay, end_limit).await;
                        }
                        Err(error) => drop(sender.send(Err(error))),
                    }
                });
            }));
            // A process that no signal can end must not go on.
            if heard.is_err() {
                shutdown.fail(TASK);
                thread::sleep(FAILED_LIMIT);
                std::process::exit(1);
            }
        })?;
        listening.recv().map_err(io::Error::other)?
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! { _ = self.terminate.recv() => {}, _ = self.interrupt.recv() => {} }
    }

    /// Waits for the stop, by a signal or from inside, and ends the process when it does not end by itself.
    async fn see_to_the_end(mut self, shutdown: &Shutdown, drain_delay: Duration, end_limit: Duration) {
        tokio::select! {
            () = shutdown.faults().killed(TASK) => panic!("killed by a test"),
            () = self.next() => {
                shutdown.drain();
                tell(move || tracing::info!(drain_delay_ms = drain_delay.as_millis(), "draining"));
                tokio::select! {
                    () = self.next() => {}
                    () = tokio::time::sleep(drain_delay) => {}
                    () = shutdown.stopped() => {}
                }
                shutdown.stop();
                tell(|| tracing::info!("stopping"));
            }
            () = shutdown.stopped() => {}
        }
        let limit = if shutdown.failure().is_some() { end_limit.min(FAILED_LIMIT) } else { end_limit };
        tokio::time::sleep(limit).await;
        let limit_ms = limit.as_millis();
        tell(move || tracing::error!(limit_ms, "the process does not end by itself and is ended"));
        thread::sleep(LOG_PATIENCE);
        std::process::exit(1);
    }
}

/// Writes to the log from a thread of its own: a log that nobody reads must not keep the process from ending.
fn tell(line: impl FnOnce() + Send + 'static) {
    // Without a thread to be had the line is lost, and the end goes on.
    let _ = thread::Builder::new().name("last words".to_owned()).spawn(line);
}
