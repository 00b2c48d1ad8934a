//! What handlers get.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::HeaderMap;
use shared::callbacks::CallbackRules;
use shared::config::Secret;
use shared::http::{BodyLimits, ByteBudget, Operations, Problem, read_json_body};

use crate::accounts::Accounts;
use crate::commits::CommitFeed;
use crate::ingest::Progress;
use crate::store::{CallbackOutbox, Reading};
use crate::waiters::Waiters;

/// What the routes work with.
#[derive(Clone)]
pub struct App {
    /// The database, to read from.
    pub store: Arc<dyn Reading>,
    /// Who waits for a purchase.
    pub waiters: Arc<Waiters>,
    /// What is recorded, as it comes.
    pub commits: Arc<CommitFeed>,
    /// How far recording is.
    pub progress: Arc<Progress>,
    /// Who may sign in; nothing when accounts are not set up.
    pub accounts: Option<Arc<Accounts>>,
    /// What web-server is told of callbacks.
    pub callbacks: Arc<CallbackRules>,
    /// Callbacks that were not delivered.
    pub outbox: Arc<dyn CallbackOutbox>,
    /// What callers must present.
    pub token: Option<Secret<String>>,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// What operators can ask about.
    pub operations: Operations,
    /// What callers may make the service hold.
    pub budget: ByteBudget,
}

impl App {
    /// A request's JSON body of at most so many bytes.
    ///
    /// # Errors
    /// What is wrong with it, or that it was too slow or too large, or that there is no room for it.
    pub async fn read_body(&self, headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
        let limits = BodyLimits { bytes: bytes_max, timeout: self.body_timeout };
        read_json_body(headers, body, limits, &self.budget).await
    }
}
