//! A topic that changes while it is read.

use std::collections::BTreeMap;

use shared::kafka::{Codec, InProcessBroker, KafkaError, read_topic};
use shared::testing::{RawProducer, kafka_config, read_all};
use tokio::runtime::Handle;

const TOPIC: &str = "expiring";
const PARTITIONS: i32 = 10;
/// Records of a partition at the beginning. The in-process broker keeps five of this size.
const RECORDS: i64 = 4;
const VALUE: &[u8] = &[0; 1_000_000];

async fn send_to_each(producer: &RawProducer, count: i64) {
    for partition in 0..PARTITIONS {
        for _ in 0..count {
            producer.send(TOPIC, partition, None, Some(VALUE)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_before_it_is_read_leaves_the_rest_to_be_read() {
    let broker = InProcessBroker::start(1).unwrap();
    broker.create_topic(TOPIC, PARTITIONS).unwrap();
    let config = kafka_config(&broker.bootstrap_servers());
    let producer = RawProducer::with_codec(&config, Codec::None);
    send_to_each(&producer, RECORDS).await;
    let (runtime, reader) = (Handle::current(), config.clone());
    let read = tokio::task::spawn_blocking(move || {
        let mut read = BTreeMap::<i32, Vec<i64>>::new();
        read_topic::<KafkaError>(&reader, TOPIC, |record| {
            // A few records are here already; of all others only the last of each partition do not expire now.
            if read.is_empty() {
                runtime.block_on(send_to_each(&producer, RECORDS));
            }
            read.entry(record.partition()).or_default().push(record.offset());
            Ok(())
        })
        .unwrap();
        read
    });
    let read = read.await.unwrap();
    let left = read_all(&config, TOPIC).await;
    assert_eq!(left.iter().map(|record| record.offset).min(), Some(RECORDS - 1), "the last ones have not expired");
    let complete = (0..RECORDS).collect::<Vec<_>>();
    assert!(read.values().any(|offsets| *offsets != complete), "nothing has expired unread: {read:?}");
    for partition in 0..PARTITIONS {
        let last = read.get(&partition).and_then(|offsets| offsets.last());
        assert_eq!(last, Some(&(RECORDS - 1)), "partition {partition}: {read:?}");
    }
}
