//! The files of one broker: its settings and where it writes.

use std::{fmt::Write as _, path::Path};

use super::{BrokerPorts, KafkaPlan};

/// The settings of broker `number` (from 1). Defaults are Kafka's own unless a line here says why not.
pub(super) fn server_properties(plan: &KafkaPlan, number: usize, log_dir: &Path) -> String {
    let BrokerPorts { client, controller } = plan.ports[number - 1];
    let voters: Vec<String> =
        (1..).zip(&plan.ports).map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller)).collect();
    let replication = plan.replication();
    let min_in_sync = plan.min_in_sync();
    let mut text = format!(
        "\
node.id={number}
process.roles=broker,controller
listeners=PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{client}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters={voters}
log.dirs={log_dir}

# Topics: as many replicas as there are brokers, and a purchase is safe when all but one have it.
default.replication.factor={replication}
min.insync.replicas={min_in_sync}
offsets.topic.replication.factor={replication}
transaction.state.log.replication.factor={replication}
transaction.state.log.min.isr={min_in_sync}
share.coordinator.state.topic.replication.factor={replication}
share.coordinator.state.topic.min.isr={min_in_sync}
# The services make their topics themselves, with the right number of partitions.
auto.create.topics.enable=false

# A development machine has few members in a group: nobody to wait for.
group.initial.rebalance.delay.ms=0
# A killed consumer's partitions go on after three seconds.
group.min.session.timeout.ms=3000

# A purchase waits for every replica that counts as in sync: one that was killed does so no longer after a second, and a
# controller that was killed is replaced as soon.
replica.lag.time.max.ms=700
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=250
controller.quorum.fetch.timeout.ms=800
controller.quorum.election.timeout.ms=500
",
        voters = voters.join(","),
        log_dir = log_dir.display(),
    );
    for (name, value) in &plan.extra_settings {
        let _ = writeln!(text, "{name}={value}");
    }
    text
}
