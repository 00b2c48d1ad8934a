//! What others compress is read, whatever codec they chose.

use shared::kafka::Codec;
use shared::testing::RawProducer;

use crate::harness::{Api, Kafka, TOPIC, value};

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_every_codec_are_recorded() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    for codec in Codec::ALL {
        // Long enough that compressing it pays: the client sends what does not shrink as it is.
        let username = "n".repeat(200);
        let record = format!(r#"{{"userid":"{}","username":"{username}","price":1}}"#, codec.name());
        let producer = RawProducer::with_codec(&kafka.config, codec);
        producer.send(TOPIC, 0, None, Some(record.as_bytes())).await;
        api.user_with(codec.name(), 1).await;
    }
    kafka.send(&value("ann", "1")).await;
    api.user_with("ann", 1).await;
    assert!(kafka.dead_letters(0).await.is_empty());
    assert!(api.stop().await);
}
