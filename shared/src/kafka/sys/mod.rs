//! The few calls of librdkafka that rdkafka does not wrap. All unsafe code of this crate is here.
#![expect(unsafe_code, reason = "librdkafka is C, and these calls have no safe wrapper")]

mod events;
mod flush;
mod headers;
mod mock;
mod offsets;
mod topic_id;

use std::ffi::{CStr, c_char};

use rdkafka::message::BorrowedMessage;
use rdkafka_sys as sys;

pub(super) use self::events::{Event, EventQueue, FetchedRecord};
pub(super) use self::flush::flush;
pub(super) use self::headers::owned_headers;
pub(super) use self::mock::MockCluster;
pub(super) use self::offsets::{IsolationLevel, end_offsets, with_leader_epochs};
pub(super) use self::topic_id::topic_id;

/// Whether a record that failed is certainly not on any broker.
pub(super) fn never_persisted(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the message is alive as long as its borrow.
    let status = unsafe { sys::rd_kafka_message_status(message.ptr()) };
    status == sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
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

fn check(code: sys::rd_kafka_resp_err_t) -> Result<(), String> {
    if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(format!("{code:?}")) }
}
