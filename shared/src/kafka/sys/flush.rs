//! Sending at once what a producer holds.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka_sys as sys;

/// Sends all that the producer holds, in batches as big as can be, and waits until it is answered, at most `time` (in whole
/// milliseconds). The reports must be served by another thread meanwhile: rdkafka's own `flush` serves them itself, and so
/// lets a batch leave while it is still being filled.
pub(in crate::kafka) fn flush<C: ClientContext>(producer: &Client<C>, time: Duration) {
    let time = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client is alive as long as its borrow; what is not answered in time is no error here.
    let _ = unsafe { sys::rd_kafka_flush(producer.native_ptr(), time) };
}
