//! Free ports for runs side by side.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    sync::{LazyLock, Mutex, PoisonError},
};

use crate::error::{Result, StackError};

/// Below the development stack's own ports, and below the range from which Linux takes the ports of outgoing
/// connections (32768 up, unless changed): none of the load generator's thousands can sit on a port that a killed
/// service needs again.
const RANGE: std::ops::Range<u16> = 20_000..30_000;

/// Every port given out, with the socket that reserves it until this program ends.
static RESERVED: LazyLock<Mutex<HashMap<u16, UdpSocket>>> = LazyLock::new(Mutex::default);

/// A TCP port of 127.0.0.1 that nobody listens on, and that no other run of this program gets while we live.
///
/// A service that is killed and started again needs the same port, and between the two nobody holds it. So each port is
/// reserved by the UDP port of the same number: other runs see that it is taken, and the kernel frees it when we end.
///
/// # Errors
/// When no port of the range is free.
pub fn free_port() -> Result<u16> {
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    let width = u64::from(RANGE.end - RANGE.start);
    // std's hasher has a new random key each time, which is all the randomness needed here.
    let start = RandomState::new().hash_one(std::process::id()) % width;
    for step in 0..width {
        let offset = u16::try_from((start + step) % width).unwrap_or(0);
        let port = RANGE.start + offset;
        let Ok(reservation) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) else { continue };
        if is_free(port) {
            reserved.insert(port, reservation);
            return Ok(port);
        }
    }
    Err(StackError::Refused(format!("no free port from {} to {}", RANGE.start, RANGE.end - 1)))
}

/// Whether a service could listen on this port, on every address, right now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_port_is_given_out_twice() {
        let ports: HashSet<u16> = (0..200).map(|_| free_port().expect("a free port")).collect();
        assert_eq!(ports.len(), 200);
    }

    #[test]
    fn a_port_with_a_listener_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        assert!(!is_free(port));
    }
}
