//! It keeps no accounts or keys: tests of those have a database.

use std::time::Duration;

use async_trait::async_trait;
use management_api::store::{
    Account, AccountKeeping, CallbackCounts, CallbackOutbox, Claim, Claimed, CommitLog, Creation, DeadCallbacks,
    KeyKeeping, KnownAccount, Metering, NewAccount, NewKey, NewSession, PasswordChange, Revocation, Rotated, Rotation,
    Session, SessionKeeping, Settlement, SpentToken, StoreError, TokenHash, UsageQuery, WhichKey,
};
use shared::api_keys::{ApiKeyRow, ChangedKey, KeyUsage, KnownKey, SecretHash, UsageFlush};
use shared::callbacks::{DeadCallback, FailingHost};
use shared::commits::{Commit, CommitPosition};
use shared::config::Secret;
use shared::event::{Purchase, Timestamp};
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

    async fn find_account_by_id(&self, _: Uuid) -> Result<Option<KnownAccount>, StoreError> {
        not_kept()
    }

    async fn change_password(&self, _: &PasswordChange) -> Result<bool, StoreError> {
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

#[async_trait]
impl KeyKeeping for MemoryStore {
    async fn create_key(&self, _: &NewKey) -> Result<Creation, StoreError> {
        not_kept()
    }

    async fn find_key(&self, _: &SecretHash, _: Timestamp) -> Result<Option<KnownKey>, StoreError> {
        not_kept()
    }

    async fn list_keys(&self, _: Uuid) -> Result<Vec<ApiKeyRow>, StoreError> {
        not_kept()
    }

    async fn rotate_key(&self, _: &Rotation) -> Result<Rotated, StoreError> {
        not_kept()
    }

    async fn revoke_key(&self, _: WhichKey, _: Timestamp) -> Result<Option<Uuid>, StoreError> {
        not_kept()
    }

    async fn list_changed_keys(&self, _: Duration, _: Timestamp) -> Result<Vec<ChangedKey>, StoreError> {
        not_kept()
    }
}

#[async_trait]
impl Metering for MemoryStore {
    async fn add_usage(&self, _: &UsageFlush, _: Timestamp, _: Timestamp) -> Result<bool, StoreError> {
        not_kept()
    }

    async fn list_usage(&self, _: &UsageQuery) -> Result<Vec<KeyUsage>, StoreError> {
        not_kept()
    }
}

#[async_trait]
impl CommitLog for MemoryStore {
    async fn last_commits(&self) -> Result<CommitPosition, StoreError> {
        not_kept()
    }

    async fn list_commits(&self, _: &CommitPosition, _: u32) -> Result<Vec<Commit>, StoreError> {
        not_kept()
    }

    async fn forget_commits(&self, _: Duration) -> Result<u64, StoreError> {
        not_kept()
    }
}

#[async_trait]
impl CallbackOutbox for MemoryStore {
    async fn claim_callbacks(&self, _: Claim) -> Result<Claimed, StoreError> {
        not_kept()
    }

    async fn settle_callbacks(&self, _: &Settlement) -> Result<(), StoreError> {
        not_kept()
    }

    async fn list_callback_hosts(&self, _: Option<&str>, _: u32) -> Result<Vec<FailingHost>, StoreError> {
        not_kept()
    }

    async fn note_host_failed(&self, _: &str, _: &str, _: Duration) -> Result<FailingHost, StoreError> {
        not_kept()
    }

    async fn note_host_well(&self, _: &str) -> Result<bool, StoreError> {
        not_kept()
    }

    async fn list_dead_callbacks(&self, _: &DeadCallbacks) -> Result<Vec<DeadCallback>, StoreError> {
        not_kept()
    }

    async fn resend_callbacks(&self, _: &DeadCallbacks) -> Result<u64, StoreError> {
        not_kept()
    }

    async fn resend_callback(&self, _: &Purchase, _: &str) -> Result<(), StoreError> {
        not_kept()
    }

    async fn count_callbacks(&self) -> Result<CallbackCounts, StoreError> {
        not_kept()
    }

    async fn forget_callbacks(&self, _: Duration) -> Result<u64, StoreError> {
        not_kept()
    }
}
