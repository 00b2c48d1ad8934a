//! Records that wait to leave together.

use std::mem;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Room for so many records is kept; what a burst took beyond it is given back.
const ROOM_KEPT: usize = 1024;

/// Gathers records until the one who sends them is free.
pub(super) struct Outbox<R> {
    gathered: Mutex<Vec<R>>,
    came: Condvar,
    max: usize,
}

impl<R> Outbox<R> {
    /// Gathers at most `max`.
    pub fn new(max: usize) -> Self {
        Self { gathered: Mutex::default(), came: Condvar::new(), max }
    }

    /// Adds a record, or gives it back when there is no room.
    pub fn add(&self, record: R) -> Result<(), R> {
        let mut gathered = self.gathered.lock();
        if gathered.len() >= self.max {
            return Err(record);
        }
        gathered.push(record);
        drop(gathered);
        self.came.notify_one();
        Ok(())
    }

    /// Waits for a record, at most `time`. Says whether there is one.
    pub fn wait(&self, time: Duration) -> bool {
        let mut gathered = self.gathered.lock();
        if gathered.is_empty() {
            self.came.wait_for(&mut gathered, time);
        }
        !gathered.is_empty()
    }

    /// Gives all that has gathered into `records`, which is empty; the next ones gather in its room.
    pub fn take(&self, records: &mut Vec<R>) {
        records.shrink_to(ROOM_KEPT);
        mem::swap(&mut *self.gathered.lock(), records);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn taken<R>(outbox: &Outbox<R>) -> Vec<R> {
        let mut records = Vec::new();
        outbox.take(&mut records);
        records
    }

    #[test]
    fn records_gather_up_to_the_limit_and_leave_together_in_order() {
        let outbox = Outbox::new(2);
        assert_eq!((outbox.add(1), outbox.add(2), outbox.add(3)), (Ok(()), Ok(()), Err(3)));
        assert!(outbox.wait(Duration::MAX));
        assert_eq!(taken(&outbox), [1, 2]);
        assert!(taken(&outbox).is_empty());
        assert_eq!(outbox.add(4), Ok(()));
    }

    #[test]
    fn the_room_of_a_burst_is_given_back() {
        let outbox = Outbox::new(10 * ROOM_KEPT);
        let mut records = Vec::new();
        for _ in 0..2 {
            while outbox.add(1).is_ok() {}
            outbox.take(&mut records);
            records.clear();
        }
        outbox.take(&mut records);
        assert!(outbox.gathered.lock().capacity() <= ROOM_KEPT && !outbox.wait(Duration::ZERO));
    }

    #[test]
    fn who_waits_is_woken_by_the_first_record() {
        let outbox = Outbox::new(1);
        thread::scope(|scope| {
            let woken = scope.spawn(|| {
                assert!(outbox.wait(Duration::from_mins(1)));
                taken(&outbox)
            });
            outbox.add(1).unwrap();
            assert_eq!(woken.join().unwrap(), [1]);
        });
    }
}
