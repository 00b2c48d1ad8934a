//! Faults that tests ask for. In release builds there are none, and none can be asked for.

#[cfg(debug_assertions)]
use std::sync::{Arc, Mutex, PoisonError};

/// Which tasks of one service tests want dead. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    #[cfg(debug_assertions)]
    killed: Arc<Mutex<Vec<&'static str>>>,
    #[cfg(debug_assertions)]
    changed: Arc<tokio::sync::Notify>,
}

#[cfg(debug_assertions)]
impl Faults {
    /// Makes the task of this name panic, once, where it awaits next or begins its next turn.
    pub fn kill(&self, task: &'static str) {
        self.killed.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        self.changed.notify_waiters();
    }

    /// Panics if this task is to die; for threads, which ask once a turn.
    ///
    /// # Panics
    /// As a test has asked.
    pub fn check(&self, task: &'static str) {
        assert!(!self.take(task), "killed by a test");
    }

    /// Waits until this task is to die.
    pub(crate) async fn killed(&self, task: &'static str) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if self.take(task) {
                return;
            }
            changed.await;
        }
    }

    fn take(&self, task: &'static str) -> bool {
        let mut killed = self.killed.lock().unwrap_or_else(PoisonError::into_inner);
        let found = killed.iter().position(|other| *other == task);
        found.map(|index| killed.swap_remove(index)).is_some()
    }
}

#[cfg(not(debug_assertions))]
impl Faults {
    /// Does nothing: nobody can have asked.
    #[inline]
    #[expect(clippy::unused_self, reason = "the same call as in builds for tests")]
    pub fn check(&self, _task: &'static str) {}

    /// Never comes.
    #[expect(clippy::unused_self, reason = "the same call as in builds for tests")]
    pub(crate) fn killed(&self, _task: &'static str) -> std::future::Pending<()> {
        std::future::pending()
    }
}
