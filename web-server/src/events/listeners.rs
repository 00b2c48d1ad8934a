//! Those who listen, by what they listen for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use shared::commits::{Commit, CommitPage, CommitPosition, userid_mark};
use shared::event::Purchase;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::Event;
use super::hub::Returning;

/// Purchases that were looked for: nothing for one that is not there.
pub(super) type Found = HashMap<Uuid, Option<Arc<Purchase>>>;

/// What is listened for. Users with the same mark share a topic; each listener is told of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Topic {
    User(i32),
    Purchase(Uuid),
}

/// How many events wait for a listener when it is too slow: it is let go of, and comes again from where it was. What it was told
/// since the last look comes besides: the next page may follow at once, and who reads needs time for what it has just been told.
const WAITING_MAX: usize = 256;
/// How often is looked who is too slow, while there is something to tell. A burst takes some ways to a caller far away and back.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Somebody who waits for events.
pub(super) struct Listener {
    /// Which one it is.
    pub(super) number: u64,
    /// Whose purchases are told; anybody's where one purchase is waited for.
    pub(super) userid: Option<Box<str>>,
    sender: mpsc::UnboundedSender<Event>,
    waiting: Arc<AtomicUsize>,
    /// How much it was told since the last look.
    fresh: usize,
    /// What it has been told already, if that is more than the others.
    pub(super) ahead: Option<Box<CommitPosition>>,
}

/// What waits for a listener.
pub(super) struct Inbox {
    events: mpsc::UnboundedReceiver<Event>,
    waiting: Arc<AtomicUsize>,
}

/// Those who are told the same, as far as it concerns them.
#[derive(Default)]
pub(super) struct Listeners {
    by_topic: HashMap<Topic, Vec<Listener>>,
    /// Whether anybody may be slow, or ahead of the others: where many listen and little concerns them, they are not gone through
    /// with each page.
    may_be_slow: bool,
    may_be_ahead: bool,
    /// When the slow were looked for.
    looked_at: Option<Instant>,
}

/// Where those stand that are told of a purchase: before its commit, and with it.
struct Told<'a> {
    before: &'a CommitPosition,
    after: Arc<CommitPosition>,
}

impl Topic {
    pub(super) fn of_user(userid: &str) -> Self {
        Self::User(userid_mark(userid))
    }
}

impl Inbox {
    pub(super) fn is_closed(&self) -> bool {
        self.events.is_closed()
    }

    pub(super) async fn next(&mut self) -> Option<Event> {
        let event = self.events.recv().await?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(event)
    }
}

impl Listener {
    pub(super) fn new(number: u64, userid: Option<Box<str>>) -> (Self, Inbox) {
        let (sender, events) = mpsc::unbounded_channel();
        let waiting = Arc::<AtomicUsize>::default();
        (
            Self { number, userid, sender, waiting: Arc::clone(&waiting), fresh: 0, ahead: None },
            Inbox { events, waiting },
        )
    }

    /// Whether nobody listens any more.
    pub(super) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether much waits for it.
    fn is_behind(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= WAITING_MAX
    }

    /// Whether it is behind with what it had been told by the last look; this is the next one.
    fn look(&mut self) -> bool {
        let fresh = std::mem::take(&mut self.fresh);
        self.waiting.load(Ordering::Relaxed).saturating_sub(fresh) >= WAITING_MAX
    }

    /// Tells it something; says no when it is gone.
    pub(super) fn tell(&mut self, event: Event) -> bool {
        self.fresh += 1;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.sender.send(event).is_ok()
    }

    /// Tells it of the purchase at this place of a commit, if it is to know and does not yet. `told` is where those stand that are
    /// not ahead: before the commit, and with the purchase.
    fn tell_of(&mut self, purchase: &Arc<Purchase>, commit: &Commit, place: usize, told: &Told<'_>) -> bool {
        if self.userid.as_deref().is_some_and(|userid| userid != purchase.userid) {
            return true;
        }
        let Some(ahead) = &mut self.ahead else {
            return self.tell(Event::Recorded(Arc::clone(purchase), Arc::clone(&told.after)));
        };
        if ahead.seen_of(commit) > place {
            return true;
        }
        // What it has been told besides stays told.
        **ahead = ahead.furthest(told.before).within(commit, place + 1);
        let position = Arc::new((**ahead).clone());
        self.tell(Event::Recorded(Arc::clone(purchase), position))
    }

    /// Where it stands, where all others stand at `position`.
    pub(super) fn position(&self, position: &CommitPosition) -> CommitPosition {
        self.ahead.as_ref().map_or_else(|| position.clone(), |ahead| ahead.furthest(position))
    }
}

