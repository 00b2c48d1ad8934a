//! Connections to receivers: to addresses alone that were checked.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use shared::callbacks::CallbackUrl;
use shared::http::read_authorities;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{AddressRules, AttemptOutcome, Resolve, SendingConfig, Unreachable};

/// How long one address may take to take a connection, so that the next one has a chance.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long authorities are kept: who changes the file need not start the service anew.
const AUTHORITIES_KEPT: Duration = Duration::from_mins(1);
/// The largest head of an answer, which is read at once.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most headers of an answer.
const HEADERS_MAX: usize = 100;

/// What a request is sent on.
pub(super) type Sender = SendRequest<Full<Bytes>>;

/// Opens connections.
pub(super) struct Connector {
    resolver: Arc<dyn Resolve>,
    addresses: AddressRules,
    authorities: PathBuf,
    /// What connects to TLS, and since when it is known.
    tls: Mutex<Option<(Instant, TlsConnector)>>,
}

impl Connector {
    pub(super) fn new(config: &SendingConfig, resolver: Arc<dyn Resolve>) -> Self {
        let (addresses, authorities) = (config.addresses, config.authorities.clone());
        Self { resolver, addresses, authorities, tls: Mutex::default() }
    }

    /// Opens a connection to the host of a URL.
    ///
    /// # Errors
    /// What the attempt's outcome is without one.
    pub(super) async fn connect(&self, url: &CallbackUrl) -> Result<Sender, AttemptOutcome> {
        let addresses = self.checked_addresses(url).await?;
        if !url.is_encrypted() {
            return handshake(open(&addresses).await?).await;
        }
        let name = ServerName::try_from(url.host_name().to_owned());
        let name = name.map_err(|_| AttemptOutcome::Unreachable(Unreachable::Name))?;
        let tls = self.tls().await.map_err(|_| AttemptOutcome::Unreachable(Unreachable::Authorities))?;
        let stream = tls.connect(name, open(&addresses).await?).await;
        handshake(stream.map_err(|error| AttemptOutcome::Unreachable(tls_failure(&error)))?).await
    }

    /// Every address of the host. One that is forbidden forbids them all: a name that leads to both is a trap.
    async fn checked_addresses(&self, url: &CallbackUrl) -> Result<Vec<SocketAddr>, AttemptOutcome> {
        let addresses = match url.literal_address() {
            Some(address) => vec![SocketAddr::new(address, url.port())],
            None => self.resolver.resolve(url.host_name(), url.port()).await.unwrap_or_default(),
        };
        if addresses.is_empty() {
            return Err(AttemptOutcome::Unreachable(Unreachable::Name));
        }
        let is_permitted = |address: &SocketAddr| self.addresses.permit(address.ip());
        if addresses.iter().all(is_permitted) { Ok(addresses) } else { Err(AttemptOutcome::Forbidden) }
    }

    async fn tls(&self) -> io::Result<TlsConnector> {
        let mut known = self.tls.lock().await;
        if let Some((since, connector)) = &*known
            && since.elapsed() < AUTHORITIES_KEPT
        {
            return Ok(connector.clone());
        }
        let connector = match (read_authorities(&self.authorities).await, known.take()) {
            (Ok(connector), _) | (Err(_), Some((_, connector))) => connector,
            (Err(error), None) => return Err(error),
        };
        *known = Some((Instant::now(), connector.clone()));
        Ok(connector)
    }
}

/// One address after the other, until one takes the connection.
async fn open(addresses: &[SocketAddr]) -> Result<TcpStream, AttemptOutcome> {
    for address in addresses {
        if let Ok(Ok(stream)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            // What is sent is one small message, and nothing follows that it could wait for.
            let _ = stream.set_nodelay(true);
            return Ok(stream);
        }
    }
    Err(AttemptOutcome::Unreachable(Unreachable::Connection))
}

async fn handshake(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Sender, AttemptOutcome> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let connected = builder.handshake(TokioIo::new(stream)).await;
    let (sender, driver) = connected.map_err(|_| AttemptOutcome::Unreachable(Unreachable::Connection))?;
    // It ends when the sender is dropped.
    tokio::spawn(driver);
    Ok(sender)
}

fn tls_failure(error: &io::Error) -> Unreachable {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(_)) => Unreachable::Certificate,
        _ => Unreachable::Tls,
    }
}
