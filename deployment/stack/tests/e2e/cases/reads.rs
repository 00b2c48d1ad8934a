//! Reading back: totals, order, pages, single purchases.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use shared::testing::Answer;
use uuid::Uuid;

use crate::doors::{Doors, escape, order, somebody};
use crate::pipeline::open;

fn purchases(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["purchases"].as_array().cloned().expect("an array of purchases")
}

/// Newest first: by timestamp, then by id, both descending.
fn assert_newest_first(purchases: &[Value]) {
    let place = |purchase: &Value| (purchase["timestamp"].to_string(), purchase["purchase_id"].to_string());
    for pair in purchases.windows(2) {
        assert!(place(&pair[0]) > place(&pair[1]), "{} before {}", pair[0], pair[1]);
    }
}

/// All pages of a list, one after the other; `between` runs after each.
async fn read_pages(doors: &Doors, query: &str, mut between: impl AsyncFnMut()) -> Vec<Value> {
    let mut read = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = doors.get(&format!("/purchases?{query}{cursor}")).await;
        read.extend(purchases(&answer));
        match &answer.json()["next_cursor"] {
            Value::Null => return read,
            next => cursor = format!("&cursor={}", escape(next.as_str().expect("a cursor is a string"))),
        }
        between().await;
    }
}

fn ids(purchases: &[Value]) -> Vec<String> {
    purchases.iter().map(|purchase| purchase["purchase_id"].to_string()).collect()
}

async fn buy_many(doors: &Doors, userid: &str, count: usize) -> Vec<String> {
    let items: Vec<_> = (1..=count).map(|number| order("Ann", userid, &number.to_string())).collect();
    let answer = doors.post("/buy/batch", &[("prefer", "wait=20")], format!("[{}]", items.join(","))).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    ids(answer.json()["results"].as_array().expect("results"))
}

#[tokio::test]
async fn totals_cover_everything_and_the_list_is_newest_first() {
    let doors = open().await;
    let userid = somebody("totals/?#");
    for price in ["1.25", "2.5", "0.0001", "10"] {
        doors.buy(&userid, price).await;
    }
    let answer = doors.purchases_of(&userid, 4).await;
    assert_eq!(answer.json()["userid"], *userid);
    assert_eq!(answer.json()["total_spent"].to_string(), "13.7501");
    assert_newest_first(&purchases(&answer));
    assert_eq!(purchases(&answer)[0]["price"], 10);

    let short = doors.get(&format!("/getAllUserBuys/{}?limit=2", escape(&userid))).await;
    assert_eq!(purchases(&short), purchases(&answer)[..2]);
    assert_eq!((&short.json()["count"], &short.json()["total_spent"]), (&4.into(), &answer.json()["total_spent"]));

    let of_management = doors.get_management(&format!("/users/{}/purchases", escape(&userid))).await;
    assert_eq!(of_management.json(), answer.json());
}

#[tokio::test]
async fn an_unknown_user_has_nothing() {
    let doors = open().await;
    let userid = somebody("unknown");
    let answer = doors.get(&format!("/getAllUserBuys/{}", escape(&userid))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), serde_json::json!({ "userid": userid, "purchases": [], "count": 0, "total_spent": 0 }));
}

#[tokio::test]
async fn pages_show_each_purchase_exactly_once_while_new_ones_arrive() {
    let doors = open().await;
    let userid = somebody("pages");
    let bought = buy_many(&doors, &userid, 60).await;
    let mut arriving = 0;
    let read = read_pages(&doors, &format!("limit=7&userid={}", escape(&userid)), async || {
        arriving += 1;
        buy_many(&doors, &userid, 2).await;
    })
    .await;
    assert_newest_first(&read);
    let (seen, bought): (Vec<_>, HashSet<_>) = (ids(&read), bought.into_iter().collect());
    assert_eq!(seen.len(), seen.iter().collect::<HashSet<_>>().len(), "no purchase twice");
    assert_eq!(seen.iter().filter(|id| bought.contains(*id)).count(), 60, "no purchase left out");
    assert!(arriving >= 8, "purchases arrived between the pages");
    assert!(seen.len() < 60 + 7, "what is newer than the first page does not move the pages");

    let all = read_pages(&doors, &format!("limit=1000&userid={}", escape(&userid)), async || {}).await;
    assert_eq!(all.len(), 60 + 2 * arriving);
}

