//! One running replica of one of our own programs.

mod plan;
mod signing_key;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
    time::Duration,
};

use tokio::time::{Instant, sleep};

pub use plan::{Program, ServicePlan};
pub use signing_key::make_signing_key;

use crate::{
    error::{Doing, Result, StackError},
    http::{self, Answer},
    process::{POLL_INTERVAL, Process, ProcessId, Signal},
};

/// How long one readiness check may take.
const CHECK_DEADLINE: Duration = Duration::from_secs(2);

/// One replica, running or stopped.
#[derive(Debug)]
pub struct Service {
    plan: ServicePlan,
    log: PathBuf,
    process: Option<Process>,
}

impl Service {
    /// Starts a replica with its log in `folder`; does not wait for it.
    ///
    /// # Errors
    /// When its program has not been built or cannot be started.
    pub fn start(folder: &Path, plan: ServicePlan) -> Result<Self> {
        let mut service = Self::prepare(folder, plan);
        service.start_again()?;
        Ok(service)
    }

    /// A replica that is not started yet.
    pub fn prepare(folder: &Path, plan: ServicePlan) -> Self {
        let log = folder.join(format!("{}.log", plan.name));
        Self { plan, log, process: None }
    }

    /// Starts it with the same settings and port, after it ended or was killed; does not wait for it.
    ///
    /// # Errors
    /// As for [`Service::start`]; also when it still runs.
    pub fn start_again(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process
            && process.try_wait()?.is_none()
        {
            return Err(StackError::Refused(format!("{} still runs", self.plan.name)));
        }
        let mut command = Command::new(self.plan.program.executable()?);
        command.env_clear().envs(&self.plan.settings).env("LISTEN_ADDRESS", self.plan.address.to_string());
        command.current_dir(self.log.parent().unwrap_or(Path::new(".")));
        self.process = Some(Process::spawn(&self.plan.name, command, &self.log, self.plan.lifetime)?);
        Ok(())
    }

    /// Takes over a detached replica that another run of this program started.
    pub fn adopt(&mut self, id: ProcessId) {
        self.process = Some(Process::adopt(&self.plan.name, id, &self.log));
    }

    /// Kills it (if it runs), starts it again and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready in time.
    pub async fn restart(&mut self, deadline: Duration) -> Result<()> {
        self.kill_9();
        self.start_again()?;
        self.wait_ready(deadline).await
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Errors
    /// When the process ends, or is not ready after `deadline`: with its last answer and the end of its log.
    pub async fn wait_ready(&mut self, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        loop {
            self.running()?.check_alive()?;
            let why = match self.get("/readyz").await {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) => format!("{} {}", answer.status, answer.body),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= end {
                return Err(self.running()?.failure(format!("is not ready after {deadline:?}: {why}")));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until it answers at all (`/livez`).
    ///
    /// # Errors
    /// When the process ends, or does not answer before `deadline`.
    pub async fn wait_live(&mut self, deadline: Duration) -> Result<()> {
        /// Start-up is measured in milliseconds.
        const INTERVAL: Duration = Duration::from_millis(1);
        let end = Instant::now() + deadline;
        while !self.get("/livez").await.is_ok_and(|answer| answer.status.is_success()) {
            self.running()?.check_alive()?;
            if Instant::now() >= end {
                return Err(self.running()?.failure(format!("does not answer after {deadline:?}")));
            }
            sleep(INTERVAL).await;
        }
        Ok(())
    }

    /// Kills it (signal 9) and waits until it is gone.
    pub fn kill_9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill_9();
        }
    }

    /// Asks it to end; see [`Service::wait_exit`].
    pub fn sigterm(&self) {
        self.signal(Signal::Terminate);
    }

    /// Freezes it.
    pub fn sigstop(&self) {
        self.signal(Signal::Stop);
    }

    /// Wakes it.
    pub fn sigcont(&self) {
        self.signal(Signal::Continue);
    }

    /// Waits until it has ended by itself: its exit code, or none when a signal ended it.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub async fn wait_exit(&mut self, deadline: Duration) -> Result<Option<i32>> {
        let status: ExitStatus = self.running()?.wait_exit(deadline).await?;
        Ok(status.code())
    }

    /// Fetches a path from it, with its query.
    ///
    /// # Errors
    /// When there is no complete answer within two seconds.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        http::get(&self.address(), path, CHECK_DEADLINE).await
    }

    /// Its metrics page.
    ///
    /// # Errors
    /// When there is no complete answer within two seconds.
    pub async fn metrics(&self) -> Result<String> {
        Ok(self.get("/metrics").await?.body)
    }

    /// Runs its program to the end with arguments and this replica's settings, as an operator would beside it.
    ///
    /// # Errors
    /// When it has not been built or cannot be started.
    pub fn run_command(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(self.plan.program.executable()?);
        command.env_clear().envs(&self.plan.settings).args(arguments);
        command.output().doing(format!("running {} {}", self.plan.program, arguments.join(" ")))
    }

    /// Its settings.
    pub fn plan(&self) -> &ServicePlan {
        &self.plan
    }

    /// `http://HOST:PORT`, without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// `HOST:PORT` for clients on this machine.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.plan.address.port())
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its process, if it was started by this handle.
    pub fn process_id(&self) -> Option<ProcessId> {
        self.process.as_ref().map(Process::id)
    }

    /// Memory in use; zero when it does not run.
    pub fn rss_bytes(&self) -> u64 {
        self.process_id().map_or(0, ProcessId::rss_bytes)
    }

    /// CPU time since its start; zero when it does not run.
    pub fn cpu_time(&self) -> Duration {
        self.process_id().map_or(Duration::ZERO, ProcessId::cpu_time)
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    fn running(&mut self) -> Result<&mut Process> {
        let name = &self.plan.name;
        self.process.as_mut().ok_or_else(|| StackError::Refused(format!("{name} was not started, or was killed")))
    }
}
