//! `POST /buy`: what a buyer is told, and what it means.

use std::process::Command;

use shared::testing::eventually;
use stack::load::{GUIDE_BODY, LoadPlan, Purchases};
use stack::{Load, folder::profile_folder};

use crate::doors::{Doors, escape, order, somebody};
use crate::pipeline::open;

#[tokio::test]
async fn the_guides_hey_command_gets_only_2xx_and_every_purchase_is_recorded() {
    let doors = open().await;
    let url = doors.web("/buy").replace("127.0.0.1", "localhost");
    let before = doors.get("/getAllUserBuys/loadtest?limit=1").await.json()["count"].as_u64().expect("a count");
    if let Some(report) = hey(&url) {
        let expected = format!("[{}]\t1000 responses", doors.accepted);
        assert!(report.contains(&expected) && !report.contains("Error distribution"), "{report}");
    } else {
        eprintln!("hey is not installed: our own load stands in for it");
        stand_in(&doors).await;
    }
    let answer = doors.purchases_of("loadtest", before + 1000).await.json();
    assert_eq!(answer["total_spent"], 10 * (before + 1000));
    assert_eq!(answer["purchases"].as_array().map(Vec::len), Some(1000));
}

/// The guide's command, word for word but for the port.
fn hey(url: &str) -> Option<String> {
    let arguments = ["-n", "1000", "-c", "50", "-m", "POST", "-H", "Content-Type: application/json", "-d", GUIDE_BODY];
    let output = Command::new("hey").args(arguments).arg(url).current_dir(profile_folder().ok()?).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn stand_in(doors: &Doors) {
    let target = doors.web("").replace("http://", "");
    let plan =
        LoadPlan { purchases: Purchases::of_the_guide(), purchases_max: Some(1000), ..LoadPlan::new(vec![target], 50) };
    let report = Load::run(plan).await;
    assert_eq!(report.statuses, [(doors.accepted, 1000)].into(), "{:?}", report.failures);
}

#[tokio::test]
async fn the_answer_says_what_was_bought_and_where_it_is() {
    let doors = open().await;
    let userid = somebody("answer");
    let answer = doors.post("/buy", &[("x-request-id", "my-own.id_1")], order("Ann", &userid, "12.50")).await;
    assert_eq!(answer.status.as_u16(), doors.accepted, "{}", answer.text());
    assert_eq!(answer.header("x-request-id"), "my-own.id_1");
    assert_eq!(answer.header("content-type"), "application/json");
    let body = answer.json();
    let id = body["purchase_id"].as_str().expect("an id").to_owned();
    assert_eq!(answer.header("location"), format!("/purchases/{id}"));
    assert_eq!(body["status"], if doors.accepted == 201 { "recorded" } else { "accepted" });
    assert!(body["message"].is_string(), "{body}");
    assert_eq!(body["data"]["userid"], *userid);
    assert_eq!(body["data"]["purchase_id"], *id);
    assert_eq!(body["receipt"]["topic"], *doors.kafka.topic);
    assert!(body["receipt"]["partition"].as_i64() >= Some(0), "{body}");
    assert!(body["receipt"]["offset"].as_i64() >= Some(0), "{body}");
    let timestamp = body["data"]["timestamp"].as_str().expect("a timestamp");
    assert!(timestamp.len() == 24 && timestamp.ends_with('Z'), "{timestamp}");

    let stored = eventually("the purchase is at its location", async || {
        let answer = doors.get(&format!("/purchases/{id}")).await;
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    for field in ["purchase_id", "userid", "username", "price", "timestamp"] {
        assert_eq!(stored[field], body["data"][field], "{field}");
    }
    assert!(stored["recorded_at"].is_string(), "{stored}");
}

#[tokio::test]
async fn who_waits_gets_201_with_the_time_of_recording() {
    let doors = open().await;
    let userid = somebody("waiting");
    for prefer in ["wait=10", "respond-async, wait=\"10\"; x=1"] {
        let answer = doors.post("/buy", &[("prefer", prefer)], order("Ann", &userid, "1")).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let body = answer.json();
        assert_eq!(body["status"], "recorded");
        assert!(body["data"]["recorded_at"].as_str() >= body["data"]["timestamp"].as_str(), "{body}");
    }
    for prefer in ["wait=0", "return=minimal", "waiting=99"] {
        let answer = doors.post("/buy", &[("prefer", prefer)], order("Ann", &userid, "1")).await;
        assert_eq!(answer.status.as_u16(), doors.accepted, "{prefer}: {}", answer.text());
    }
    doors.purchases_of(&userid, 5).await;
}

#[tokio::test]
async fn the_same_key_twice_is_one_purchase_and_the_first_stays() {
    let doors = open().await;
    let userid = somebody("key");
    let headers = [("idempotency-key", "order-1"), ("prefer", "wait=10")];
    let first = doors.post("/buy", &headers, order("Ann", &userid, "1.50")).await;
    assert_eq!(first.status, 201, "{}", first.text());
    // The same price in another notation is the same content.
    for price in ["1.5", "1.5000", "15e-1", "\"1.50\""] {
        let again = doors.post("/buy", &headers, order("Ann", &userid, price)).await;
        assert_eq!(again.status, 201, "{price}: {}", again.text());
        assert_eq!(again.json()["data"], first.json()["data"], "the first recorded comes back, with its timestamp");
    }
    let of_another_user = doors.post("/buy", &headers, order("Ann", &somebody("other"), "1.50")).await;
    assert_ne!(of_another_user.json()["purchase_id"], first.json()["purchase_id"]);

    let other_price = doors.post("/buy", &headers, order("Ann", &userid, "2")).await;
    assert_eq!(other_price.status, 422, "{}", other_price.text());
    assert_eq!(other_price.header("content-type"), "application/problem+json");
    let other_name = doors.post("/buy", &headers, order("Bob", &userid, "1.50")).await;
    assert_eq!(other_name.status, 422, "{}", other_name.text());

    let answer = doors.purchases_of(&userid, 1).await.json();
    assert_eq!(answer["purchases"][0]["timestamp"], first.json()["data"]["timestamp"]);
    assert_eq!(answer["total_spent"].to_string(), "1.5");
    eventually("both conflicts are dead letters", async || {
        let mine = |letter: &serde_json::Value| letter["key"] == *userid && letter["reason"] == "conflict";
        (doors.list_dead_letters().iter().filter(|letter| mine(letter)).count() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_key_sent_many_times_at_once_is_one_purchase() {
    let doors = open().await;
    let userid = somebody("race");
    let headers = [("idempotency-key", "same"), ("prefer", "wait=10")];
    let attempts = (0..20).map(|_| doors.post("/buy", &headers, order("Ann", &userid, "3")));
    let answers = futures_util::future::join_all(attempts).await;
    let data = answers[0].json()["data"].clone();
    for answer in &answers {
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(answer.json()["data"], data);
    }
    assert_eq!(doors.purchases_of(&userid, 1).await.json()["total_spent"], 3);
}

#[tokio::test]
async fn any_script_is_stored_as_it_was_sent() {
    let doors = open().await;
    let tag = somebody("");
    let names = [
        "漢字 かな",
        "שלום",
        "👩‍👩‍👧‍👦",
        "Ωmega/..?&=#%25 +",
        "e\u{301}",
        "\u{1d11e}",
        "\"quoted\\\"",
        "'; DROP TABLE purchases; --",
    ];
    for name in names {
        let userid = format!("{name}{tag}");
        let answer = doors.post("/buy", &[("prefer", "wait=10")], order(name, &userid, "1")).await;
        assert_eq!(answer.status, 201, "{name}: {}", answer.text());
        let read = doors.get(&format!("/getAllUserBuys/{}", escape(&userid))).await.json();
        assert_eq!(read["userid"], *userid);
        assert_eq!(read["purchases"][0]["username"], *name);
        assert_eq!(read["count"], 1, "{name}");
    }
}
