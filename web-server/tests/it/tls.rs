//! HTTPS: the certificate, its change while the server runs, and who speaks something else.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{Certificate, CertificateParams, CertifiedKey, KeyPair, date_time_ymd, generate_simple_self_signed};
use shared::config::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use web_server::Config;

use crate::harness::{DEADLINE, Server, eventually};

const READ: &[u8] = b"GET /livez HTTP/1.1\r\nhost: shop.test\r\n\r\n";

/// A certificate and its key below `folder`, as a mounted secret has them; the certificate for who is to trust it.
fn write_pair(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("tls.crt"), cert.pem()).unwrap();
    fs::write(folder.join("tls.key"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

/// Files that are reached through a link to the folder that holds them now.
fn mount(folder: &Path) -> [String; 2] {
    ["tls.crt", "tls.key"].map(|file| folder.join("now").join(file).display().to_string())
}

/// Leads the link to another folder, in one step, as the kubelet does.
fn swap(folder: &Path, to: &str) {
    symlink(folder.join(to), folder.join("next")).unwrap();
    fs::rename(folder.join("next"), folder.join("now")).unwrap();
}

async fn server(folder: &Path) -> Server {
    server_with_room(folder, "65536").await
}

async fn server_with_room(folder: &Path, kib: &str) -> Server {
    let [certificate, key] = mount(folder);
    let settings = [("TLS_CERT_FILE", &*certificate), ("TLS_KEY_FILE", &*key), ("HTTP_MEMORY_MAX_KIB", kib)];
    // Its readiness would be asked over plain HTTP, which this server does not speak.
    Server::unready(&settings, |_| {}).await
}

/// Who trusts this certificate alone.
fn trusting(trusted: &CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// A connection of who trusts this certificate alone.
async fn connect(server: &Server, trusted: &CertificateDer<'static>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.client.address).await?;
    TlsConnector::from(trusting(trusted)).connect("shop.test".try_into().unwrap(), stream).await
}

/// A handshake of which the first bytes have arrived.
struct Begun {
    tls: ClientConnection,
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Begun {
    async fn new(server: &Server, trusted: &CertificateDer<'static>) -> Self {
        let mut tls = ClientConnection::new(trusting(trusted), "shop.test".try_into().unwrap()).unwrap();
        let mut hello = Vec::new();
        tls.write_tls(&mut hello).unwrap();
        let rest = hello.split_off(20);
        let mut stream = TcpStream::connect(server.client.address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        // Who has connected later is served: the server has these bytes.
        assert!(ask(&mut connect(server, trusted).await.unwrap()).await.starts_with("HTTP/1.1 200"));
        Self { tls, stream, rest }
    }

    /// Finishes it and asks, to the end of the connection.
    async fn ask(self) -> String {
        let Self { mut tls, mut stream, rest } = self;
        stream.write_all(&rest).await.unwrap();
        let mut stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        let asking = move || {
            let mut connection = Stream::new(&mut tls, &mut stream);
            let mut answer = Vec::new();
            connection.write_all(READ).unwrap();
            let _ = connection.read_to_end(&mut answer);
            String::from_utf8(answer).unwrap()
        };
        tokio::time::timeout(DEADLINE, tokio::task::spawn_blocking(asking)).await.expect("an end").unwrap()
    }
}

/// The head of the answer to a read.
async fn ask(connection: &mut TlsStream<TcpStream>) -> String {
    connection.write_all(READ).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}}") {
        let mut part = [0; 1024];
        let length = connection.read(&mut part).await.unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..length]);
    }
    String::from_utf8(answer).unwrap()
}

/// Whether a line stands in `/metrics`.
async fn shows(server: &Server, trusted: &CertificateDer<'static>, line: &str) -> bool {
    metrics(server, trusted).await.lines().any(|shown| shown == line)
}

/// The bytes that callers make it hold.
async fn held(server: &Server, trusted: &CertificateDer<'static>) -> f64 {
    let metrics = metrics(server, trusted).await;
    metrics.lines().find_map(|line| line.strip_prefix("http_memory_bytes ")).unwrap().parse().unwrap()
}

async fn metrics(server: &Server, trusted: &CertificateDer<'static>) -> String {
    let mut connection = connect(server, trusted).await.unwrap();
    connection.write_all(b"GET /metrics HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_changed_certificate_is_for_new_connections_and_drops_none() {
    let folder = tempfile::tempdir().unwrap();
    let old = write_pair(&folder.path().join("one"));
    let new = write_pair(&folder.path().join("two"));
    swap(folder.path(), "one");
    let server = server(folder.path()).await;
    let mut kept = connect(&server, &old).await.unwrap();
    let answer = ask(&mut kept).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("strict-transport-security: max-age="), "{answer}");
    assert!(connect(&server, &new).await.is_err(), "it is not the certificate yet");
    swap(folder.path(), "two");
    eventually("the new certificate is there", async || connect(&server, &new).await.is_ok()).await;
    assert!(connect(&server, &old).await.is_err());
    assert!(ask(&mut kept).await.starts_with("HTTP/1.1 200"), "who was connected stays");
}

