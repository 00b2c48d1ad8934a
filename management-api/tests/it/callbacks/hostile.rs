//! URLs that lead where a buyer must not have us go. Each is sent the whole way: read, resolved, connected to. The receiver listens on
//! every address of this machine, so whatever got through to it would be seen.

use std::net::SocketAddr;
use std::sync::Arc;

use management_api::callbacks::sending::{AttemptOutcome, CallbackClient, Unreachable};
use shared::callbacks::{CallbackUrl, Schemes};

use super::receiver::{FakeResolver, Receiver, answer};
use super::{SHORTEST, config, send, url};

/// Hosts that lead to this machine, or into its network, in every notation; `PORT` is the receiver's.
const PRIVATE: [&str; 44] = [
    "http://127.0.0.1:PORT/",
    "http://127.0.0.2:PORT/",
    "http://127.255.255.254:PORT/",
    "http://127.1:PORT/",
    "http://127.0.1:PORT/",
    "http://2130706433:PORT/",
    "http://0x7f000001:PORT/",
    "http://0x7f.1:PORT/",
    "http://0x7f.0.0.0x1:PORT/",
    "http://0177.0.0.1:PORT/",
    "http://017700000001:PORT/",
    "http://0177.0.0.01:PORT/",
    "http://127.0.0.1.:PORT/",
    "http://127%2e0%2e0%2e1:PORT/",
    "http://%31%32%37.0.0.1:PORT/",
    "http://１２７.０.０.１:PORT/",
    "http://①②⑦.⓪.⓪.①:PORT/",
    "http://127。0。0。1:PORT/",
    "HTTP://127.0.0.1:PORT/",
    "http://[::1]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://[::0001]:PORT/",
    "http://[::ffff:127.0.0.1]:PORT/",
    "http://[::ffff:7f00:1]:PORT/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:PORT/",
    "http://[64:ff9b::127.0.0.1]:PORT/",
    "http://[64:ff9b::a00:1]:PORT/",
    "http://10.0.0.1:PORT/",
    "http://10.255.255.255:PORT/",
    "http://0xa000001:PORT/",
    "http://012.0.0.1:PORT/",
    "http://172.16.0.1:PORT/",
    "http://172.31.255.255:PORT/",
    "http://192.168.0.1:PORT/",
    "http://192.168.257:PORT/",
    "http://100.64.0.1:PORT/",
    "http://100.127.255.255:PORT/",
    "http://[fc00::1]:PORT/",
    "http://[fd12:3456:789a::1]:PORT/",
    "http://[fec0::1]:PORT/",
    "http://[::ffff:10.0.0.1]:PORT/",
    "http://[::ffff:192.168.0.1]:PORT/",
    "http://localhost:PORT/",
    "http://LOCALHOST:PORT/",
];

/// What stays shut whatever is allowed.
const SHUT: [&str; 32] = [
    "http://0.0.0.0:PORT/",
    "http://0:PORT/",
    "http://0x0:PORT/",
    "http://0.1.2.3:PORT/",
    "http://[::]:PORT/",
    "http://[::127.0.0.1]:PORT/",
    "http://[::ffff:0.0.0.0]:PORT/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://169.254.43518/",
    "http://169.254.170.2/v2/credentials",
    "http://169.254.170.23/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[64:ff9b:1::a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://[2002:7f00:1::]:PORT/",
    "http://[2001:0:7f00:1:0:0:80ff:fffe]:PORT/",
    "http://[2a00:1450::5efe:127.0.0.1]:PORT/",
    "http://[fd00:ec2::254]/",
    "http://[fd20:ce::254]/",
    "http://[fe80::a9fe:a9fe]/",
    "http://100.100.100.200/latest/meta-data/",
    "http://192.0.0.192/",
    "http://168.63.129.16/",
    "http://255.255.255.255:PORT/",
    "http://224.0.0.1:PORT/",
    "http://240.0.0.1:PORT/",
    "http://[ff02::1]:PORT/",
];

/// What is no URL of a receiver, whatever it leads to.
const MALFORMED: [&str; 24] = [
    "127.0.0.1:PORT",
    "//127.0.0.1:PORT/",
    "http:127.0.0.1:PORT/",
    "http:/127.0.0.1:PORT/",
    "http:///127.0.0.1:PORT/",
    "http:\\\\127.0.0.1:PORT\\",
    "http://shop.example\\@127.0.0.1:PORT/",
    "http://shop.example@127.0.0.1:PORT/",
    "http://shop.example:80@127.0.0.1:PORT/",
    "http://@127.0.0.1:PORT/",
    "http://:@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT#@shop.example/",
    "http://127.0.0.1:PORT/#",
    "http://127.0.0.1\t:PORT/",
    "http://127.0.0.1:PORT/ HTTP/1.1\r\nhost: x",
    " http://127.0.0.1:PORT/",
    "http://127.0.0.1:0/",
    "http://[fe80::1%25lo]:PORT/",
    "http://[::1%lo]:PORT/",
    "http://localhost.:PORT/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:PORT/_x",
    "ftp://127.0.0.1:PORT/",
    "unix:///var/run/docker.sock",
];

