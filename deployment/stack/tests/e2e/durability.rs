//! A 2xx of the embedded pipeline survives its end, however it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::testing::{DEADLINE, eventually};
use stack::ledger::Fate;
use stack::load::{LoadPlan, Pace};
use stack::{Ledger, Load};
use uuid::Uuid;

use crate::doors::{Doors, escape, somebody};
use crate::pipeline::Embedded;

/// How the pipeline ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Sigterm,
    Kill9,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_purchase_survives_sigterm_and_kill_9() {
    let mut embedded = Embedded::start("durability").await;
    let mut ledger = Ledger::default();
    for end in [End::Kill9, End::Sigterm, End::Kill9] {
        let target = embedded.service.address();
        let plan = LoadPlan {
            pace: Pace::PerSecond(400.0),
            time_max: Some(Duration::from_millis(1500)),
            attempt_deadline: Duration::from_secs(5),
            ..LoadPlan::new(vec![target], 16)
        };
        let load = Load::start(plan);
        let progress = load.progress().clone();
        eventually("purchases are acknowledged", async || (progress.acknowledged() > 200).then_some(())).await;
        match end {
            End::Kill9 => embedded.service.kill_9(),
            End::Sigterm => {
                embedded.service.sigterm();
                let code = embedded.service.wait_exit(Duration::from_secs(30)).await.expect("it ends");
                assert_eq!(code, Some(0), "an orderly end");
            }
        }
        ledger.merge(load.finish().await.ledger);
        embedded.service.start_again().expect("it starts again");
        embedded.service.wait_ready(DEADLINE).await.expect("it becomes ready");
        check(&embedded.doors(), &ledger).await;
    }
}

/// Every 2xx is there, and nothing twice: counts and sums lie between what must and what may be recorded.
pub async fn check(doors: &Doors, ledger: &Ledger) {
    let mut users = BTreeMap::<&str, (u64, u64)>::new();
    for entry in ledger.entries() {
        let (must, may) = users.entry(&entry.userid).or_default();
        *must += u64::from(entry.fate() == Fate::Acknowledged);
        *may += u64::from(entry.fate() != Fate::Refused);
    }
    for (userid, (must, may)) in users {
        let read = doors.get(&format!("/getAllUserBuys/{}", escape(userid))).await.json();
        let count = read["count"].as_u64().expect("a count");
        assert!((must..=may).contains(&count), "{userid}: {must} acknowledged, {count} recorded, {may} sent");
        let stored: Vec<&str> =
            read["purchases"].as_array().into_iter().flatten().filter_map(|it| it["username"].as_str()).collect();
        for entry in ledger.entries().iter().filter(|entry| entry.userid == userid) {
            let times = stored.iter().filter(|name| **name == entry.username).count();
            let most = usize::from(entry.fate() != Fate::Refused);
            let least = usize::from(entry.fate() == Fate::Acknowledged);
            assert!(
                (least..=most).contains(&times),
                "{} is stored {times} times: {:?}",
                entry.username,
                entry.attempts
            );
        }
    }
}

#[tokio::test]
async fn new_purchases_of_a_new_broker_are_not_mistaken_for_old_ones() {
    let mut embedded = Embedded::start("incarnation").await;
    let userid = somebody("again");
    for round in 1..=3 {
        // The in-process broker begins at offset 0 each time; the database knows higher ones.
        for _ in 0..5 {
            embedded.doors().buy(&userid, "1").await;
        }
        let producer = embedded.doors().producer();
        // With an id: one made from the record's place would be that of a record of the broker before.
        let value = format!(r#"{{"purchase_id":"{}","userid":"{userid}","username":"Ann","price":1}}"#, Uuid::new_v4());
        producer.send("purchases", 0, None, Some(value.as_bytes())).await;
        assert_eq!(embedded.doors().purchases_of(&userid, round * 6).await.json()["total_spent"], round * 6);
        embedded.service.restart(DEADLINE).await.expect("it becomes ready");
    }
}

#[tokio::test]
async fn the_start_tells_where_it_listens_and_what_to_try() {
    let embedded = Embedded::start("start").await;
    embedded.doors().buy(&somebody("first"), "1").await;
    let log = std::fs::read_to_string(embedded.service.log()).expect("a log");
    assert!(log.contains("hey -n 1000 -c 50") && log.contains(&embedded.service.address()), "{log}");
}
