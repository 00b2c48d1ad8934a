//! What accounts need of a database.

use async_trait::async_trait;
use shared::config::Secret;
use shared::event::Timestamp;
use uuid::Uuid;

use super::{Revocation, StoreError};

/// The most accounts of a page, and the one after them.
pub(super) const ACCOUNTS_MAX: u32 = 1001;

/// What accounts need of it.
#[async_trait]
pub trait AccountKeeping: Send + Sync + 'static {
    /// Keeps a new account. Gives whether it is kept: not, when its e-mail or its username stands for another one.
    async fn create_account(&self, account: &NewAccount) -> Result<bool, StoreError>;

    /// The account of an e-mail, by its key.
    async fn find_account(&self, email_key: &str) -> Result<Option<KnownAccount>, StoreError>;

    /// The account of an id.
    async fn find_account_by_id(&self, account_id: Uuid) -> Result<Option<KnownAccount>, StoreError>;

    /// Puts a stronger hash of the same password in the place of `old`, if that is still there.
    async fn replace_hash(
        &self,
        account_id: Uuid,
        old: &Secret<String>,
        new: &Secret<String>,
    ) -> Result<(), StoreError>;

    /// Puts the hash of another password in the place of the old one, if that is still there, and then ends and revokes all sessions
    /// of the account but one. Gives whether it was there.
    async fn change_password(&self, change: &PasswordChange) -> Result<bool, StoreError>;

    /// Makes an account an administrator's.
    async fn appoint_admin(&self, account_id: Uuid) -> Result<(), StoreError>;

    /// Deletes an account with its sessions, and revokes it. Gives whether it was there.
    async fn delete_account(&self, account_id: Uuid, revocation: Revocation) -> Result<bool, StoreError>;

    /// At most `limit` accounts, newest first, from the one after `after`.
    async fn list_accounts(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<Account>, StoreError>;
}

/// An account, as everybody who may see it sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id; ids ascend with time.
    pub account_id: Uuid,
    /// Its name.
    pub username: String,
    /// Its e-mail address.
    pub email: String,
    /// Whether it is an administrator's.
    pub is_admin: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An account that is to be kept.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// What is seen of it.
    pub account: Account,
    /// Its name as it is compared.
    pub username_key: String,
    /// Its e-mail address as it is compared.
    pub email_key: String,
    /// The hash of its password, with all that is needed to make it again.
    pub password_hash: Secret<String>,
}

/// An account that somebody wants to use.
#[derive(Clone, Debug)]
pub struct KnownAccount {
    /// What is seen of it.
    pub account: Account,
    /// The hash of its password.
    pub password_hash: Secret<String>,
}

/// Another password of an account.
#[derive(Clone, Debug)]
pub struct PasswordChange {
    /// Whose.
    pub account_id: Uuid,
    /// The hash of the old one.
    pub old_hash: Secret<String>,
    /// The hash of the new one.
    pub new_hash: Secret<String>,
    /// The session that does not end.
    pub goes_on: Uuid,
    /// When the others are revoked.
    pub revocation: Revocation,
}
