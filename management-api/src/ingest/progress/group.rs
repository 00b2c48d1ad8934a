//! Whether the consumer group has us, and gives us our share.

use std::time::Duration;

use shared::kafka::Membership;
use tokio::time::Instant;

/// So long may a round of the group take; who is no member for longer is kept out.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
pub(super) struct Group {
    membership: Membership,
    /// Since when we are no member; nothing while we are.
    outside_since: Option<Instant>,
    /// Whether we ever were one.
    joined: bool,
    /// Partitions of the topic.
    partition_count: usize,
    /// Whether we have some of them, and since when not.
    has_partitions: bool,
    idle_since: Option<Instant>,
    /// How many of them members of the group have, if that was asked and told.
    covered: Option<usize>,
}

impl Group {
    pub(super) fn set_partition_count(&mut self, count: usize) {
        self.partition_count = count;
    }

    pub(super) fn set_membership(&mut self, membership: Membership) {
        self.joined |= membership.is_member;
        if membership.is_member && !self.has_partitions {
            // Also of one that never was given any.
            self.idle_since.get_or_insert_with(Instant::now);
        }
        let since = self.outside_since.unwrap_or_else(Instant::now);
        self.outside_since = (!membership.is_member).then_some(since);
        let complaint = self.membership.complaint.take().filter(|_| !membership.is_member);
        self.membership = Membership { complaint: membership.complaint.or(complaint), ..membership };
    }

    pub(super) fn partition_count(&self) -> usize {
        self.partition_count
    }

    pub(super) fn set_assigned(&mut self, partitions: usize) {
        let since = self.idle_since.unwrap_or_else(Instant::now);
        self.idle_since = (partitions == 0).then_some(since);
        self.has_partitions = partitions > 0;
        if partitions > 0 {
            self.covered = None;
        }
    }

    pub(super) fn set_covered(&mut self, covered: Option<usize>) {
        self.covered = covered;
    }

    /// Whether a member without partitions should ask who has them.
    pub(super) fn is_idle(&self) -> bool {
        self.membership.is_member && self.idle_since.is_none_or(|since| since.elapsed() >= PATIENCE / 2)
    }

    /// Ready is who is a member; without partitions only if others have them all.
    pub(super) fn check(&self, assigned: usize) -> Result<(), String> {
        let complaint = self.membership.complaint.as_deref().unwrap_or("it has not answered yet");
        match self.outside_since {
            _ if !self.joined => return Err(format!("joining the consumer group: {complaint}")),
            Some(since) if since.elapsed() >= PATIENCE => {
                return Err(format!("not a member of the consumer group: {complaint}"));
            }
            _ => {}
        }
        // While the group does not tell who has what, a member of it counts as well: it may be a spare one, and lag is watched.
        let idle = assigned == 0 && self.idle_since.is_some_and(|since| since.elapsed() >= PATIENCE);
        match self.covered.filter(|covered| idle && *covered < self.partition_count) {
            None => Ok(()),
            Some(covered) => Err(format!(
                "the consumer group gives no partition, though members have only {covered} of {}",
                self.partition_count
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(is_member: bool, complaint: Option<&str>) -> Membership {
        Membership { is_member, complaint: complaint.map(str::to_owned) }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_kept_out_is_not_ready_and_says_why() {
        let mut group = Group::default();
        assert!(group.check(0).unwrap_err().starts_with("joining"));
        group.set_membership(member(true, None));
        group.set_membership(member(false, Some("Inconsistent group protocol")));
        assert_eq!(group.check(3), Ok(()), "a round of the group takes a while");
        tokio::time::advance(PATIENCE).await;
        group.set_membership(member(false, None));
        assert!(group.check(3).unwrap_err().contains("Inconsistent group protocol"));
        group.set_membership(member(true, None));
        assert_eq!(group.check(3), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_without_partitions_is_ready_only_if_others_have_them_all() {
        let mut group = Group::default();
        group.set_partition_count(10);
        group.set_membership(member(true, None));
        group.set_covered(Some(9));
        assert_eq!(group.check(0), Ok(()));
        tokio::time::advance(PATIENCE).await;
        assert!(group.check(0).unwrap_err().contains("9 of 10"));
        group.set_covered(Some(10));
        assert_eq!(group.check(0), Ok(()));
    }
}
