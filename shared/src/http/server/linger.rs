//! The end of a connection whose caller may still be sending.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::activity::{Order, Phase};
use super::places::Place;
use super::socket::Socket;

/// What a caller may still send after its last answer, and for how long: it is read and thrown away, because closing a socket
/// with unread bytes resets the connection, and the caller may lose the answer to it.
const LINGER_BYTES: usize = 32 * 1024 * 1024;
/// In all, and without a byte.
const LINGER: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(2));

/// Ends the sending, and reads on until the caller has ended too, or for long enough.
pub(super) async fn linger(mut socket: Socket, place: &Place) {
    place.activity.enter(Phase::Lingering);
    let (in_all, without_a_byte) = LINGER;
    let drain = async {
        let (mut left, mut buffer) = (LINGER_BYTES, vec![0; 4096]);
        let _ = socket.shutdown().await;
        while left > 0 {
            let read = timeout(without_a_byte, socket.read(&mut buffer)).await.ok()?.ok()?;
            left = left.saturating_sub(if read == 0 { left } else { read });
        }
        Some(())
    };
    let told = async {
        while place.activity.order() == Order::None {
            place.activity.told().await;
        }
    };
    tokio::select! {
        _ = timeout(in_all, drain) => {}
        () = told => {}
    }
}