#[tokio::test]
async fn the_page_s_cookie_is_for_https_and_this_host_alone() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = write_pair(&folder.path().join("one"));
    swap(folder.path(), "one");
    let server = server(folder.path()).await;
    let mut connection = connect(&server, &certificate).await.unwrap();
    let request = "POST /logout HTTP/1.1\r\nhost: shop.test\r\norigin: https://shop.test\r\nconnection: close\r\n\r\n";
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let cookie = "set-cookie: __Host-refresh_token=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict; Secure\r\n";
    assert!(answer.starts_with("HTTP/1.1 204") && answer.contains(cookie), "{answer}");
}

#[tokio::test]
async fn files_of_no_use_leave_the_certificate_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = write_pair(&folder.path().join("one"));
    write_pair(&folder.path().join("two"));
    fs::copy(folder.path().join("one/tls.crt"), folder.path().join("two/tls.crt")).unwrap();
    let new = write_pair(&folder.path().join("three"));
    swap(folder.path(), "one");
    let server = server(folder.path()).await;
    eventually("it serves", async || connect(&server, &certificate).await.is_ok()).await;
    // The key of another certificate, an empty file, no file at all; then a good pair.
    swap(folder.path(), "two");
    let refused = r#"tls_reloads_total{outcome="refused"} 1"#;
    eventually("they are refused", async || shows(&server, &certificate, refused).await).await;
    fs::write(folder.path().join("two/tls.crt"), "").unwrap();
    fs::remove_file(folder.path().join("two/tls.key")).unwrap();
    assert!(connect(&server, &certificate).await.is_ok());
    swap(folder.path(), "three");
    eventually("the good pair is taken", async || connect(&server, &new).await.is_ok()).await;
}

#[tokio::test]
async fn when_the_certificate_ends_is_told() {
    let folder = tempfile::tempdir().unwrap();
    // Each year's first day; of a chain the one that ends first counts.
    let pair = |name: &str, years: &[i32]| {
        let certificates = years.iter().map(|year| {
            let mut params = CertificateParams::new(["shop.test".to_owned()]).unwrap();
            params.not_after = date_time_ymd(*year, 1, 1);
            params
        });
        let key = KeyPair::generate().unwrap();
        let certificates: Vec<_> = certificates.map(|params| params.self_signed(&key).unwrap()).collect();
        fs::create_dir_all(folder.path().join(name)).unwrap();
        fs::write(
            folder.path().join(name).join("tls.crt"),
            certificates.iter().map(Certificate::pem).collect::<String>(),
        )
        .unwrap();
        fs::write(folder.path().join(name).join("tls.key"), key.serialize_pem()).unwrap();
        certificates[0].der().clone()
    };
    let (old, new) = (pair("one", &[2100]), pair("two", &[2110, 2105]));
    swap(folder.path(), "one");
    let server = server(folder.path()).await;
    let ends = |seconds: u64| format!("tls_certificate_expires_timestamp_seconds {seconds}");
    assert!(shows(&server, &old, &ends(4_102_444_800)).await, "{}", metrics(&server, &old).await);
    swap(folder.path(), "two");
    eventually("the new one is there", async || connect(&server, &new).await.is_ok()).await;
    assert!(shows(&server, &new, &ends(4_260_211_200)).await, "{}", metrics(&server, &new).await);
}

#[tokio::test]
async fn requests_follow_each_other_and_may_come_with_the_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = write_pair(&folder.path().join("one"));
    swap(folder.path(), "one");
    let server = server(folder.path()).await;
    let mut connection = connect(&server, &certificate).await.unwrap();
    for _ in 0..20 {
        assert!(ask(&mut connection).await.starts_with("HTTP/1.1 200"));
    }
    // Both in one record, so that the second has come when the first is answered.
    connection.write_all(&[READ, READ].concat()).await.unwrap();
    let mut answers = String::new();
    while answers.matches("HTTP/1.1 200").count() < 2 {
        let mut part = [0; 1024];
        let length = connection.read(&mut part).await.unwrap();
        answers.push_str(&String::from_utf8_lossy(&part[..length]));
    }
    // An end of sending is no end of reading here either.
    let mut connection = connect(&server, &certificate).await.unwrap();
    connection.write_all(READ).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = connection.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn who_speaks_plain_http_or_nothing_gets_no_answer_and_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = write_pair(&folder.path().join("one"));
    swap(folder.path(), "one");
    let server = server(folder.path()).await;
    let mut silent = TcpStream::connect(server.client.address).await.unwrap();
    silent.write_all(&[22, 3, 1]).await.unwrap();
    let mut plain = TcpStream::connect(server.client.address).await.unwrap();
    plain.write_all(READ).await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert!(ask(&mut connect(&server, &certificate).await.unwrap()).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_at_rest_hold_little() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = write_pair(&folder.path().join("one"));
    swap(folder.path(), "one");
    let server = server_with_room(folder.path(), "2048").await;
    let mut kept = Vec::new();
    for _ in 0..12 {
        for _ in 0..5 {
            let mut connection = connect(&server, &certificate).await.unwrap();
            assert!(ask(&mut connection).await.starts_with("HTTP/1.1 200"));
            kept.push(connection);
        }
        // The one that asks is in use.
        let at_rest = f64::from(u32::try_from(kept.len()).unwrap()) * 20e3 + 100e3;
        eventually("their buffers are given up", async || held(&server, &certificate).await < at_rest).await;
    }
    for connection in kept.iter_mut().take(5) {
        assert!(ask(connection).await.starts_with("HTTP/1.1 200"), "it was closed for another");
    }
}

