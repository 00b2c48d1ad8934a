//! The id of a topic, which `DescribeTopics` tells.

use std::ffi::{CString, c_char};
use std::ptr;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka_sys as sys;

use super::text;

/// The id that the cluster gave to this incarnation of `topic`, asked of `broker`; nothing when there is no such topic.
pub(in crate::kafka) fn topic_id<C: ClientContext>(
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
