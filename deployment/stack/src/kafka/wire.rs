//! The least of Kafka's protocol: requests written and answers read by hand, independent of the client library that is
//! under test. See "Protocol guide" of Apache Kafka.

use std::{io, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long a broker may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// A bound on the answer's size, so that a wrong number cannot take all memory.
const ANSWER_MAX_BYTES: usize = 16 << 20;

/// A request under way to its broker. Lengths and counts are far below what their fields hold.
pub(super) struct Request(Vec<u8>);

impl Request {
    /// With header version 1: correlation 0, no client id.
    pub(super) fn new(api: i16, version: i16) -> Self {
        Self(Vec::new()).int16(api).int16(version).int32(0).int16(-1)
    }

    pub(super) fn bool(mut self, value: bool) -> Self {
        self.0.push(value.into());
        self
    }

    pub(super) fn int16(mut self, value: i16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn int32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn int64(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn string(self, value: &str) -> Self {
        let mut request = self.int16(i16::try_from(value.len()).unwrap_or(i16::MAX));
        request.0.extend(value.as_bytes());
        request
    }

    /// An array's length, then each of its elements.
    pub(super) fn array<T>(self, items: &[T], each: impl Fn(Self, &T) -> Self) -> Self {
        items.iter().fold(self.int32(i32::try_from(items.len()).unwrap_or(i32::MAX)), each)
    }

    /// Sends it to the broker at this port of 127.0.0.1; the answer without its length.
    pub(super) async fn send(&self, port: u16) -> io::Result<Vec<u8>> {
        timeout(ANSWER_DEADLINE, self.exchange(port)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn exchange(&self, port: u16) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let length = u32::try_from(self.0.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), self.0.as_slice()].concat()).await?;
        let length = usize::try_from(stream.read_i32().await?).unwrap_or(usize::MAX);
        if length > ANSWER_MAX_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }
}

/// What is left to read; None anywhere means that the bytes ended early.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = self.int32()?;
        (0..length).map(|_| each(self)).collect()
    }

    /// A string, which may be null (length -1): then empty.
    pub(super) fn string(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.int16()?).unwrap_or(0);
        std::str::from_utf8(self.take(length)?).ok()
    }

    pub(super) fn int16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(super) fn int32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn int64(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}
