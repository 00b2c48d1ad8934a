//! What handlers get: the parts, and the limits that they keep.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderMap};
use shared::api_keys::{RequestClass, Scope};
use shared::health::Readiness;
use shared::http::{ByteBudget, Operations, Problem, RequestContext, WAIT_MAX, kinds};
use shared::shutdown::Shutdown;
use shared::supervise::Supervisor;

use crate::access::{Asker, AuthMode};
use crate::api_keys::{ApiKeys, MayAsk};
use crate::callbacks::Callbacks;
use crate::config::Config;
use crate::events::Events;
use crate::limits::Limits;
use crate::management_client::{ManagementClient, Route};
use crate::metrics::{Metrics, Refusal, Work};
use crate::publisher::PurchasePublisher;
use crate::read_cache::{NotRead, ReadCache};
use crate::shedding::{Shed, Shedding, Slot};
use crate::status::Status;
use crate::tokens::Tokens;

/// When a refused caller may come again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// What handlers get.
pub type AppState = Arc<App>;

/// What the routes share.
pub struct App {
    /// The settings.
    pub config: Config,
    /// The way to Kafka.
    pub publisher: Arc<dyn PurchasePublisher>,
    /// How often callers may come.
    pub limits: Arc<Limits>,
    /// The way to management-api.
    pub management: Arc<ManagementClient>,
    /// Answers kept for a moment.
    pub read_cache: ReadCache,
    /// Who asks, by token.
    pub tokens: Tokens,
    /// Who asks, by key.
    pub api_keys: ApiKeys,
    /// What purchases may ask for in the way of callbacks.
    pub callbacks: Callbacks,
    /// What is recorded, as it comes.
    pub events: Events,
    /// How the pipeline stands.
    pub status: Status,
    /// What operators can ask about.
    pub operations: Operations,
    /// What callers may make the service hold.
    pub budget: ByteBudget,
    /// What is counted, and what `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// How far the end has come.
    pub shutdown: Shutdown,
    pub(crate) supervisor: Supervisor,
    shedding: Arc<Shedding>,
}

/// Who asks, or why that is not known: on its way from who finds out to who wants to know.
#[derive(Clone, Debug)]
pub struct Identified(pub Result<Asker, Problem>);

/// A request that found a free place as it came.
pub struct Admission<'a> {
    app: &'a App,
    work: Work,
}

impl App {
    /// Brings the parts together; the publisher may be a fake.
    pub fn new(
        config: Config,
        publisher: Arc<dyn PurchasePublisher>,
        metrics: Arc<Metrics>,
        supervisor: Supervisor,
    ) -> AppState {
        let shutdown = supervisor.shutdown().clone();
        let (start, kafka, draining) = (Arc::clone(&publisher), Arc::clone(&publisher), shutdown.clone());
        // Without Kafka reads go on, and buyers are told to come again: better than no server to connect to.
        let mut readiness =
            Readiness::default()
                .with_readiness("kafka", move || start.check_start())
                .with_health("kafka", move || kafka.check())
                .with("draining", move || {
                    if draining.is_draining() { Err("the service is ending".to_owned()) } else { Ok(()) }
                });
        if let Some(admission) = config.admission.clone() {
            readiness = readiness.with_start("recording", move || admission());
        }
        let operations = Operations {
            readiness,
            registry: metrics.registry.clone(),
            metrics: Arc::clone(&metrics.http),
            address: config.http.operations_address,
        };
        let refusals = metrics.refusals(Refusal::Memory);
        let budget = ByteBudget::new(config.http.memory_max, &metrics.http, refusals);
        let management = ManagementClient::start(&config.management, budget.clone(), Arc::clone(&metrics), &supervisor);
        let management = Arc::new(management);
        Arc::new(Self {
            operations,
            budget,
            limits: Limits::start(&config.limits, Arc::clone(&metrics), &supervisor),
            tokens: Tokens::start(&config.tokens, Arc::clone(&management), Arc::clone(&metrics), &supervisor),
            api_keys: ApiKeys::start(&management, &supervisor),
            callbacks: Callbacks::start(&management, &supervisor),
            events: Events::start(&config.events, &management, &metrics, &supervisor),
            status: Status::start(&management, &supervisor),
            management,
            read_cache: ReadCache::new(config.read_cache, config.http.memory_max),
            shedding: Shedding::start(
                &config.shedding,
                config.publisher.producer.linger,
                Arc::clone(&metrics),
                &supervisor,
            ),
            config,
            publisher,
            metrics,
            shutdown,
            supervisor,
        })
    }

