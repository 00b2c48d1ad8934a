//! A record's headers on their way out.

use std::ptr;

use rdkafka::message::OwnedHeaders;
use rdkafka_sys as sys;

use super::check;
use crate::kafka::HeaderRef;

/// Headers for rdkafka's producer. It takes only names that are text itself; Kafka takes any bytes.
pub(in crate::kafka) fn owned_headers(headers: &[HeaderRef<'_>]) -> OwnedHeaders {
    let owned = OwnedHeaders::new_with_capacity(headers.len());
    // What rdkafka lends as "borrowed headers" is the address of librdkafka's own.
    let native = ptr::from_ref(owned.as_borrowed()).cast_mut().cast::<sys::rd_kafka_headers_t>();
    for (name, value) in headers {
        let (value, value_size) = value.map_or((ptr::null(), 0), |value| (value.as_ptr(), value.len().cast_signed()));
        let name_size = name.len().cast_signed();
        // SAFETY: the headers are alive and nobody else's; librdkafka copies name and value.
        let code =
            unsafe { sys::rd_kafka_header_add(native, name.as_ptr().cast(), name_size, value.cast(), value_size) };
        debug_assert!(check(code).is_ok(), "headers made here can be added to");
    }
    owned
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    #[test]
    fn names_and_values_are_any_bytes_and_a_value_may_be_absent() {
        let headers: [HeaderRef<'_>; 3] = [(b"caf\xe9", Some(b"\xff\0\x01")), (b"empty", Some(b"")), (b"absent", None)];
        let owned = owned_headers(&headers);
        let native = ptr::from_ref(owned.as_borrowed()).cast::<sys::rd_kafka_headers_t>();
        for (index, (name, value)) in headers.iter().enumerate() {
            let (mut name_found, mut value_found, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the headers live until the end of the test, and what is read belongs to them.
            let found = unsafe {
                let read = (&raw mut name_found, &raw mut value_found, &raw mut size);
                check(sys::rd_kafka_header_get_all(native, index, read.0, read.1, read.2)).unwrap();
                let value =
                    (!value_found.is_null()).then(|| std::slice::from_raw_parts(value_found.cast::<u8>(), size));
                (CStr::from_ptr(name_found).to_bytes(), value)
            };
            assert_eq!(found, (*name, *value));
        }
    }
}
