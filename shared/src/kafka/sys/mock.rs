//! librdkafka's in-process cluster.

use std::ffi::CString;
use std::time::Duration;

use rdkafka::client::{Client, DefaultClientContext};
use rdkafka_sys as sys;

use super::{check, text};

/// librdkafka's in-process cluster; the client that carries it is kept for as long.
pub(in crate::kafka) struct MockCluster {
    cluster: *mut sys::rd_kafka_mock_cluster_t,
    _client: Client<DefaultClientContext>,
}

// SAFETY: librdkafka guards the cluster by its own lock and thread.
unsafe impl Send for MockCluster {}
// SAFETY: as above.
unsafe impl Sync for MockCluster {}

impl MockCluster {
    pub(in crate::kafka) fn new(brokers: i32) -> Result<Self, String> {
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

    pub(in crate::kafka) fn bootstrap_servers(&self) -> String {
        // SAFETY: the cluster is alive.
        unsafe { text(sys::rd_kafka_mock_cluster_bootstraps(self.cluster)) }
    }

    pub(in crate::kafka) fn create_topic(&self, topic: &str, partitions: i32, replication: i32) -> Result<(), String> {
        let name = CString::new(topic).map_err(|_| "the topic's name has a NUL".to_owned())?;
        // SAFETY: the cluster and the name are alive.
        let code = unsafe { sys::rd_kafka_mock_topic_create(self.cluster, name.as_ptr(), partitions, replication) };
        check(code)
    }

    /// How long a new consumer group waits for further members.
    pub(in crate::kafka) fn set_group_start_delay(&self, delay: Duration) {
        let millis = i32::try_from(delay.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the cluster is alive.
        unsafe { sys::rd_kafka_mock_group_initial_rebalance_delay_ms(self.cluster, millis) };
    }

    pub(in crate::kafka) fn set_broker_up(&self, broker: i32, up: bool) -> Result<(), String> {
        // SAFETY: the cluster is alive.
        check(unsafe {
            if up {
                sys::rd_kafka_mock_broker_set_up(self.cluster, broker)
            } else {
                sys::rd_kafka_mock_broker_set_down(self.cluster, broker)
            }
        })
    }

    /// Makes a broker the partition's leader; a new epoch begins, also if it was before.
    pub(in crate::kafka) fn set_leader(&self, topic: &str, partition: i32, broker: i32) -> Result<(), String> {
        let name = CString::new(topic).map_err(|_| "the topic's name has a NUL".to_owned())?;
        // SAFETY: the cluster and the name are alive.
        check(unsafe { sys::rd_kafka_mock_partition_set_leader(self.cluster, name.as_ptr(), partition, broker) })
    }

    /// The next requests of this kind fail with these codes, one after the other.
    pub(in crate::kafka) fn push_errors(&self, api_key: i16, codes: &[sys::rd_kafka_resp_err_t]) {
        // SAFETY: the cluster and the codes are alive, and the count is theirs.
        unsafe {
            sys::rd_kafka_mock_push_request_errors_array(self.cluster, api_key, codes.len(), codes.as_ptr());
        }
    }

    /// Takes back what [`MockCluster::push_errors`] has left for this kind of request.
    pub(in crate::kafka) fn clear_errors(&self, api_key: i16) {
        // SAFETY: the cluster is alive.
        unsafe { sys::rd_kafka_mock_clear_request_errors(self.cluster, api_key) };
    }
}

impl Drop for MockCluster {
    fn drop(&mut self) {
        // SAFETY: the cluster is alive until here, and its client until after.
        unsafe { sys::rd_kafka_mock_cluster_destroy(self.cluster) };
    }
}
