//! A conversation with one address at which another replica should be: this side tells, and the answer is what the other tells.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use shared::config::Secret;
use tokio::net::TcpStream;

use super::report::{BYTES_MAX, Report};

/// Where replicas are told.
pub const PATH: &str = "/internal/demand";
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(400);

/// What came of telling.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// The other one has heard it, and this is what it says.
    Report(Report),
    /// Something is there, and says nothing of use: no replica of ours, one that is frozen, or one that has another token.
    Nothing,
    /// The machine is there, and nobody listens.
    Nobody,
    /// It cannot be told whether anything is there.
    Unreached,
}

/// The connection to one address, kept as long as it is of use.
pub struct Conversation {
    address: SocketAddr,
    authorization: String,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Conversation {
    /// Nothing is connected yet.
    pub fn new(address: SocketAddr, token: &Secret<String>) -> Self {
        Self { address, authorization: format!("Bearer {}", token.expose()), connection: None }
    }

    /// Tells `json`, and listens. Takes no longer than its two time limits.
    pub async fn tell(&mut self, json: Bytes) -> Said {
        let kept = self.connection.take().filter(|connection| !connection.is_closed());
        let is_new = kept.is_none();
        let mut connection = match kept {
            Some(connection) => connection,
            None => match self.connect().await {
                Ok(connection) => connection,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Said::Nobody,
                Err(_) => return Said::Unreached,
            },
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(&mut connection, json)).await {
            Ok(Some(Ok(report))) => {
                self.connection = Some(connection);
                Said::Report(report)
            }
            Ok(Some(Err(()))) => Said::Nothing,
            // What was connected just now was reached; an older connection may lead nowhere.
            Ok(None) | Err(_) if is_new => Said::Nothing,
            Ok(None) | Err(_) => Said::Unreached,
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(self.address)).await??;
        stream.set_nodelay(true)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await.map_err(Error::other)?;
        // It ends when the connection is dropped.
        tokio::spawn(driver);
        Ok(connection)
    }

    /// The answer's report, or an error if it has none; nothing if there was no answer.
    async fn exchange(&self, connection: &mut SendRequest<Full<Bytes>>, json: Bytes) -> Option<Result<Report, ()>> {
        let request = Request::post(PATH)
            .header(HOST, self.address.to_string())
            .header(AUTHORIZATION, &self.authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(json))
            .ok()?;
        connection.ready().await.ok()?;
        let response = connection.send_request(request).await.ok()?;
        if response.status() != StatusCode::OK {
            return Some(Err(()));
        }
        let body = Limited::new(response.into_body(), BYTES_MAX).collect().await;
        let report = body.map(|body| Report::parse(&body.to_bytes()));
        Some(report.map_err(drop).and_then(|report| report.map_err(drop)))
    }
}
