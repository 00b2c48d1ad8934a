//! Prices keep every digit from the request to SQL and back.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::doors::{escape, somebody};
use crate::pipeline::open;

/// What a user has, with numbers as their digits.
#[derive(Deserialize)]
struct Purchases<'a> {
    #[serde(borrow)]
    total_spent: &'a RawValue,
    #[serde(borrow)]
    purchases: Vec<Priced<'a>>,
}

#[derive(Deserialize)]
struct Priced<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
}

/// Digits without a fraction's trailing zeros: `19.90` equals `19.9`.
fn plain(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

#[tokio::test]
async fn every_notation_of_a_price_keeps_its_value() {
    let doors = open().await;
    for (sent, stored) in [
        ("999999999999999.9999", "999999999999999.9999"),
        ("0.0001", "0.0001"),
        ("\"19.90\"", "19.9"),
        ("19.90", "19.9"),
        ("1e3", "1000"),
        ("1.00000", "1"),
        ("1.5E-3", "0.0015"),
        ("123456789012345", "123456789012345"),
        ("0.1", "0.1"),
        ("\"999999999999999.9999\"", "999999999999999.9999"),
    ] {
        let userid = somebody("price");
        doors.buy(&userid, sent).await;
        let answer = doors.purchases_of(&userid, 1).await;
        let read: Purchases<'_> = serde_json::from_slice(&answer.body).expect("purchases");
        assert_eq!(plain(read.purchases[0].price.get()), stored, "{sent}");
        assert_eq!(plain(read.total_spent.get()), stored, "{sent}");
    }
}

#[tokio::test]
async fn sums_are_exact_where_a_float_would_round() {
    let doors = open().await;
    let userid = somebody("sum");
    let prices = ["999999999999999.9999", "999999999999999.9999", "0.0001", "0.1", "0.2", "0.0001"];
    for price in prices {
        doors.buy(&userid, price).await;
    }
    let answer = doors.purchases_of(&userid, 6).await;
    let read: Purchases<'_> = serde_json::from_slice(&answer.body).expect("purchases");
    assert_eq!(plain(read.total_spent.get()), "2000000000000000.3");
    let direct = doors.get_management(&format!("/users/{}/purchases?limit=1", escape(&userid))).await;
    let read: Purchases<'_> = serde_json::from_slice(&direct.body).expect("purchases");
    assert_eq!(plain(read.total_spent.get()), "2000000000000000.3");
    assert_eq!(read.purchases.len(), 1, "the sum also covers what is past the limit");
}
