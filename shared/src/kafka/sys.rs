//! The few calls of librdkafka that rdkafka does not wrap. All unsafe code of the project is here.
#![expect(unsafe_code, reason = "librdkafka is C, and these calls have no safe wrapper")]

mod headers;

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext, DefaultClientContext};
use rdkafka::message::BorrowedMessage;
use rdkafka_sys as sys;

pub(super) use self::headers::owned_headers;

/// Whether a record that failed is certainly not on any broker.
pub(super) fn never_persisted(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the message is alive as long as its borrow.
    let status = unsafe { sys::rd_kafka_message_status(message.ptr()) };
    status == sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}

/// The id that the cluster gave to this incarnation of `topic`, asked of `broker`; nothing when there is no such topic.
pub(super) fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    broker: i32,
    timeout: Duration,
) -> Result<Option<String>, String> {
    let name = CString::new(topic).map_err(|_| "the topic's name has a NUL".to_owned())?;
    let mut names: [*const c_char; 1] = [name.as_ptr()];
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: every object made here is destroyed below, after its last use; the client outlives the call.
    unsafe {
        let client = client.native_ptr();
        let queue = sys::rd_kafka_queue_new(client);
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        let options =
            sys::rd_kafka_AdminOptions_new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        // Any broker knows; left to itself the client would wait for the controller, which may be away.
        sys::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
        sys::rd_kafka_DescribeTopics(client, topics, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, millis.saturating_add(1000));
        let result = if event.is_null() { Err("no answer in time".to_owned()) } else { described_id(event) };
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(topics);
        sys::rd_kafka_queue_destroy(queue);
        result
    }
}

/// # Safety
/// `event` must be the live answer of a `DescribeTopics` call for one topic.
unsafe fn described_id(event: *mut sys::rd_kafka_event_t) -> Result<Option<String>, String> {
    // SAFETY: the event is alive, and all that is read belongs to it.
    unsafe {
        let code = sys::rd_kafka_event_error(event);
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(text(sys::rd_kafka_event_error_string(event)));
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if topics.is_null() || count != 1 {
            return Err("the answer names no topic".to_owned());
        }
        let error = sys::rd_kafka_TopicDescription_error(*topics);
        match sys::rd_kafka_error_code(error) {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {
                let id = sys::rd_kafka_TopicDescription_topic_id(*topics);
                Ok(Some(text(sys::rd_kafka_Uuid_base64str(id))))
            }
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART => Ok(None),
            _ => Err(text(sys::rd_kafka_error_string(error))),
        }
    }
}

/// # Safety
/// `pointer` must be null or a NUL-terminated string.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: not null, and NUL-terminated by the caller's word.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// librdkafka's in-process cluster; the client that carries it is kept for as long.
pub(super) struct MockCluster {
    cluster: *mut sys::rd_kafka_mock_cluster_t,
    _client: Client<DefaultClientContext>,
}

// SAFETY: librdkafka guards the cluster by its own lock and thread.
unsafe impl Send for MockCluster {}
// SAFETY: as above.
unsafe impl Sync for MockCluster {}

impl MockCluster {
    pub(super) fn new(brokers: i32) -> Result<Self, String> {
        let config = rdkafka::ClientConfig::new();
        let native = config.create_native_config().map_err(|error| error.to_string())?;
        let kind = sys::types::RDKafkaType::RD_KAFKA_PRODUCER;
        let client = Client::new(&config, native, kind, DefaultClientContext).map_err(|error| error.to_string())?;
        // SAFETY: the client is alive, and kept alive in the same value.
        let cluster = unsafe { sys::rd_kafka_mock_cluster_new(client.native_ptr(), brokers) };
        if cluster.is_null() {
            return Err("librdkafka cannot make its in-process cluster".to_owned());
        }
        Ok(Self { cluster, _client: client })
    }

    pub(super) fn bootstrap_servers(&self) -> String {
        // SAFETY: the cluster is alive.
        unsafe { text(sys::rd_kafka_mock_cluster_bootstraps(self.cluster)) }
    }

    pub(super) fn create_topic(&self, topic: &str, partitions: i32, replication: i32) -> Result<(), String> {
        let name = CString::new(topic).map_err(|_| "the topic's name has a NUL".to_owned())?;
        // SAFETY: the cluster and the name are alive.
        let code = unsafe { sys::rd_kafka_mock_topic_create(self.cluster, name.as_ptr(), partitions, replication) };
        check(code)
    }

    /// How long a new consumer group waits for further members.
    pub(super) fn set_group_start_delay(&self, delay: Duration) {
        let millis = i32::try_from(delay.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the cluster is alive.
        unsafe { sys::rd_kafka_mock_group_initial_rebalance_delay_ms(self.cluster, millis) };
    }

    pub(super) fn set_broker_up(&self, broker: i32, up: bool) -> Result<(), String> {
        // SAFETY: the cluster is alive.
        check(unsafe {
            if up {
                sys::rd_kafka_mock_broker_set_up(self.cluster, broker)
            } else {
                sys::rd_kafka_mock_broker_set_down(self.cluster, broker)
            }
        })
    }

    /// The next requests of this kind fail with these codes, one after the other.
    pub(super) fn push_errors(&self, api_key: i16, codes: &[sys::rd_kafka_resp_err_t]) {
        // SAFETY: the cluster and the codes are alive, and the count is theirs.
        unsafe {
            sys::rd_kafka_mock_push_request_errors_array(self.cluster, api_key, codes.len(), codes.as_ptr());
        }
    }
}

impl Drop for MockCluster {
    fn drop(&mut self) {
        // SAFETY: the cluster is alive until here, and its client until after.
        unsafe { sys::rd_kafka_mock_cluster_destroy(self.cluster) };
    }
}

fn check(code: sys::rd_kafka_resp_err_t) -> Result<(), String> {
    if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(format!("{code:?}")) }
}
