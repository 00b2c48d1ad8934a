//! Who is to be called back, host by host and in turn: none takes the others' places, however slow it is.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::breaker::{Breaker, Verdict};
use super::pending::PendingCallback;

/// The most callbacks that wait here for one host.
const WAITING_PER_HOST_MAX: usize = 1_000;
/// How long a host is remembered of which nothing more is heard.
const REMEMBERED: Duration = Duration::from_mins(10);

/// Callbacks that wait, and the hosts that they are for.
pub struct Hosts {
    hosts: HashMap<Arc<str>, Host>,
    /// Hosts that may get another attempt, each once.
    turn: VecDeque<Arc<str>>,
    limit_per_host: usize,
    waiting: usize,
    in_flight: usize,
}

/// Why one is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its host is left alone.
    HostFails,
    /// Too many wait for its host.
    Crowded,
}

struct Host {
    waiting: VecDeque<PendingCallback>,
    in_flight: usize,
    is_in_turn: bool,
    breaker: Breaker,
    used_at: Instant,
}

impl Hosts {
    /// Nobody is to be called back; a host gets at most so many attempts at once.
    #[must_use]
    pub fn new(limit_per_host: usize) -> Self {
        Self { hosts: HashMap::new(), turn: VecDeque::new(), limit_per_host, waiting: 0, in_flight: 0 }
    }

    /// How many are here, those on their way with them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting + self.in_flight
    }

    /// How many attempts are on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Takes one in.
    ///
    /// # Errors
    /// Gives it back with the reason.
    pub fn add(&mut self, callback: PendingCallback, now: Instant) -> Result<(), (PendingCallback, Refused)> {
        let limit = self.limit_per_host;
        let host = self.hosts.entry(Arc::clone(&callback.host)).or_insert_with(|| Host {
            waiting: VecDeque::new(),
            in_flight: 0,
            is_in_turn: false,
            breaker: Breaker::new(limit),
            used_at: now,
        });
        host.used_at = now;
        if callback.is_trial {
            host.breaker.admit_trial(now);
        }
        if host.breaker.open_for(now).is_some() {
            return Err((callback, Refused::HostFails));
        }
        if host.waiting.len() >= WAITING_PER_HOST_MAX {
            return Err((callback, Refused::Crowded));
        }
        let name = Arc::clone(&callback.host);
        host.waiting.push_back(callback);
        self.waiting += 1;
        self.enter_turn(&name);
        Ok(())
    }

    /// The next one to be tried, if any host may get another attempt.
    pub fn next(&mut self, now: Instant) -> Option<PendingCallback> {
        while let Some(name) = self.turn.pop_front() {
            let Some(host) = self.hosts.get_mut(&name) else { continue };
            host.is_in_turn = false;
            if host.in_flight >= host.breaker.limit(now) {
                // It comes back when one of its attempts has ended.
                continue;
            }
            let Some(callback) = host.waiting.pop_front() else { continue };
            host.in_flight += 1;
            host.used_at = now;
            self.waiting -= 1;
            self.in_flight += 1;
            self.enter_turn(&name);
            return Some(callback);
        }
        None
    }

    /// An attempt has ended. Gives those that are waiting, if the host is left alone now.
    pub fn finish(&mut self, name: &Arc<str>, verdict: Verdict, now: Instant) -> Option<Vec<PendingCallback>> {
        self.in_flight = self.in_flight.saturating_sub(1);
        let host = self.hosts.get_mut(name)?;
        host.in_flight = host.in_flight.saturating_sub(1);
        host.breaker.note(verdict, now);
        if host.breaker.open_for(now).is_some() {
            let waiting: Vec<PendingCallback> = host.waiting.drain(..).collect();
            self.waiting -= waiting.len();
            return Some(waiting);
        }
        self.enter_turn(name);
        None
    }

    /// Those that have waited for so long that others may take them over soon. Forgets hosts of which nothing is heard.
    pub fn take_late(&mut self, now: Instant) -> Vec<PendingCallback> {
        let mut late = Vec::new();
        for host in self.hosts.values_mut() {
            while let Some(callback) = host.waiting.pop_front_if(|callback| callback.begin_by <= now) {
                late.push(callback);
            }
        }
        self.waiting -= late.len();
        self.hosts.retain(|_, host| {
            host.in_flight > 0 || !host.waiting.is_empty() || now.duration_since(host.used_at) < REMEMBERED
        });
        late
    }

    /// All that wait.
    pub fn take_all(&mut self) -> Vec<PendingCallback> {
        self.waiting = 0;
        self.hosts.values_mut().flat_map(|host| host.waiting.drain(..)).collect()
    }

    fn enter_turn(&mut self, name: &Arc<str>) {
        if let Some(host) = self.hosts.get_mut(name)
            && !host.is_in_turn
            && !host.waiting.is_empty()
        {
            host.is_in_turn = true;
            self.turn.push_back(Arc::clone(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pending::tests::callback;
    use super::*;

    fn drain(hosts: &mut Hosts, now: Instant) -> Vec<PendingCallback> {
        std::iter::from_fn(|| hosts.next(now)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_hangs_keeps_its_own_callbacks_waiting_and_nobody_else_s() {
        let (mut hosts, now) = (Hosts::new(32), Instant::now());
        for _ in 0..100 {
            hosts.add(callback("slow"), now).expect("there is room");
        }
        let slow = drain(&mut hosts, now);
        assert!(slow.len() < 10, "{} at once to a host of which nothing is known", slow.len());
        hosts.add(callback("fast"), now).expect("there is room");
        assert_eq!(drain(&mut hosts, now).len(), 1);
        assert_eq!(hosts.in_flight(), slow.len() + 1);
        assert_eq!(hosts.len(), 101);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_a_host_that_does_not_answer_is_given_back_and_so_is_what_comes_after() {
        let (mut hosts, now) = (Hosts::new(32), Instant::now());
        for _ in 0..20 {
            hosts.add(callback("down"), now).expect("there is room");
        }
        let mut given_back = None;
        while given_back.is_none() {
            let tried = hosts.next(now).expect("it may be tried");
            given_back = hosts.finish(&tried.host, Verdict::Failed, now);
        }
        let waiting = given_back.expect("it is left alone now");
        assert_eq!(waiting.len() + hosts.len(), 15);
        assert_eq!(hosts.add(callback("down"), now).map_err(|refused| refused.1), Err(Refused::HostFails));
        let trial = PendingCallback { is_trial: true, ..callback("down") };
        hosts.add(trial, now).expect("one is to find out");
        hosts.add(callback("down"), now).expect("it waits for what that one finds");
        assert_eq!(drain(&mut hosts, now).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_waited_too_long_is_given_back_and_hosts_are_forgotten() {
        let (mut hosts, now) = (Hosts::new(1), Instant::now());
        let late = PendingCallback { begin_by: now + Duration::from_secs(9), ..callback("a") };
        hosts.add(late, now).expect("there is room");
        assert!(hosts.take_late(now).is_empty());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(hosts.take_late(Instant::now()).len(), 1);
        tokio::time::advance(REMEMBERED).await;
        hosts.take_late(Instant::now());
        assert!(hosts.hosts.is_empty());
    }
}
