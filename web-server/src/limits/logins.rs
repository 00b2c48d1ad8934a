//! Who signs in to what: by the address that is asked from, and by the account that is asked for.

use std::time::Duration;

use moka::future::Cache;
use shared::accounts::comparable;
use uuid::Uuid;

use super::{CallerKey, LimitsConfig};

/// For how long an address is known to an account that was signed in to from there: as long as a session may go on.
const KNOWN_FOR: Duration = Duration::from_hours(90 * 24);
/// The most that are known: those of the latest logins.
const KNOWN_MAX: u64 = 100_000;

/// Names of accounts, as they are signed in to. No e-mail address is kept, nor one that could be guessed from what replicas tell each
/// other: names are made with what only they know.
pub struct Logins {
    secret: Uuid,
    /// Addresses and accounts that belong together: whoever else tries, they are not kept out.
    known: Cache<Uuid, ()>,
}

/// Who signs in, and to what.
#[derive(Clone, Copy, Debug)]
pub struct Login {
    /// All who sign in to this account.
    pub account: CallerKey,
    /// This address and this account.
    pair: Uuid,
}

impl Logins {
    /// Nobody has signed in yet.
    #[must_use]
    pub fn new(config: &LimitsConfig) -> Self {
        let known = Cache::builder().max_capacity(KNOWN_MAX).time_to_live(KNOWN_FOR).build();
        let token = config.peer_token.as_ref();
        let secret =
            token.map_or_else(Uuid::new_v4, |token| Uuid::new_v5(&Uuid::NAMESPACE_OID, token.expose().as_bytes()));
        Self { secret, known }
    }

    /// A login from an address, whether or not there is such an account.
    #[must_use]
    pub fn login(&self, address: CallerKey, email: &str) -> Login {
        let name = Uuid::new_v5(&self.secret, comparable(email).as_bytes());
        Login { account: CallerKey::of_email(name), pair: Uuid::new_v5(&name, format!("{address:?}").as_bytes()) }
    }

    /// Whether the account was signed in to from there.
    #[must_use]
    pub fn is_known(&self, login: Login) -> bool {
        self.known.contains_key(&login.pair)
    }

    /// The account was signed in to from there.
    pub async fn remember(&self, login: Login) {
        self.known.insert(login.pair, ()).await;
    }
}

#[cfg(test)]
mod tests {
    use shared::config::Settings;

    use super::*;

    fn logins(token: &str) -> Logins {
        let mut settings = Settings::from_pairs([("RATE_LIMIT_PEER_TOKEN", token)]);
        Logins::new(&LimitsConfig::read(&mut settings))
    }

    #[test]
    fn an_account_has_one_name_at_all_replicas_however_its_address_is_written() {
        let address = CallerKey::of_address([192, 0, 2, 1].into());
        let name = |logins: &Logins, email| logins.login(address, email).account;
        let (one, other, stranger) = (logins("hush"), logins("hush"), logins("guess"));
        for same in ["ann@example.com", "Ann@EXAMPLE.com", "ａｎｎ@example.com"] {
            assert_eq!(name(&one, same), name(&other, "ann@example.com"), "{same}");
        }
        assert_ne!(name(&one, "ann@example.com"), name(&one, "bob@example.com"));
        assert_ne!(name(&one, "ann@example.com"), name(&stranger, "ann@example.com"));
    }
}
