//! Apache Kafka: one broker or three, each both broker and controller (KRaft), on 127.0.0.1 only.

mod config;
mod folders;
mod offsets;
mod plan;
mod probe;
mod wire;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use folders::broker_folder;
pub use offsets::PartitionOffsets;
pub use plan::{BrokerPorts, KafkaPlan};
pub use probe::{ClusterView, PartitionView, view};

use crate::{
    error::{Result, StackError},
    install,
    process::{Lifetime, POLL_INTERVAL, Process, ProcessId, Signal},
};

/// A start takes about 4 s; a broker that was killed in a cluster of three is let back in after its session of 9 s.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// How long an orderly stop may take before the broker is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// How long one of Kafka's command-line tools may take.
const TOOL_DEADLINE: Duration = Duration::from_mins(1);

/// A cluster and its data folder. Brokers are numbered from 1, as their node ids are.
#[derive(Debug)]
pub struct KafkaCluster {
    plan: KafkaPlan,
    folder: PathBuf,
    jars: PathBuf,
    brokers: Vec<Option<Process>>,
}

impl KafkaCluster {
    /// Starts a cluster of 1 or 3 brokers on free ports and waits until it serves.
    ///
    /// # Errors
    /// When Kafka cannot be installed or a broker does not come up.
    pub async fn start(folder: &Path, brokers: usize) -> Result<Self> {
        let mut cluster = Self::prepare(folder, KafkaPlan::on_free_ports(brokers)?).await?;
        cluster.start_all().await?;
        Ok(cluster)
    }

    /// Installs Kafka, writes the settings and formats the data folders that are not yet; starts nothing.
    ///
    /// # Errors
    /// When Kafka cannot be installed or formatting fails.
    pub async fn prepare(folder: &Path, plan: KafkaPlan) -> Result<Self> {
        if !matches!(plan.ports.len(), 1 | 3) {
            return Err(StackError::Refused(format!("a cluster has 1 or 3 brokers, not {}", plan.ports.len())));
        }
        install::check_tools()?;
        let jars = install::kafka()?;
        let brokers = plan.ports.iter().map(|_| None).collect();
        let cluster = Self { plan, folder: folder.to_owned(), jars, brokers };
        cluster.write_files()?;
        cluster.format().await?;
        Ok(cluster)
    }

    /// Starts every broker that does not run and waits until all of them serve and know each other.
    ///
    /// # Errors
    /// When a broker ends early or the cluster is not complete in time.
    pub async fn start_all(&mut self) -> Result<()> {
        for number in 1..=self.brokers.len() {
            self.spawn_broker(number)?;
        }
        for number in 1..=self.brokers.len() {
            self.wait_broker(number, self.brokers.len()).await?;
        }
        Ok(())
    }

    /// Starts one broker, with the ports and data it had before, and waits until it serves.
    ///
    /// # Errors
    /// When it ends early or does not serve in time.
    pub async fn start_broker(&mut self, number: usize) -> Result<()> {
        self.spawn_broker(number)?;
        self.wait_broker(number, 1).await
    }

    /// Starts one broker without waiting for it. One that already runs stays as it is.
    ///
    /// # Errors
    /// When the JVM cannot be started.
    pub fn spawn_broker(&mut self, number: usize) -> Result<()> {
        if let Some(broker) = &mut self.brokers[number - 1]
            && broker.try_wait()?.is_none()
        {
            return Ok(());
        }
        let folder = broker_folder(&self.folder, number);
        let mut command = install::java(&self.jars);
        // The service's own CPU time is measured on the same cores: a small heap and the collector with the least threads.
        command.args(["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC"]);
        command.arg(format!("-Dlog4j2.configurationFile={}", folder.join("log4j2.xml").display()));
        command.arg("kafka.Kafka").arg(folder.join("server.properties")).current_dir(&folder);
        let broker = Process::spawn(&broker_name(number), command, &self.log(number), self.plan.lifetime)?;
        self.brokers[number - 1] = Some(broker);
        Ok(())
    }

    /// Takes over a detached broker that another run of this program started.
    pub fn adopt_broker(&mut self, number: usize, id: ProcessId) {
        self.brokers[number - 1] = Some(Process::adopt(&broker_name(number), id, &self.log(number)));
    }

    /// Kills one broker (signal 9) and waits until it is gone.
    pub fn kill_9(&mut self, number: usize) {
        if let Some(mut broker) = self.brokers[number - 1].take() {
            broker.kill_9();
        }
    }

