//! Newest first, page by page, with exact totals.

use management_api::store::{Cursor, PageQuery};
use shared::event::Purchase;
use uuid::Uuid;

use super::databases::on_each_database;
use super::fixtures::{all_ids, batch, price, purchase};

#[tokio::test(flavor = "multi_thread")]
async fn newest_first_and_at_the_same_time_by_id() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let at = |timestamp_of: u32, id: u128| Purchase { purchase_id: Uuid::from_u128(id), ..purchase(timestamp_of) };
        // The ids' order is that of all 128 bits, not of the text's first digit or of a signed number.
        let newest = [at(9, 1), at(5, u128::MAX), at(5, u128::MAX / 2), at(5, 0xa0), at(5, 0x9f), at(1, u128::MAX - 1)];
        let mut shuffled = newest.clone();
        shuffled.swap(0, 3);
        shuffled.swap(1, 5);
        store.record(&batch(0, 0, shuffled)).await.unwrap();
        let expected = newest.map(|purchase| purchase.purchase_id.as_u128());
        for limit in 1..=7 {
            assert_eq!(all_ids(&*store, None, limit).await, expected);
            assert_eq!(all_ids(&*store, Some("alice"), limit).await, expected);
        }
        let user = store.list_user_purchases("alice", 1000).await.unwrap();
        assert_eq!(user.purchases.iter().map(|purchase| purchase.purchase_id.as_u128()).collect::<Vec<_>>(), expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_cover_everything_once_while_rows_arrive() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.record(&batch(0, 0, (1..=100).map(purchase))).await.unwrap();
        let mut query = PageQuery { limit: 7, ..PageQuery::default() };
        let mut seen = Vec::new();
        let mut next = 101;
        loop {
            let page = store.list_purchases(&query).await.unwrap();
            seen.extend(page.purchases.iter().map(|purchase| purchase.purchase_id.as_u128()));
            // Newer ones, which belong before the first page.
            store.record(&batch(0, i64::from(next) - 1, (next..next + 3).map(purchase))).await.unwrap();
            next += 3;
            let Some(cursor) = page.next_cursor else { break };
            query.cursor = Some(Cursor::parse(&cursor).unwrap());
        }
        assert_eq!(seen, (1..=100).rev().collect::<Vec<u128>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_page_says_so_even_when_it_is_full() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.record(&batch(0, 0, (1..=4).map(purchase))).await.unwrap();
        let page = |limit| PageQuery { limit, ..PageQuery::default() };
        assert!(store.list_purchases(&page(3)).await.unwrap().next_cursor.is_some());
        assert!(store.list_purchases(&page(4)).await.unwrap().next_cursor.is_none());
        assert!(store.list_purchases(&page(5)).await.unwrap().next_cursor.is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_pages_hold_nobody_elses_purchases() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let users = ["alice", "bob", "Alice", "alice "];
        let purchases = (0..40_u32).map(|number| Purchase {
            userid: users[usize::try_from(number % 4).unwrap()].to_owned(),
            price: price(&format!("{}.5", number + 1)),
            ..purchase(number)
        });
        store.record(&batch(0, 0, purchases)).await.unwrap();
        let bobs: Vec<u128> = (0..40).rev().filter(|number| number % 4 == 1).collect();
        assert_eq!(all_ids(&*store, Some("bob"), 3).await, bobs);
        let user = store.list_user_purchases("bob", 4).await.unwrap();
        assert_eq!(user.userid, "bob");
        assert_eq!((user.count, user.total_spent.to_string().as_str()), (10, "205"));
        let ids: Vec<u128> = user.purchases.iter().map(|purchase| purchase.purchase_id.as_u128()).collect();
        assert_eq!(ids, bobs[..4]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_add_up_over_partitions() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        for partition in 0..10_i32 {
            let numbers = partition.unsigned_abs() * 10..partition.unsigned_abs() * 10 + 3;
            let purchases = numbers.map(|number| Purchase { price: price("0.1"), ..purchase(number) });
            store.record(&batch(partition, 0, purchases)).await.unwrap();
        }
        let user = store.list_user_purchases("alice", 2).await.unwrap();
        assert_eq!((user.purchases.len(), user.count, user.total_spent.to_string().as_str()), (2, 30, "3"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_user_has_bought_nothing() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.record(&batch(0, 0, [purchase(1)])).await.unwrap();
        // The last one is a text that PostgreSQL does not even take.
        for userid in ["nobody", "", "a\0b"] {
            let user = store.list_user_purchases(userid, 1000).await.unwrap();
            assert_eq!((user.userid.as_str(), user.purchases.len(), user.count), (userid, 0, 0));
            assert_eq!(user.total_spent.to_string(), "0");
            assert_eq!(all_ids(&*store, Some(userid), 10).await, [0; 0]);
        }
        assert_eq!(store.find_purchases(&[]).await.unwrap(), []);
    })
    .await;
}
