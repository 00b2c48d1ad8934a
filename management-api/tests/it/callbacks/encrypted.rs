//! Who a receiver is, as its certificate says.

use std::sync::Arc;

use management_api::callbacks::sending::{AttemptOutcome, CallbackClient, Unreachable};
use rcgen::{CertificateParams, CertifiedKey, KeyPair, date_time_ymd, generate_simple_self_signed};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::receiver::{FakeResolver, Receiver, Reply, answer};
use super::{SHORTEST, config, send, url};

const NAME: &str = "shop.test";

fn certified(name: &str) -> CertifiedKey<KeyPair> {
    generate_simple_self_signed([name.to_owned()]).unwrap()
}

fn outdated(name: &str) -> CertifiedKey<KeyPair> {
    let signing_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_after = date_time_ymd(2020, 1, 1);
    CertifiedKey { cert: params.self_signed(&signing_key).unwrap(), signing_key }
}

fn acceptor(certified: &CertifiedKey<KeyPair>) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    Arc::new(config).into()
}

/// A client that believes this certificate alone, and takes every name for this receiver's.
fn believing(certified: &CertifiedKey<KeyPair>, receiver: &Receiver, folder: &TempDir) -> CallbackClient {
    let path = folder.path().join("authorities.pem");
    std::fs::write(&path, certified.cert.pem()).unwrap();
    let config = config(&[
        ("CALLBACK_ALLOW_PRIVATE", "true"),
        ("CALLBACK_CA_FILE", path.to_str().unwrap()),
        ("CALLBACK_TIMEOUT_MS", SHORTEST),
    ]);
    CallbackClient::with_resolver(&config, FakeResolver::new([&[receiver.address]]))
}

#[tokio::test]
async fn a_receiver_that_is_who_it_says_is_called_on_one_connection() {
    let (own, folder) = (certified(NAME), tempfile::tempdir().unwrap());
    let receiver = Receiver::start_with(Some(acceptor(&own)), |_| answer("200 OK", "")).await;
    let client = believing(&own, &receiver, &folder);
    for _ in 0..5 {
        assert_eq!(send(&client, &url("https://shop.test/paid")).await, AttemptOutcome::Delivered);
    }
    assert_eq!((receiver.seen().len(), receiver.connections()), (5, 1));
    assert_eq!(receiver.seen()[0].headers["host"], NAME);
    let literal = certified("127.0.0.1");
    let receiver = Receiver::start_with(Some(acceptor(&literal)), |_| answer("200 OK", "")).await;
    let to = url(&format!("https://{}/", receiver.address));
    assert_eq!(send(&believing(&literal, &receiver, &folder), &to).await, AttemptOutcome::Delivered);
}

#[tokio::test]
async fn a_receiver_that_is_not_who_it_says_is_sent_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (own, old) = (certified(NAME), outdated(NAME));
    for (shown, believed, host) in [
        (&own, &certified(NAME), "shop.test"),
        (&own, &own, "other.test"),
        (&own, &own, "127.0.0.1"),
        (&old, &old, "shop.test"),
    ] {
        let receiver = Receiver::start_with(Some(acceptor(shown)), |_| answer("200 OK", "")).await;
        let client = believing(believed, &receiver, &folder);
        let to = url(&format!("https://{host}:{}/", receiver.address.port()));
        assert_eq!(send(&client, &to).await, AttemptOutcome::Unreachable(Unreachable::Certificate), "{host}");
        assert!(receiver.seen().is_empty());
    }
}

#[tokio::test]
async fn what_is_no_tls_is_told() {
    let (own, folder) = (certified(NAME), tempfile::tempdir().unwrap());
    let talkative = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = talkative.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = talkative.accept().await.unwrap();
            let _ = stream.try_write(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    // It waits for the end of a head that never comes.
    let silent = Receiver::start(|_| Reply::Hang).await;
    let client = believing(&own, &silent, &folder);
    assert_eq!(send(&client, &url("https://shop.test/")).await, AttemptOutcome::Timeout);
    let to = url(&format!("https://{address}/"));
    assert_eq!(send(&client, &to).await, AttemptOutcome::Unreachable(Unreachable::Tls));
    std::fs::write(folder.path().join("authorities.pem"), "nothing").unwrap();
    let receiver = Receiver::willing().await;
    let config = config(&[
        ("CALLBACK_ALLOW_PRIVATE", "true"),
        ("CALLBACK_CA_FILE", folder.path().join("authorities.pem").to_str().unwrap()),
    ]);
    let client = CallbackClient::new(&config);
    let outcome = send(&client, &url(&format!("https://{}/", receiver.address))).await;
    assert_eq!(outcome, AttemptOutcome::Unreachable(Unreachable::Authorities));
}
