//! More callers than there is room for: who has asked is answered, who has not makes room.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{DEADLINE, FakeAnswer, Server, eventually};

const LITTLE_ROOM: (&str, &str) = ("HTTP_MEMORY_MAX_KIB", "1024");
const BUY: &str = "POST /buy HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: 39\r\n\r\n\
    {\"username\":\"n\",\"userid\":\"u\",\"price\":1}";

/// Connections that have sent nothing, and have done so for long enough to be closed for others.
async fn idle(server: &Server, count: usize) -> Vec<TcpStream> {
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(TcpStream::connect(server.client.address).await.unwrap());
    }
    let count = f64::from(u32::try_from(count).unwrap());
    eventually("all have a place", async || server.metric("http_connections").await.unwrap() > count).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    idle
}

/// The status of the next answer; empty when the connection is closed instead.
async fn status(connection: &mut TcpStream) -> String {
    let mut start = [0; 12];
    let read = tokio::time::timeout(DEADLINE, connection.read_exact(&mut start)).await.expect("in time");
    read.map(|_| String::from_utf8_lossy(&start[9..]).into_owned()).unwrap_or_default()
}

#[tokio::test]
async fn who_waits_for_room_with_a_request_is_not_closed_for_another() {
    let server = Server::with(&[LITTLE_ROOM], |_| {}).await;
    let mut asking = idle(&server, 170).await;
    // In two pieces, as heads come that do not fit a packet.
    let (begin, end) = BUY.split_at(20);
    for part in [begin, end] {
        for connection in &mut asking {
            let _ = connection.write_all(part.as_bytes()).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for connection in &mut asking {
        let status = status(connection).await;
        assert!(["202", "503"].contains(&status.as_str()), "{status:?} instead of an answer");
    }
}

#[tokio::test]
async fn as_many_idle_connections_are_closed_as_requests_need() {
    let server = Server::with(&[LITTLE_ROOM], |_| {}).await;
    let idle = idle(&server, 180).await;
    let mut used = Vec::new();
    for _ in 0..5 {
        let mut connection = TcpStream::connect(server.client.address).await.unwrap();
        connection.write_all(BUY.as_bytes()).await.unwrap();
        assert_eq!(status(&mut connection).await, "202");
        used.push(connection);
    }
    let closed = idle.iter().filter(|connection| matches!(connection.try_read(&mut [0]), Ok(0))).count();
    assert!((5..60).contains(&closed), "{closed} were closed for five requests");
}

#[tokio::test]
async fn a_newcomer_without_a_place_who_says_nothing_does_not_keep_the_reserve() {
    let server = Server::unready(&[("CONNECTIONS_MAX", "1"), LITTLE_ROOM], |_| {}).await;
    server.management.answers(|_| FakeAnswer { delay: Duration::from_secs(8), ..FakeAnswer::ok("{}") });
    let mut busy = TcpStream::connect(server.client.address).await.unwrap();
    busy.write_all(b"GET /purchases?timeout=9000 HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    eventually("it is asked", async || server.management.seen().len() == 1).await;
    let (mut silent, began) = (TcpStream::connect(server.client.address).await.unwrap(), Instant::now());
    assert_eq!(status(&mut silent).await, "");
    assert!(began.elapsed() < Duration::from_secs(6), "long before an idle connection ends");
}
