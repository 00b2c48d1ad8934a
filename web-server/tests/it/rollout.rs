//! Replicas of management-api that come and go while callers read: addresses where nobody is any more, and new ones.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use web_server::management_client::Lookup;

use crate::harness::{Client, FakeAnswer, FakeManagement, Server, eventually};

/// A read that would be seen to wait for somebody who is not there.
const PATH: &str = "/purchases?timeout=9000";
/// What a read may take: connecting has 300 ms; the rest is for this machine.
const LONGEST: Duration = Duration::from_secs(6);
const READERS: usize = 8;

/// A place for a replica, where nobody is yet: who connects is refused.
fn place(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

fn new_place() -> Socket {
    place(([127, 0, 0, 1], 0).into())
}

fn address_of(place: &Socket) -> SocketAddr {
    place.local_addr().unwrap().as_socket().unwrap()
}

/// A replica that answers in a moment.
fn start_at(place: Socket) -> FakeManagement {
    place.listen(1024).unwrap();
    place.set_nonblocking(true).unwrap();
    let replica = FakeManagement::on(TcpListener::from_std(place.into()).unwrap());
    replica.answers(|_| FakeAnswer { delay: Duration::from_millis(10), ..FakeAnswer::ok("{}") });
    replica
}

/// Its one place is taken, and nobody ever accepts: the kernel drops what comes then, as a network does whose pod is gone.
struct Silent {
    place: Socket,
    _taken: std::net::TcpStream,
}

impl Silent {
    fn at(place: Socket) -> Self {
        place.listen(0).unwrap();
        let taken = std::net::TcpStream::connect(address_of(&place)).unwrap();
        Self { place, _taken: taken }
    }
}

async fn asked_more_often(replica: &FakeManagement, times: usize) {
    let before = replica.reads();
    eventually("it is asked", async || replica.reads() >= before + times).await;
}

async fn server(addresses: &[SocketAddr]) -> Server {
    let urls: Vec<_> = addresses.iter().map(|address| format!("http://{address}")).collect();
    Server::with(&[("CUSTOMER_MGMT_API_URL", &urls.join(","))], |_| {}).await
}

/// Callers who read without a pause.
struct Readers {
    done: Arc<AtomicBool>,
    reading: Vec<tokio::task::JoinHandle<Duration>>,
}

impl Readers {
    fn start(client: &Client) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let reading = (0..READERS).map(|_| tokio::spawn(read_until(client.clone(), Arc::clone(&done))));
        Self { reading: reading.collect(), done }
    }

    /// Ends them; none has failed. Gives what the longest read took.
    async fn end(self) -> Duration {
        self.done.store(true, Ordering::Relaxed);
        join_all(self.reading).await.into_iter().map(|longest| longest.expect("no read fails")).max().unwrap()
    }
}

async fn read_until(client: Client, done: Arc<AtomicBool>) -> Duration {
    let mut longest = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = client.get(PATH).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        longest = longest.max(begun.elapsed());
    }
    longest
}

#[tokio::test]
async fn with_all_addresses_stale_but_one_reads_take_no_longer_than_connecting_may() {
    let silent = [(); 2].map(|()| Silent::at(new_place()));
    let (refusing, live) = (new_place(), start_at(new_place()));
    let stale = [address_of(&silent[0].place), address_of(&refusing), address_of(&silent[1].place)];
    let server = server(&[stale.as_slice(), &[live.address]].concat()).await;
    let readers = Readers::start(&server.client);
    asked_more_often(&live, 200).await;
    let longest = readers.end().await;
    assert!(longest < LONGEST, "{longest:?}");
}

#[tokio::test]
async fn while_replicas_are_replaced_no_read_fails_and_who_comes_is_asked() {
    let (old, new) = ([(); 2].map(|()| start_at(new_place())), [(); 2].map(|()| new_place()));
    let (old_addresses, new_addresses) =
        (old.each_ref().map(|replica| replica.address), new.each_ref().map(address_of));
    let server = server(&[old_addresses, new_addresses].concat()).await;
    let left_out = async |count| server.metric(r#"management_replicas{state="left_out"}"#).await == Some(count);
    let readers = Readers::start(&server.client);
    eventually("who is not there yet is left out", async || left_out(2.0).await).await;
    let ([first, second], [place_of_third, place_of_fourth]) = (old, new);
    asked_more_often(&first, 20).await;
    asked_more_often(&second, 20).await;

    let third = start_at(place_of_third);
    asked_more_often(&third, 20).await;
    let gone = first.address;
    first.end().await;
    let _silent = Silent::at(place(gone));
    eventually("one is gone, one is not there yet", async || left_out(2.0).await).await;
    let fourth = start_at(place_of_fourth);
    asked_more_often(&fourth, 20).await;
    second.end().await;
    eventually("both old ones are gone", async || left_out(2.0).await).await;
    asked_more_often(&third, 20).await;
    let longest = readers.end().await;
    assert!(longest < LONGEST, "{longest:?}");
}

#[tokio::test]
async fn a_new_address_of_a_name_and_one_that_was_left_out_have_their_fair_share() {
    let replicas = [(); 3].map(|()| start_at(new_place()));
    let place_of_new = new_place();
    let known = Arc::new(Mutex::new(replicas.each_ref().map(|replica| replica.address).to_vec()));
    let told = Arc::clone(&known);
    let lookup = Lookup::new(move |_, _| {
        let addresses = told.lock().unwrap().clone();
        Box::pin(async { Ok(addresses) })
    });
    let server = Server::with(&[("CUSTOMER_MGMT_API_URL", "http://replicas.test:8081")], |config| {
        config.management.lookup = lookup;
    })
    .await;
    let readers = Readers::start(&server.client);
    for replica in &replicas {
        asked_more_often(replica, 20).await;
    }
    // Of the next reads of all, a part that is fair within a half.
    let fair_share = async |replica: &FakeManagement| {
        let all = || replicas.iter().map(FakeManagement::reads).sum::<usize>();
        eventually("it has its share", async || {
            let (before, others) = (replica.reads(), all());
            eventually("they read", async || all() + replica.reads() >= others + before + 100).await;
            let (own, all) = (replica.reads() - before, all() + replica.reads() - others - before);
            (all / 8..=all * 3 / 8).contains(&own)
        })
        .await;
    };
    known.lock().unwrap().push(address_of(&place_of_new));
    let left_out = async |count| server.metric(r#"management_replicas{state="left_out"}"#).await == Some(count);
    eventually("it is known before it is there", async || left_out(1.0).await).await;
    let begun = Instant::now();
    let new = start_at(place_of_new);
    fair_share(&new).await;
    tracing::info!(after = ?begun.elapsed(), "who was left out has its share");

    let place_of_newest = new_place();
    let (begun, newest) = (Instant::now(), address_of(&place_of_newest));
    let newest_replica = start_at(place_of_newest);
    // In the place of one, so that four share.
    known.lock().unwrap().retain(|address| *address != new.address);
    known.lock().unwrap().push(newest);
    fair_share(&newest_replica).await;
    tracing::info!(after = ?begun.elapsed(), "who is new has its share");
    readers.end().await;
}
