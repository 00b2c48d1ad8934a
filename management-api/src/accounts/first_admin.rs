//! The first administrator, whom a setting names.

use std::time::Duration;

use uuid::Uuid;

use super::audit::{self, Actor, By, Event};
use super::passwords::Verdict;
use super::{AccountError, Accounts, Email, Password, Registration, Username};
use crate::store::KnownAccount;

/// The pause before the next try.
const PAUSE: Duration = Duration::from_millis(500);
/// Stands in the audit log where requests have their id.
const AT_START: &str = "start";

/// Who administers.
#[derive(Clone, Debug)]
pub struct FirstAdmin {
    /// Whose account it is.
    pub email: Email,
    /// What opens it when it is made. An account that is there already keeps its own.
    pub password: Password,
}

impl Accounts {
    /// Sees to it that the administrator is there, however long the database is away.
    pub async fn ensure_first_admin(&self, admin: &FirstAdmin) {
        let mut told = false;
        loop {
            match self.try_first_admin(admin).await {
                Ok(()) => return,
                Err(error) if told => tracing::debug!(%error, "the first administrator is still not made"),
                Err(error) => {
                    told = true;
                    tracing::warn!(%error, "the first administrator cannot be made yet; trying on");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_first_admin(&self, admin: &FirstAdmin) -> Result<(), AccountError> {
        let known = match self.store.find_account(&admin.email.key).await? {
            Some(known) => known,
            None => match self.create_first_admin(admin).await? {
                Some(known) => known,
                // Another replica was first, or the name is somebody's: looked at again.
                None => return Err(AccountError::Taken),
            },
        };
        if known.account.is_admin {
            return Ok(());
        }
        // Anybody can make an account with an address that is not theirs: only who knows the password is who was meant.
        let turn = self.passwords.turn().await.ok_or(AccountError::Busy)?;
        let verdict = turn.verify(admin.password.clone(), Some(known.password_hash)).await?;
        if matches!(verdict, Verdict::Wrong) {
            let account_id = known.account.account_id;
            tracing::error!(%account_id, "the account of ADMIN_EMAIL has another password than ADMIN_PASSWORD: it stays as it is");
            return Ok(());
        }
        self.store.appoint_admin(known.account.account_id).await?;
        let by = By { actor: Actor::Service, request_id: AT_START };
        audit::tell(Event::AdminAppointed, Some(known.account.account_id), by);
        Ok(())
    }

    /// The account, if it could be made.
    async fn create_first_admin(&self, admin: &FirstAdmin) -> Result<Option<KnownAccount>, AccountError> {
        let unique = format!("admin-{}", Uuid::new_v4().simple());
        for name in ["admin", &unique] {
            let Ok(username) = Username::parse(name) else { continue };
            let (email, password) = (admin.email.clone(), admin.password.clone());
            match self.create(Registration { username, email, password }, AT_START).await {
                Ok(_) => return Ok(self.store.find_account(&admin.email.key).await?),
                Err(AccountError::Taken) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
