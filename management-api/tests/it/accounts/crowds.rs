//! Many who want in at once.

use futures_util::future::join_all;

use super::harness::Accounts;
use crate::harness::Kafka;

#[tokio::test(flavor = "multi_thread")]
async fn of_a_crowd_that_logs_in_at_once_most_are_told_to_come_again() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[("PASSWORD_HASHES_MAX", "1")]).await;
    accounts.create("ann", "ann@example.com", "correct horse").await;
    let answers = join_all((0..200).map(|_| accounts.login("ann@example.com", "correct horse"))).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(count(200) + count(429), 200);
    assert!((1..100).contains(&count(200)), "{} were let in", count(200));
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.header("retry-after"), "1");
    let refusals = accounts.api.count(r#"password_hashes_total{outcome="refused"}"#).await;
    assert_eq!(usize::try_from(refusals).unwrap(), count(429));
    assert_eq!(accounts.login("ann@example.com", "correct horse").await.status, 200, "the crowd is gone");
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_keeps_the_turn_until_the_password_is_hashed() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[("PASSWORD_HASHES_MAX", "1")]).await;
    accounts.create("ann", "ann@example.com", "correct horse").await;
    for _ in 0..20 {
        // Whatever has begun goes on; what has not is never begun, and no turn is lost.
        let hang_up = std::time::Duration::from_millis(3);
        let _ = tokio::time::timeout(hang_up, accounts.login("ann@example.com", "correct horse")).await;
    }
    shared::testing::eventually("all turns are given back", async || {
        (accounts.login("ann@example.com", "correct horse").await.status == 200).then_some(())
    })
    .await;
    assert!(accounts.api.stop().await);
}
