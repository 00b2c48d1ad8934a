//! A consumer's queue, event by event: rdkafka's own poll loses which partition an error is about, and panics at a header
//! whose name is not UTF-8.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::time::Duration;
use std::{ptr, slice};

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;

use rdkafka_sys as sys;

use super::text;

/// What happened to a consumer.
pub(in crate::kafka) enum Event<'a> {
    /// A record was fetched.
    Record(FetchedRecord<'a>),
    /// Something is wrong with one partition: its number, and an offset if one is told.
    PartitionError { partition: i32, offset: Option<i64>, code: RDKafkaErrorCode, text: String },
    /// Something is wrong with the client.
    ClientError { code: RDKafkaErrorCode, text: String, is_fatal: bool },
    /// The group gives partitions.
    Assigned(Vec<i32>),
    /// The group takes partitions.
    Revoked(Vec<i32>),
    /// A commit has come to its end.
    Committed(Result<(), RDKafkaErrorCode>),
    /// The client's statistics, as JSON.
    Statistics(Vec<u8>),
    /// A line of the client's own log.
    Log { level: RDKafkaLogLevel, facility: String, message: String },
    /// Of no interest.
    Other,
}

/// The queue of one consumer; it must be dropped before its client.
pub(in crate::kafka) struct EventQueue(*mut sys::rd_kafka_queue_t);

// SAFETY: librdkafka's queues have their own lock.
unsafe impl Send for EventQueue {}
// SAFETY: as above.
unsafe impl Sync for EventQueue {}

impl EventQueue {
    /// The queue of a client that is a consumer with a group.
    pub(in crate::kafka) fn of_consumer<C: ClientContext>(client: &Client<C>) -> Option<Self> {
        // SAFETY: the client is alive; the queue is counted, and destroyed with this value.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(client.native_ptr()) };
        (!queue.is_null()).then_some(Self(queue))
    }

    /// The next event, if there is one in time.
    pub(in crate::kafka) fn poll(&self, timeout: Duration) -> Option<Event<'_>> {
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive.
        let event = unsafe { sys::rd_kafka_queue_poll(self.0, millis) };
        (!event.is_null()).then(|| OwnedEvent(event).open())
    }

    /// Commits offsets in the background; how that ends is an event of this queue.
    pub(in crate::kafka) fn commit<C: ClientContext>(
        &self,
        client: &Client<C>,
        offsets: &TopicPartitionList,
    ) -> Result<(), RDKafkaErrorCode> {
        let (client, offsets) = (client.native_ptr(), offsets.ptr());
        // SAFETY: client, offsets and queue are alive; librdkafka copies the offsets.
        let code = unsafe { sys::rd_kafka_commit_queue(client, offsets, self.0, None, ptr::null_mut()) };
        if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(code.into()) }
    }
}

impl Drop for EventQueue {
    fn drop(&mut self) {
        // SAFETY: it was counted for this value alone.
        unsafe { sys::rd_kafka_queue_destroy(self.0) };
    }
}

struct OwnedEvent(*mut sys::rd_kafka_event_t);

impl Drop for OwnedEvent {
    fn drop(&mut self) {
        // SAFETY: the event is ours, and nothing borrowed from it lives on.
        unsafe { sys::rd_kafka_event_destroy(self.0) };
    }
}

impl OwnedEvent {
    fn open<'a>(self) -> Event<'a> {
        // SAFETY: the event is alive until the end of this function, or of the record that owns it then; each call suits the
        // event's type.
        unsafe {
            match sys::rd_kafka_event_type(self.0) {
                sys::RD_KAFKA_EVENT_FETCH => {
                    let message = sys::rd_kafka_event_message_next(self.0);
                    if message.is_null() {
                        return Event::Other;
                    }
                    Event::Record(FetchedRecord { message, _event: self, _queue: PhantomData })
                }
                sys::RD_KAFKA_EVENT_ERROR => self.error(),
                sys::RD_KAFKA_EVENT_REBALANCE => self.rebalance(),
                sys::RD_KAFKA_EVENT_OFFSET_COMMIT => {
                    let code = sys::rd_kafka_event_error(self.0);
                    let done = code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
                    Event::Committed(if done { Ok(()) } else { Err(code.into()) })
                }
                sys::RD_KAFKA_EVENT_STATS => {
                    let json = sys::rd_kafka_event_stats(self.0);
                    if json.is_null() {
                        Event::Other
                    } else {
                        Event::Statistics(CStr::from_ptr(json).to_bytes().to_vec())
                    }
                }
                sys::RD_KAFKA_EVENT_LOG => self.log(),
                _ => Event::Other,
            }
        }
    }

