//! Dead letters that the database keeps: with their offset's move, once, untouched.

use management_api::letter::{DeadLetter, Original, Sending, borrowed};
use management_api::store::{Batch, RecordError, Redriven, Store};
use shared::event::PoisonReason;

use super::databases::on_each_database;
use super::fixtures::{INCARNATION, next_offset, step};

pub fn letter(offset: i64, value: &[u8]) -> DeadLetter {
    DeadLetter {
        original: Original { incarnation: INCARNATION.into(), partition: 0, offset, timestamp_ms: Some(1_700) },
        redrive: 0,
        key: Some(b"k\0\xff".to_vec()),
        value: Some(value.to_vec()),
        headers: vec![(b"caf\xe9".to_vec(), Some(b"\0".to_vec())), (b"empty".to_vec(), None)],
        reason: PoisonReason::NotJson,
        error: "not JSON: \0".to_owned(),
    }
}

fn batch(expected: i64, letters: &[DeadLetter]) -> Batch {
    let moves = vec![step(0, expected, expected + 1)];
    Batch { incarnation: INCARNATION.into(), moves, dead_letters: letters.to_vec(), ..Batch::default() }
}

async fn all(store: &dyn Store) -> Vec<DeadLetter> {
    let mut letters = Vec::new();
    let mut after = 0;
    loop {
        let page = store.list_dead_letters(after).await.unwrap();
        let Some(last) = page.last() else { return letters };
        after = last.number;
        letters.extend(page.into_iter().map(|kept| kept.letter));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_kept_untouched_and_with_its_offset_or_not_at_all() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let tombstone = DeadLetter { key: None, value: None, headers: Vec::new(), ..letter(1, b"") };
        store.record(&batch(0, &[letter(0, b"\xff\0broken"), tombstone.clone()])).await.unwrap();
        let fenced = store.record(&batch(0, &[letter(9, b"late")])).await;
        assert!(matches!(fenced, Err(RecordError::Fenced)), "{fenced:?}");
        assert_eq!(next_offset(&*store, 0).await, 1);
        let mut kept = all(&*store).await;
        kept.sort_by_key(|letter| letter.original.offset);
        let readable = |letter: DeadLetter| DeadLetter { error: "not JSON: \u{fffd}".to_owned(), ..letter };
        assert_eq!(kept, [readable(letter(0, b"\xff\0broken")), readable(tombstone)]);
        assert_eq!(store.count_dead_letters().await.unwrap(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_often_a_dead_letter_is_kept_it_is_one_and_the_first_value_stays() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let first = letter(0, b"first");
        store.record(&batch(0, &[first.clone(), first.clone()])).await.unwrap();
        let again = DeadLetter { redrive: 1, error: "of the second".to_owned(), ..letter(0, b"second") };
        store.record(&batch(1, &[again])).await.unwrap();
        assert_eq!(all(&*store).await[0].error, "not JSON: \u{fffd}", "it is that of another value");
        let same = DeadLetter { redrive: 2, error: "still".to_owned(), ..first };
        store.record(&batch(2, &[same])).await.unwrap();
        let kept = all(&*store).await;
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].value.as_deref(), kept[0].error.as_str()), (Some(b"first".as_slice()), "still"));
        // Another record at the same offset, after the log was cut, is another dead letter.
        let mut other = letter(0, b"other");
        other.original.timestamp_ms = None;
        store.record(&batch(3, &[other])).await.unwrap();
        assert_eq!(all(&*store).await.len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_out_from_being_sent_back_until_it_returns_in_whatever_order_that_is_written() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        for (offset, returns_first) in [(0, false), (1, true)] {
            let original = letter(offset, b"").original;
            let redriven = Redriven { original: original.clone(), number: 1 };
            let returned = batch(offset, &[DeadLetter { redrive: 1, ..letter(offset, b"poison") }]);
            if returns_first {
                store.record(&returned).await.unwrap();
                store.mark_redriven(std::slice::from_ref(&redriven)).await.unwrap();
            } else {
                store.mark_redriven(std::slice::from_ref(&redriven)).await.unwrap();
                assert!(store.find_redrives(&[original.id()]).await.unwrap()[0].is_redriven());
                assert_eq!(store.count_dead_letters().await.unwrap(), 0);
                assert_eq!(all(&*store).await.len(), 0, "the topic keeps it");
                store.record(&returned).await.unwrap();
            }
            let found = store.find_redrives(&[original.id()]).await.unwrap();
            assert_eq!((found[0].sent, found[0].returned, found[0].is_redriven()), (1, 1, false));
            let kept = store.list_dead_letters(0).await.unwrap().pop().unwrap();
            assert_eq!((found[0].kept, kept.letter.value.as_deref()), (true, Some(b"poison".as_slice())));
            store.mark_redriven(&[Redriven { number: 2, ..redriven }]).await.unwrap();
            assert!(store.find_redrives(&[original.id()]).await.unwrap()[0].is_redriven());
        }
        assert_eq!(store.count_dead_letters().await.unwrap(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_announced_is_known_by_its_content_and_of_several_returns_the_newest_counts() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let returned = |redrive: u32, value: &[u8]| DeadLetter { redrive, ..letter(0, value) };
        let sending = |letter: &DeadLetter| {
            let (key, value) = (letter.key.as_deref(), letter.value.as_deref());
            Sending::new(letter.original.id(), key, value, borrowed(&letter.headers))
        };
        let sendings = [sending(&letter(0, b"a")), sending(&letter(0, b"b"))];
        store.announce(&[sendings[0], sendings[0]]).await.unwrap();
        store.announce(&sendings[..1]).await.unwrap();
        assert_eq!(store.find_announced(&sendings).await.unwrap(), sendings[..1]);
        assert_eq!(store.find_announced(&[sending(&letter(1, b"a"))]).await.unwrap(), []);
        store.announce(&[]).await.unwrap();

        let original = letter(0, b"").original;
        store.mark_redriven(&[Redriven { original: original.clone(), number: 2 }]).await.unwrap();
        store.record(&batch(0, &[returned(2, b"b"), returned(1, b"a")])).await.unwrap();
        let found = store.find_redrives(&[original.id()]).await.unwrap();
        assert_eq!((found[0].sent, found[0].returned), (2, 2));
        assert_eq!(all(&*store).await.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_sending_is_numbered_behind_all_that_is_known_and_no_return_claims_more() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let original = letter(0, b"").original;
        let known = async || store.find_redrives(&[original.id()]).await.unwrap().remove(0);
        // It was sent, and nobody lived to write that down.
        store.record(&batch(0, &[DeadLetter { redrive: 1_000, ..letter(0, b"poison") }])).await.unwrap();
        assert_eq!((known().await.sent, known().await.returned, known().await.next()), (0, 1, 2));
        assert!(!known().await.is_redriven());
        // Sent again it is out, and back, whichever is written first.
        store.record(&batch(1, &[DeadLetter { redrive: 2, ..letter(0, b"poison") }])).await.unwrap();
        store.mark_redriven(&[Redriven { original: original.clone(), number: 2 }]).await.unwrap();
        assert_eq!((known().await.sent, known().await.returned), (2, 2));
        store.mark_redriven(&[Redriven { original: original.clone(), number: 3 }]).await.unwrap();
        assert!(known().await.is_redriven());
        store.record(&batch(2, &[DeadLetter { redrive: 3, ..letter(0, b"poison") }])).await.unwrap();
        store.record(&batch(3, &[DeadLetter { redrive: 2, ..letter(0, b"poison") }])).await.unwrap();
        assert_eq!((known().await.sent, known().await.returned, known().await.next()), (3, 3, 4));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_before_it_is_sent_back_stays_as_it_was() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let original = letter(0, b"").original;
        for value in [b"first".as_slice(), b"second"] {
            store.keep(&letter(0, value)).await.unwrap();
        }
        assert_eq!(store.count_dead_letters().await.unwrap(), 1);
        store.mark_redriven(&[Redriven { original, number: 1 }]).await.unwrap();
        store.record(&batch(0, &[DeadLetter { redrive: 1, ..letter(0, b"worse") }])).await.unwrap();
        let kept = all(&*store).await;
        assert_eq!((kept.len(), kept[0].value.as_deref()), (1, Some(b"first".as_slice())));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_end_before_they_outgrow_memory() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let large = vec![b' '; 3_000_000];
        for offset in 0..5 {
            store.record(&batch(offset, &[letter(offset, &large)])).await.unwrap();
        }
        let small: Vec<_> = (100..700).map(|offset| letter(offset, b"small")).collect();
        store.record(&batch(5, &small)).await.unwrap();
        let page = store.list_dead_letters(0).await.unwrap();
        assert_eq!(page.len(), 2, "two of three megabytes");
        assert!(store.list_dead_letters(5).await.unwrap().len() < 600);
        assert_eq!(all(&*store).await.len(), 605);
    })
    .await;
}
