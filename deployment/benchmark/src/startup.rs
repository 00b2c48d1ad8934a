//! From exec to the first answer, and to ready with Kafka and the database up.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    Section,
    client::until_ok,
    row::{Row, Target, Unit},
    spread::millis,
    world::World,
};
use stack::{Result, Service, service::ServicePlan};

const REPEATS: usize = 7;
const DEADLINE: Duration = Duration::from_mins(1);

/// Both services, started again and again on topics and tables that are there.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    const TOPIC: &str = "bench-startup";
    const DATABASE: &str = "bench_startup";
    drop(world.management_api(TOPIC, DATABASE).await?);
    let mut rows = Vec::new();
    for name in ["web-server", "management-api"] {
        let (mut live, mut ready) = (Vec::new(), Vec::new());
        for _ in 0..world.size.repeats(REPEATS) {
            let plan = match name {
                "web-server" => world.web_server_plan(TOPIC, None)?,
                _ => world.management_api_plan(TOPIC, DATABASE)?,
            };
            let (to_live, to_ready) = start(world, plan).await?;
            live.push(millis(to_live));
            ready.push(millis(to_ready));
        }
        let row = |what: &str, values: &[f64]| {
            Row::new(Section::Startup, format!("start-up of {name}: {what}"), Unit::Millis, values)
        };
        rows.push(row("exec to /livez", &live).target(Target::AtMost(200.0)));
        rows.push(row("exec to /readyz", &ready).target(Target::AtMost(2_000.0)));
    }
    Ok(rows)
}

async fn start(world: &World, plan: ServicePlan) -> Result<(Duration, Duration)> {
    let begun = Instant::now();
    let mut service = Service::start(world.folder(), plan)?;
    let address = service.address();
    let live = until_ok(&address, "/livez", begun, DEADLINE).await?;
    let ready = until_ok(&address, "/readyz", begun, DEADLINE).await?;
    // A member that leaves properly does not keep the next one waiting.
    service.sigterm();
    service.wait_exit(DEADLINE).await?;
    Ok((live, ready))
}