    /// # Safety
    /// The event must be a line of the log.
    unsafe fn log<'a>(&self) -> Event<'a> {
        let (mut facility, mut message, mut level) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the event is alive; what is written are pointers into it.
        unsafe {
            if sys::rd_kafka_event_log(self.0, &raw mut facility, &raw mut message, &raw mut level) != 0 {
                return Event::Other;
            }
            Event::Log { level: log_level(level), facility: text(facility), message: text(message) }
        }
    }

    /// # Safety
    /// The event must be an error.
    unsafe fn error<'a>(&self) -> Event<'a> {
        // SAFETY: the event is alive; the partition that it gives is ours to destroy.
        unsafe {
            let code = sys::rd_kafka_event_error(self.0).into();
            let text = text(sys::rd_kafka_event_error_string(self.0));
            let place = sys::rd_kafka_event_topic_partition(self.0);
            if place.is_null() {
                return Event::ClientError { code, text, is_fatal: sys::rd_kafka_event_error_is_fatal(self.0) != 0 };
            }
            let (partition, offset) = ((*place).partition, (*place).offset);
            sys::rd_kafka_topic_partition_destroy(place);
            Event::PartitionError { partition, offset: (offset >= 0).then_some(offset), code, text }
        }
    }

    /// # Safety
    /// The event must be a rebalance.
    unsafe fn rebalance<'a>(&self) -> Event<'a> {
        // SAFETY: the list belongs to the event, which is alive.
        unsafe {
            let list = sys::rd_kafka_event_topic_partition_list(self.0);
            let count = if list.is_null() { 0 } else { usize::try_from((*list).cnt).unwrap_or(0) };
            let elements = if count == 0 { &[] } else { slice::from_raw_parts((*list).elems, count) };
            let partitions = elements.iter().map(|element| element.partition).collect();
            match sys::rd_kafka_event_error(self.0) {
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Event::Assigned(partitions),
                _ => Event::Revoked(partitions),
            }
        }
    }
}

/// A level of syslog, as librdkafka counts.
fn log_level(number: i32) -> RDKafkaLogLevel {
    match number {
        ..=3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 | 6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}

/// A record in librdkafka's memory.
pub(in crate::kafka) struct FetchedRecord<'a> {
    message: *const sys::rd_kafka_message_t,
    _event: OwnedEvent,
    /// The memory is the client's, which outlives its queue.
    _queue: PhantomData<&'a EventQueue>,
}

// SAFETY: the record is owned by this value alone, and librdkafka does not care which thread reads it.
unsafe impl Send for FetchedRecord<'_> {}

impl FetchedRecord<'_> {
    fn message(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: the event that owns the message lives as long as this value.
        unsafe { &*self.message }
    }

    pub(in crate::kafka) fn partition(&self) -> i32 {
        self.message().partition
    }

    pub(in crate::kafka) fn offset(&self) -> i64 {
        self.message().offset
    }

    pub(in crate::kafka) fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: the message is alive.
        let epoch = unsafe { sys::rd_kafka_message_leader_epoch(self.message) };
        (epoch >= 0).then_some(epoch)
    }

    pub(in crate::kafka) fn timestamp_ms(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message and the place for the kind are alive.
        let millis = unsafe { sys::rd_kafka_message_timestamp(self.message, &raw mut kind) };
        (kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && millis >= 0).then_some(millis)
    }

    pub(in crate::kafka) fn key(&self) -> Option<&[u8]> {
        let message = self.message();
        // SAFETY: the bytes belong to the message.
        unsafe { bytes(message.key.cast(), message.key_len) }
    }

    pub(in crate::kafka) fn value(&self) -> Option<&[u8]> {
        let message = self.message();
        // SAFETY: the bytes belong to the message.
        unsafe { bytes(message.payload.cast(), message.len) }
    }

    /// The header at a place in the record's order; names are bytes, whatever Kafka's protocol says of them.
    pub(in crate::kafka) fn header(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
        let (mut headers, mut name) = (ptr::null_mut(), ptr::null());
        let (mut value, mut length) = (ptr::null(), 0);
        // SAFETY: the message is alive; what is written are pointers into it.
        unsafe {
            let ok = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            if sys::rd_kafka_message_headers(self.message, &raw mut headers) != ok {
                return None;
            }
            let found = sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut length);
            (found == ok).then(|| (CStr::from_ptr(name).to_bytes(), bytes(value.cast(), length)))
        }
    }
}

/// # Safety
/// `start` must be null or the beginning of `length` bytes that live for `'a`.
unsafe fn bytes<'a>(start: *const u8, length: usize) -> Option<&'a [u8]> {
    // SAFETY: by the caller's word.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start, length) })
}
