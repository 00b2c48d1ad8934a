//! Who listens to what is recorded, while replicas are killed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::RngExt;
use shared::event::Purchase;
use shared::testing::{EventStream, eventually};
use stack::load::{LoadPlan, Purchases};
use stack::{Load, Postgres};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::deployment::{Deployment, Plan, kill_and_start};
use crate::infra::infra_alone;

/// Among so many users the purchases are spread; somebody listens for each.
const USERS: u64 = 24;

/// Somebody who listens for a user, here and there, and hangs up again and again.
struct Listener {
    userid: String,
    told: Arc<Mutex<Vec<Uuid>>>,
}

impl Listener {
    fn new(userid: String) -> Self {
        Self { userid, told: Arc::default() }
    }

    /// Listens for ever. The first stream is opened before anything is bought.
    async fn listen(self, servers: Vec<SocketAddr>, mut stream: EventStream) {
        let mut last_id = stream.last_id.clone();
        loop {
            let until_it_hangs_up = rand::rng().random_range(1..30);
            for _ in 0..until_it_hangs_up {
                let Some(event) = stream.next().await else { break };
                assert_eq!(event.event, "recorded", "{}: {event:?}", self.userid);
                let purchase: Purchase = serde_json::from_str(&event.data).unwrap();
                assert_eq!(purchase.userid, self.userid);
                self.told.lock().unwrap().push(purchase.purchase_id);
                last_id.clone_from(&stream.last_id);
            }
            stream = loop {
                let server = rand::rng().random_range(0..servers.len());
                match open(servers[server], &self.userid, &last_id).await {
                    Some(stream) => break stream,
                    None => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
        }
    }
}

async fn open(server: SocketAddr, userid: &str, last_id: &str) -> Option<EventStream> {
    let path = format!("/users/{}/events", utf8_percent_encode(userid, NON_ALPHANUMERIC));
    let stream = EventStream::try_open(server, &path, &[("last-event-id", last_id)]).await.ok()?;
    (stream.status() == 200).then_some(stream)
}

async fn recorded(stack: &Deployment, postgres: &Postgres, userid: &str) -> BTreeSet<Uuid> {
    let client = stack.sql(postgres).await;
    let rows = client.query("SELECT purchase_id FROM purchases WHERE userid = $1", &[&userid]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_each_listener_hears_of_each_purchase_once() {
    let infra = infra_alone().await;
    let mut stack = Plan::new("listeners").start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    stack.wait_assigned(2).await;
    let plan = LoadPlan { purchases: Purchases::unique(USERS), ..stack.load(400.0) };
    let servers: Vec<SocketAddr> = stack.web.iter().map(|web| web.address().parse().unwrap()).collect();
    let mut listeners = Vec::new();
    let mut listening = JoinSet::new();
    for userid in plan.purchases.userids() {
        let mut stream = eventually("the stream is open", async || open(servers[0], &userid, "").await).await;
        stream.opened().await;
        let listener = Listener::new(userid);
        listeners.push((listener.userid.clone(), Arc::clone(&listener.told)));
        listening.spawn(listener.listen(servers.clone(), stream));
    }
    let load = Load::start(plan);
    for round in 0..6 {
        stack.wait_recording(&infra.postgres, 200).await;
        let services = if round % 3 == 2 { &mut stack.web } else { &mut stack.api };
        kill_and_start(&mut services[round % 2]).await;
    }
    let report = load.stop().await;
    stack.assert_exact(&infra.postgres, &report.ledger).await;
    for (userid, told) in listeners {
        let recorded = recorded(&stack, &infra.postgres, &userid).await;
        eventually("all is told", async || (told.lock().unwrap().len() >= recorded.len()).then_some(())).await;
        let told = told.lock().unwrap();
        assert_eq!(told.len(), recorded.len(), "{userid}: nothing is told twice");
        assert_eq!(told.iter().copied().collect::<BTreeSet<_>>(), recorded, "{userid}");
    }
    if let Some(ended) = listening.try_join_next() {
        panic!("a listener has ended: {ended:?}");
    }
}
