//! Who is to be called back, host by host and in turn: none takes the others' places, however slow it is, and all together that have
//! not answered yet take no more than half.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::breaker::{Breaker, Verdict};
use super::pending::PendingCallback;

/// The most callbacks that wait here for one host: for one that takes them, and for one of which that is not known.
const WAITING_PER_HOST_MAX: usize = 1_000;
const WAITING_UNPROVEN_MAX: usize = 64;
/// The most that wait for all those together.
const ALL_UNPROVEN_MAX: usize = 2_000;
/// How long a host is remembered of which nothing more is heard.
const REMEMBERED: Duration = Duration::from_mins(10);

/// Callbacks that wait, and the hosts that they are for.
pub struct Hosts {
    by_name: HashMap<Arc<str>, Host>,
    /// Hosts that may get another attempt, each once: those that have answered, and the others.
    proven: Turn,
    unproven: Turn,
    limit_per_host: usize,
}

/// Hosts in their turn.
struct Turn {
    order: VecDeque<Arc<str>>,
    waiting: usize,
    in_flight: usize,
    limit: usize,
}

struct Host {
    waiting: VecDeque<PendingCallback>,
    in_flight: usize,
    is_in_turn: bool,
    is_proven: bool,
    breaker: Breaker,
    used_at: Instant,
}

/// Why one is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its host is left alone.
    HostFails,
    /// Too many wait for its host, or for hosts of which nothing is known.
    Crowded,
}

impl Refused {
    /// The same in words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::HostFails => "its host fails",
            Self::Crowded => "others wait for its host",
        }
    }
}

impl Hosts {
    /// Nobody is to be called back; at most so many attempts run at once, in all and for one host.
    #[must_use]
    pub fn new(limit: usize, limit_per_host: usize) -> Self {
        let turn = |limit| Turn { order: VecDeque::new(), waiting: 0, in_flight: 0, limit };
        let unproven = limit.div_ceil(2);
        Self {
            by_name: HashMap::new(),
            proven: turn((limit - unproven).max(1)),
            unproven: turn(unproven),
            limit_per_host: limit_per_host.min(limit),
        }
    }

    /// How many are here, those on their way with them.
    #[must_use]
    pub fn len(&self) -> usize {
        [&self.proven, &self.unproven].map(|turn| turn.waiting + turn.in_flight).iter().sum()
    }

    /// Takes one in.
    ///
    /// # Errors
    /// Gives it back with the reason.
    pub fn add(&mut self, callback: PendingCallback, now: Instant) -> Result<(), Box<(PendingCallback, Refused)>> {
        let limit = self.limit_per_host;
        let host = self.by_name.entry(Arc::clone(&callback.host)).or_insert_with(|| Host::new(limit, now));
        host.used_at = now;
        if callback.is_host_known {
            host.breaker.admit_trial(now);
        }
        if host.breaker.open_for(now).is_some() {
            return Err(Box::new((callback, Refused::HostFails)));
        }
        let is_crowded = if host.is_proven && host.breaker.is_closed() {
            host.waiting.len() >= WAITING_PER_HOST_MAX
        } else {
            host.waiting.len() >= WAITING_UNPROVEN_MAX || self.unproven.waiting >= ALL_UNPROVEN_MAX
        };
        if is_crowded {
            return Err(Box::new((callback, Refused::Crowded)));
        }
        let name = Arc::clone(&callback.host);
        let is_proven = host.is_proven;
        host.waiting.push_back(callback);
        self.turn(is_proven).waiting += 1;
        self.enter_turn(&name);
        Ok(())
    }

    /// The next one to be tried, if any host may get another attempt.
    pub fn next(&mut self, now: Instant) -> Option<PendingCallback> {
        self.next_of(true, now).or_else(|| self.next_of(false, now))
    }

    fn next_of(&mut self, is_proven: bool, now: Instant) -> Option<PendingCallback> {
        while self.turn(is_proven).in_flight < self.turn(is_proven).limit {
            let name = self.turn(is_proven).order.pop_front()?;
            let Some(host) = self.by_name.get_mut(&name) else { continue };
            host.is_in_turn = false;
            if host.in_flight >= host.breaker.limit(now) {
                // It comes back when one of its attempts has ended.
                continue;
            }
            let Some(callback) = host.waiting.pop_front() else { continue };
            host.in_flight += 1;
            host.used_at = now;
            let turn = self.turn(is_proven);
            turn.waiting -= 1;
            turn.in_flight += 1;
            self.enter_turn(&name);
            return Some(callback);
        }
        None
    }

    /// An attempt has ended. Gives those that are waiting, if the host is left alone now.
    pub fn finish(&mut self, name: &Arc<str>, verdict: Verdict, now: Instant) -> Option<Vec<PendingCallback>> {
        let host = self.by_name.get_mut(name)?;
        let (was_proven, count) = (host.is_proven, host.waiting.len());
        host.in_flight = host.in_flight.saturating_sub(1);
        host.breaker.note(verdict, now);
        // One failure among many answers takes no place away.
        host.is_proven = match verdict {
            Verdict::Well => true,
            _ => host.is_proven && host.breaker.open_for(now).is_none(),
        };
        let (is_proven, in_flight, is_open) = (host.is_proven, host.in_flight, host.breaker.open_for(now).is_some());
        let given_back = is_open.then(|| host.waiting.drain(..).collect());
        let waiting = host.waiting.len();
        // All of the host's go where it belongs now.
        let before = self.turn(was_proven);
        before.in_flight = before.in_flight.saturating_sub(in_flight + 1);
        before.waiting = before.waiting.saturating_sub(count);
        let after = self.turn(is_proven);
        after.in_flight += in_flight;
        after.waiting += waiting;
        if was_proven != is_proven {
            self.leave_turn(name, was_proven);
        }
        self.enter_turn(name);
        given_back
    }

