//! PostgreSQL from an unpacked archive, on 127.0.0.1 only, as another user when we are root.

mod data_folder;
mod secret;

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, Config, NoTls};

use crate::{
    error::{Doing, Result, StackError},
    install,
    ports::free_port,
    process::{Lifetime, POLL_INTERVAL, Process, ProcessId, Signal, is_root},
};

/// The owner of everything: PostgreSQL's superuser.
pub const USER: &str = "purchase";
/// The database that [`Postgres::database_url`] names.
pub const DATABASE: &str = "purchases";

/// PostgreSQL refuses to run as root; then it runs as `nobody`, which exists everywhere and owns nothing.
pub const UNPRIVILEGED_ID: u32 = 65534;

/// Recovery after a kill under load replays up to `max_wal_size` of log.
const START_DEADLINE: Duration = Duration::from_mins(2);
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// What a real deployment would set on a machine of this size. Nothing here weakens durability.
const SETTINGS: [&str; 9] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "shared_buffers=256MB",
    "max_wal_size=2GB",
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "timezone=UTC",
];

/// What a server looks like before it is started.
#[derive(Debug, Clone)]
pub struct PostgresPlan {
    /// Where it listens.
    pub port: u16,
    /// Settings (`name=value`) that are added to ours.
    pub extra_settings: Vec<String>,
    /// Whether it ends with this program.
    pub lifetime: Lifetime,
}

/// A server and its data folder.
#[derive(Debug)]
pub struct Postgres {
    plan: PostgresPlan,
    folder: PathBuf,
    installed: PathBuf,
    password: String,
    process: Option<Process>,
}

impl Postgres {
    /// Starts a new server on a free port that ends with this program, and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be installed or does not come up.
    pub async fn start(folder: &Path) -> Result<Self> {
        let plan = PostgresPlan { port: free_port()?, extra_settings: Vec::new(), lifetime: Lifetime::WithParent };
        let mut server = Self::prepare(folder, plan).await?;
        server.start_again().await?;
        Ok(server)
    }

    /// Installs PostgreSQL and makes the data folder if there is none; starts nothing.
    ///
    /// # Errors
    /// When it cannot be installed, or `initdb` fails.
    pub async fn prepare(folder: &Path, plan: PostgresPlan) -> Result<Self> {
        let installed = install::postgres()?;
        fs::create_dir_all(folder).doing(format!("making {}", folder.display()))?;
        let folder = folder.canonicalize().doing(format!("finding {}", folder.display()))?;
        if is_root() {
            data_folder::check_enterable(&folder)?;
            data_folder::check_enterable(&installed.join("bin"))?;
        }
        let password = secret::read_or_make(&folder.join("password"))?;
        let server = Self { plan, folder, installed, password, process: None };
        if !server.data().exists() {
            data_folder::create(&server).await?;
        }
        Ok(server)
    }

    /// Starts the server, with the port and data it had before, and waits until it answers and has its database.
    ///
    /// # Errors
    /// When it ends early or does not answer in time.
    pub async fn start_again(&mut self) -> Result<()> {
        self.spawn()?;
        self.wait_ready().await?;
        self.create_database(DATABASE).await
    }

    /// Starts the server without waiting for it. One that already runs stays as it is.
    ///
    /// # Errors
    /// When its program cannot be started.
    pub fn spawn(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process
            && process.try_wait()?.is_none()
        {
            return Ok(());
        }
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.plan.port.to_string()]);
        for setting in SETTINGS.iter().copied().chain(self.plan.extra_settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        self.process = Some(Process::spawn("postgres", command, &self.log(), self.plan.lifetime)?);
        Ok(())
    }

    /// Takes over a detached server that another run of this program started.
    pub fn adopt(&mut self, id: ProcessId) {
        self.process = Some(Process::adopt("postgres", id, &self.log()));
    }

    /// Kills the server and every session (signal 9), as a crash of the machine would.
    pub fn kill_9(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // Frozen first: a server that saw one session die would start to clean up instead of dying with it.
        process.signal(Signal::Stop);
        let sessions = process.id().children();
        process.kill_9();
        for session in &sessions {
            session.signal(Signal::Kill);
        }
        while sessions.iter().any(|session| session.is_alive()) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops the server in an orderly way ("fast": sessions end, a checkpoint is written); true if it was not killed.
    ///
    /// # Errors
    /// When the operating system does not know the process any more.
    pub async fn stop(&mut self) -> Result<bool> {
        match self.process.take() {
            Some(mut process) => process.stop(Signal::Interrupt, STOP_DEADLINE).await,
            None => Ok(true),
        }
    }

    /// Where services connect, password included.
    pub fn database_url(&self) -> String {
        self.database_url_of(DATABASE)
    }

    /// The same for another database of this server.
    pub fn database_url_of(&self, database: &str) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/{database}", self.password, self.plan.port)
    }

    /// A connection to the services' database.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn client(&self) -> Result<Client> {
        self.client_of(DATABASE).await
    }

    /// A connection to any database of this server. It closes when the client is dropped.
    ///
    /// # Errors
    /// When the server does not answer or has no such database.
    pub async fn client_of(&self, database: &str) -> Result<Client> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.plan.port).user(USER).password(&self.password).dbname(database);
        config.connect_timeout(Duration::from_secs(5));
        let (client, connection) =
            config.connect(NoTls).await.doing(format!("connecting to PostgreSQL at port {}", self.plan.port))?;
        // Its error is the one that the client's next call reports.
        tokio::spawn(connection);
        Ok(client)
    }

    /// Makes a database, unless it exists.
    ///
    /// # Errors
    /// When the server does not answer or the name is not made of lower-case letters, digits and `_`.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        if !name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')) {
            return Err(StackError::Refused(format!("{name:?} is no database name")));
        }
        let client = self.client_of("postgres").await?;
        let doing = format!("making the database {name}");
        let found = client.query_opt("SELECT FROM pg_database WHERE datname = $1", &[&name]).await.doing(&doing)?;
        if found.is_none() {
            client.batch_execute(&format!("CREATE DATABASE {name}")).await.doing(&doing)?;
        }
        Ok(())
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.plan.port
    }

    /// The server's process, if it was started by this handle.
    pub fn process_id(&self) -> Option<ProcessId> {
        self.process.as_ref().map(Process::id)
    }

    /// CPU time of the server with all its sessions, since its start.
    pub fn cpu_time(&self) -> Duration {
        self.process_id().map_or(Duration::ZERO, ProcessId::cpu_time_with_children)
    }

    /// Where the server's output goes.
    pub fn log(&self) -> PathBuf {
        self.folder.join("postgres.log")
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A command of this installation, with nothing of our environment, under the right user.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.installed.join("bin").join(program));
        command.env_clear().current_dir(&self.folder);
        if is_root() {
            command.uid(UNPRIVILEGED_ID).gid(UNPRIVILEGED_ID);
        }
        command
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let end = Instant::now() + START_DEADLINE;
        loop {
            let Err(refusal) = self.client_of("postgres").await else { return Ok(()) };
            let process =
                self.process.as_mut().ok_or_else(|| StackError::Refused("postgres was stopped".to_owned()))?;
            process.check_alive()?;
            if Instant::now() >= end {
                return Err(process.failure(format!("does not answer after {START_DEADLINE:?}: {refusal}")));
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The sessions too, at once: the folder is about to be removed.
        if self.plan.lifetime == Lifetime::WithParent {
            self.kill_9();
        }
    }
}
