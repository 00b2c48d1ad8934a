//! API keys: found by their secrets as long as those count, and what is told of their changes.

use std::time::Duration;

use management_api::store::{Creation, KEYS_MAX, KEYS_TOLD_MAX, NewKey, Rotated, Rotation, Store, WhichKey};
use shared::api_keys::{ApiKeySecret, ChangedKey, Scope, SecretHash};
use shared::event::Timestamp;
use uuid::Uuid;

use super::accounts::{account, revoked_at, second};
use super::databases::{on_each_database, on_postgres};

/// How long changes are told.
const TOLD: Duration = Duration::from_secs(1000);

fn hash() -> SecretHash {
    ApiKeySecret::random().hash()
}

fn new_key(number: u128, account: u128, secret_hash: SecretHash) -> NewKey {
    NewKey {
        key_id: Uuid::from_u128(number),
        account_id: Uuid::from_u128(account),
        name: format!("key {number}"),
        scopes: vec![Scope::Buy, Scope::Service],
        rate_per_second: Some(7),
        secret_hash,
        secret_start: "pak_0000".to_owned(),
        created_at: second(0),
        expires_at: None,
        told: TOLD,
    }
}

fn which(number: u128, account: Option<u128>) -> WhichKey {
    WhichKey { key_id: Uuid::from_u128(number), account_id: account.map(Uuid::from_u128) }
}

async fn counts(store: &dyn Store, hash: &SecretHash, at: i64) -> bool {
    store.find_key(hash, second(at)).await.unwrap().is_some()
}

/// What is told at this time.
async fn changed(store: &dyn Store, at: i64) -> Vec<ChangedKey> {
    store.list_changed_keys(TOLD, second(at)).await.unwrap()
}

