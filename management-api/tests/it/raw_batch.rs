//! Batches of records as no client library would write them, sent to the in-process broker over its own protocol
//! (Kafka's protocol guide: Produce version 7, record batch version 2).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Bits of a batch's attributes: the codec that no client knows.
pub const UNKNOWN_CODEC: i16 = 6;

/// Bits of a batch's attributes: marks of transactions.
pub const MARK: i16 = 0x30;
/// The one record of such a batch: a transaction was committed.
pub const COMMITTED: &[u8] = b"\x20\0\0\0\x08\0\0\0\x01\x0c\0\0\0\0\0\0\0";

/// A batch of one record, with these attributes and, unless it is to be broken, the right checksum.
pub fn batch(attributes: i16, payload: &[u8], broken: bool) -> Vec<u8> {
    let mut checked = Vec::new();
    checked.extend(attributes.to_be_bytes());
    checked.extend(0_i32.to_be_bytes()); // last offset delta
    checked.extend(1_700_000_000_000_i64.to_be_bytes()); // first time
    checked.extend(1_700_000_000_000_i64.to_be_bytes()); // last time
    checked.extend((-1_i64).to_be_bytes()); // producer id
    checked.extend((-1_i16).to_be_bytes()); // producer epoch
    checked.extend((-1_i32).to_be_bytes()); // base sequence
    checked.extend(1_i32.to_be_bytes()); // records
    checked.extend(payload);
    let checksum = crc32c(&checked) ^ u32::from(broken);
    let mut batch = Vec::new();
    batch.extend(0_i64.to_be_bytes()); // base offset: the broker's to say
    batch.extend(i32::try_from(4 + 1 + 4 + checked.len()).unwrap().to_be_bytes());
    batch.extend((-1_i32).to_be_bytes()); // leader epoch: the broker's to say
    batch.push(2);
    batch.extend(checksum.to_be_bytes());
    batch.extend(checked);
    batch
}

/// Appends a batch to a partition, through the one broker at `address`.
pub fn append(address: &str, topic: &str, partition: i32, batch: &[u8]) {
    let mut request = Vec::new();
    request.extend(0_i16.to_be_bytes()); // Produce
    request.extend(7_i16.to_be_bytes());
    request.extend(1_i32.to_be_bytes()); // correlation
    request.extend((-1_i16).to_be_bytes()); // no client id
    request.extend((-1_i16).to_be_bytes()); // no transaction
    request.extend((-1_i16).to_be_bytes()); // acks=all
    request.extend(5_000_i32.to_be_bytes());
    request.extend(1_i32.to_be_bytes());
    request.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
    request.extend(topic.as_bytes());
    request.extend(1_i32.to_be_bytes());
    request.extend(partition.to_be_bytes());
    request.extend(i32::try_from(batch.len()).unwrap().to_be_bytes());
    request.extend(batch);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&i32::try_from(request.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&request).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    // Correlation, one topic with its name, one partition: its number, then its error code.
    let code = &answer[4 + 4 + 2 + topic.len() + 4 + 4..][..2];
    assert_eq!(code, [0, 0], "the broker takes the batch");
}

/// CRC-32C (Castagnoli), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn the_checksum_is_that_of_the_standard() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}
