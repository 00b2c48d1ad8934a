//! Asks a broker for the cluster's metadata: `Metadata` version 4.

use std::io;

use super::wire::{Reader, Request};
use crate::error::{Doing, Result};

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
    // All topics (null), without creating any.
    let request = Request::new(3, 4).int32(-1).bool(false);
    let bytes = request.send(port).await.doing(format!("asking the broker at port {port}"))?;
    let view = read_view(&mut Reader(&bytes));
    view.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)).doing(format!("reading metadata of port {port}"))
}

fn read_view(answer: &mut Reader<'_>) -> Option<ClusterView> {
    let _correlation = answer.int32()?;
    let _throttle_ms = answer.int32()?;
    let mut view = ClusterView::default();
    for _ in 0..answer.int32()? {
        view.brokers.push(answer.int32()?);
        let _host = answer.string()?;
        let _port = answer.int32()?;
        let _rack = answer.string()?;
    }
    let _cluster_id = answer.string()?;
    let _controller = answer.int32()?;
    for _ in 0..answer.int32()? {
        let _error = answer.int16()?;
        let topic = answer.string()?;
        let _is_internal = answer.take(1)?;
        for _ in 0..answer.int32()? {
            view.partitions.push(read_partition(answer, topic)?);
        }
    }
    Some(view)
}

fn read_partition(answer: &mut Reader<'_>, topic: &str) -> Option<PartitionView> {
    let _error = answer.int16()?;
    Some(PartitionView {
        topic: topic.to_owned(),
        partition: answer.int32()?,
        leader: answer.int32()?,
        replicas: answer.list(Reader::int32)?,
        in_sync: answer.list(Reader::int32)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_answer_is_refused() {
        assert!(read_view(&mut Reader(&[0, 0, 0, 0, 0, 0])).is_none());
    }
}
