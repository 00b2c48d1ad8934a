//! API keys: found by their secrets as long as those count, and what is told of their changes.

use management_api::store::{Creation, NewKey, Rotation, Store, WhichKey};
use shared::api_keys::{ApiKeySecret, ChangedKey, Scope, SecretHash};
use uuid::Uuid;

use super::accounts::{account, revoked_at, second};
use super::databases::on_each_database;

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
        forgets_before: second(-1000),
    }
}

fn which(number: u128, account: Option<u128>) -> WhichKey {
    WhichKey { key_id: Uuid::from_u128(number), account_id: account.map(Uuid::from_u128) }
}

async fn counts(store: &dyn Store, hash: &SecretHash, at: i64) -> bool {
    store.find_key(hash, second(at)).await.unwrap().is_some()
}

async fn changed(store: &dyn Store, since: i64) -> Vec<ChangedKey> {
    store.list_changed_keys(second(since)).await.unwrap()
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
        assert_eq!(changed(&*store, -10).await, [], "nobody can have known it before");
        assert_eq!(store.create_key(&new_key(6, 2, other)).await.unwrap(), Creation::NoAccount);
        let listed = store.list_keys(key.account_id).await.unwrap();
        let [row] = listed.as_slice() else { panic!("{listed:?}") };
        assert_eq!((row.name.as_str(), row.secret_start.as_str(), row.last_used_at), ("key 5", "pak_0000", None));
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_secrets_count_while_one_follows_the_other_and_no_third() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.create_account(&account(1, "ann")).await.unwrap();
        let secrets = [hash(), hash(), hash()];
        store.create_key(&new_key(5, 1, secrets[0])).await.unwrap();
        let rotate = async |secret: SecretHash, at: i64, account: u128| {
            let (at, old_ends_at) = (second(at), second(at + 100));
            let secret_start = "pak_1111".to_owned();
            let rotation =
                Rotation { which: which(5, Some(account)), secret_hash: secret, secret_start, at, old_ends_at };
            store.rotate_key(&rotation).await.unwrap()
        };
        assert_eq!(rotate(secrets[1], 10, 2).await, None, "somebody else's");
        assert_eq!(rotate(secrets[1], 10, 1).await, Some(Uuid::from_u128(1)));
        for (at, expected) in [(10, [true, true]), (109, [true, true]), (110, [false, true])] {
            assert_eq!(
                [counts(&*store, &secrets[0], at).await, counts(&*store, &secrets[1], at).await],
                expected,
                "{at}"
            );
        }
        rotate(secrets[2], 20, 1).await.unwrap();
        assert!(!counts(&*store, &secrets[0], 21).await, "two at most");
        assert!(counts(&*store, &secrets[1], 21).await && counts(&*store, &secrets[2], 21).await);
        assert_eq!(changed(&*store, 20).await, [ChangedKey { key_id: Uuid::from_u128(5), version: 2 }]);
        assert_eq!(changed(&*store, 21).await, []);
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
            changed(&*store, 0).await.iter().map(|key| (key.key_id.as_u128(), key.version)).collect();
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
