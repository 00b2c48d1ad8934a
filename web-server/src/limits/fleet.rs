//! Who the other replicas are, what they have told, and what follows for this one.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use super::rates::Rates;
use super::report::{Report, Told};
use super::shares::count;
use super::table::{Allowance, Quota};
use super::{Account, Shares};

/// A replica that has told nothing for so long has nothing of the limit any more.
const SILENT_AFTER: Duration = Duration::from_millis(1_500);
/// Replicas that were all heard within so long know of each other what they let in. Longer than the silence of one that has nothing
/// to tell.
const HEARD_WITHIN: Duration = Duration::from_millis(600);
/// The most replicas that are listened to.
const PEERS_MAX: usize = 64;

/// All replicas as this one sees them. It knows no clock and no network: both are told to it.
pub struct Fleet {
    instance: Uuid,
    /// What callers may do of whom nothing else is known.
    rates: Rates,
    peers: HashMap<Uuid, Peer>,
    accounts: HashMap<Quota, Account>,
    /// How many others there should be.
    expected: usize,
    /// When another one, or at least its machine, was last heard.
    contact: Option<Duration>,
}

#[derive(Clone, Copy)]
struct Peer {
    sequence: u64,
    heard: Duration,
    /// When its report before the latest was heard: what it was asked before that moment is in the latest.
    tells_since: Duration,
}

impl Fleet {
    /// Of a replica that knows no other.
    #[must_use]
    pub fn new(instance: Uuid, rates: Rates) -> Self {
        let (peers, accounts) = (HashMap::new(), HashMap::new());
        Self { instance, rates, peers, accounts, expected: 0, contact: None }
    }

    /// So many other replicas should be there.
    pub fn expect(&mut self, peers: usize) {
        self.expected = peers;
    }

    /// One of those that should be there is this replica itself.
    pub fn meet_itself(&mut self) {
        self.expected = self.expected.saturating_sub(1);
    }

    /// What this replica tells the others from now on, and what the callers may do that it watches.
    pub fn tell(&mut self, demands: &[Told], watched: &[Allowance], now: Duration) {
        self.note(self.instance, demands, now);
        for Allowance { quota, limit } in watched {
            if let Some(account) = self.accounts.get_mut(quota) {
                account.limit = *limit;
            }
        }
        self.accounts.retain(|_, account| account.is_asked());
    }

    /// Takes note of what another replica tells; of its own voice, and of what is older than what it knows, nothing.
    pub fn hear(&mut self, report: &Report, now: Duration) {
        let known = self.peers.get(&report.instance);
        let is_old = known.is_some_and(|peer| peer.sequence > report.sequence);
        let is_too_many = known.is_none() && self.peers.len() >= PEERS_MAX;
        if report.instance == self.instance || is_old || is_too_many {
            return;
        }
        let tells_since =
            known.map_or(now, |peer| if peer.sequence < report.sequence { peer.heard } else { peer.tells_since });
        self.contact = Some(now);
        self.note(report.instance, &report.demands, now);
        self.peers.insert(report.instance, Peer { sequence: report.sequence, heard: now, tells_since });
    }

    /// Another replica's machine was reached, though the replica itself says nothing: the network is not what is wrong.
    pub fn reach(&mut self, now: Duration) {
        self.contact = Some(now);
    }

    /// A replica has ended: where it was, nobody listens.
    pub fn lose(&mut self, instance: Uuid, now: Duration) {
        self.reach(now);
        self.forget(instance);
    }

    /// Whether nothing at all is heard of others that should be there.
    #[must_use]
    pub fn is_cut_off(&self, now: Duration) -> bool {
        let silent = |contact| now.saturating_sub(contact) > SILENT_AFTER;
        self.expected > 0 && self.contact.is_none_or(silent)
    }

    /// How the limits are divided now. Nothing, when this replica is cut off: the others may be well, and have taken what they
    /// need, so it goes on with what it had.
    pub fn divide(&mut self, now: Duration) -> Option<Shares> {
        if self.contact.is_none() {
            return Some(Shares::even(1 + self.expected));
        }
        if self.is_cut_off(now) {
            return None;
        }
        let is_silent = |peer: &Peer| now.saturating_sub(peer.heard) > SILENT_AFTER;
        let gone: Vec<_> =
            self.peers.iter().filter(|(_, peer)| is_silent(peer)).map(|(instance, _)| *instance).collect();
        for instance in gone {
            self.forget(instance);
        }
        let is_all_heard = self.peers.values().all(|peer| now.saturating_sub(peer.heard) <= HEARD_WITHIN);
        let tell_since = self.peers.values().map(|peer| peer.tells_since).min().unwrap_or(now);
        let (instance, replicas) = (self.instance, 1 + self.peers.len());
        let asked = self.accounts.iter_mut().map(|(quota, account)| {
            let asked = account.settle(instance, count(replicas), is_all_heard, quota.1.moment(now));
            let is_told_by_all = account.since <= tell_since;
            (*quota, if is_told_by_all { asked } else { asked.alike(count(replicas)) })
        });
        Some(Shares::divide(replicas, asked))
    }

    /// Whom anybody talks about.
    pub fn talked_about(&self) -> impl Iterator<Item = Quota> {
        self.accounts.keys().copied()
    }

