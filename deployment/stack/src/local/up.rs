//! Starts what does not run yet, and waits until all of it is ready.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use super::{
    Options,
    state::{self, Entry, Kind, StackFolder, State},
};
use crate::{
    error::{Result, StackError},
    kafka::{KafkaCluster, KafkaPlan, broker_name},
    ports,
    postgres::{Postgres, PostgresPlan},
    process::{Lifetime, ProcessId},
    service::{Program, Service, ServicePlan, make_signing_key},
};

/// How long a service may take to be ready once Kafka and PostgreSQL are.
const READY_DEADLINE: Duration = Duration::from_mins(1);

/// Brings the stack up and returns when all of it is ready. What runs already is left alone.
///
/// # Errors
/// When something cannot be installed, a port is taken, a process does not become ready, or the stack runs with other
/// options.
pub async fn up(folder: &Path, options: &Options) -> Result<()> {
    let mut stack = Stack::open(folder, options.clone())?;
    stack.check_ports()?;
    // Fails before anything is started.
    for program in [Program::WebServer, Program::ManagementApi] {
        program.executable()?;
    }
    stack.start_kafka().await?;
    let database_url = stack.start_postgres().await?;
    for mut service in stack.start_services(&database_url)? {
        service.wait_ready(READY_DEADLINE).await?;
    }
    Ok(())
}

struct Stack {
    folder: StackFolder,
    state: State,
    options: Options,
}

impl Stack {
    fn open(folder: &Path, options: Options) -> Result<Self> {
        let folder = StackFolder::open(folder)?;
        let mut state = state::load(folder.path())?;
        state.processes.retain(|entry| entry.id.is_alive());
        if !state.processes.is_empty() && state.options.as_ref() != Some(&options) {
            return Err(StackError::Refused(
                "the stack runs with other options: run `stack down` first (`stack status` shows it)".to_owned(),
            ));
        }
        state.options = Some(options.clone());
        Ok(Self { folder, state, options })
    }

    /// Every port that is still to be opened must be free; the first that is not is named with its setting.
    fn check_ports(&self) -> Result<()> {
        let mut wanted = Vec::new();
        for (number, ports) in (1..).zip(self.options.broker_ports()) {
            wanted.push((broker_name(number), ports.client, "KAFKA_PORT"));
            wanted.push((broker_name(number), ports.controller, "KAFKA_CONTROLLER_PORT"));
        }
        wanted.push(("postgres".to_owned(), self.options.postgres_port, "POSTGRES_PORT"));
        for (kind, ports, setting) in [
            (Kind::ManagementApi, &self.options.management_api_ports, "MANAGEMENT_API_PORTS"),
            (Kind::WebServer, &self.options.web_server_ports, "WEB_SERVER_PORTS"),
        ] {
            wanted.extend((1..).zip(ports).map(|(number, port)| (service_name(kind, number), *port, setting)));
        }
        for (what, port, setting) in wanted {
            if self.state.find(&what).is_none() && !ports::is_free(port) {
                return Err(StackError::PortTaken { port, what, setting: setting.to_owned() });
            }
        }
        Ok(())
    }

    async fn start_kafka(&mut self) -> Result<()> {
        let brokers = usize::from(self.options.brokers);
        // Clusters of different sizes cannot share data: each keeps its own.
        let folder = self.folder.subfolder(&format!("kafka-{brokers}"))?;
        let plan =
            KafkaPlan { ports: self.options.broker_ports(), extra_settings: Vec::new(), lifetime: Lifetime::Detached };
        let mut cluster = KafkaCluster::prepare(&folder, plan).await?;
        for (number, ports) in (1..).zip(self.options.broker_ports()) {
            let name = broker_name(number);
            if let Some(entry) = self.state.find(&name) {
                cluster.adopt_broker(number, entry.id);
                continue;
            }
            cluster.spawn_broker(number)?;
            self.started(name, Kind::Kafka, ports.client, (cluster.process_id(number), &cluster.log(number)))?;
        }
        cluster.start_all().await
    }

    async fn start_postgres(&mut self) -> Result<String> {
        let folder = self.folder.subfolder("postgres")?;
        let port = self.options.postgres_port;
        let plan = PostgresPlan { port, extra_settings: Vec::new(), lifetime: Lifetime::Detached };
        let mut server = Postgres::prepare(&folder, plan).await?;
        if let Some(entry) = self.state.find("postgres") {
            server.adopt(entry.id);
        } else {
            server.spawn()?;
            self.started("postgres".to_owned(), Kind::Postgres, port, (server.process_id(), &server.log()))?;
        }
        server.start_again().await?;
        Ok(server.database_url())
    }

    fn start_services(&mut self, database_url: &str) -> Result<Vec<Service>> {
        let options = self.options.clone();
        let signing_key = self.folder.path().join("jwt-signing-key.pem");
        make_signing_key(&signing_key)?;
        let kafka = ("KAFKA_BOOTSTRAP_SERVERS".to_owned(), options.bootstrap_servers());
        let mut services = Vec::new();
        for (number, port) in (1..).zip(&options.management_api_ports) {
            let settings = [
                kafka.clone(),
                ("DATABASE_URL".to_owned(), database_url.to_owned()),
                ("JWT_SIGNING_KEY_FILE".to_owned(), signing_key.display().to_string()),
            ];
            let address = (Ipv4Addr::LOCALHOST, *port).into();
            services.push(self.start_service(Kind::ManagementApi, number, address, &settings)?);
        }
        let replicas: Vec<_> =
            options.management_api_ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        for (number, port) in (1..).zip(&options.web_server_ports) {
            let settings = [kafka.clone(), ("CUSTOMER_MGMT_API_URL".to_owned(), replicas.join(","))];
            let address = (Ipv4Addr::UNSPECIFIED, *port).into();
            services.push(self.start_service(Kind::WebServer, number, address, &settings)?);
        }
        Ok(services)
    }

    fn start_service(
        &mut self,
        kind: Kind,
        number: usize,
        address: SocketAddr,
        settings: &[(String, String)],
    ) -> Result<Service> {
        let program = if kind == Kind::WebServer { Program::WebServer } else { Program::ManagementApi };
        let name = service_name(kind, number);
        let settings = settings.iter().chain(&self.options.settings).cloned().collect();
        let plan = ServicePlan { program, name: name.clone(), address, settings, lifetime: Lifetime::Detached };
        let mut service = Service::prepare(&self.folder.subfolder("logs")?, plan);
        if let Some(entry) = self.state.find(&name) {
            service.adopt(entry.id);
        } else {
            service.start_again()?;
            self.started(name, kind, address.port(), (service.process_id(), service.log()))?;
        }
        Ok(service)
    }

    /// Writes a new process down before anything else happens: Ctrl-C after this point loses nothing.
    fn started(&mut self, name: String, kind: Kind, port: u16, process: (Option<ProcessId>, &Path)) -> Result<()> {
        let (Some(id), log) = process else { return Ok(()) };
        eprintln!("started {name} (pid {}, port {port})", id.pid);
        self.state.processes.push(Entry { name, kind, id, port, log: log.to_owned() });
        self.state.processes.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
        self.folder.save(&self.state)
    }
}

fn service_name(kind: Kind, number: usize) -> String {
    let program = if kind == Kind::WebServer { Program::WebServer } else { Program::ManagementApi };
    format!("{program}-{number}")
}
