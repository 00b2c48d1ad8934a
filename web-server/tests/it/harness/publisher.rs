//! A publisher that has every purchase delivered at once.

use std::time::Duration;

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
