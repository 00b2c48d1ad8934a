//! A database that cannot do what is asked of it says so before anything is recorded.

use std::sync::Arc;

use management_api::store::{RecordError, Store};

use super::accounts::{account, revoked_at, second};
use super::databases::{administer, on_each_database, on_postgres, on_postgres_made_with, on_sqlite, store_at};
use super::fixtures::{INCARNATION, batch, purchase};
use super::sign_ins::session;

async fn unfit(store: &dyn Store) -> String {
    store.check().await.expect_err("the database is not fit").to_string()
}

/// A role that may connect and nothing more, and a store that does so.
async fn role_of(url: &str) -> (String, Arc<dyn Store>) {
    let role = format!("role_{}", uuid::Uuid::new_v4().simple());
    administer(url, format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
    let (_, server) = url.split_once('@').unwrap();
    let store = store_at(&format!("postgres://{role}:secret@{server}"));
    (role, store)
}

async fn drop_role(url: &str, role: &str, store: &dyn Store) {
    store.close().await;
    administer(url, format!("DROP OWNED BY {role}")).await;
    administer(url, format!("DROP ROLE {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_its_tables_is_fit_and_one_without_is_not() {
    on_each_database(|database| async move {
        let store = database.store();
        assert!(store.check().await.is_err());
        store.migrate().await.unwrap();
        store.check().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_encoding_is_told_and_nothing_is_recorded() {
    let latin = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    on_postgres_made_with(latin, |database| async move {
        let store = database.store();
        assert!(unfit(&*store).await.contains("LATIN1"), "{}", unfit(&*store).await);
        let error = store.migrate().await.unwrap_err().to_string();
        assert!(error.contains("LATIN1"), "{error}");
        assert!(store.next_offsets(INCARNATION, &[0]).await.is_err(), "whoever does not know where to begin does not");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_privileges_are_named_and_the_role_is_not() {
    on_postgres(|database| async move {
        database.migrated().await;
        let (role, store) = role_of(&database.url).await;
        let reading = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO";
        administer(&database.url, format!("{reading} {role}")).await;
        let reason = unfit(&*store).await;
        assert!(reason.contains("DELETE on accounts") && !reason.contains(&role), "{reason}");
        let writing = "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO";
        administer(&database.url, format!("{writing} {role}")).await;
        store.check().await.unwrap();
        // The tables are there: whoever may only use them does not fail to make them.
        store.migrate().await.unwrap();
        store.record(&batch(0, 0, [purchase(1)])).await.unwrap();
        assert!(store.create_account(&account(1, "ann")).await.unwrap());
        for session in [2, 3].map(|number| session(number, 1, second(0))) {
            assert!(store.begin_session(&session).await.unwrap());
            store.revoke_session(session.session_id, revoked_at(1)).await.unwrap();
        }
        assert!(store.delete_account(uuid::Uuid::from_u128(1), revoked_at(5000)).await.unwrap());
        let public = "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC";
        administer(&database.url, public.to_owned()).await;
        assert!(unfit(&*store).await.contains("EXECUTE on append_commit"));
        let refused = store.record(&batch(0, 1, [purchase(2)])).await;
        assert!(matches!(refused, Err(RecordError::Unavailable(_))), "{refused:?}");
        drop_role(&database.url, &role, &*store).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_make_the_tables_is_told_so_and_not_to_wait() {
    on_postgres(|database| async move {
        let (role, store) = role_of(&database.url).await;
        let reason = unfit(&*store).await;
        assert!(reason.contains("no table") && reason.contains("CREATE on the schema"), "{reason}");
        assert!(store.migrate().await.is_err());
        administer(&database.url, format!("GRANT CREATE ON SCHEMA public TO {role}")).await;
        assert!(unfit(&*store).await.ends_with(" yet"), "{}", unfit(&*store).await);
        store.migrate().await.unwrap();
        store.check().await.unwrap();
        drop_role(&database.url, &role, &*store).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_tables_of_another_role_are_told() {
    on_postgres(|database| async move {
        database.migrated().await;
        let (role, store) = role_of(&database.url).await;
        administer(&database.url, format!("GRANT ALL ON SCHEMA public TO {role}")).await;
        administer(&database.url, format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")).await;
        store.check().await.unwrap();
        administer(&database.url, "DROP TABLE skipped_records".to_owned()).await;
        let reason = unfit(&*store).await;
        assert!(reason.contains("no table skipped_records"), "{reason}");
        assert!(reason.contains("belongs to another role") && !reason.contains(&role), "{reason}");
        drop_role(&database.url, &role, &*store).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_told_and_one_that_is_put_back_is_used() {
    on_sqlite(|database| async move {
        let store = database.migrated().await;
        store.close().await;
        let file = database.url.strip_prefix("sqlite:").unwrap();
        let good = std::fs::read(file).unwrap();
        std::fs::write(file, b"this is no database, and it is long enough to be looked at".repeat(100)).unwrap();
        let store = database.store();
        assert!(unfit(&*store).await.contains("damaged"), "{}", unfit(&*store).await);
        let refused = store.record(&batch(0, 0, [purchase(1)])).await;
        assert!(matches!(refused, Err(RecordError::Unavailable(_))), "{refused:?}");
        std::fs::write(file, good).unwrap();
        store.check().await.unwrap();
        store.record(&batch(0, 0, [purchase(1)])).await.unwrap();
    })
    .await;
}
