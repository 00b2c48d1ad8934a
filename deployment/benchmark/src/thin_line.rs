//! A broker at the end of a thin line: its capacity is known, and does not depend on what else this machine does.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::{distance::two_doors, world::World};
use stack::{KafkaCluster, Result, error::Doing, ports::free_port};

/// So little that three times as many purchases as get through are no work for this machine: about a thousand a second do.
const BYTES_PER_SECOND: f64 = 250_000.0;
const PIECE: usize = 4 * 1024;

/// The broker, and the line to it.
pub struct ThinLine {
    _cluster: KafkaCluster,
    line: JoinHandle<()>,
    /// Where clients find the broker.
    pub bootstrap_servers: String,
}

impl ThinLine {
    /// Starts both.
    ///
    /// # Errors
    /// When the broker does not come up.
    pub async fn start(world: &World) -> Result<Self> {
        let door = TcpListener::bind("127.0.0.1:0").await.doing("listening")?;
        let (near, far, port) = (free_port()?, free_port()?, door.local_addr().doing("listening")?.port());
        let folder = world.folder().join("thin-broker");
        let mut cluster = KafkaCluster::prepare(&folder, two_doors(near, far, port)?).await?;
        cluster.start_all().await?;
        let line = tokio::spawn(pass_on(door, far));
        Ok(Self { _cluster: cluster, line, bootstrap_servers: format!("127.0.0.1:{port}") })
    }
}

impl Drop for ThinLine {
    fn drop(&mut self) {
        self.line.abort();
    }
}

async fn pass_on(door: TcpListener, to: u16) {
    while let Ok((near, _)) = door.accept().await {
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((from_near, to_near), (mut from_far, to_far)) = (near.into_split(), far.into_split());
            let mut to_near = to_near;
            let _ = tokio::join!(slowly(from_near, to_far), copy(&mut from_far, &mut to_near));
        });
    }
}

/// One way, so many bytes a second; what the other end of it has sent meanwhile waits in its buffers.
async fn slowly(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; PIECE];
    let mut free_at = Instant::now();
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let length_f64 = f64::from(u32::try_from(length).unwrap_or(u32::MAX));
        free_at = free_at.max(Instant::now()) + Duration::from_secs_f64(length_f64 / BYTES_PER_SECOND);
        sleep_until(free_at).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
