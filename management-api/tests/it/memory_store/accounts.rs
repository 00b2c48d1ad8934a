//! It keeps no accounts: tests of those have a database.

use async_trait::async_trait;
use management_api::store::{
    Account, AccountKeeping, KnownAccount, NewAccount, NewSession, Revocation, Session, SessionKeeping, SpentToken,
    StoreError, TokenHash,
};
use shared::config::Secret;
use shared::event::Timestamp;
use uuid::Uuid;

use super::MemoryStore;

fn not_kept<T>() -> Result<T, StoreError> {
    Err(StoreError("not part of these tests".to_owned()))
}

#[async_trait]
impl AccountKeeping for MemoryStore {
    async fn create_account(&self, _: &NewAccount) -> Result<bool, StoreError> {
        not_kept()
    }

    async fn find_account(&self, _: &str) -> Result<Option<KnownAccount>, StoreError> {
        not_kept()
    }

    async fn replace_hash(&self, _: Uuid, _: &Secret<String>, _: &Secret<String>) -> Result<(), StoreError> {
        not_kept()
    }

    async fn appoint_admin(&self, _: Uuid) -> Result<(), StoreError> {
        not_kept()
    }

    async fn delete_account(&self, _: Uuid, _: Revocation) -> Result<bool, StoreError> {
        not_kept()
    }

    async fn list_accounts(&self, _: Option<Uuid>, _: u32) -> Result<Vec<Account>, StoreError> {
        not_kept()
    }
}

#[async_trait]
impl SessionKeeping for MemoryStore {
    async fn begin_session(&self, _: &NewSession) -> Result<bool, StoreError> {
        not_kept()
    }

    async fn find_session(&self, _: Uuid, _: &TokenHash, _: Timestamp) -> Result<Option<Session>, StoreError> {
        not_kept()
    }

    async fn spend_token(&self, _: &SpentToken) -> Result<bool, StoreError> {
        not_kept()
    }

    async fn revoke_session(&self, _: Uuid, _: Revocation) -> Result<(), StoreError> {
        not_kept()
    }

    async fn list_revoked(&self, _: Timestamp) -> Result<Vec<Uuid>, StoreError> {
        not_kept()
    }
}
