//! Publishers that have every purchase delivered, at once or as fast as they can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use web_server::publisher::{Publishing, PurchasePublisher, PurchaseRecord, Receipt};

pub struct PromptPublisher;

impl PurchasePublisher for PromptPublisher {
    fn publish(&self, _record: PurchaseRecord<'_>) -> Publishing {
        Box::pin(async { Ok(Receipt { partition: 0, offset: 1 }) })
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn check_start(&self) -> Result<(), String> {
        Ok(())
    }

    fn flush(&self, _deadline: Duration) -> usize {
        0
    }
}

/// A publisher that has so much to do with each purchase that it takes its time, a few at once; more wait for their turn.
pub struct BusyPublisher {
    turns: Arc<Semaphore>,
    micros: Arc<AtomicU64>,
}

impl BusyPublisher {
    pub fn new(at_once: usize, time: Duration) -> Arc<Self> {
        let publisher = Self { turns: Arc::new(Semaphore::new(at_once)), micros: Arc::default() };
        publisher.takes(time);
        Arc::new(publisher)
    }

    /// How long each takes from now on.
    pub fn takes(&self, time: Duration) {
        self.micros.store(u64::try_from(time.as_micros()).unwrap(), Ordering::Relaxed);
    }
}

impl PurchasePublisher for BusyPublisher {
    fn publish(&self, _record: PurchaseRecord<'_>) -> Publishing {
        let (turns, micros) = (Arc::clone(&self.turns), Arc::clone(&self.micros));
        Box::pin(async move {
            let _turn = turns.acquire().await.unwrap();
            tokio::time::sleep(Duration::from_micros(micros.load(Ordering::Relaxed))).await;
            Ok(Receipt { partition: 0, offset: 1 })
        })
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn check_start(&self) -> Result<(), String> {
        Ok(())
    }

    fn flush(&self, _deadline: Duration) -> usize {
        0
    }
}
