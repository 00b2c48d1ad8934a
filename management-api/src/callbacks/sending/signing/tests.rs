use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use http::{HeaderMap, HeaderValue};
use standardwebhooks::Webhook;

use super::*;

const ID: &str = "0190a5c2-0000-7000-8000-000000000001";
const BODY: &[u8] = br#"{"type":"purchase.recorded"}"#;

/// Secret key, public key, message and signature (RFC 8032, 7.1, tests 1 to 3).
const RFC_8032: [[&str; 4]; 3] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn private(seed: &[u8]) -> String {
    format!("whsk_{}", STANDARD.encode(seed))
}

fn secret_of(byte: u8) -> String {
    let bytes: Vec<u8> = (0..24).map(|at| at + byte).collect();
    format!("whsec_{}", STANDARD.encode(bytes))
}

/// Whether a library of the specification takes a signature.
fn is_taken(secret: &str, timestamp: i64, signature: &str) -> bool {
    let headers = [("id", ID), ("timestamp", &timestamp.to_string()), ("signature", signature)];
    let headers = headers.map(|(name, value)| (format!("webhook-{name}"), value.to_owned()));
    let headers: HeaderMap = headers
        .into_iter()
        .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), HeaderValue::try_from(value).unwrap()))
        .collect();
    Webhook::new(secret).unwrap().verify(BODY, &headers).is_ok()
}

fn now() -> i64 {
    shared::event::Timestamp::now().millis() / 1000
}

#[test]
fn keys_and_signatures_are_those_of_rfc_8032() {
    for [seed, public, message, signature] in RFC_8032 {
        let pair = parse_pair(&STANDARD.encode(bytes(seed))).unwrap();
        assert_eq!(pair.public_key().as_ref(), bytes(public));
        assert_eq!(pair.sign(&bytes(message)).as_ref(), bytes(signature));
    }
}

#[test]
fn a_public_key_is_named_by_its_thumbprint() {
    // RFC 8037, appendix A.
    let [_, public, ..] = RFC_8032[0];
    let key = published(&bytes(public));
    assert_eq!(key.x, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    assert_eq!(key.kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    assert_eq!(key.webhook_public_key, "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
}

#[test]
fn the_signature_is_that_of_the_specifications_libraries() {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(PUBLISHED[1]).unwrap());
    let keys = SigningKeys { secrets: vec![key], pairs: Vec::new() };
    let signature = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn each_key_signs_and_receivers_take_any_of_them() {
    let [new, old, other] = [1, 2, 3].map(secret_of);
    let seeds = RFC_8032.map(|[seed, ..]| bytes(seed));
    let keys = [new.clone(), private(&seeds[0]), old.clone(), private(&seeds[1])].join(", ");
    let keys = SigningKeys::parse(&keys).unwrap();
    let timestamp = now();
    let signature = keys.sign(ID, timestamp, BODY);
    let versions: Vec<_> = signature.split(' ').map(|part| part.split_once(',').unwrap().0).collect();
    assert_eq!(versions, ["v1", "v1", "v1a", "v1a"]);
    assert!(is_taken(&new, timestamp, &signature) && is_taken(&old, timestamp, &signature));
    assert!(!is_taken(&other, timestamp, &signature) && !is_taken(&new, timestamp + 1, &signature));
    let signed = [format!("{ID}.{timestamp}.").as_bytes(), BODY].concat();
    for (key, part) in keys.public_keys().iter().zip(signature.split(' ').skip(2)) {
        let public = STANDARD.decode(key.webhook_public_key.strip_prefix("whpk_").unwrap()).unwrap();
        let signature = STANDARD.decode(&part["v1a,".len()..]).unwrap();
        assert!(UnparsedPublicKey::new(&ED25519, public).verify(&signed, &signature).is_ok());
    }
}

#[test]
fn without_a_key_pair_only_secrets_sign() {
    let keys = SigningKeys::parse(&secret_of(1)).unwrap();
    assert!(keys.public_keys().is_empty());
    assert_eq!(keys.sign(ID, 1, BODY).split(' ').count(), 1);
    assert!(!keys.sign(ID, 1, BODY).contains("v1a"));
}

#[test]
fn a_new_secret_signs_both_ways_and_is_never_the_same() {
    let (one, other) = (new_secret(), new_secret());
    assert_ne!(one.expose(), other.expose());
    let keys = SigningKeys::parse(one.expose()).unwrap();
    let (secret, timestamp) = (one.expose().split(' ').next().unwrap(), now());
    assert!(is_taken(secret, timestamp, &keys.sign(ID, timestamp, BODY)));
    assert_eq!(keys.public_keys().len(), 1);
    SigningKeys::parse(&format!("{}\n{}\n", one.expose(), other.expose())).unwrap();
}

#[test]
fn what_is_no_key_or_a_weak_one_is_refused() {
    use InvalidKeys::{Empty, Guessable, PrivateKey, Secret, TooMany, Unknown};
    let (secret, seed, public) = (secret_of(1), bytes(RFC_8032[0][0]), bytes(RFC_8032[1][1]));
    let base64 = |length: u8| STANDARD.encode((0..length).collect::<Vec<_>>());
    for (text, error) in [
        (String::new(), Empty),
        (" , ".to_owned(), Empty),
        ("changeme".to_owned(), Unknown),
        (secret.replace("whsec_", "whpk_"), Unknown),
        ("whsec_".to_owned(), Secret),
        ("whsec_!".to_owned(), Secret),
        (format!("whsec_{}", base64(23)), Secret),
        (format!("whsec_{}", base64(65)), Secret),
        (format!("whsec_{}", PUBLISHED[0]), Guessable),
        (format!("whsec_{}", STANDARD.encode([0; 32])), Guessable),
        (private(&[7; 32]), Guessable),
        ("whsk_".to_owned(), PrivateKey),
        (private(&seed[..31]), PrivateKey),
        (private(&[&seed[..], &public[..5]].concat()), PrivateKey),
        (private(&[seed.clone(), public].concat()), PrivateKey),
        ([secret.clone(), secret.clone()].join(" "), TooMany),
        ([1, 2, 3].map(secret_of).join(" "), TooMany),
        (RFC_8032.map(|[seed, ..]| private(&bytes(seed))).join(" "), TooMany),
    ] {
        assert_eq!(SigningKeys::parse(&text).err(), Some(error), "{text}");
    }
    assert_eq!(format!("{:?}", SigningKeys::parse(&secret).unwrap()), "***");
}
