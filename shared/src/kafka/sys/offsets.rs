//! Offsets with what rdkafka leaves out: leader epochs, and the end of a log with or without open transactions.

use std::ptr;
use std::slice;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka_sys as sys;

use super::text;
use crate::kafka::ReadPosition;

/// Which records count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kafka) enum IsolationLevel {
    /// All of them: the end of the log.
    ReadUncommitted,
    /// Those before the first open transaction: the last stable offset.
    ReadCommitted,
}

/// Writes the leader epochs into a list that gives offsets, in its order; librdkafka then checks each offset against the
/// leader's history (KIP-320).
pub(in crate::kafka) fn with_leader_epochs(list: &mut TopicPartitionList, epochs: &[Option<i32>]) {
    // SAFETY: the list is alive and borrowed exclusively, and its own count bounds the elements.
    unsafe {
        let list = list.ptr();
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        for (index, epoch) in epochs.iter().enumerate().take(count) {
            if let Some(epoch) = epoch {
                sys::rd_kafka_topic_partition_set_leader_epoch((*list).elems.add(index), *epoch);
            }
        }
    }
}

/// The next offset of each partition in `list` at this isolation level, with the epoch of the leader that tells it. Blocks.
pub(in crate::kafka) fn end_offsets<C: ClientContext>(
    client: &Client<C>,
    list: &TopicPartitionList,
    isolation: IsolationLevel,
    timeout: Duration,
) -> Result<Vec<ReadPosition>, String> {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let level = match isolation {
        IsolationLevel::ReadUncommitted => sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
        IsolationLevel::ReadCommitted => sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
    };
    // SAFETY: every object made here is destroyed below, after its last use; the client and the list outlive the call.
    unsafe {
        let client = client.native_ptr();
        let queue = sys::rd_kafka_queue_new(client);
        let options = sys::rd_kafka_AdminOptions_new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        let refused = sys::rd_kafka_AdminOptions_set_isolation_level(options, level);
        if !refused.is_null() {
            sys::rd_kafka_error_destroy(refused);
        }
        sys::rd_kafka_ListOffsets(client, list.ptr(), options, queue);
        let event = sys::rd_kafka_queue_poll(queue, millis.saturating_add(1000));
        let result = if event.is_null() { Err("no answer in time".to_owned()) } else { listed(event) };
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_queue_destroy(queue);
        result
    }
}

/// # Safety
/// `event` must be the live answer of a `ListOffsets` call.
unsafe fn listed(event: *mut sys::rd_kafka_event_t) -> Result<Vec<ReadPosition>, String> {
    // SAFETY: the event is alive, and all that is read belongs to it.
    unsafe {
        if sys::rd_kafka_event_error(event) != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(text(sys::rd_kafka_event_error_string(event)));
        }
        let mut count = 0;
        let infos =
            sys::rd_kafka_ListOffsets_result_infos(sys::rd_kafka_event_ListOffsets_result(event), &raw mut count);
        if infos.is_null() || count == 0 {
            return Ok(Vec::new());
        }
        let infos = slice::from_raw_parts(infos, count);
        let places = infos.iter().map(|info| &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*info));
        let known = places.filter(|place| place.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
        let positions = known.map(|place| {
            let epoch = sys::rd_kafka_topic_partition_get_leader_epoch(place);
            let leader_epoch = (epoch >= 0).then_some(epoch);
            ReadPosition { partition: place.partition, offset: place.offset, leader_epoch }
        });
        Ok(positions.collect())
    }
}
