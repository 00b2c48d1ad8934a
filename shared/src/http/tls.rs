//! TLS towards callers, with a certificate that may change while the service runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::config::Settings;
use crate::metrics::{CounterBy, Gauge, Label};
use crate::shutdown::Shutdown;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// What is made ready at most for a socket that has no room: one record.
const SEND_BUFFER_BYTES: usize = 16 * 1024;

/// Where the certificate chain and its key are, both PEM.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    certificate: PathBuf,
    key: PathBuf,
}

/// What became of files that have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// New connections get what is in them.
    Loaded,
    /// They are of no use: what was there before goes on.
    Refused,
}

/// What is told of the certificate.
#[derive(Clone)]
pub struct TlsMetrics {
    /// Changes of its files.
    pub reloads: CounterBy<Reload>,
    /// When it ends, or the first of its chain does, in seconds since 1970.
    pub expires_at: Gauge,
}

/// The certificate that new connections get.
pub struct Certificate {
    config: TlsConfig,
    current: ArcSwap<ServerConfig>,
    /// What the files held when they were last looked at.
    seen: Mutex<Content>,
    metrics: TlsMetrics,
}

/// What is made of both files.
struct Usable {
    config: ServerConfig,
    expires_at: Option<UnixTime>,
}

/// What both files hold.
#[derive(Clone, PartialEq, Eq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Label for Reload {
    const NAME: &'static str = "outcome";
    const ALL: &'static [Self] = &[Self::Loaded, Self::Refused];

    fn text(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Refused => "refused",
        }
    }
}

impl TlsMetrics {
    fn show_end(&self, expires_at: Option<UnixTime>) {
        // 0 as without a certificate, if it does not say.
        self.expires_at.set(expires_at.map_or(0.0, |time| Duration::from_secs(time.as_secs()).as_secs_f64()));
    }
}

impl TlsConfig {
    /// Reads the settings; mistakes, also in the files, are noted in `settings`.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let certificate = settings.file("TLS_CERT_FILE", "certificate chain (PEM) for HTTPS; reloaded when it changes");
        let key = settings.file("TLS_KEY_FILE", "its key (PEM)");
        let config = match (certificate, key) {
            (Some(certificate), Some(key)) => Self { certificate, key },
            (None, None) => return None,
            (Some(_), None) => {
                settings.mistake("TLS_KEY_FILE", "is needed beside TLS_CERT_FILE");
                return None;
            }
            (None, Some(_)) => {
                settings.mistake("TLS_CERT_FILE", "is needed beside TLS_KEY_FILE");
                return None;
            }
        };
        if let Err(problem) = config.content().and_then(|content| content.parse()) {
            settings.mistake("TLS_CERT_FILE", &problem);
        }
        Some(config)
    }

    fn content(&self) -> Result<Content, String> {
        let read = |path: &Path| fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
        Ok(Content { certificate: read(&self.certificate)?, key: read(&self.key)? })
    }
}

impl Content {
    /// What is made of them: TLS 1.2 and 1.3, HTTP/1.1 alone. The text of an error has nothing of a key.
    fn parse(&self) -> Result<Usable, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|error| format!("is no certificate in PEM: {error}"))?;
        if chain.is_empty() {
            return Err("has no certificate in PEM".to_owned());
        }
        let expires_at = chain.iter().filter_map(expires_at).min_by_key(UnixTime::as_secs);
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| "has no key in PEM beside it".to_owned())?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| format!("and TLS_KEY_FILE do not go together: {error}"))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Usable { config, expires_at })
    }
}

/// When a certificate ends. The verifier tells it of one that is over, as on the last of all days every one is; it looks at that
/// before it asks who has signed it.
fn expires_at(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let certificate = ParsedCertificate::try_from(certificate).ok()?;
    let last_day = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let nobody = RootCertStore::empty();
    match verify_server_cert_signed_by_trust_anchor(&certificate, &nobody, &[], last_day, algorithms) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => Some(not_after),
        _ => None,
    }
}

impl Certificate {
    /// Loads the files.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn load(config: TlsConfig, metrics: TlsMetrics) -> io::Result<Arc<Self>> {
        let content = config.content().map_err(io::Error::other)?;
        let usable = content.parse().map_err(io::Error::other)?;
        metrics.show_end(usable.expires_at);
        let current = ArcSwap::from_pointee(usable.config);
        Ok(Arc::new(Self { config, current, seen: Mutex::new(content), metrics }))
    }

    /// Takes over what changes in the files, until the service stops. By their content: a mounted secret is swapped as a whole by
    /// a link to another folder, which changes no file.
    pub async fn keep_up(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = shutdown.stopped() => return,
            }
            let this = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || this.reload()).await;
        }
    }

    fn reload(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // While a file is away its neighbour is being written too.
        let Ok(content) = self.config.content() else { return };
        if content == *seen {
            return;
        }
        match content.parse() {
            Ok(Usable { config, expires_at }) => {
                self.metrics.show_end(expires_at);
                self.current.store(Arc::new(config));
                self.metrics.reloads.of(Reload::Loaded).increment(1);
                tracing::info!("new connections get a new certificate");
            }
            Err(problem) => {
                self.metrics.reloads.of(Reload::Refused).increment(1);
                tracing::error!(problem = %format!("TLS_CERT_FILE {problem}"), "the new certificate is of no use; the one before stays");
            }
        }
        *seen = content;
    }

    /// Agrees with a caller on how to go on in secret.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut stream = TlsAcceptor::from(self.current.load_full()).accept(stream).await?;
        stream.get_mut().1.set_buffer_limit(Some(SEND_BUFFER_BYTES));
        Ok(stream)
    }
}