    /// How many others are heard, and how many are not that should be.
    #[must_use]
    pub fn peers(&self, now: Duration) -> (usize, usize) {
        let is_heard = |peer: &&Peer| now.saturating_sub(peer.heard) <= SILENT_AFTER;
        let heard = self.peers.values().filter(is_heard).count();
        (heard, self.expected.saturating_sub(heard))
    }

    fn note(&mut self, instance: Uuid, demands: &[Told], now: Duration) {
        self.accounts.values_mut().for_each(|account| account.hush(instance));
        for told in demands {
            let new = || Account::new(self.rates.limit(told.class), told.class, now);
            self.accounts.entry(told.quota()).or_insert_with(new).tell(instance, told);
        }
    }

    fn forget(&mut self, instance: Uuid) {
        self.peers.remove(&instance);
        self.accounts.values_mut().for_each(|account| account.forget(instance));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CallerKey, RouteClass};

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn quota() -> Quota {
        (CallerKey::of_address([192, 0, 2, 1].into()), RouteClass::Buy)
    }

    /// What a replica tells that has let in half of the limit ever since.
    fn report(instance: u128, ms: u32, per_window: f32) -> Report {
        let (caller, class) = quota();
        let told = Told { caller, class, per_window, admitted: ms / 20 };
        Report { instance: Uuid::from_u128(instance), sequence: ms.into(), demands: vec![told] }
    }

    /// Replica 1 of two, whose caller asks 100 a second here.
    fn fleet() -> Fleet {
        let mut fleet = Fleet::new(Uuid::from_u128(1), Rates { per_second: 100, login_per_minute: 0 });
        fleet.expect(1);
        fleet
    }

    /// The share after `ms`, if the replica has let in what the other one does not.
    fn share(fleet: &mut Fleet, ms: u32) -> Option<f32> {
        fleet.tell(&report(1, ms, 100.0).demands, &[], at(ms.into()));
        fleet.divide(at(ms.into())).map(|shares| shares.of(Allowance { quota: quota(), limit: 100.0 }).round())
    }

    #[test]
    fn a_replica_that_has_heard_nobody_takes_no_more_than_its_even_part() {
        assert_eq!(share(&mut fleet(), 10), Some(50.0));
        let mut alone = fleet();
        alone.meet_itself();
        assert_eq!(share(&mut alone, 10), Some(100.0));
    }

    #[test]
    fn who_is_silent_has_nothing_any_more_and_who_comes_back_has() {
        let mut fleet = fleet();
        fleet.hear(&report(2, 1_000, 100.0), at(1_000));
        assert_eq!((share(&mut fleet, 1_000), fleet.peers(at(1_000))), (Some(50.0), (1, 0)));
        assert_eq!(share(&mut fleet, 2_000), Some(50.0), "what it has let in meanwhile is not known");
        fleet.reach(at(2_600));
        assert!(share(&mut fleet, 2_600).is_some_and(|share| share >= 100.0));
        assert_eq!(fleet.peers(at(2_600)), (0, 1));
        fleet.hear(&report(2, 2_600, 300.0), at(2_600));
        assert!(share(&mut fleet, 2_600).is_some_and(|share| share < 40.0));
        fleet.lose(Uuid::from_u128(2), at(2_600));
        assert!(share(&mut fleet, 2_600).is_some_and(|share| share >= 100.0));
    }

    #[test]
    fn what_others_are_not_asked_for_is_taken_only_once_they_had_time_to_tell() {
        let mut fleet = fleet();
        let hear_nothing_at = |fleet: &mut Fleet, ms: u32| {
            fleet.hear(&Report { demands: Vec::new(), ..report(2, ms, 0.0) }, at(ms.into()));
            share(fleet, ms + 50)
        };
        assert_eq!(hear_nothing_at(&mut fleet, 1_000), Some(50.0));
        let second = hear_nothing_at(&mut fleet, 1_100);
        assert!(second.is_some_and(|share| share < 60.0), "it may have been written before the caller came");
        assert!(hear_nothing_at(&mut fleet, 1_200).is_some_and(|share| share > 90.0));
    }

    #[test]
    fn who_is_cut_off_goes_on_as_before() {
        let mut fleet = fleet();
        fleet.hear(&report(2, 1_000, 100.0), at(1_000));
        assert!(share(&mut fleet, 1_000).is_some() && !fleet.is_cut_off(at(2_000)));
        assert_eq!((share(&mut fleet, 2_600), fleet.is_cut_off(at(2_600))), (None, true));
        fleet.hear(&report(2, 60_000, 0.0), at(60_000));
        assert!(share(&mut fleet, 60_000).is_some_and(|share| share > 90.0));
    }

    #[test]
    fn old_news_its_own_voice_and_crowds_of_strangers_change_nothing() {
        let mut fleet = fleet();
        fleet.hear(&report(1, 1, 900.0), at(0));
        assert_eq!(fleet.peers(at(0)), (0, 1));
        fleet.hear(&report(2, 5, 100.0), at(0));
        fleet.hear(&report(2, 4, 900.0), at(0));
        assert_eq!(share(&mut fleet, 0), Some(50.0));
        (100..1_100).for_each(|stranger| fleet.hear(&report(stranger, 1, 0.0), at(0)));
        assert_eq!(fleet.peers(at(0)), (PEERS_MAX, 0));
        assert_eq!(fleet.talked_about().collect::<Vec<_>>(), [quota()]);
    }
}
