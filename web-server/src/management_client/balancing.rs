//! Which replica is asked next.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use rand::RngExt;

use super::replica::Replica;

/// A strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancing {
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The one of two, taken by chance, that promises the shorter wait. All callers that ask for the very best would go to one.
    LeastLoaded,
}

/// The text names no strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownBalancing;

impl FromStr for Balancing {
    type Err = UnknownBalancing;

    fn from_str(text: &str) -> Result<Self, UnknownBalancing> {
        match text {
            "round_robin" => Ok(Self::RoundRobin),
            "random" => Ok(Self::Random),
            "least_loaded" => Ok(Self::LeastLoaded),
            _ => Err(UnknownBalancing),
        }
    }
}

impl fmt::Display for UnknownBalancing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be round_robin, random or least_loaded")
    }
}

impl Balancing {
    /// One of `candidates`; `turn` counts up from call to call.
    pub fn choose<'a>(self, candidates: &[&'a Arc<Replica>], turn: usize, now: Instant) -> Option<&'a Arc<Replica>> {
        let count = candidates.len();
        let any = || rand::rng().random_range(0..count);
        match (self, count) {
            (_, 0) => None,
            (_, 1) => Some(candidates[0]),
            (Self::RoundRobin, _) => Some(candidates[turn % count]),
            (Self::Random, _) => Some(candidates[any()]),
            (Self::LeastLoaded, _) => {
                let one = any();
                // Another one than the first, each as likely.
                let other = (one + rand::rng().random_range(1..count)) % count;
                let [one, other] = [candidates[one], candidates[other]];
                Some(if other.cost(now) < one.cost(now) { other } else { one })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::ReplicaUrl;
    use super::super::replica::Standing;
    use super::*;

    fn replicas(count: u16, now: Instant) -> Vec<Arc<Replica>> {
        let url = ReplicaUrl::parse("http://127.0.0.1:1").unwrap();
        let replica = |port| Arc::new(Replica::new(&url, ([127, 0, 0, 1], port).into(), Duration::ZERO, now));
        (1..=count).map(replica).collect()
    }

    /// How often each replica is chosen in 3,000 calls that are answered before the next begins.
    fn shares(strategy: Balancing, replicas: &[Arc<Replica>], now: Instant) -> Vec<usize> {
        let candidates: Vec<_> = replicas.iter().collect();
        let mut shares = vec![0; replicas.len()];
        for turn in 0..3_000 {
            let chosen = strategy.choose(&candidates, turn, now).unwrap();
            shares[usize::from(chosen.address.port()) - 1] += 1;
        }
        shares
    }

    #[test]
    fn equal_replicas_have_equal_shares() {
        let now = Instant::now();
        let replicas = replicas(3, now);
        for strategy in [Balancing::RoundRobin, Balancing::Random, Balancing::LeastLoaded] {
            let shares = shares(strategy, &replicas, now);
            assert!(shares.iter().all(|share| (800..1_200).contains(share)), "{strategy:?}: {shares:?}");
        }
    }

    #[test]
    fn only_the_least_loaded_strategy_leaves_a_slow_one_alone() {
        let now = Instant::now();
        let replicas = replicas(3, now);
        replicas[1].note(Standing::Good, Some(Duration::from_millis(300)), now);
        assert_eq!(shares(Balancing::LeastLoaded, &replicas, now)[1], 0);
        assert_eq!(shares(Balancing::RoundRobin, &replicas, now), [1_000; 3]);
    }

    #[test]
    fn nobody_is_chosen_of_none() {
        assert!(Balancing::LeastLoaded.choose(&[], 0, Instant::now()).is_none());
    }
}
