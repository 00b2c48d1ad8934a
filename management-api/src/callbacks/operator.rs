//! What operators do: look at what was given up, send it again, switch hosts on.

use shared::callbacks::FailingHost;
use uuid::Uuid;

use super::failing;
use crate::store::{CallbackOutbox, DeadCallbacks, Reading, StoreError};

/// Callbacks that are made due again at once, and in all by one request.
const RESENT_AT_ONCE: u32 = 1_000;
const RESENT_MAX: u64 = 20_000;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// It is not there.
    #[error("{0}")]
    NotFound(&'static str),
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes one purchase's callback due again, whatever became of it.
///
/// # Errors
/// When the purchase is not recorded or asks for no callback, or the database does not answer.
pub async fn resend_one(
    purchases: &dyn Reading,
    outbox: &dyn CallbackOutbox,
    purchase_id: Uuid,
) -> Result<(), OperatorError> {
    let found = purchases.find_purchases(&[purchase_id]).await?.pop();
    let purchase = found.ok_or(OperatorError::NotFound("no purchase with this id is recorded"))?;
    let Some(url) = &purchase.callback_url else {
        return Err(OperatorError::NotFound("this purchase asks for no callback"));
    };
    outbox.resend_callback(&purchase, url.host()).await?;
    tracing::info!(%purchase_id, "a callback is sent again, an operator asks for it");
    Ok(())
}

/// Makes dead callbacks due again, many at once. Gives how many, and whether that is all of them.
///
/// # Errors
/// When the database does not answer; some may be due again all the same.
pub async fn resend_dead(outbox: &dyn CallbackOutbox, which: &DeadCallbacks) -> Result<(u64, bool), StoreError> {
    let (page, mut resent) = (DeadCallbacks { limit: RESENT_AT_ONCE, ..which.clone() }, 0);
    loop {
        let found = outbox.resend_callbacks(&page).await?;
        resent += found;
        let is_all = found < u64::from(RESENT_AT_ONCE);
        if is_all || resent >= RESENT_MAX {
            tracing::info!(resent, since = %which.since, until = %which.until, host = which.host, "callbacks are sent again, an operator asks for them");
            return Ok((resent, is_all));
        }
    }
}

/// Every host that fails.
///
/// # Errors
/// When the database does not answer.
pub async fn list_hosts(outbox: &dyn CallbackOutbox) -> Result<Vec<FailingHost>, StoreError> {
    failing::list(outbox).await
}

/// Switches a host on: it gets what waits for it, and what comes; what was given up is sent again only if somebody asks for it.
///
/// # Errors
/// When the host does not fail, or the database does not answer.
pub async fn switch_on(outbox: &dyn CallbackOutbox, host: &str) -> Result<(), OperatorError> {
    if !outbox.note_host_well(host).await? {
        return Err(OperatorError::NotFound("this host does not fail"));
    }
    tracing::info!(host, "a host of callbacks is switched on, an operator asks for it");
    Ok(())
}
