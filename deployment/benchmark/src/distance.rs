//! `POST /buy` with a broker that is far away.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    Section,
    buy::web_round,
    row::{Row, Target, Unit},
    world::World,
};
use stack::{
    KafkaCluster, Result, Service,
    error::Doing,
    kafka::{BrokerPorts, KafkaPlan},
    ports::free_port,
};

/// How far: half of it each way.
const ROUND_TRIP: Duration = Duration::from_millis(5);
const CONNECTIONS: usize = 512;
const ROUNDS: usize = 3;
/// What is on its way at most, in pieces of [`PIECE`]: more than any window of TCP.
const PIECES: usize = 4_096;
const PIECE: usize = 64 * 1024;
const READY: Duration = Duration::from_mins(1);

/// One broker with two doors, a near and a far one, in turns.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    let (near, far, distant) = (free_port()?, free_port()?, TcpListener::bind("127.0.0.1:0").await.doing("listening")?);
    let distant_port = distant.local_addr().doing("listening")?.port();
    let plan = two_doors(near, far, distant_port)?;
    let mut cluster = KafkaCluster::prepare(&world.folder().join("far-broker"), plan).await?;
    cluster.start_all().await?;
    let proxy = tokio::spawn(delay(distant, far));
    let measured = compare(world, near, distant_port).await;
    proxy.abort();
    measured
}

/// A broker with two doors. The second leads to a proxy: a broker tells each client to come to the door that it has come through.
pub fn two_doors(near: u16, far: u16, distant: u16) -> Result<KafkaPlan> {
    let mut plan = KafkaPlan::on_free_ports(1)?;
    let controller = free_port()?;
    plan.ports = vec![BrokerPorts { client: near, controller }];
    let doors = format!("PLAINTEXT://127.0.0.1:{near},CONTROLLER://127.0.0.1:{controller},FAR://127.0.0.1:{far}");
    plan.extra_settings = [
        ("listeners", doors),
        ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{near},FAR://127.0.0.1:{distant}")),
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,FAR:PLAINTEXT".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    Ok(plan)
}

async fn compare(world: &World, near: u16, far: u16) -> Result<Vec<Row>> {
    let (near, far) = (web_server(world, near).await?, web_server(world, far).await?);
    let (mut near_rates, mut far_rates) = (Vec::new(), Vec::new());
    for _ in 0..world.size.repeats(ROUNDS) {
        near_rates.push(web_round(world, &near, CONNECTIONS).await?.per_second());
        far_rates.push(web_round(world, &far, CONNECTIONS).await?.per_second());
    }
    let what = format!("/buy, closed loop, {CONNECTIONS} connections, a broker 5 ms away: requests");
    let row = Row::new(Section::Distance, what, Unit::PerSecond, &far_rates);
    Ok(vec![row.beside("the same broker near", &near_rates).target(Target::RatioAtLeast(0.8))])
}

async fn web_server(world: &World, port: u16) -> Result<Service> {
    let plan = world.web_server_plan("bench-distance", None)?;
    let plan = plan.with("KAFKA_BOOTSTRAP_SERVERS", format!("127.0.0.1:{port}"));
    let mut service = Service::start(world.folder(), plan)?;
    service.wait_ready(READY).await?;
    Ok(service)
}

/// Passes everything on to a port, late.
async fn delay(listener: TcpListener, to: u16) {
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            tokio::join!(late(from_near, to_far), late(from_far, to_near));
        });
    }
}

/// One way: what has come waits for its time, and more can come meanwhile.
async fn late(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let reading = tokio::spawn(async move {
        let mut buffer = vec![0; PIECE];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if sender.send((Instant::now() + ROUND_TRIP / 2, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    });
    while let Some((time, piece)) = pieces.recv().await {
        sleep_until(time).await;
        if to.write_all(&piece).await.is_err() {
            break;
        }
    }
    reading.abort();
    let _ = to.shutdown().await;
}
