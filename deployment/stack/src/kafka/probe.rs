//! Asks a broker for the cluster's metadata in Kafka's own protocol, by hand: independent of the client library that is
//! under test.
//!
//! Request and response are `Metadata` version 4, see "Protocol guide" of Apache Kafka, section Metadata.

use std::{io, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::error::{Doing, Result};

/// How long a broker may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// `Metadata`, version 4, correlation 0, no client id, all topics (null), without creating any.
const REQUEST: &[u8] = &[0, 0, 0, 15, 0, 3, 0, 4, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];

/// A bound on the answer's size, so that a wrong number cannot take all memory.
const ANSWER_MAX_BYTES: usize = 16 << 20;

/// The cluster as one broker knows it.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    /// Node ids of the brokers that are in service.
    pub brokers: Vec<i32>,
    /// All partitions of all topics.
    pub partitions: Vec<PartitionView>,
}

/// One partition and where it is.
#[derive(Debug, Clone)]
pub struct PartitionView {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// The leader's node id; -1 while there is none.
    pub leader: i32,
    /// The node ids that should have it.
    pub replicas: Vec<i32>,
    /// The node ids that have all of it.
    pub in_sync: Vec<i32>,
}

impl PartitionView {
    /// Whether it has a leader and all its replicas are in sync.
    pub fn is_complete(&self) -> bool {
        self.leader >= 0 && self.in_sync.len() == self.replicas.len()
    }
}

/// Asks the broker at this port of 127.0.0.1.
///
/// # Errors
/// When it does not answer within two seconds, or with something that is no metadata.
pub async fn view(port: u16) -> Result<ClusterView> {
    let answer = timeout(ANSWER_DEADLINE, exchange(port)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let bytes = answer.doing(format!("asking the broker at port {port}"))?;
    let view = Reader(&bytes).view();
    view.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)).doing(format!("reading metadata of port {port}"))
}

async fn exchange(port: u16) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(REQUEST).await?;
    let length = usize::try_from(stream.read_i32().await?).unwrap_or(usize::MAX);
    if length > ANSWER_MAX_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// What is left to read; None anywhere means that the bytes ended early.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn view(&mut self) -> Option<ClusterView> {
        let _correlation = self.int32()?;
        let _throttle_ms = self.int32()?;
        let mut view = ClusterView::default();
        for _ in 0..self.int32()? {
            view.brokers.push(self.int32()?);
            let _host = self.string()?;
            let _port = self.int32()?;
            let _rack = self.string()?;
        }
        let _cluster_id = self.string()?;
        let _controller = self.int32()?;
        for _ in 0..self.int32()? {
            let _error = self.int16()?;
            let topic = self.string()?;
            let _is_internal = self.take(1)?;
            for _ in 0..self.int32()? {
                view.partitions.push(self.partition(topic)?);
            }
        }
        Some(view)
    }

    fn partition(&mut self, topic: &str) -> Option<PartitionView> {
        let _error = self.int16()?;
        Some(PartitionView {
            topic: topic.to_owned(),
            partition: self.int32()?,
            leader: self.int32()?,
            replicas: self.int32_list()?,
            in_sync: self.int32_list()?,
        })
    }

    fn int32_list(&mut self) -> Option<Vec<i32>> {
        let length = self.int32()?;
        (0..length).map(|_| self.int32()).collect()
    }

    /// A string, which may be null (length -1): then empty.
    fn string(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.int16()?).unwrap_or(0);
        std::str::from_utf8(self.take(length)?).ok()
    }

    fn int16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn int32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_says_its_own_length() {
        assert_eq!(i32::from_be_bytes(REQUEST[..4].try_into().unwrap()), i32::try_from(REQUEST.len() - 4).unwrap());
    }

    #[test]
    fn a_cut_answer_is_refused() {
        assert!(Reader(&[0, 0, 0, 0, 0, 0]).view().is_none());
    }
}
