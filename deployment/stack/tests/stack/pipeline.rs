//! The front doors of two replicas of each service on real Kafka and PostgreSQL, for the cases of `tests/e2e`.

use std::ops::Deref;

use stack::service::{Program, Service, ServicePlan};

use crate::deployment::{Deployment, Plan};
use crate::doors::Doors;
use crate::infra::{Guard, infra};

/// The doors while a case uses them; nobody else does.
pub struct Open {
    doors: Doors,
    /// Ends with the case, before the guard goes.
    _alone: Option<Deployment>,
    _guard: Guard,
}

/// The doors of a pipeline that all cases share, one after the other.
pub async fn open() -> Open {
    let mut guard = infra().await;
    if guard.pipeline.is_none() {
        let deployment = start(&guard, "cases").await;
        guard.pipeline = Some(deployment);
    }
    let doors = doors(guard.pipeline.as_ref().expect("started above"), &guard);
    Open { doors, _alone: None, _guard: guard }
}

/// The doors of a new pipeline with a topic and a database that nobody used before.
pub async fn open_alone(name: &str) -> Open {
    let guard = infra().await;
    let deployment = start(&guard, name).await;
    Open { doors: doors(&deployment, &guard), _alone: Some(deployment), _guard: guard }
}

async fn start(guard: &Guard, name: &str) -> Deployment {
    Plan::new(name).start(&guard.kafka, &guard.postgres, guard.folder.path()).await
}

fn doors(deployment: &Deployment, guard: &Guard) -> Doors {
    let urls = |services: &[Service]| services.iter().map(Service::base_url).collect::<Vec<_>>();
    let mut operator = ServicePlan::new(Program::ManagementApi, "operator").expect("a free port");
    operator.settings.clone_from(&deployment.api[0].plan().settings);
    let operator = Service::prepare(guard.folder.path(), operator);
    Doors::new(202, deployment.kafka.clone(), (urls(&deployment.web), urls(&deployment.api)), operator)
}

impl Deref for Open {
    type Target = Doors;

    fn deref(&self) -> &Doors {
        &self.doors
    }
}
