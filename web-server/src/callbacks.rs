//! What purchases may ask for in the way of callbacks, and what receivers verify them with: management-api's word, asked for every few
//! seconds. Nothing here can sign one.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use memchr::memmem;
use shared::callbacks::{CallbackRules, CallbackUrl};
use shared::event::FieldError;
use shared::http::Problem;
use shared::shutdown::Shutdown;
use shared::supervise::Supervisor;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::management_client::{ManagementClient, calls::CallKind};

/// The pause between two looks.
const INTERVAL: Duration = Duration::from_secs(5);
/// The pause after a look that failed.
const INTERVAL_AFTER_FAILURE: Duration = Duration::from_millis(500);
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(1);
/// How long a caller waits for the first answer.
const FIRST_LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// When who came too early may come again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// What management-api has said last, if anything.
type Known = Option<Arc<CallbackRules>>;

/// What is known of callbacks.
pub struct Callbacks {
    known: watch::Receiver<Known>,
    /// Somebody wants to know: where nobody does, nobody is asked.
    wanted: Arc<Notify>,
}

impl Callbacks {
    /// Begins to ask management-api when somebody wants to know, and goes on until the service stops.
    pub fn start(management: &Arc<ManagementClient>, supervisor: &Supervisor) -> Self {
        let (sender, known) = watch::channel(None);
        let wanted = Arc::new(Notify::new());
        let keeper = Arc::new(Keeper { management: Arc::clone(management), sender, wanted: Arc::clone(&wanted) });
        let shutdown = supervisor.shutdown().clone();
        // What is known stays with the keeper, also when its task starts anew.
        tokio::spawn(supervisor.restart("callbacks", move || Arc::clone(&keeper).run(shutdown.clone())));
        Self { known, wanted }
    }

    /// Sees to it that the rules are known where `body`, which may bring purchases, may ask for a callback.
    ///
    /// # Errors
    /// 503 while nobody has told any.
    pub async fn prepare(&self, body: &[u8]) -> Result<(), Problem> {
        if self.known.borrow().is_none() && may_ask(body) {
            Box::pin(self.rules()).await?;
        }
        Ok(())
    }

    /// Reads what a buyer has sent as `callback_url`, by the rules that are known.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(&self, text: &str) -> Result<CallbackUrl, FieldError> {
        self.known.borrow().as_ref().map_or_else(|| CallbackRules::default().parse(text), |rules| rules.parse(text))
    }

    /// The rules as they were a few seconds ago. What was known stays while nobody answers.
    ///
    /// # Errors
    /// 503 while nobody has told any.
    pub async fn rules(&self) -> Result<Arc<CallbackRules>, Problem> {
        let mut known = self.known.clone();
        if known.borrow_and_update().is_none() {
            self.wanted.notify_one();
            let _ = timeout(FIRST_LOOK_TIMEOUT, known.changed()).await;
        }
        let rules = known.borrow().clone();
        rules.ok_or_else(|| {
            let detail = "nobody can tell now whether callbacks are switched on: try again";
            Problem::unavailable(detail, RETRY_AFTER_SECONDS)
        })
    }
}

/// Whether JSON may have a field `callback_url`: any letter of a name may be escaped.
fn may_ask(json: &[u8]) -> bool {
    memmem::find(json, b"callback_url").is_some() || memmem::find(json, b"\\u").is_some()
}

/// Keeps what is known up to date.
struct Keeper {
    management: Arc<ManagementClient>,
    sender: watch::Sender<Known>,
    wanted: Arc<Notify>,
}

impl Keeper {
    async fn run(self: Arc<Self>, shutdown: Shutdown) {
        if self.sender.borrow().is_none() {
            tokio::select! {
                () = self.wanted.notified() => {}
                () = shutdown.stopped() => return,
            }
        }
        let mut was_well = true;
        loop {
            let asked = self.ask().await;
            if let Err(detail) = &asked
                && was_well
            {
                tracing::warn!(detail, "management-api does not say what callbacks may be; what was known stays");
            }
            was_well = asked.is_ok();
            tokio::select! {
                () = sleep(if was_well { INTERVAL } else { INTERVAL_AFTER_FAILURE }) => {}
                () = shutdown.stopped() => return,
            }
        }
    }

    async fn ask(&self) -> Result<(), String> {
        let told = match self.management.ask(CallKind::Own, "/internal/callbacks".to_owned(), DEADLINE).await {
            Ok(json) => serde_json::from_slice(&json).map_err(|error| error.to_string())?,
            // While a release rolls out, a replica may not know of callbacks yet: what another one has told stays.
            Err(problem) if problem.status() == StatusCode::NOT_FOUND && !self.knows_of_some() => {
                CallbackRules::default()
            }
            Err(problem) => return Err(problem.detail().to_owned()),
        };
        self.sender.send_replace(Some(Arc::new(told)));
        Ok(())
    }

    fn knows_of_some(&self) -> bool {
        self.sender.borrow().as_ref().is_some_and(|rules| rules.enabled)
    }
}
