//! The least HTTP that a stack needs: one request on a connection of its own.

use std::time::Duration;

use bytes::Bytes;
use http::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt, Full};
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
    send(Request::get(path), Bytes::new(), address, deadline).await
}

/// Posts JSON to `path` of `address` (`HOST:PORT`), with a bearer token if there is one.
///
/// # Errors
/// When there is no complete answer within `deadline`.
pub async fn post_json(
    address: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
    deadline: Duration,
) -> Result<Answer> {
    let mut request = Request::post(path).header(CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    send(request, Bytes::copy_from_slice(body.as_bytes()), address, deadline).await
}

async fn send(request: http::request::Builder, body: Bytes, address: &str, deadline: Duration) -> Result<Answer> {
    let method = request.method_ref().cloned().unwrap_or(Method::GET);
    let path = request.uri_ref().map(ToString::to_string).unwrap_or_default();
    let answer = timeout(deadline, exchange(address, request, body)).await;
    let failed = |why: String| StackError::Http { method, url: format!("http://{address}{path}"), why };
    match answer {
        Ok(answer) => answer.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {deadline:?}"))),
    }
}

async fn exchange(
    address: &str,
    request: http::request::Builder,
    body: Bytes,
) -> std::result::Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the exchange, because the sender is dropped.
    tokio::spawn(connection);
    let request = request.header(HOST, address).body(Full::new(body))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}