    /// Stops one broker in an orderly way (SIGTERM); true if it did not have to be killed.
    ///
    /// # Errors
    /// When the operating system does not know the process any more.
    pub async fn stop_broker(&mut self, number: usize) -> Result<bool> {
        match self.brokers[number - 1].take() {
            Some(mut broker) => broker.stop(Signal::Terminate, STOP_DEADLINE).await,
            None => Ok(true),
        }
    }

    /// Makes a topic with Kafka's own tool, as an operator would.
    ///
    /// # Errors
    /// When the tool fails, for instance because the topic exists.
    pub async fn create_topic(&self, name: &str, partitions: u32) -> Result<()> {
        let partitions = partitions.to_string();
        let arguments = ["--create", "--topic", name, "--partitions", &partitions];
        self.run_tool("org.apache.kafka.tools.TopicCommand", &arguments).await
    }

    /// Runs one of Kafka's command-line tools against this cluster, such as `org.apache.kafka.tools.TopicCommand`. Its
    /// output goes to `tools.log` in the cluster's folder.
    ///
    /// # Errors
    /// When it fails; the error shows what it printed.
    pub async fn run_tool(&self, class: &str, arguments: &[&str]) -> Result<()> {
        let mut command = install::java(&self.jars);
        command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", class, "--bootstrap-server", &self.bootstrap_servers()]);
        command.args(arguments);
        let mut tool = Process::spawn(class, command, &self.folder.join("tools.log"), Lifetime::WithParent)?;
        let status = tool.wait_exit(TOOL_DEADLINE).await?;
        if status.success() { Ok(()) } else { Err(tool.failure(format!("failed ({status})"))) }
    }

    /// What clients are given: every broker's address, comma-separated.
    pub fn bootstrap_servers(&self) -> String {
        let addresses: Vec<String> =
            self.plan.ports.iter().map(|ports| format!("127.0.0.1:{}", ports.client)).collect();
        addresses.join(",")
    }

    /// How many brokers there are, running or not.
    pub fn broker_count(&self) -> usize {
        self.brokers.len()
    }

    /// One broker's process, if it was started by this handle.
    pub fn process_id(&self, number: usize) -> Option<ProcessId> {
        self.brokers[number - 1].as_ref().map(Process::id)
    }

    /// CPU time of the brokers that run, since each one's start.
    pub fn cpu_time(&self) -> Duration {
        self.brokers.iter().flatten().map(|broker| broker.id().cpu_time()).sum()
    }

    /// Where a broker's output goes.
    pub fn log(&self, number: usize) -> PathBuf {
        broker_folder(&self.folder, number).join("broker.log")
    }

    /// Where a broker keeps the records of a partition; of a small one, all of them.
    pub fn log_segment(&self, number: usize, topic: &str, partition: i32) -> PathBuf {
        let folder = broker_folder(&self.folder, number).join("data").join(format!("{topic}-{partition}"));
        folder.join("00000000000000000000.log")
    }

    /// The cluster as one of its brokers sees it; the first that answers.
    ///
    /// # Errors
    /// When no broker answers within two seconds each.
    pub async fn view(&self) -> Result<ClusterView> {
        let mut last = StackError::Refused("the cluster has no broker".to_owned());
        for ports in &self.plan.ports {
            match view(ports.client).await {
                Ok(view) => return Ok(view),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Waits until every partition has its leader and all its replicas in sync: then another broker may be killed.
    ///
    /// # Errors
    /// When a partition is still short after `deadline`; the error names it.
    pub async fn wait_in_sync(&self, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        loop {
            let short = match self.view().await {
                Ok(view) => view.partitions.into_iter().find(|partition| !partition.is_complete()),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => continue,
            };
            let Some(partition) = short else { return Ok(()) };
            if Instant::now() >= end {
                return Err(StackError::Refused(format!("after {deadline:?} still short of replicas: {partition:?}")));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until broker `number` serves and sees at least `brokers` brokers, itself among them.
    async fn wait_broker(&mut self, number: usize, brokers: usize) -> Result<()> {
        let id = i32::try_from(number).unwrap_or(i32::MAX);
        let port = self.plan.ports[number - 1].client;
        let Some(process) = &mut self.brokers[number - 1] else {
            return Err(StackError::Refused(format!("broker {number} was not started")));
        };
        let end = Instant::now() + START_DEADLINE;
        loop {
            process.check_alive()?;
            let seen = view(port).await;
            match &seen {
                Ok(view) if view.brokers.contains(&id) && view.brokers.len() >= brokers => return Ok(()),
                _ if Instant::now() < end => sleep(POLL_INTERVAL).await,
                _ => return Err(process.failure(format!("does not serve after {START_DEADLINE:?}: {seen:?}"))),
            }
        }
    }
}

/// What a broker's process is called.
pub fn broker_name(number: usize) -> String {
    format!("kafka-{number}")
}
