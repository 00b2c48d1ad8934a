//! A fresh database for each case.

use std::sync::Arc;
use std::time::Duration;

use management_api::store::{DatabaseUrl, Store, StoreConfig, connect};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

/// An empty database that only one case uses.
pub struct Database {
    pub url: String,
}

impl Database {
    /// A store on it; each call is another replica.
    pub fn store(&self) -> Arc<dyn Store> {
        store_at(&self.url)
    }

    /// A store on it, ready for use.
    pub async fn migrated(&self) -> Arc<dyn Store> {
        let store = self.store();
        store.migrate().await.expect("the tables are made");
        store
    }
}

pub fn store_at(url: &str) -> Arc<dyn Store> {
    let url: DatabaseUrl = url.parse().expect("a database URL");
    let acquire_timeout = Duration::from_secs(1);
    connect(&StoreConfig { url, record_connections: 2, read_connections: 4, acquire_timeout })
}

/// Runs a case on an SQLite file and, where there is one, on PostgreSQL.
pub async fn on_each_database<C, F>(case: C)
where
    C: Fn(Arc<Database>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    on_sqlite(&case).await;
    on_postgres(&case).await;
}

pub async fn on_sqlite<C, F>(case: C)
where
    C: Fn(Arc<Database>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let folder = TempDir::new().expect("a folder");
    let url = format!("sqlite:{}/made/with/it/purchases.db", folder.path().display());
    case(Arc::new(Database { url })).await;
}

pub async fn on_postgres<C, F>(case: C)
where
    C: Fn(Arc<Database>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    on_postgres_made_with("", case).await;
}

/// The same on a database of a special making.
pub async fn on_postgres_made_with<C, F>(options: &str, case: C)
where
    C: Fn(Arc<Database>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let Some(server) = postgres_url() else { return };
    let name = format!("store_contract_{}", Uuid::new_v4().simple());
    administer(&server, format!("CREATE DATABASE {name} {options}")).await;
    let url = url_of(&server, &name);
    // A task of its own, so that a case that panics still has its database removed.
    let ended = tokio::spawn(case(Arc::new(Database { url }))).await;
    administer(&server, format!("DROP DATABASE {name} WITH (FORCE)")).await;
    if let Err(error) = ended {
        std::panic::resume_unwind(error.into_panic());
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no settings; this says where its database is")]
fn postgres_url() -> Option<String> {
    std::env::var("TEST_DATABASE_URL").ok()
}

fn url_of(server: &str, database: &str) -> String {
    let (address, parameters) = server.split_once('?').unwrap_or((server, ""));
    let (address, _) = address.rsplit_once('/').expect("a URL that names a database");
    format!("{address}/{database}?{parameters}")
}

/// One statement, as the user of the test.
pub async fn administer(url: &str, statement: String) {
    let mut connection = PgConnection::connect(url).await.expect("PostgreSQL answers");
    connection.execute(AssertSqlSafe(statement)).await.expect("the statement runs");
}