impl Listeners {
    /// Those who come back, each from its position.
    pub(super) fn returned(returning: Vec<Returning>) -> Self {
        let mut listeners = Self::default();
        for Returning { topic, position, listener } in returning {
            listeners.add(topic, Listener { ahead: Some(Box::new(position)), ..listener });
        }
        listeners
    }

    pub(super) fn len(&self) -> usize {
        self.by_topic.values().map(Vec::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    pub(super) fn add(&mut self, topic: Topic, listener: Listener) {
        self.may_be_ahead |= listener.ahead.is_some();
        self.by_topic.entry(topic).or_default().push(listener);
    }

    pub(super) fn remove(&mut self, topic: Topic, number: u64) {
        self.retain(topic, |listener| listener.number != number);
    }

    /// Whether nobody of them listens any more.
    pub(super) fn are_gone(&self) -> bool {
        self.by_topic.values().flatten().all(Listener::is_gone)
    }

    /// All of them, from here on of no concern to this.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Topic, Listener)> {
        let of_topic = |(topic, listeners): (Topic, Vec<Listener>)| listeners.into_iter().map(move |one| (topic, one));
        std::mem::take(&mut self.by_topic).into_iter().flat_map(of_topic)
    }

    /// The purchases that somebody may want to know of and that nobody has looked for.
    pub(super) fn wanted(&self, page: &CommitPage, found: &Found) -> Vec<Uuid> {
        let mut wanted: Vec<Uuid> = if page.is_reset {
            // They may have been recorded where nobody looked.
            self.by_topic
                .keys()
                .filter_map(|topic| if let Topic::Purchase(id) = topic { Some(*id) } else { None })
                .collect()
        } else {
            page.commits.iter().flat_map(|commit| self.wanted_of(commit)).collect()
        };
        wanted.retain(|id| !found.contains_key(id));
        wanted
    }

    fn wanted_of<'a>(&'a self, commit: &'a Commit) -> impl Iterator<Item = Uuid> + 'a {
        let is_user_wanted = move |place: usize| match &commit.userid_marks {
            Some(marks) => marks.get(place).is_some_and(|mark| self.by_topic.contains_key(&Topic::User(*mark))),
            None => self.by_topic.keys().any(|topic| matches!(topic, Topic::User(_))),
        };
        let ids = commit.purchase_ids.iter().enumerate();
        let wanted =
            ids.filter(move |(place, id)| self.by_topic.contains_key(&Topic::Purchase(**id)) || is_user_wanted(*place));
        wanted.map(|(_, id)| *id)
    }

    /// Tells everybody what comes after `position`, which moves on.
    pub(super) fn tell(&mut self, page: &CommitPage, found: &Found, position: &mut CommitPosition) {
        self.let_go_of_the_slow();
        if page.is_reset {
            *position = page.position.clone();
            self.reset(found, position);
        }
        for commit in &page.commits {
            for (place, id) in commit.purchase_ids.iter().enumerate() {
                if let Some(Some(purchase)) = found.get(id) {
                    self.tell_of(purchase, commit, place, position);
                }
            }
            position.pass(commit);
        }
        self.fall_in(position);
    }

    fn tell_of(&mut self, purchase: &Arc<Purchase>, commit: &Commit, place: usize, before: &CommitPosition) {
        let topics = [Topic::Purchase(purchase.purchase_id), Topic::of_user(&purchase.userid)];
        if topics.iter().all(|topic| !self.by_topic.contains_key(topic)) {
            return;
        }
        self.may_be_slow = true;
        let told = Told { before, after: Arc::new(before.within(commit, place + 1)) };
        for topic in topics {
            self.retain(topic, |listener| listener.tell_of(purchase, commit, place, &told));
        }
    }

    /// Tells all that the log goes on at another place, and who waits for one purchase whether it is there.
    fn reset(&mut self, found: &Found, position: &CommitPosition) {
        let position = Arc::new(position.clone());
        for (topic, listeners) in &mut self.by_topic {
            let event = match topic {
                Topic::User(_) => Some(Event::Reset(Arc::clone(&position))),
                Topic::Purchase(id) => {
                    let purchase = found.get(id).cloned().flatten();
                    purchase.map(|purchase| Event::Recorded(purchase, Arc::clone(&position)))
                }
            };
            let Some(event) = event else { continue };
            listeners.retain_mut(|listener| {
                listener.ahead = None;
                listener.tell(event.clone())
            });
        }
        self.by_topic.retain(|_, listeners| !listeners.is_empty());
    }

    /// Tells all of users until where they have been told.
    pub(super) fn tell_position(&mut self, position: &CommitPosition) {
        self.may_be_slow = true;
        for (topic, listeners) in &mut self.by_topic {
            if matches!(topic, Topic::User(_)) {
                listeners.retain_mut(|listener| {
                    let own = Arc::new(listener.position(position));
                    listener.tell(Event::Reached(own))
                });
            }
        }
        self.by_topic.retain(|_, listeners| !listeners.is_empty());
    }

    /// Whether anybody is behind, and still there.
    pub(super) fn has_behind(&self) -> bool {
        self.by_topic.values().flatten().any(|listener| listener.is_behind() && !listener.is_gone())
    }

    fn let_go_of_the_slow(&mut self) {
        if !self.may_be_slow || self.looked_at.is_some_and(|at| at.elapsed() < LOOK_INTERVAL) {
            return;
        }
        self.looked_at = Some(Instant::now());
        let mut may_be_slow = false;
        self.by_topic.retain(|_, listeners| {
            listeners.retain_mut(|listener| !listener.look());
            may_be_slow |= listeners.iter().any(Listener::is_behind);
            !listeners.is_empty()
        });
        self.may_be_slow = may_be_slow;
    }

    /// Who was ahead of the others, and is no more, is one of them.
    fn fall_in(&mut self, position: &CommitPosition) {
        if !std::mem::take(&mut self.may_be_ahead) {
            return;
        }
        for listener in self.by_topic.values_mut().flatten() {
            listener.ahead = listener.ahead.take().filter(|ahead| !ahead.is_reached_by(position));
            self.may_be_ahead |= listener.ahead.is_some();
        }
    }

    fn retain(&mut self, topic: Topic, keep: impl FnMut(&mut Listener) -> bool) {
        if let Some(listeners) = self.by_topic.get_mut(&topic) {
            listeners.retain_mut(keep);
            if listeners.is_empty() {
                self.by_topic.remove(&topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::event::Timestamp;
    use shared::price::Price;

    use super::*;

    /// A commit of ann's purchases with these ids.
    fn commit(partition: i32, number: i64, ids: &[u128]) -> Commit {
        let purchase_ids = ids.iter().copied().map(Uuid::from_u128).collect();
        Commit { partition, number, purchase_ids, userid_marks: Some(vec![userid_mark("ann"); ids.len()]) }
    }

    fn found(page: &CommitPage) -> Found {
        let purchase = |id: &Uuid| Purchase {
            purchase_id: *id,
            userid: "ann".to_owned(),
            username: "Ann".to_owned(),
            price: Price::parse_json("1").unwrap(),
            timestamp: Timestamp::from_millis(0).unwrap(),
            recorded_at: None,
            callback_url: None,
        };
        let ids = page.commits.iter().flat_map(|commit| &commit.purchase_ids);
        ids.map(|id| (*id, Some(Arc::new(purchase(id))))).collect()
    }

    fn page(commits: Vec<Commit>) -> CommitPage {
        CommitPage { position: CommitPosition::new(1, []), commits, is_reset: false }
    }

    /// What it has been told: ids of purchases, each with the position that came with it.
    async fn told(inbox: &mut Inbox) -> Vec<(u128, String)> {
        let mut told = Vec::new();
        while inbox.waiting.load(Ordering::Relaxed) > 0 {
            if let Some(Event::Recorded(purchase, position)) = inbox.next().await {
                told.push((purchase.purchase_id.as_u128(), position.to_string()));
            }
        }
        told
    }

    #[tokio::test]
    async fn who_is_ahead_is_told_nothing_twice_and_its_positions_never_go_back() {
        let ahead: CommitPosition = "1.0-100~1.9-9".parse().unwrap();
        let (mut listener, mut inbox) = Listener::new(0, Some("ann".into()));
        listener.ahead = Some(Box::new(ahead));
        let mut listeners = Listeners::default();
        listeners.add(Topic::of_user("ann"), listener);
        let mut position = CommitPosition::new(1, [(0, 98), (9, 9)]);
        // What comes first is of another partition.
        for commits in [vec![commit(9, 10, &[910])], vec![commit(0, 99, &[99]), commit(0, 100, &[100])]] {
            let page = page(commits);
            listeners.tell(&page, &found(&page), &mut position);
        }
        assert_eq!(told(&mut inbox).await, [(910, "1.0-100~1.9-10".to_owned())]);
        let page = page(vec![commit(0, 101, &[1, 2, 3]), commit(0, 102, &[4])]);
        listeners.tell(&page, &found(&page), &mut position);
        let expected = [(2, "1.0-100~2.9-10"), (3, "1.0-101.9-10"), (4, "1.0-102.9-10")];
        assert_eq!(told(&mut inbox).await, expected.map(|(id, position)| (id, position.to_owned())));
        assert!(
            listeners.by_topic.values().flatten().all(|listener| listener.ahead.is_none()),
            "it is one of the others"
        );
    }
}