    /// Those that have waited for so long that others may take them over soon. Forgets hosts of which nothing is heard.
    pub fn take_late(&mut self, now: Instant) -> Vec<PendingCallback> {
        self.take(|callback| callback.begin_by <= now, now)
    }

    /// All that wait.
    pub fn take_all(&mut self) -> Vec<PendingCallback> {
        self.take(|_| true, Instant::now())
    }

    fn take(&mut self, is_taken: impl Fn(&PendingCallback) -> bool, now: Instant) -> Vec<PendingCallback> {
        let mut taken = Vec::new();
        for host in self.by_name.values_mut() {
            let turn = if host.is_proven { &mut self.proven } else { &mut self.unproven };
            while let Some(callback) = host.waiting.pop_front_if(|callback| is_taken(callback)) {
                turn.waiting -= 1;
                taken.push(callback);
            }
        }
        self.by_name.retain(|_, host| {
            host.in_flight > 0 || !host.waiting.is_empty() || now.duration_since(host.used_at) < REMEMBERED
        });
        taken
    }

    fn turn(&mut self, is_proven: bool) -> &mut Turn {
        if is_proven { &mut self.proven } else { &mut self.unproven }
    }

    fn enter_turn(&mut self, name: &Arc<str>) {
        let Some(host) = self.by_name.get_mut(name) else { return };
        if !host.is_in_turn && !host.waiting.is_empty() {
            host.is_in_turn = true;
            let turn = if host.is_proven { &mut self.proven } else { &mut self.unproven };
            turn.order.push_back(Arc::clone(name));
        }
    }

    fn leave_turn(&mut self, name: &Arc<str>, was_proven: bool) {
        if let Some(host) = self.by_name.get_mut(name)
            && std::mem::take(&mut host.is_in_turn)
        {
            self.turn(was_proven).order.retain(|other| other != name);
        }
    }
}

impl Host {
    fn new(limit: usize, now: Instant) -> Self {
        Self {
            waiting: VecDeque::new(),
            in_flight: 0,
            is_in_turn: false,
            is_proven: false,
            breaker: Breaker::new(limit),
            used_at: now,
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

    /// One that has answered.
    fn prove(hosts: &mut Hosts, name: &str, now: Instant) {
        hosts.add(callback(name), now).expect("there is room");
        let tried = hosts.next(now).expect("it may be tried");
        assert!(hosts.finish(&tried.host, Verdict::Well, now).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_hangs_keeps_its_own_callbacks_waiting_and_nobody_else_s() {
        let (mut hosts, now) = (Hosts::new(256, 32), Instant::now());
        for _ in 0..50 {
            hosts.add(callback("slow"), now).expect("there is room");
        }
        let slow = drain(&mut hosts, now);
        assert!(slow.len() < 10, "{} at once to a host of which nothing is known", slow.len());
        hosts.add(callback("fast"), now).expect("there is room");
        assert_eq!(drain(&mut hosts, now).len(), 1);
        assert_eq!(hosts.len(), 51);
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_hosts_that_hang_leaves_room_for_those_that_answer() {
        let (mut hosts, now) = (Hosts::new(8, 4), Instant::now());
        prove(&mut hosts, "well", now);
        for number in 0..5_000 {
            let _ = hosts.add(callback(&format!("slow-{number}")), now);
        }
        assert_eq!(drain(&mut hosts, now).len(), 4);
        assert!(hosts.len() <= ALL_UNPROVEN_MAX + 8, "{}", hosts.len());
        hosts.add(callback("well"), now).expect("there is room");
        assert_eq!(drain(&mut hosts, now)[0].host.as_ref(), "well");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_a_host_that_does_not_answer_is_given_back_and_so_is_what_comes_after() {
        let (mut hosts, now) = (Hosts::new(256, 32), Instant::now());
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
        let trial = PendingCallback { is_host_known: true, ..callback("down") };
        hosts.add(trial, now).expect("one is to find out");
        hosts.add(callback("down"), now).expect("it waits for what that one finds");
        assert_eq!(drain(&mut hosts, now).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_waited_too_long_is_given_back_and_hosts_are_forgotten() {
        let (mut hosts, now) = (Hosts::new(2, 1), Instant::now());
        let late = PendingCallback { begin_by: now + Duration::from_secs(9), ..callback("a") };
        hosts.add(late, now).expect("there is room");
        assert!(hosts.take_late(now).is_empty());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(hosts.take_late(Instant::now()).len(), 1);
        tokio::time::advance(REMEMBERED).await;
        hosts.take_late(Instant::now());
        assert!(hosts.by_name.is_empty());
        assert_eq!(hosts.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn counts_stay_true_whatever_hosts_do() {
        let (mut hosts, now) = (Hosts::new(16, 8), Instant::now());
        let (mut in_flight, mut waiting) = (Vec::new(), 0);
        for step in 0_usize..4_000 {
            if hosts.add(callback(&format!("host-{}", step * 7 % 5)), now).is_ok() {
                waiting += 1;
            }
            while let Some(callback) = hosts.next(now) {
                waiting -= 1;
                in_flight.push(callback);
            }
            if step % 3 > 0 && !in_flight.is_empty() {
                let ended = in_flight.swap_remove(step % in_flight.len());
                let verdict = if step % 11 < 4 { Verdict::Failed } else { Verdict::Well };
                waiting -= hosts.finish(&ended.host, verdict, now).map_or(0, |given_back| given_back.len());
            }
            assert_eq!(hosts.len(), waiting + in_flight.len(), "after {step} steps");
            assert!(in_flight.len() <= 16 + 8, "{} at once", in_flight.len());
        }
    }
}