#[tokio::test]
async fn a_handshake_that_stands_still_makes_room_and_holds_up_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = write_pair(&folder.path().join("one"));
    swap(folder.path(), "one");
    let server = server_with_room(folder.path(), "1024").await;
    let mut silent = Vec::new();
    for _ in 0..60 {
        let mut stream = TcpStream::connect(server.client.address).await.unwrap();
        let _ = stream.write_all(&[22, 3, 1]).await;
        silent.push(stream);
    }
    eventually("others make room", async || {
        let Ok(mut connection) = connect(&server, &certificate).await else { return false };
        connection.write_all(READ).await.is_ok() && connection.read(&mut [0; 1024]).await.is_ok_and(|length| length > 0)
    })
    .await;
    let began = Instant::now();
    server.shutdown.stop();
    server.ended().await.expect("no request was left");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test]
async fn who_is_about_to_agree_when_the_server_ends_is_answered_first() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = write_pair(&folder.path().join("one"));
    swap(folder.path(), "one");
    let server = server(folder.path()).await;
    let begun = Begun::new(&server, &certificate).await;
    let mut agreed = connect(&server, &certificate).await.unwrap();
    server.shutdown.stop();
    eventually("nobody else is let in", async || TcpStream::connect(server.client.address).await.is_err()).await;
    let answer = begun.ask().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close\r\n"), "{answer}");
    let answer = ask(&mut agreed).await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    server.ended().await.expect("nothing was left");
}

#[tokio::test]
async fn who_sends_a_part_of_what_tls_can_read_and_no_more_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = write_pair(&folder.path().join("one"));
    swap(folder.path(), "one");
    let [file, key] = mount(folder.path());
    let settings = [("TLS_CERT_FILE", &*file), ("TLS_KEY_FILE", &*key), ("REQUEST_HEADER_TIMEOUT_MS", "300")];
    let server = Server::unready(&settings, |_| {}).await;
    let mut connection = connect(&server, &certificate).await.unwrap();
    // The head of a record of 256 bytes.
    connection.get_mut().0.write_all(&[23, 3, 3, 1, 0]).await.unwrap();
    let mut answer = Vec::new();
    let told = tokio::time::timeout(DEADLINE, connection.read_to_end(&mut answer)).await;
    assert!(told.is_ok() && answer.starts_with(b"HTTP/1.1 408 "), "{told:?} {}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_certificate_that_cannot_be_used_is_a_mistake_in_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(&folder.path().join("one"));
    write_pair(&folder.path().join("two"));
    let file = |name: &str| folder.path().join(name).display().to_string();
    fs::write(folder.path().join("empty"), "").unwrap();
    let mistakes = |pairs: &[(&str, String)]| {
        let mut settings = Settings::from_pairs(pairs.iter().map(|(name, value)| (*name, value.as_str())));
        Config::read(&mut settings);
        settings.finish().err().map(|mistakes| mistakes.to_string()).unwrap_or_default()
    };
    let pair =
        |certificate: &str, key: &str| mistakes(&[("TLS_CERT_FILE", file(certificate)), ("TLS_KEY_FILE", file(key))]);
    assert_eq!(pair("one/tls.crt", "one/tls.key"), "");
    for (certificate, key) in [("one/tls.crt", "two/tls.key"), ("empty", "one/tls.key"), ("one/tls.key", "one/tls.crt")]
    {
        let told = pair(certificate, key);
        assert!(told.starts_with("TLS_CERT_FILE: ") && !told.contains("PRIVATE"), "{certificate} {key}: {told}");
    }
    assert!(mistakes(&[("TLS_KEY_FILE", file("one/tls.key"))]).starts_with("TLS_CERT_FILE: is needed"));
    assert!(mistakes(&[("TLS_CERT_FILE", file("one/tls.crt"))]).starts_with("TLS_KEY_FILE: is needed"));
}
