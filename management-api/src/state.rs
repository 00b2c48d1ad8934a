//! What handlers get.

use std::sync::Arc;
use std::time::Duration;

use shared::callbacks::CallbackRules;
use shared::config::Secret;
use shared::http::{ByteBudget, Operations};

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
