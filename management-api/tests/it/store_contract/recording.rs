//! Rows, totals and offsets move together; nothing is stored twice.

use chrono::DateTime;
use management_api::store::{Batch, RecordError};
use rust_decimal::Decimal;
use shared::event::{Purchase, Timestamp};
use shared::price::Price;
use uuid::Uuid;

use super::databases::on_each_database;
use super::fixtures::{INCARNATION, all_ids, batch, next_offset, price, purchase, step, totals};

#[tokio::test(flavor = "multi_thread")]
async fn rows_totals_and_offsets_move_together() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        assert_eq!(next_offset(&*store, 3).await, 0);
        let recorded = store.record(&batch(3, 0, [purchase(1), purchase(2)])).await.unwrap();
        assert_eq!((recorded.inserted, recorded.duplicates), (2, 0));
        assert_eq!(next_offset(&*store, 3).await, 2);
        assert_eq!(totals(&*store, "alice").await, (2, "20".to_owned()));
        let found = store.find_purchases(&[purchase(1).purchase_id, Uuid::max()]).await.unwrap();
        assert_eq!(found, [Purchase { recorded_at: Some(recorded.recorded_at), ..purchase(1) }]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_several_partitions_in_any_order_moves_all_of_them() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let rows = [5, 3, 1].map(purchase);
        let moves = vec![step(2, 0, 7), step(0, 0, 1), step(1, 0, 4)];
        store
            .record(&Batch { incarnation: INCARNATION.into(), moves, rows: rows.into(), ..Batch::default() })
            .await
            .unwrap();
        for (partition, next) in [(0, 1), (1, 4), (2, 7)] {
            assert_eq!(next_offset(&*store, partition).await, next);
        }
        assert_eq!(totals(&*store, "alice").await, (3, "30".to_owned()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_move_without_rows_when_all_records_were_poison() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let moves = vec![step(0, 0, 9)];
        let recorded =
            store.record(&Batch { incarnation: INCARNATION.into(), moves, ..Batch::default() }).await.unwrap();
        assert_eq!((recorded.inserted, recorded.duplicates), (0, 0));
        assert_eq!(next_offset(&*store, 0).await, 9);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_recorded_stays_and_its_repeat_counts_nowhere() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let first = store.record(&batch(0, 0, [purchase(1)])).await.unwrap();
        let later = Timestamp::from_millis(1_800_000_000_000).unwrap();
        let repeat = Purchase { timestamp: later, price: price("10.00"), ..purchase(1) };
        let recorded = store.record(&batch(1, 0, [purchase(2), repeat])).await.unwrap();
        assert_eq!((recorded.inserted, recorded.duplicates), (1, 1));
        assert_eq!(next_offset(&*store, 1).await, 2);
        assert_eq!(totals(&*store, "alice").await, (2, "20".to_owned()));
        let found = store.find_purchases(&[purchase(1).purchase_id]).await.unwrap();
        assert_eq!(found, [Purchase { recorded_at: Some(first.recorded_at), ..purchase(1) }]);
        let all_repeats = store.record(&batch(1, 2, [purchase(1), purchase(2)])).await.unwrap();
        assert_eq!((all_repeats.inserted, all_repeats.duplicates), (0, 2));
        assert_eq!(next_offset(&*store, 1).await, 4);
    })
    .await;
}

