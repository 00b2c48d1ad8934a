//! Sessions: of all who spend a token one does, and what is over is forgotten.

use std::time::Duration;

use management_api::store::{NewSession, SpentToken, Standing, Store, TokenHash};
use shared::config::Secret;
use shared::event::Timestamp;
use uuid::Uuid;

use super::accounts::{account, hash_of, revoked_at, second};
use super::databases::on_each_database;

const ANN: u128 = 1;
const SESSION: Uuid = Uuid::from_u128(10);
/// When tests look, in seconds.
const NOW: i64 = 6;
/// How long they may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// A session whose first token is its number, and which lasts a thousand seconds.
pub fn session(number: u128, account: u128, began_at: Timestamp) -> NewSession {
    NewSession {
        session_id: Uuid::from_u128(number),
        account_id: Uuid::from_u128(account),
        password_hash: hash_of(account),
        successor_key: Secret::new([7; 32]),
        token: [u8::try_from(number % 256).unwrap(); 32],
        began_at,
        ends_at: Timestamp::from_millis(began_at.millis() + 1_000_000).unwrap(),
    }
}

/// From one token to the next, at a second.
fn spent(token: u8, successor: u8, at: i64) -> SpentToken {
    SpentToken {
        session_id: SESSION,
        token: [token; 32],
        successor: [successor; 32],
        spent_at: second(at),
        ends_at: second(at + 1000),
        forgets_after: Duration::from_secs(90),
    }
}

async fn standing(store: &dyn Store, token: u8) -> Option<Standing> {
    let token: TokenHash = [token; 32];
    store.find_session(SESSION, &token, second(NOW)).await.unwrap().map(|session| session.standing)
}

/// Ann, with a session whose token is 10.
async fn begin(store: &dyn Store) {
    assert!(store.create_account(&account(ANN, "ann")).await.unwrap());
    assert!(store.begin_session(&session(10, ANN, second(0))).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_found_as_it_was_begun() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        begin(&*store).await;
        let found = store.find_session(SESSION, &[10; 32], second(5)).await.unwrap().unwrap();
        assert_eq!((found.account_id.as_u128(), found.username.as_str(), found.is_admin), (ANN, "ANN", false));
        assert_eq!((found.began_at, found.ends_at), (second(0), second(1000)));
        assert_eq!((*found.successor_key.expose(), found.standing), ([7; 32], Standing::Current));
        assert_eq!(standing(&*store, 99).await, Some(Standing::Unknown));
        assert!(store.find_session(Uuid::nil(), &[10; 32], second(5)).await.unwrap().is_none());
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_who_spend_a_token_one_does() {
    on_each_database(|database| async move {
        let (store, other) = (database.migrated().await, database.store());
        begin(&*store).await;
        let tries = (0..50).map(|number| {
            let store = if number % 2 == 0 { store.clone() } else { other.clone() };
            async move {
                loop {
                    // A file has one writer, and a pool only so many places.
                    if let Ok(moved) = store.spend_token(&spent(10, 11, 5)).await {
                        return moved;
                    }
                }
            }
        });
        let moved = futures_util::future::join_all(tries).await;
        assert_eq!(moved.iter().filter(|moved| **moved).count(), 1);
        let spent = standing(&*store, 10).await;
        assert!(
            matches!(spent, Some(Standing::Spent(ago)) if ago < DEADLINE),
            "{spent:?} by the clock that they share"
        );
        assert_eq!(standing(&*other, 11).await, Some(Standing::Current));
        let found = store.find_session(SESSION, &[11; 32], second(5)).await.unwrap().unwrap();
        assert_eq!(found.ends_at, second(1005), "it was used");
        store.close().await;
        other.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_were_spent_long_ago_are_forgotten() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        begin(&*store).await;
        for (token, at) in [(10, 0), (11, 1)] {
            assert!(store.spend_token(&spent(token, token + 1, at)).await.unwrap());
        }
        assert!(matches!(standing(&*store, 10).await, Some(Standing::Spent(_))));
        let forgetful = SpentToken { forgets_after: Duration::ZERO, ..spent(12, 13, 2) };
        assert!(store.spend_token(&forgetful).await.unwrap());
        assert_eq!(standing(&*store, 10).await, Some(Standing::Unknown));
        assert_eq!(standing(&*store, 11).await, Some(Standing::Unknown));
        assert!(matches!(standing(&*store, 12).await, Some(Standing::Spent(_))));
        assert_eq!(standing(&*store, 13).await, Some(Standing::Current));
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_is_told_until_nobody_can_have_a_token_of_it() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        begin(&*store).await;
        store.begin_session(&session(20, ANN, second(0))).await.unwrap();
        store.revoke_session(SESSION, revoked_at(10)).await.unwrap();
        store.revoke_session(SESSION, revoked_at(500)).await.unwrap();
        assert_eq!(standing(&*store, 10).await, None);
        assert_eq!(store.list_revoked(second(10)).await.unwrap(), [SESSION]);
        assert!(store.list_revoked(second(11)).await.unwrap().is_empty());
        store.revoke_session(Uuid::from_u128(20), revoked_at(1011)).await.unwrap();
        assert_eq!(store.list_revoked(second(0)).await.unwrap(), [Uuid::from_u128(20)], "the first is forgotten");
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_a_hundred_sessions_at_most_and_none_that_is_over() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        begin(&*store).await;
        let found = async |number: u128| {
            let token = [u8::try_from(number % 256).unwrap(); 32];
            store.find_session(Uuid::from_u128(number), &token, second(0)).await.unwrap().is_some()
        };
        for number in 11..=110 {
            store.begin_session(&session(number, ANN, second(i64::try_from(number).unwrap()))).await.unwrap();
        }
        assert_eq!([found(10).await, found(11).await, found(110).await], [false, true, true]);
        store.begin_session(&session(200, ANN, second(1111))).await.unwrap();
        assert_eq!([found(110).await, found(200).await], [false, true], "over by then");
        store.close().await;
    })
    .await;
}
