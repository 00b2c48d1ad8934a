//! The kinds of calls to management-api: what the status of an answer means, and whether another replica may be asked.

use std::time::Duration;

use http::StatusCode;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::ManagementConfig;
use super::attempt::Failure;

/// How many questions of its own a service asks at once.
const OWN_MAX: usize = 16;

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// Reads what is recorded.
    Read,
    /// Asks what the service itself must know. Never in the way of callers, nor they in its.
    Own,
    /// Asks about an API key that somebody has presented.
    KeyCheck,
    /// Waits for a purchase that somebody asks about; it may never come.
    ReaderWait,
    /// Waits for purchases that were just published, for their buyer.
    BuyerWait,
    /// Changes something: doing it twice is not the same as once.
    Command,
    /// Listens to events for as long as the caller does.
    Stream,
}

/// What an answer's status means for its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This is the answer; the caller gets it.
    Settled,
    /// This replica cannot say; another one may.
    FailOver,
    /// The call has failed, and would fail elsewhere too, or may have been done already.
    Failed,
}

impl CallKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Read, Self::Own, Self::KeyCheck, Self::ReaderWait, Self::BuyerWait, Self::Command, Self::Stream];

    /// Whether it is work for a replica. Waits and streams last as long as they last: they say nothing of how quick it is.
    pub fn is_work(self) -> bool {
        matches!(self, Self::Read | Self::Own | Self::KeyCheck | Self::Command)
    }

    /// What the status of an answer means.
    pub fn judge(self, status: StatusCode) -> Verdict {
        match (status.as_u16(), self) {
            // While a release rolls out, a replica may not know of the log yet.
            (404, Self::Stream) => Verdict::FailOver,
            // 400 and 404: the request itself is at fault, or what it names is not there; every replica says the same. A command
            // answers for its caller, too: not who it says, already taken, too often.
            (200..=299 | 400 | 404, _) | (401 | 403 | 409 | 410 | 413 | 422 | 429, Self::Command) => Verdict::Settled,
            // It may have been done in part: it is never sent again.
            (_, Self::Command) => Verdict::Failed,
            // A replica that does not know our token yet, or has too much to do.
            (401 | 403 | 408 | 425 | 429 | 500..=599, _) => Verdict::FailOver,
            // We ask what management-api does not understand.
            _ => Verdict::Failed,
        }
    }

    /// Whether another replica is asked after `failure`.
    pub fn asks_another(self, failure: Failure) -> bool {
        match failure {
            // Nothing was sent.
            Failure::Unreachable => true,
            Failure::Status(status) => self.judge(status) == Verdict::FailOver,
            // Another one's answer would be as large.
            Failure::NoRoom => false,
            Failure::Timeout(_) | Failure::Broken => self != Self::Command,
        }
    }
}

/// How many calls of each kind may be under way: none takes the place of another kind's. Callers' reads have no budget here: each has
/// found its place before it came (`shedding`), and would only wait for a second one.
pub struct Budgets {
    own: Semaphore,
    key_checks: Semaphore,
    commands: Semaphore,
    streams: Semaphore,
    buyers: Semaphore,
    readers: Semaphore,
}

/// One call's place, given back on drop; one for each purchase that a buyer waits for.
pub type Place<'a> = SemaphorePermit<'a>;

impl Budgets {
    /// As many as the settings say.
    pub fn new(config: &ManagementConfig) -> Self {
        let [commands, streams] = [(); 2].map(|()| Semaphore::new(config.in_flight_max));
        Self {
            own: Semaphore::new(OWN_MAX),
            key_checks: Semaphore::new(config.in_flight_max),
            commands,
            streams,
            buyers: Semaphore::new(config.waiting_buyers_max),
            readers: Semaphore::new(config.waiting_readers_max),
        }
    }

