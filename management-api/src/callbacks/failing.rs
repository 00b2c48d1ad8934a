//! Which hosts fail, as the database has it: all replicas' word together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use shared::callbacks::FailingHost;
use tokio::time::Instant;

use crate::store::{CallbackOutbox, StoreError};

/// How often the database is asked.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// How often a host's failing is written down.
const NOTE_INTERVAL: Duration = Duration::from_secs(10);
/// Hosts in one question, and the most that are known here.
const PAGE: u32 = 1_000;
const KNOWN_MAX: usize = 100_000;

/// Hosts that fail.
#[derive(Default)]
pub(super) struct FailingHosts {
    failing: HashSet<String>,
    switched_off: HashSet<String>,
    noted: HashMap<Arc<str>, Instant>,
    refresh_at: Option<Instant>,
    is_known: bool,
}

impl FailingHosts {
    /// Whether it gets nothing.
    pub(super) fn is_switched_off(&self, host: &str) -> bool {
        self.switched_off.contains(host)
    }

    /// Whether it has failed for long enough since that was written down.
    pub(super) fn is_to_be_noted(&mut self, host: &Arc<str>, now: Instant) -> bool {
        if self.noted.get(host).is_some_and(|noted| now < *noted + NOTE_INTERVAL) {
            return false;
        }
        self.noted.retain(|_, noted| now < *noted + NOTE_INTERVAL);
        self.noted.insert(Arc::clone(host), now);
        true
    }

    /// It fails, as the database has it now.
    pub(super) fn note(&mut self, host: &FailingHost) {
        if host.switched_off_at.is_some() && self.switched_off.insert(host.host.clone()) {
            tracing::error!(host = %host.host, since = %host.failing_since, outcome = %host.outcome,
                "a host of callbacks has failed for so long that it is switched off");
        }
        self.failing.insert(host.host.clone());
    }

    /// It is well. Gives whether it failed.
    pub(super) fn note_well(&mut self, host: &str) -> bool {
        self.noted.remove(host);
        self.failing.remove(host)
    }

    /// Whether the database has ever said which they are.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Whether it is time to ask the database; it is not, from then on, for a while.
    pub(super) fn begins_refresh(&mut self, now: Instant) -> bool {
        let is_time = self.refresh_at.is_none_or(|at| at <= now);
        if is_time {
            self.refresh_at = Some(now + REFRESH_INTERVAL);
        }
        is_time
    }

    /// What the database says.
    pub(super) fn refresh(&mut self, hosts: Result<Vec<FailingHost>, StoreError>) {
        match hosts {
            Ok(hosts) => {
                self.is_known = true;
                let off = hosts.iter().filter(|host| host.switched_off_at.is_some());
                self.switched_off = off.map(|host| host.host.clone()).collect();
                self.failing = hosts.into_iter().map(|host| host.host).collect();
            }
            Err(error) => tracing::debug!(%error, "not known which hosts of callbacks fail"),
        }
    }
}

/// All of them that the database has.
pub(super) async fn list(store: &dyn CallbackOutbox) -> Result<Vec<FailingHost>, StoreError> {
    let mut hosts: Vec<FailingHost> = Vec::new();
    loop {
        let after = hosts.last().map(|host| host.host.clone());
        let page = store.list_callback_hosts(after.as_deref(), PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        hosts.extend(page);
        if is_last || hosts.len() >= KNOWN_MAX {
            return Ok(hosts);
        }
    }
}
