//! Accounts: each e-mail and each name once, and what ends with them.

use std::time::Duration;

use management_api::store::{Account, NewAccount, NewSession, PasswordChange, Revocation, Standing, Store};
use shared::config::Secret;
use shared::event::Timestamp;
use uuid::Uuid;

use super::databases::on_each_database;
use super::sign_ins::session;

/// A moment, in seconds after a first one.
pub fn second(number: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + number * 1000).unwrap()
}

pub fn revoked_at(number: i64) -> Revocation {
    Revocation { at: second(number), forgets_before: second(number - 1000) }
}

/// The hash of an account's password.
pub fn hash_of(account: u128) -> Secret<String> {
    Secret::new(format!("hash of {account}"))
}

/// An account whose keys are its name.
pub fn account(number: u128, name: &str) -> NewAccount {
    let account = Account {
        account_id: Uuid::from_u128(number),
        username: name.to_uppercase(),
        email: format!("{}@Example.com", name.to_uppercase()),
        is_admin: false,
        created_at: second(0),
    };
    let (username_key, email_key) = (name.to_owned(), format!("{name}@example.com"));
    NewAccount { account, username_key, email_key, password_hash: hash_of(number) }
}

async fn ids(store: &dyn Store, after: Option<u128>, limit: u32) -> Vec<u128> {
    let accounts = store.list_accounts(after.map(Uuid::from_u128), limit).await.unwrap();
    accounts.iter().map(|account| account.account_id.as_u128()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_found_as_it_was_kept() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let ann = account(1, "ann");
        assert!(store.find_account("ann@example.com").await.unwrap().is_none());
        assert!(store.create_account(&ann).await.unwrap());
        let found = store.find_account("ann@example.com").await.unwrap().unwrap();
        assert_eq!((&found.account, found.password_hash.expose().as_str()), (&ann.account, "hash of 1"));
        let by_id = store.find_account_by_id(ann.account.account_id).await.unwrap().unwrap();
        assert_eq!((&by_id.account, by_id.password_hash.expose().as_str()), (&ann.account, "hash of 1"));
        assert!(store.find_account_by_id(Uuid::from_u128(2)).await.unwrap().is_none());
        assert!(store.find_account("ANN@Example.com").await.unwrap().is_none(), "keys are compared, byte for byte");
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_at_the_same_moment_one_is_kept() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let others = (1..=8).map(|number| {
            // Half have another name, half another e-mail.
            let own = account(number, &format!("other{number}"));
            let ann = account(number, "ann");
            let new = if number % 2 == 0 {
                NewAccount { username_key: own.username_key, ..ann.clone() }
            } else {
                NewAccount { email_key: own.email_key, ..ann.clone() }
            };
            [ann, new]
        });
        let store = &store;
        let tries = others.flatten().enumerate().map(|(index, mut new)| async move {
            new.account.account_id = Uuid::from_u128(100 + index as u128);
            store.create_account(&new).await.unwrap()
        });
        let kept = futures_util::future::join_all(tries).await;
        // By the first one that is kept whole, all are taken; before it, one by name and one by e-mail may be.
        let count = kept.iter().filter(|kept| **kept).count();
        assert!((1..=2).contains(&count), "{kept:?}");
        assert_eq!(ids(&**store, None, 100).await.len(), count);
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_is_replaced_only_where_it_is_still_the_one_that_was_seen() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let ann = account(1, "ann");
        store.create_account(&ann).await.unwrap();
        let hash = async || {
            let found = store.find_account("ann@example.com").await.unwrap().unwrap();
            (found.password_hash.expose().clone(), found.account.is_admin)
        };
        let [stronger, other] = ["stronger", "other"].map(|hash| Secret::new(hash.to_owned()));
        let id = ann.account.account_id;
        store.replace_hash(id, &ann.password_hash, &stronger).await.unwrap();
        store.replace_hash(id, &ann.password_hash, &other).await.unwrap();
        assert_eq!(hash().await, ("stronger".to_owned(), false));
        store.appoint_admin(id).await.unwrap();
        assert_eq!(hash().await, ("stronger".to_owned(), true));
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_password_ends_all_sessions_but_one_and_counts_for_new_ones() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        for (number, name) in [(1, "ann"), (2, "bob")] {
            store.create_account(&account(number, name)).await.unwrap();
        }
        for (number, account) in [(11, 1), (12, 1), (13, 1), (14, 2)] {
            assert!(store.begin_session(&session(number, account, second(0))).await.unwrap());
        }
        let change = |old: u128, new: u128, at| PasswordChange {
            account_id: Uuid::from_u128(1),
            old_hash: hash_of(old),
            new_hash: hash_of(new),
            goes_on: Uuid::from_u128(12),
            revocation: revoked_at(at),
        };
        assert!(!store.change_password(&change(3, 4, 1)).await.unwrap(), "it has another one");
        assert!(store.list_revoked(second(0)).await.unwrap().is_empty());
        assert!(store.change_password(&change(1, 5, 2)).await.unwrap());
        let mut revoked = store.list_revoked(second(0)).await.unwrap();
        revoked.sort_unstable();
        assert_eq!(revoked, [11, 13].map(Uuid::from_u128));
        for (number, is_there) in [(11, false), (12, true), (13, false), (14, true)] {
            let token = [u8::try_from(number).unwrap(); 32];
            let found = store.find_session(Uuid::from_u128(number), &token, second(3)).await.unwrap();
            assert_eq!(found.is_some(), is_there, "{number}");
        }
        let found = store.find_account("ann@example.com").await.unwrap().unwrap();
        assert_eq!(found.password_hash.expose(), hash_of(5).expose());
        assert!(!store.begin_session(&session(15, 1, second(3))).await.unwrap(), "by the old one");
        let by_the_new_one = NewSession { password_hash: hash_of(5), ..session(15, 1, second(3)) };
        assert!(store.begin_session(&by_the_new_one).await.unwrap());
        assert!(store.change_password(&change(5, 6, 2000)).await.unwrap());
        assert_eq!(store.list_revoked(second(0)).await.unwrap(), [Uuid::from_u128(15)], "others are forgotten");
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_that_the_old_password_began_outlives_its_change() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.create_account(&account(1, "ann")).await.unwrap();
        for round in 0..20 {
            let (old, new) = (hash_of(if round == 0 { 1 } else { 100 + round }), hash_of(101 + round));
            let begins = (0..8).map(|number| {
                let (store, at) = (store.clone(), second(i64::try_from(round).unwrap()));
                let begun = NewSession { password_hash: old.clone(), ..session(round * 8 + number + 1000, 1, at) };
                // Some find no free connection in time; that is theirs alone.
                tokio::spawn(async move { drop(store.begin_session(&begun).await) })
            });
            let begins: Vec<_> = begins.collect();
            let change = PasswordChange {
                account_id: Uuid::from_u128(1),
                old_hash: old,
                new_hash: new,
                goes_on: Uuid::nil(),
                revocation: revoked_at(1),
            };
            assert!(store.change_password(&change).await.unwrap());
            for begin in begins {
                begin.await.unwrap();
            }
            for number in (0..8).map(|number| round * 8 + number + 1000) {
                let token = [u8::try_from(number % 256).unwrap(); 32];
                let found = store.find_session(Uuid::from_u128(number), &token, second(30)).await.unwrap();
                assert!(found.is_none(), "session {number} goes on");
            }
        }
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_account_takes_its_sessions_along_and_is_revoked() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        for (number, name) in [(1, "ann"), (2, "bob")] {
            store.create_account(&account(number, name)).await.unwrap();
            assert!(store.begin_session(&session(number + 10, number, second(0))).await.unwrap());
        }
        let [ann, anns_session, bobs_session] = [1, 11, 12].map(Uuid::from_u128);
        assert!(store.delete_account(ann, revoked_at(1)).await.unwrap());
        assert!(!store.delete_account(ann, revoked_at(2)).await.unwrap(), "it is not there any more");
        assert!(store.find_session(anns_session, &[11; 32], second(3)).await.unwrap().is_none());
        let bobs = store.find_session(bobs_session, &[12; 32], second(3)).await.unwrap().unwrap();
        assert_eq!(bobs.standing, Standing::Current);
        assert_eq!(store.list_revoked(second(0)).await.unwrap(), [ann]);
        assert!(!store.begin_session(&session(13, 1, second(3))).await.unwrap(), "nobody to begin one for");
        assert!(store.create_account(&account(3, "ann")).await.unwrap(), "the name is free again");
        assert_eq!(ids(&*store, None, 10).await, [3, 2]);
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_listed_newest_first_page_by_page() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        for number in 1..=5 {
            store.create_account(&account(number, &format!("user{number}"))).await.unwrap();
        }
        assert_eq!(ids(&*store, None, 2).await, [5, 4]);
        assert_eq!(ids(&*store, Some(4), 2).await, [3, 2]);
        assert_eq!(ids(&*store, Some(1), 2).await, [0; 0]);
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_do_not_keep_recording_waiting() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.create_account(&account(1, "ann")).await.unwrap();
        let busy = {
            let store = store.clone();
            tokio::spawn(async move {
                let sessions = (0..500).map(|number| {
                    let store = store.clone();
                    async move {
                        // Some find no free connection in time; that is theirs alone.
                        let _ = store.begin_session(&session(1000 + number, 1, second(0))).await;
                    }
                });
                futures_util::future::join_all(sessions).await;
            })
        };
        for number in 0..10 {
            let batch = super::fixtures::batch(0, i64::from(number), [super::fixtures::purchase(number)]);
            let recorded = tokio::time::timeout(Duration::from_secs(5), store.record(&batch)).await;
            assert_eq!(recorded.expect("in time").unwrap().inserted, 1);
        }
        busy.await.unwrap();
        store.close().await;
    })
    .await;
}