/// A rotation of Ann's key 5 that leaves the old secret so many seconds.
async fn rotate(store: &dyn Store, secret_hash: SecretHash, at: i64, overlap: i64) -> Rotated {
    let (at, old_ends_at) = (second(at), second(at + overlap));
    let secret_start = "pak_1111".to_owned();
    store.rotate_key(&Rotation { which: which(5, Some(1)), secret_hash, secret_start, at, old_ends_at }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_found_by_its_hash_as_it_was_made_until_it_ends() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.create_account(&account(1, "ann")).await.unwrap();
        let (own, other) = (hash(), hash());
        let key = NewKey { expires_at: Some(second(10)), ..new_key(5, 1, own) };
        assert_eq!(store.create_key(&key).await.unwrap(), Creation::Kept);
        let found = store.find_key(&own, second(9)).await.unwrap().unwrap();
        assert_eq!((found.key_id, found.account_id, found.version), (key.key_id, key.account_id, 0));
        assert_eq!((found.scopes, found.rate_per_second, found.ends_at), (key.scopes, Some(7), Some(second(10))));
        assert!(!counts(&*store, &own, 10).await && !counts(&*store, &other, 1).await);
        assert_eq!(changed(&*store, 1).await, [], "nobody can have known it before");
        assert_eq!(store.create_key(&new_key(6, 2, other)).await.unwrap(), Creation::NoAccount);
        let listed = store.list_keys(key.account_id).await.unwrap();
        let [row] = listed.as_slice() else { panic!("{listed:?}") };
        assert_eq!((row.name.as_str(), row.secret_start.as_str(), row.last_used_at), ("key 5", "pak_0000", None));
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_secrets_count_while_one_follows_the_other() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.create_account(&account(1, "ann")).await.unwrap();
        let secrets = [hash(), hash(), hash()];
        store.create_key(&new_key(5, 1, secrets[0])).await.unwrap();
        let strangers = Rotation {
            which: which(5, Some(2)),
            secret_hash: secrets[1],
            secret_start: String::new(),
            at: second(10),
            old_ends_at: second(110),
        };
        assert_eq!(store.rotate_key(&strangers).await.unwrap(), Rotated::NoKey, "somebody else's");
        assert_eq!(rotate(&*store, secrets[1], 10, 100).await, Rotated::Done(Uuid::from_u128(1)));
        for (at, expected) in [(10, [true, true]), (109, [true, true]), (110, [false, true])] {
            assert_eq!(
                [counts(&*store, &secrets[0], at).await, counts(&*store, &secrets[1], at).await],
                expected,
                "{at}"
            );
        }
        assert_eq!(rotate(&*store, secrets[2], 110, 100).await, Rotated::Done(Uuid::from_u128(1)), "the first is over");
        assert!(counts(&*store, &secrets[1], 111).await && counts(&*store, &secrets[2], 111).await);
        assert_eq!(changed(&*store, 120).await, [ChangedKey { key_id: Uuid::from_u128(5), version: 2 }]);
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rotation_cuts_an_earlier_secret_short_but_one_without_overlap() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.create_account(&account(1, "ann")).await.unwrap();
        let secrets = [hash(), hash(), hash()];
        store.create_key(&new_key(5, 1, secrets[0])).await.unwrap();
        assert_eq!(rotate(&*store, secrets[1], 10, 100).await, Rotated::Done(Uuid::from_u128(1)));
        for at in [10, 109] {
            assert_eq!(rotate(&*store, secrets[2], at, 1).await, Rotated::EarlierCounts(second(110)));
        }
        assert!(counts(&*store, &secrets[0], 109).await && counts(&*store, &secrets[1], 109).await);
        assert!(!counts(&*store, &secrets[2], 109).await, "nothing was changed");
        assert_eq!(changed(&*store, 109).await, [ChangedKey { key_id: Uuid::from_u128(5), version: 1 }]);
        assert_eq!(rotate(&*store, secrets[2], 20, 0).await, Rotated::Done(Uuid::from_u128(1)));
        assert!(!counts(&*store, &secrets[0], 20).await && !counts(&*store, &secrets[1], 20).await);
        assert!(counts(&*store, &secrets[2], 20).await);
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_rotations_at_one_moment_one_is_done() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.create_account(&account(1, "ann")).await.unwrap();
        let first = hash();
        store.create_key(&new_key(5, 1, first)).await.unwrap();
        let rotations = (0..8).map(|_| rotate(&*store, hash(), 10, 100));
        let rotated = futures_util::future::join_all(rotations).await;
        let done = rotated.iter().filter(|it| **it == Rotated::Done(Uuid::from_u128(1))).count();
        let refused = rotated.iter().filter(|it| **it == Rotated::EarlierCounts(second(110))).count();
        assert_eq!((done, refused), (1, 7), "{rotated:?}");
        assert!(counts(&*store, &first, 109).await, "whoever uses it has all of the overlap");
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_told_for_a_while() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.create_account(&account(1, "ann")).await.unwrap();
        store.create_key(&new_key(5, 1, hash())).await.unwrap();
        store.revoke_key(which(5, None), second(1)).await.unwrap().unwrap();
        assert_eq!(changed(&*store, 2).await, [ChangedKey { key_id: Uuid::from_u128(5), version: 1 }]);
        assert_eq!(store.list_changed_keys(Duration::ZERO, second(2)).await.unwrap(), []);
        store.close().await;
    })
    .await;
}

