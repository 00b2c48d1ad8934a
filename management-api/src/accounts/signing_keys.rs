//! The keys of access tokens: Ed25519, in PEM; the first one signs, all of them count.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use shared::accounts::{ACCESS_TOKEN_TYPE, AccessClaims, TokenKey};
use shared::config::Secret;

const SHAPE: &str = "must be Ed25519 private keys in PKCS#8 PEM, as `openssl genpkey -algorithm ed25519` makes them";
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
const GUESSABLE: &str = "is a key that anybody can have";
/// Public keys whose secret ones stand in RFC 8032 (the first is that of RFC 8037, too) and RFC 8410.
const PUBLISHED: [&str; 4] = [
    "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw",
    "_FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU",
    "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE",
];
/// What stands before the 32 bytes of an Ed25519 key in PKCS#8 (RFC 8410, 7).
const PKCS8_HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// The keys of access tokens.
#[derive(Clone)]
pub struct SigningKeys {
    signer: EncodingKey,
    header: Header,
    public: Vec<TokenKey>,
}

impl SigningKeys {
    /// Reads one PEM block or several.
    ///
    /// # Errors
    /// What they must be; nothing of them is repeated.
    pub fn parse(pem: &str) -> Result<Self, &'static str> {
        let (blocks, rest) = pem.rsplit_once(END).ok_or(SHAPE)?;
        if !rest.trim().is_empty() {
            return Err(SHAPE);
        }
        let keys: Vec<_> = blocks.split(END).map(parse_block).collect::<Result<_, _>>()?;
        let public: Vec<_> = keys.iter().map(|(_, public)| public.clone()).collect();
        if public.iter().any(|key| PUBLISHED.contains(&key.x.as_str())) {
            return Err(GUESSABLE);
        }
        let (signer, first) = keys.into_iter().next().ok_or(SHAPE)?;
        let header =
            Header { typ: Some(ACCESS_TOKEN_TYPE.to_owned()), kid: Some(first.kid), ..Header::new(Algorithm::EdDSA) };
        Ok(Self { signer, header, public })
    }

    /// The token of these claims.
    ///
    /// # Errors
    /// When the library fails.
    pub(super) fn sign(&self, claims: &AccessClaims) -> Result<String, String> {
        encode(&self.header, claims, &self.signer).map_err(|error| error.to_string())
    }

    /// What others need to check them.
    pub(super) fn public(&self) -> &[TokenKey] {
        &self.public
    }
}

/// A new key, in PEM.
#[must_use]
pub fn new_signing_key() -> Secret<String> {
    let bytes: Vec<u8> = PKCS8_HEAD.into_iter().chain(rand::random::<[u8; 32]>()).collect();
    Secret::new(format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(bytes)))
}

fn parse_block(block: &str) -> Result<(EncodingKey, TokenKey), &'static str> {
    let lines = block.trim().strip_prefix(BEGIN).ok_or(SHAPE)?.split_whitespace();
    let bytes = STANDARD.decode(lines.collect::<String>()).map_err(|_| SHAPE)?;
    let secret: &[u8; 32] = bytes.strip_prefix(&PKCS8_HEAD).and_then(|secret| secret.try_into().ok()).ok_or(SHAPE)?;
    if secret.iter().all(|byte| *byte == secret[0]) {
        return Err(GUESSABLE);
    }
    let key = EncodingKey::from_ed_der(&bytes);
    let jwk = Jwk::from_encoding_key(&key, Algorithm::EdDSA).map_err(|_| SHAPE)?;
    let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| SHAPE)?;
    let AlgorithmParameters::OctetKeyPair(parameters) = jwk.algorithm else { return Err(SHAPE) };
    let public =
        TokenKey { kty: "OKP".to_owned(), crv: "Ed25519".to_owned(), alg: "EdDSA".to_owned(), kid, x: parameters.x };
    Ok((key, public))
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_its_thumbprint() {
        // The key of RFC 8037, appendix A, with the thumbprint that stands there. It is refused as a setting.
        let secret = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
        let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(secret).unwrap();
        let bytes: Vec<u8> = PKCS8_HEAD.into_iter().chain(secret).collect();
        let block = format!("{BEGIN}\n{}\n", STANDARD.encode(bytes));
        let (_, key) = parse_block(&block).unwrap();
        assert_eq!(SigningKeys::parse(&format!("{block}{END}")).unwrap_err(), GUESSABLE);
        assert_eq!(key.x, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(key.kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn the_first_of_several_keys_signs() {
        let (old, new) = (new_signing_key(), new_signing_key());
        let keys = SigningKeys::parse(&format!("{}{}", new.expose(), old.expose())).unwrap();
        let kids: Vec<_> = keys.public().iter().map(|key| key.kid.clone()).collect();
        assert_eq!(kids.len(), 2);
        assert_eq!(keys.header.kid.as_ref(), kids.first());
        assert_eq!(SigningKeys::parse(old.expose()).unwrap().public()[0].kid, kids[1]);
    }

    #[test]
    fn what_is_no_key_or_a_weak_one_is_refused() {
        let good = new_signing_key();
        let zeros = STANDARD.encode(PKCS8_HEAD.into_iter().chain([0; 32]).collect::<Vec<u8>>());
        let rsa = "-----BEGIN PRIVATE KEY-----\nMIICdgIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n";
        for bad in [
            "",
            "secret",
            "changeme",
            rsa,
            &good.expose()[1..],
            &good.expose().replace("PRIVATE", "PUBLIC"),
            &format!("{}and more", good.expose()),
            &format!("{}{rsa}", good.expose()),
            &format!("{BEGIN}\n{zeros}\n{END}"),
        ] {
            assert!(SigningKeys::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(format!("{:?}", SigningKeys::parse(good.expose()).unwrap()), "***");
    }
}