    /// Takes so many places, if they are free now.
    pub fn enter(&self, kind: CallKind, places: usize) -> Option<Place<'_>> {
        self.of(kind)?.try_acquire_many(u32::try_from(places).ok()?).ok()
    }

    /// Takes a place within `time`, in the order of arrival.
    pub async fn wait_for_turn(&self, kind: CallKind, time: Duration) -> Option<Place<'_>> {
        tokio::time::timeout(time, self.of(kind)?.acquire()).await.ok()?.ok()
    }

    fn of(&self, kind: CallKind) -> Option<&Semaphore> {
        match kind {
            CallKind::Read => None,
            CallKind::Own => Some(&self.own),
            CallKind::KeyCheck => Some(&self.key_checks),
            CallKind::ReaderWait => Some(&self.readers),
            CallKind::BuyerWait => Some(&self.buyers),
            CallKind::Command => Some(&self.commands),
            CallKind::Stream => Some(&self.streams),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use CallKind::{BuyerWait, Command, KeyCheck, Own, Read, ReaderWait, Stream};
    use Verdict::{FailOver, Failed, Settled};

    const READS: [CallKind; 6] = [Read, Own, KeyCheck, ReaderWait, BuyerWait, Stream];

    #[test]
    fn each_status_means_one_thing_for_each_kind() {
        for (statuses, for_reads, for_commands) in [
            (vec![200, 201, 202, 204], Settled, Settled),
            (vec![400], Settled, Settled),
            (vec![401, 403, 429], FailOver, Settled),
            (vec![409, 410, 413, 422], Failed, Settled),
            (vec![408, 425, 500, 502, 503, 504, 599], FailOver, Failed),
            (vec![100, 301, 304, 405, 406, 414, 415, 431, 451, 499, 600, 999], Failed, Failed),
        ] {
            for status in statuses {
                let code = StatusCode::from_u16(status).unwrap();
                for kind in READS {
                    assert_eq!(kind.judge(code), for_reads, "{kind:?} {status}");
                }
                assert_eq!(Command.judge(code), for_commands, "command {status}");
            }
        }
        let judged = CallKind::ALL.map(|kind| kind.judge(StatusCode::NOT_FOUND));
        assert_eq!(judged.map(|verdict| verdict == Settled), CallKind::ALL.map(|kind| kind != Stream));
    }

    #[test]
    fn a_command_is_sent_again_only_if_nothing_of_it_was_sent() {
        let any = StatusCode::from_u16(100).unwrap().as_u16()..=999;
        for status in any.filter_map(|status| StatusCode::from_u16(status).ok()) {
            assert!(!Command.asks_another(Failure::Status(status)), "{status}");
        }
        assert!(CallKind::ALL.iter().all(|kind| !kind.asks_another(Failure::NoRoom)));
        for failure in [Failure::Timeout(Duration::ZERO), Failure::Broken] {
            assert!(!Command.asks_another(failure));
            assert!(READS.iter().all(|kind| kind.asks_another(failure)));
        }
        assert!(CallKind::ALL.iter().all(|kind| kind.asks_another(Failure::Unreachable)));
    }

    #[test]
    fn no_kind_takes_the_places_of_another() {
        let config = ManagementConfig {
            urls: Vec::new(),
            balancing: super::super::Balancing::RoundRobin,
            token: None,
            in_flight_max: 1,
            waiting_buyers_max: 1,
            waiting_readers_max: 1,
            lookup: super::super::Lookup::default(),
        };
        let budgets = Budgets::new(&config);
        let all = |kind: CallKind| if kind == Own { OWN_MAX } else { 1 };
        let limited: Vec<_> = CallKind::ALL.into_iter().filter(|kind| *kind != Read).collect();
        let taken: Vec<_> = limited.iter().map(|kind| budgets.enter(*kind, all(*kind))).collect();
        assert!(taken.iter().all(Option::is_some));
        assert!(limited.iter().all(|kind| budgets.enter(*kind, 1).is_none()));
    }
}