/// By its own clock each replica would miss what is changed by one whose clock is behind.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_goes_by_its_own_clock_whatever_the_replicas_say() {
    on_postgres(|database| async move {
        let store = database.migrated().await;
        store.create_account(&account(1, "ann")).await.unwrap();
        for number in [5, 6, 7] {
            store.create_key(&new_key(number, 1, hash())).await.unwrap();
        }
        assert!(matches!(rotate(&*store, hash(), -100_000, 10).await, Rotated::Done(_)));
        store.revoke_key(which(6, None), second(-100_000)).await.unwrap().unwrap();
        assert_eq!(changed(&*store, 0).await.len(), 2);
        assert!(store.delete_account(Uuid::from_u128(1), revoked_at(-100_000)).await.unwrap());
        for at in [-200_000, 0, 200_000] {
            assert_eq!(changed(&*store, at).await.len(), 3, "{at}");
        }
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_counts_no_more_also_when_its_account_goes() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        for (number, name) in [(1, "ann"), (2, "bob")] {
            store.create_account(&account(number, name)).await.unwrap();
        }
        let secrets = [hash(), hash(), hash()];
        for (key, account) in [(5, 1), (6, 1), (7, 2)] {
            store.create_key(&new_key(key, account, secrets[key as usize - 5])).await.unwrap();
        }
        assert_eq!(store.revoke_key(which(5, Some(2)), second(1)).await.unwrap(), None, "somebody else's");
        assert_eq!(store.revoke_key(which(9, None), second(1)).await.unwrap(), None);
        for at in [3, 4] {
            assert_eq!(store.revoke_key(which(5, None), second(at)).await.unwrap(), Some(Uuid::from_u128(1)), "again");
        }
        assert!(!counts(&*store, &secrets[0], 3).await && counts(&*store, &secrets[1], 3).await);
        assert!(store.delete_account(Uuid::from_u128(1), revoked_at(9)).await.unwrap());
        assert!(!counts(&*store, &secrets[1], 9).await && counts(&*store, &secrets[2], 9).await);
        let mut told: Vec<_> =
            changed(&*store, 9).await.iter().map(|key| (key.key_id.as_u128(), key.version)).collect();
        told.sort_unstable();
        assert_eq!(told, [(5, 1), (6, 1)]);
        let revoked = store.list_keys(Uuid::from_u128(1)).await.unwrap();
        assert_eq!(revoked.iter().map(|key| key.revoked_at).collect::<Vec<_>>(), [Some(second(9)), Some(second(3))]);
        assert_eq!(store.create_key(&new_key(10, 1, hash())).await.unwrap(), Creation::NoAccount);
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_a_hundred_keys_at_most() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.create_account(&account(1, "ann")).await.unwrap();
        for number in 0..100 {
            assert_eq!(store.create_key(&new_key(number, 1, hash())).await.unwrap(), Creation::Kept);
        }
        assert_eq!(store.create_key(&new_key(100, 1, hash())).await.unwrap(), Creation::TooMany);
        store.revoke_key(which(3, None), second(1)).await.unwrap().unwrap();
        assert_eq!(store.create_key(&new_key(100, 1, hash())).await.unwrap(), Creation::Kept);
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_makes_and_revokes_keys_in_a_loop_does_not_lengthen_what_is_told_of_changes_for_ever() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        for (number, name) in [(1, "ann"), (2, "bob")] {
            store.create_account(&account(number, name)).await.unwrap();
        }
        // One that is rotated stands and is changed, and counts once.
        store.create_key(&new_key(5, 1, hash())).await.unwrap();
        rotate(&*store, hash(), 1, 10).await;
        for number in 1001..1000 + u128::from(KEYS_TOLD_MAX) {
            assert_eq!(store.create_key(&new_key(number, 1, hash())).await.unwrap(), Creation::Kept, "{number}");
            store.revoke_key(which(number, None), second(1)).await.unwrap().unwrap();
        }
        assert_eq!(store.create_key(&new_key(2000, 1, hash())).await.unwrap(), Creation::TooManyChanged);
        assert_eq!(changed(&*store, 2).await.len(), KEYS_TOLD_MAX as usize);
        assert_eq!(store.create_key(&new_key(2001, 2, hash())).await.unwrap(), Creation::Kept, "others' are others'");
        let later = NewKey { created_at: second(2), told: Duration::ZERO, ..new_key(2002, 1, hash()) };
        assert_eq!(store.create_key(&later).await.unwrap(), Creation::Kept, "nobody is told of it any more");
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_ended_where_nobody_can_know_it_any_more_leaves_room_for_another() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.create_account(&account(1, "ann")).await.unwrap();
        let (now, ended) = (Timestamp::now(), Some(Timestamp::now().before(TOLD / 2)));
        for number in 0..u128::from(KEYS_MAX) {
            let key = NewKey { created_at: now, expires_at: ended, ..new_key(number, 1, hash()) };
            assert_eq!(store.create_key(&key).await.unwrap(), Creation::Kept, "{number}");
        }
        let another = NewKey { created_at: now, ..new_key(100, 1, hash()) };
        assert_eq!(store.create_key(&another).await.unwrap(), Creation::TooMany, "somebody may know them");
        let later = NewKey { told: TOLD / 4, ..another };
        assert_eq!(store.create_key(&later).await.unwrap(), Creation::Kept);
        for number in 0..3 {
            store.revoke_key(which(number, None), now).await.unwrap().unwrap();
        }
        assert_eq!(store.list_changed_keys(TOLD, now).await.unwrap().len(), 3);
        assert_eq!(store.list_changed_keys(TOLD / 4, now).await.unwrap(), [], "what is over for long is no news");
        store.close().await;
    })
    .await;
}
