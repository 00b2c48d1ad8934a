//! How the limit of a caller is divided among the replicas.

use std::collections::HashMap;

use super::account::Asked;
use super::table::{Allowance, Quota};

/// What is kept for replicas of which nobody knows yet that the caller asks there. It is lost to the others while it does not.
const KEPT: f32 = 0.02;
/// From how much over the limit on all of that is kept: who asks for just the limit, at one replica, has all of it.
const KEPT_FROM: f32 = 0.2;
/// What is left below the limit goes to those who ask, and evenly to all, who may ask next: this is how much of a limit all together
/// count with as if they asked.
const LEFT_EVEN: f32 = 0.5;
/// How much more than its limit all replicas may let in of a caller, to make up for what it could not use.
const MADE_UP_MAX: f32 = 1.5;

/// This replica's part of every caller's limit, in requests a window. The parts of all replicas that look at the same demand add
/// up to the limit.
#[derive(Clone, Debug)]
pub struct Shares {
    replicas: f32,
    known: HashMap<Quota, f32>,
}

impl Shares {
    /// Nobody's demand is known: everybody's limit is divided evenly.
    #[must_use]
    pub fn even(replicas: usize) -> Self {
        Self { replicas: count(replicas), known: HashMap::new() }
    }

    /// The limits divided among so many replicas by demand. Demand within the limit is met, and what is left goes to those who ask
    /// for more than others; over the limit each replica has as much as its demand is of all demand. This one's demand is that
    /// which it has told the others, so that all look at the same.
    pub fn divide(replicas: usize, asked: impl Iterator<Item = (Quota, Asked)>) -> Self {
        let replicas = count(replicas);
        let known = asked.map(|(quota, asked)| (quota, part(asked, replicas))).collect();
        Self { replicas, known }
    }

    /// This replica's part of a caller's limit.
    #[must_use]
    pub fn of(&self, Allowance { quota, limit }: Allowance) -> f32 {
        // What others tell of may have been divided by another limit, until this replica has worked in its own.
        self.known.get(&quota).map_or(limit / self.replicas, |part| part.min(limit * MADE_UP_MAX))
    }

    /// From which demand on a caller could reach its limit if it asked for as much everywhere: with time to spare. Of those who are
    /// talked about, any is of interest.
    #[must_use]
    pub fn watch_from(&self, Allowance { quota, limit }: Allowance) -> f32 {
        if self.known.contains_key(&quota) { 0.0 } else { self.watch_until(limit) * 2.0 }
    }

    /// Below which demand nobody with this limit is watched any more.
    #[must_use]
    pub fn watch_until(&self, limit: f32) -> f32 {
        limit / self.replicas / 4.0
    }
}

fn part(asked: Asked, replicas: f32) -> f32 {
    let Asked { limit, own, all } = asked;
    let weight = |kept: f32| (own + kept / replicas) / (all + kept);
    if all <= limit {
        return own + (limit - all) * weight(limit * LEFT_EVEN);
    }
    let over = (all - limit) / (limit * KEPT_FROM);
    limit * weight(limit * KEPT * over.min(1.0))
}

#[expect(clippy::cast_precision_loss, reason = "nobody has 2^24 replicas")]
pub(super) fn count(replicas: usize) -> f32 {
    replicas.max(1) as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::{CallerKey, RouteClass};

    const LIMIT: f32 = 100.0;

    fn quota() -> Quota {
        (CallerKey::of_address([192, 0, 2, 1].into()), RouteClass::Buy)
    }

    fn allowance(quota: Quota) -> Allowance {
        Allowance { quota, limit: LIMIT }
    }

    /// Every replica's share.
    fn shares(demands: &[f32]) -> Vec<f32> {
        let all = demands.iter().sum();
        let of = |own: &f32| {
            let asked = Asked { limit: LIMIT, own: *own, all };
            Shares::divide(demands.len(), std::iter::once((quota(), asked))).of(allowance(quota()))
        };
        demands.iter().map(of).collect()
    }

    proptest! {
        #[test]
        fn all_shares_add_up_to_the_limit(demands in proptest::collection::vec(0.0_f32..1_000.0, 1..9)) {
            let sum: f32 = shares(&demands).iter().sum();
            prop_assert!((sum - LIMIT).abs() < 0.1, "{sum}");
        }

        #[test]
        fn demand_within_the_limit_is_met(parts in proptest::collection::vec(0.0_f32..1.0, 1..9)) {
            let sum = parts.iter().sum::<f32>().max(0.01);
            let demands: Vec<_> = parts.iter().map(|part| part / sum * LIMIT).collect();
            for (share, demand) in shares(&demands).iter().zip(&demands) {
                prop_assert!(share + 0.01 >= *demand, "{share} for {demand}");
            }
        }
    }

    #[test]
    fn a_share_follows_demand() {
        let near = |share: f32, expected: f32| (share - expected).abs() < 1.0;
        assert!(shares(&[0.0; 4]).iter().all(|share| near(*share, 25.0)));
        assert!(near(shares(&[270.0, 30.0])[0], 89.5));
        assert!(shares(&[50.0, 0.0, 0.0, 0.0])[0] > 75.0, "what others do not ask for is left to who asks");
        let unknown = (CallerKey::of_address([192, 0, 2, 2].into()), RouteClass::Buy);
        let asked = Asked { limit: LIMIT, own: 9.0, all: 9.0 };
        let shares = Shares::divide(4, std::iter::once((quota(), asked)));
        assert!(near(shares.of(allowance(unknown)), 25.0));
    }
}