fn client(allow_private: bool, resolver: Option<Arc<FakeResolver>>) -> CallbackClient {
    let allow_private = allow_private.to_string();
    let config = config(&[
        ("CALLBACK_ALLOW_HTTP", "true"),
        ("CALLBACK_ALLOW_PRIVATE", &allow_private),
        ("CALLBACK_TIMEOUT_MS", SHORTEST),
    ]);
    match resolver {
        Some(resolver) => CallbackClient::with_resolver(&config, resolver),
        None => CallbackClient::new(&config),
    }
}

fn at(text: &str, receiver: &Receiver) -> String {
    text.replace("PORT", &receiver.address.port().to_string())
}

#[tokio::test]
async fn no_url_leads_into_our_network() {
    let receiver = Receiver::willing().await;
    let client = client(false, None);
    for text in PRIVATE.iter().chain(&SHUT) {
        let outcome = send(&client, &url(&at(text, &receiver))).await;
        assert_eq!((outcome, receiver.connections()), (AttemptOutcome::Forbidden, 0), "{text}");
    }
}

#[tokio::test]
async fn metadata_stays_shut_where_private_addresses_are_allowed() {
    let receiver = Receiver::willing().await;
    let client = client(true, None);
    for text in SHUT {
        let outcome = send(&client, &url(&at(text, &receiver))).await;
        assert_eq!((outcome, receiver.connections()), (AttemptOutcome::Forbidden, 0), "{text}");
    }
    let to = url(&at("http://0x7f.1:PORT/", &receiver));
    assert_eq!(send(&client, &to).await, AttemptOutcome::Delivered, "the receiver would have heard of it");
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_not_even_taken() {
    let receiver = Receiver::willing().await;
    for text in MALFORMED {
        let text = at(text, &receiver);
        assert!(CallbackUrl::parse(&text, Schemes::HttpToo).is_err(), "{text}");
    }
}

#[tokio::test]
async fn no_name_leads_where_its_addresses_must_not() {
    let receiver = Receiver::willing().await;
    let port = receiver.address.port();
    let public: SocketAddr = "[2fff:ffff::1]:9".parse().unwrap();
    for forbidden in ["127.0.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254", "fe80::1"] {
        let forbidden = SocketAddr::new(forbidden.parse().unwrap(), port);
        for answer in [&[forbidden][..], &[public, forbidden], &[forbidden, public]] {
            let client = client(false, Some(FakeResolver::new([answer])));
            let outcome = send(&client, &url("http://shop.example/")).await;
            assert_eq!((outcome, receiver.connections()), (AttemptOutcome::Forbidden, 0), "{answer:?}");
        }
    }
}

/// DNS rebinding: the first answer is fit to be seen, the next one leads here.
#[tokio::test]
async fn a_name_that_leads_here_at_the_second_look_up_leads_nowhere() {
    let receiver = Receiver::willing().await;
    // No network has this address, so no connection comes of it.
    let public: SocketAddr = "[2fff:ffff::1]:9".parse().unwrap();
    let resolver = FakeResolver::new([&[public], &[receiver.address]]);
    let client = client(false, Some(Arc::clone(&resolver)));
    let first = send(&client, &url("http://shop.example/")).await;
    let nobody = [AttemptOutcome::Unreachable(Unreachable::Connection), AttemptOutcome::Timeout];
    assert!(nobody.contains(&first), "{first:?}");
    assert_eq!(resolver.asked(), ["shop.example"], "what was checked is what is connected to");
    assert_eq!(send(&client, &url("http://shop.example/")).await, AttemptOutcome::Forbidden);
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_that_was_good_once_is_looked_at_with_each_connection() {
    let receiver = Receiver::start(|_| answer("200 OK", "connection: close\r\n")).await;
    let here = SocketAddr::from(([0, 0, 0, 0], receiver.address.port()));
    let client = client(true, Some(FakeResolver::new([&[receiver.address], &[here]])));
    assert_eq!(send(&client, &url("http://shop.example/")).await, AttemptOutcome::Delivered);
    assert_eq!(send(&client, &url("http://shop.example/")).await, AttemptOutcome::Forbidden);
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_redirection_is_an_answer_and_is_not_followed() {
    let inner = Receiver::willing().await;
    let to = format!("location: http://{}/\r\n", inner.address);
    for status in [301, 302, 303, 307, 308] {
        let location = to.clone();
        let outer = Receiver::start(move |_| answer(&format!("{status} Elsewhere"), &location)).await;
        let outcome = send(&client(true, None), &url(&format!("http://{}/", outer.address))).await;
        assert_eq!(outcome, AttemptOutcome::Refused { status, retry_after: None });
    }
    assert_eq!(inner.connections(), 0);
}

#[tokio::test]
async fn plain_http_is_not_spoken_unless_it_is_allowed() {
    let receiver = Receiver::willing().await;
    let client = CallbackClient::new(&config(&[("CALLBACK_ALLOW_PRIVATE", "true")]));
    // It was taken when http was allowed, and is still stored.
    let outcome = send(&client, &url(&format!("http://{}/", receiver.address))).await;
    assert_eq!((outcome, receiver.connections()), (AttemptOutcome::Forbidden, 0));
}
