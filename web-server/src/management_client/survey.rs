//! The same question to every replica, for what each knows of itself alone.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shared::http::RequestContext;

use super::ManagementClient;
use super::answer::Answer;
use super::attempt::{Call, attempt};
use super::calls::CallKind;

impl ManagementClient {
    /// Asks every replica that is known, also those that are left out, and each once. Gives what each has answered; nothing for one that
    /// has not within `time`.
    pub async fn ask_each(&self, target: &str, time: Duration) -> Vec<Option<Answer>> {
        let (known, deadline, context) = (self.replicas.known(), Instant::now() + time, RequestContext::own());
        let asked = known.iter().map(async |replica| {
            let call = Call { kind: CallKind::Own, ..Call::get(target.to_owned(), &context) };
            attempt(&self.way, replica, &call, deadline).await.ok()
        });
        join_all(asked).await
    }
}