/// Once there were repeats, they are looked for beforehand: nothing but the way may differ.
#[tokio::test(flavor = "multi_thread")]
async fn repeats_and_conflicts_after_repeats_are_found_all_the_same() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.record(&batch(0, 0, [purchase(1), purchase(2)])).await.unwrap();
        for expected in [2, 4, 6] {
            let recorded = store.record(&batch(0, expected, [purchase(2), purchase(1)])).await.unwrap();
            assert_eq!((recorded.inserted, recorded.duplicates), (0, 2));
        }
        let other = Purchase { price: price("11"), ..purchase(2) };
        match store.record(&batch(0, 8, [purchase(1), other.clone(), purchase(3)])).await {
            Err(RecordError::Conflict(indexes)) => assert_eq!(indexes, [1]),
            unexpected => panic!("{unexpected:?}"),
        }
        let outdated = store.record(&batch(0, 6, [other])).await;
        assert!(matches!(outdated, Err(RecordError::Fenced)), "who was replaced decides nothing: {outdated:?}");
        let recorded = store.record(&batch(0, 8, [purchase(1), purchase(3)])).await.unwrap();
        assert_eq!((recorded.inserted, recorded.duplicates), (1, 1));
        let recorded = store.record(&batch(0, 10, [purchase(4)])).await.unwrap();
        assert_eq!((recorded.inserted, recorded.duplicates), (1, 0));
        assert_eq!(totals(&*store, "alice").await, (4, "40".to_owned()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_stored_with_other_content_is_a_conflict_and_nothing_is_written() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.record(&batch(0, 0, [4, 5, 6, 7].map(purchase))).await.unwrap();
        let other_price = Purchase { price: price("10.0001"), ..purchase(7) };
        let other_user = Purchase { userid: "bob".to_owned(), ..purchase(5) };
        let other_name = Purchase { username: "alice".to_owned(), ..purchase(4) };
        let refused = batch(0, 4, [other_price, purchase(9), purchase(6), other_user, purchase(8), other_name]);
        match store.record(&refused).await {
            Err(RecordError::Conflict(indexes)) => assert_eq!(indexes, [0, 3, 5]),
            other => panic!("{other:?}"),
        }
        assert_eq!(next_offset(&*store, 0).await, 4);
        assert_eq!(all_ids(&*store, None, 10).await, [7, 6, 5, 4]);
        assert_eq!(totals(&*store, "alice").await, (4, "40".to_owned()));
        assert_eq!(totals(&*store, "bob").await.0, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_database_can_hold_is_rejected_and_not_retried() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let nul = Purchase { userid: "a\0b".to_owned(), ..purchase(1) };
        let year_138072 = DateTime::from_timestamp_millis(i64::from(u32::MAX) * 1_000_000).unwrap();
        let far = Purchase { timestamp: Timestamp::new(year_138072), ..purchase(1) };
        for rows in [vec![nul], vec![far], vec![purchase(1), purchase(2), purchase(1)]] {
            let refused = store.record(&batch(0, 0, rows)).await;
            assert!(matches!(refused, Err(RecordError::Rejected(_))), "{refused:?}");
        }
        assert_eq!(next_offset(&*store, 0).await, 0);
        assert_eq!(all_ids(&*store, None, 10).await, [0; 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_are_exact_to_the_last_digit() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let highest = Purchase { price: price("999999999999999.9999"), ..purchase(0) };
        let lowest = Purchase { price: price("0.0001"), ..purchase(0) };
        let mut expected = Decimal::ZERO;
        for round in 0..20_u32 {
            let numbers = round * 1000..(round + 1) * 1000;
            let purchases: Vec<Purchase> = numbers
                .map(|number| Purchase {
                    purchase_id: Uuid::from_u128(u128::from(number)),
                    ..if number % 3 == 0 { lowest.clone() } else { highest.clone() }
                })
                .collect();
            expected += purchases.iter().map(|purchase| purchase.price.decimal()).sum::<Decimal>();
            store.record(&batch(0, i64::from(round) * 1000, purchases)).await.unwrap();
        }
        assert_eq!(totals(&*store, "alice").await, (20_000, expected.normalize().to_string()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_prices_of_every_kind_come_back_as_they_were() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let names = [
            "Ωmega 漢字 👩‍💻",
            "é",
            "e\u{301}",
            "'; DROP TABLE purchases; --",
            "\\N {\"a\": [null]}",
            "🦀".repeat(256).as_str(),
        ]
        .map(str::to_owned);
        let prices = ["0.0001", "19.90", "999999999999999.9999", "1e14", "100", "7"].map(price);
        let rows: Vec<Purchase> = (1..)
            .zip(names.into_iter().zip(prices))
            .map(|(number, (name, price)): (u32, (String, Price))| Purchase {
                userid: name.clone(),
                username: name.chars().rev().collect(),
                price,
                ..purchase(number)
            })
            .collect();
        let recorded = store.record(&batch(0, 0, rows.clone())).await.unwrap();
        for row in rows {
            let user = store.list_user_purchases(&row.userid, 10).await.unwrap();
            assert_eq!(user.count, 1);
            assert_eq!(user.total_spent.to_string(), row.price.to_string());
            assert_eq!(user.purchases, [Purchase { recorded_at: Some(recorded.recorded_at), ..row }]);
        }
    })
    .await;
}