#[tokio::test]
async fn the_list_of_all_users_is_paged_too() {
    let doors = open().await;
    let (one, other) = (somebody("one"), somebody("other"));
    let mut bought = buy_many(&doors, &one, 20).await;
    bought.extend(buy_many(&doors, &other, 20).await);
    let stop = Arc::new(AtomicBool::new(false));
    let buyer = async {
        while !stop.load(Ordering::Relaxed) {
            buy_many(&doors, &one, 3).await;
        }
    };
    let reader = async {
        let read = read_pages(&doors, "limit=50", async || {}).await;
        stop.store(true, Ordering::Relaxed);
        read
    };
    let (read, ()) = tokio::join!(reader, buyer);
    assert_newest_first(&read);
    let seen: HashSet<_> = ids(&read).into_iter().collect();
    assert_eq!(seen.len(), read.len(), "no purchase twice");
    assert!(bought.iter().all(|id| seen.contains(id)), "no purchase left out");
}

#[tokio::test]
async fn the_default_page_has_at_most_100_purchases() {
    let doors = open().await;
    let userid = somebody("default");
    buy_many(&doors, &userid, 101).await;
    let page = doors.get(&format!("/purchases?userid={}", escape(&userid))).await;
    assert_eq!(purchases(&page).len(), 100);
    assert!(page.json()["next_cursor"].is_string());
}

#[tokio::test]
async fn what_is_not_recorded_is_404() {
    let doors = open().await;
    for id in [Uuid::new_v4().to_string(), Uuid::now_v7().to_string(), "7".to_owned(), "not-a-uuid".to_owned()] {
        for answer in
            [doors.get(&format!("/purchases/{id}")).await, doors.get_management(&format!("/purchases/{id}")).await]
        {
            assert_eq!(answer.status, 404, "{id}: {}", answer.text());
            assert_eq!(answer.header("content-type"), "application/problem+json");
            assert_eq!(answer.json()["request_id"], answer.header("x-request-id"));
        }
    }
}

#[tokio::test]
async fn reading_one_purchase_can_wait_for_it() {
    let doors = open().await;
    let userid = somebody("read wait");
    let key = [("idempotency-key", "later"), ("prefer", "wait=10")];
    // The id is known before the purchase is: another user's key shows only that ids are fixed by user and key.
    let first = doors.post("/buy", &key, order("Ann", &userid, "1")).await.json();
    let path = format!("/purchases/{}", first["purchase_id"].as_str().expect("an id"));
    let url = doors.web(&path);
    let waited = doors.request(http::Method::GET, &url, &[("prefer", "wait=5")], "").await;
    assert_eq!(waited.status, 200, "{}", waited.text());
    assert_eq!(waited.json(), first["data"]);

    let begun = std::time::Instant::now();
    let missing = doors.web(&format!("/purchases/{}", Uuid::new_v4()));
    let missing = doors.request(http::Method::GET, &missing, &[("prefer", "wait=1")], "").await;
    assert_eq!(missing.status, 404, "{}", missing.text());
    assert!(begun.elapsed().as_millis() >= 900, "it waited");
}

#[tokio::test]
async fn bad_parameters_are_400_and_named() {
    let doors = open().await;
    for (path, field) in [
        ("/getAllUserBuys/u?limit=0", "limit"),
        ("/getAllUserBuys/u?limit=1001", "limit"),
        ("/getAllUserBuys/u?limit=x", "limit"),
        ("/getAllUserBuys/u?timeout=49", "timeout"),
        ("/getAllUserBuys/u?timeout=30001", "timeout"),
        ("/getAllUserBuys/%20", "userid"),
        ("/getAllUserBuys/%ff", "userid"),
        ("/getAllUserBuys/a%00b", "userid"),
        ("/purchases?limit=-1", "limit"),
        ("/purchases?limit=1&limit=2", "limit"),
        ("/purchases?userid=", "userid"),
        ("/purchases?cursor=", "cursor"),
        ("/purchases?cursor=abc", "cursor"),
        ("/purchases?cursor=%00", "cursor"),
        ("/purchases/00000000-0000-4000-8000-000000000000?timeout=x", "timeout"),
    ] {
        let answer = doors.get(path).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert_eq!(answer.json()["errors"][0]["field"], *field, "{path}: {}", answer.text());
    }
    let two = doors.get("/purchases?limit=0&timeout=1&cursor=x&userid=%0a").await;
    assert!(two.json()["errors"].as_array().is_some_and(|errors| errors.len() >= 3), "all at once: {}", two.text());
}
