//! The least HTTP that readiness checks and metrics need: one GET on a connection of its own.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::error::{Result, StackError};

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body; bytes that are not UTF-8 are replaced.
    pub body: String,
}

/// Fetches `path` (with its query) from `address` (`HOST:PORT`).
///
/// # Errors
/// When there is no complete answer within `deadline`.
pub async fn get(address: &str, path: &str, deadline: Duration) -> Result<Answer> {
    let answer = timeout(deadline, exchange(address, path)).await;
    let failed = |why: String| StackError::Http { url: format!("http://{address}{path}"), why };
    match answer {
        Ok(answer) => answer.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {deadline:?}"))),
    }
}

async fn exchange(address: &str, path: &str) -> std::result::Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the exchange, because the sender is dropped.
    tokio::spawn(connection);
    let request = Request::get(path).header(HOST, address).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}