    /// Lets a purchase request in, or refuses it before its body is read.
    ///
    /// # Errors
    /// 503 when too many are in flight or the service is ending.
    pub fn admit_purchase(&self) -> Result<Admission<'_>, Problem> {
        self.admit(Work::Purchases)
    }

    /// Lets a batch in, or refuses it before its body is read.
    ///
    /// # Errors
    /// 503 when too many are in flight or the service is ending.
    pub fn admit_batch(&self) -> Result<Admission<'_>, Problem> {
        self.admit(Work::Batches)
    }

    fn admit(&self, work: Work) -> Result<Admission<'_>, Problem> {
        // Only a request that comes after the listener has closed, on a connection not yet ended.
        if self.shutdown.is_stopped() {
            return Err(self.refuse(Refusal::Draining));
        }
        if !self.shedding.has_room(work) {
            return Err(self.shed(work));
        }
        Ok(Admission { app: self, work })
    }

    /// Reads `target` of management-api, as [`ManagementClient::get`] does, unless reads are to be shed. What takes its time there,
    /// or fails, makes fewer be let in.
    ///
    /// # Errors
    /// As there, and 503 when too many are in flight.
    pub async fn read(
        &self,
        route: Route,
        target: String,
        deadline: Duration,
        context: &RequestContext,
    ) -> Result<Bytes, Problem> {
        let read = self.read_shared(route, target, deadline, context).await;
        read.map_err(|reason| self.not_read(reason))
    }

    /// As [`App::read`], for who tells the outcome to many.
    ///
    /// # Errors
    /// What [`App::not_read`] makes an answer of, for each of them.
    pub async fn read_shared(
        &self,
        route: Route,
        target: String,
        deadline: Duration,
        context: &RequestContext,
    ) -> Result<Bytes, NotRead> {
        let mut slot = self.shedding.enter(Work::Reads).ok_or(NotRead::NoPlace)?;
        let read = self.management.get(route, target, deadline, context).await;
        slot.end_work(read.as_ref().map_or_else(|problem| problem.status().is_client_error(), |_| true));
        read.map_err(NotRead::Failed)
    }

    /// What one caller is told whose read has no answer. Each who found no place is counted, and comes again at another time.
    pub fn not_read(&self, reason: NotRead) -> Problem {
        match reason {
            NotRead::NoPlace => self.shed(Work::Reads),
            NotRead::Failed(problem) => problem,
        }
    }

    fn shed(&self, work: Work) -> Problem {
        let Shed { reason, retry_after } = self.shedding.refuse(work);
        self.refuse(reason).with_retry_after(retry_after)
    }

    /// Finds out who asks, before anything else is decided; nothing where nobody is asked to say it. As [`AuthMode::asker`].
    pub async fn identify(&self, headers: &HeaderMap, may_ask: MayAsk<'_>) -> Option<Identified> {
        if self.config.auth == AuthMode::Off {
            return None;
        }
        Some(Identified(self.config.auth.asker(&self.tokens, &self.api_keys, headers, may_ask).await))
    }

    /// Who asks, as it was found out.
    ///
    /// # Errors
    /// 401 without a good token or key where one is needed, 503 while nobody can tell.
    pub fn asker(&self, found: &Extensions) -> Result<Asker, Problem> {
        match found.get::<Identified>() {
            Some(Identified(asker)) => asker.clone(),
            None if self.config.auth == AuthMode::Off => Ok(Asker::Anybody),
            None => Err(Problem::new(kinds::INTERNAL, "an internal error")),
        }
    }

    /// Who asks, if it may ask such a thing. What a key asks is counted.
    ///
    /// # Errors
    /// As [`App::asker`], and 403 for a key whose scopes say nothing of it.
    pub fn asker_for(&self, class: RequestClass, found: &Extensions) -> Result<Asker, Problem> {
        let asker = self.asker(found)?;
        asker.require_scope(match class {
            RequestClass::Buy | RequestClass::Batch => Scope::Buy,
            RequestClass::Read => Scope::Read,
        })?;
        if let Some(key_id) = asker.key_id() {
            self.api_keys.usage.count(key_id, class);
        }
        Ok(asker)
    }

    /// Asks, before anything is sent, whether what comes after Kafka can take purchases.
    ///
    /// # Errors
    /// 503 when it cannot.
    pub fn check_admission(&self) -> Result<(), Problem> {
        let Some(Err(reason)) = self.config.admission.as_ref().map(|check| check()) else { return Ok(()) };
        tracing::debug!(reason, "purchase refused");
        Err(self.refuse(Refusal::Shedding))
    }

    /// Counts a refused request and makes its answer.
    pub fn refuse(&self, reason: Refusal) -> Problem {
        self.metrics.refused(reason);
        Problem::unavailable(reason.advice(), RETRY_AFTER_SECONDS)
    }

    /// How long a caller who asked for `wait` is kept waiting for the record; nothing for not at all.
    pub fn recording_wait(&self, wait: Option<Duration>) -> Option<Duration> {
        let asked = wait.filter(|wait| !wait.is_zero());
        if self.config.always_wait {
            Some(asked.unwrap_or(self.config.publisher.deadline.min(WAIT_MAX)))
        } else {
            asked
        }
    }
}

impl Admission<'_> {
    /// Takes the request's place, once its body is here: who is slow to send it keeps nobody else out.
    ///
    /// # Errors
    /// 503 when others have taken the last place meanwhile.
    pub fn enter(self) -> Result<Slot, Problem> {
        self.app.shedding.enter(self.work).ok_or_else(|| self.app.shed(self.work))
    }
}
