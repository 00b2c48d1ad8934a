//! One keep-alive connection for reads, one request after the other.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::Instant};

use crate::spread::millis;
use stack::{
    error::{Doing, Result, StackError},
    load::Latencies,
};

/// A connection to one server.
pub struct Client {
    address: String,
    sender: SendRequest<Empty<Bytes>>,
}

impl Client {
    /// Opens it.
    pub async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.doing(format!("connecting to {address}"))?;
        stream.set_nodelay(true).doing("setting TCP_NODELAY")?;
        let failed = |error: hyper::Error| StackError::Refused(format!("{address}: {error}"));
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(connection);
        Ok(Self { address: address.to_owned(), sender })
    }

    /// Fetches a path, to the last byte of its body.
    pub async fn get(&mut self, path: &str) -> Result<Bytes> {
        match self.ask(path).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, _) => Err(StackError::Http {
                method: Method::GET,
                url: format!("http://{}{path}", self.address),
                why: format!("answered {status}"),
            }),
        }
    }

    /// Fetches a path, whatever the answer is.
    pub async fn ask(&mut self, path: &str) -> Result<(StatusCode, Bytes)> {
        let failed =
            |why: String| StackError::Http { method: Method::GET, url: format!("http://{}{path}", self.address), why };
        let request = Request::get(path).header(HOST, &self.address).body(Empty::new());
        let request = request.map_err(|error| failed(error.to_string()))?;
        let response = self.sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| failed(error.to_string()))?.to_bytes();
        Ok((status, body))
    }

    /// Fetches a path again and again: median and 99th percentile in milliseconds.
    pub async fn time(&mut self, path: &str, times: u64) -> Result<(f64, f64)> {
        let mut latencies = Latencies::default();
        for _ in 0..times {
            let begun = Instant::now();
            self.get(path).await?;
            latencies.add(begun.elapsed());
        }
        Ok((millis(latencies.quantile(500)), millis(latencies.quantile(990))))
    }
}

/// Polls `path` every millisecond until it answers 200: how long that took, from `begun`.
pub async fn until_ok(address: &str, path: &str, begun: Instant, deadline: Duration) -> Result<Duration> {
    const INTERVAL: Duration = Duration::from_millis(1);
    loop {
        let answer = stack::http::get(address, path, Duration::from_secs(2)).await;
        let elapsed = begun.elapsed();
        match answer {
            Ok(answer) if answer.status == StatusCode::OK => return Ok(elapsed),
            _ if elapsed < deadline => tokio::time::sleep(INTERVAL).await,
            answer => {
                let why = format!("not 200 after {deadline:?}: {answer:?}");
                return Err(StackError::Http { method: Method::GET, url: format!("http://{address}{path}"), why });
            }
        }
    }
}
