//! What an issuer publishes: where its keys are, and its keys.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST};
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::Value;
use shared::http::read_authorities;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;

use super::config::{OidcConfig, parse_url};

/// How long one document may take, from the first packet on.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The most bytes of one.
const BYTES_MAX: usize = 256 * 1024;
/// The most keys that are kept: no issuer has so many.
const KEYS_MAX: usize = 100;

/// Where things are (OpenID Connect Discovery 1.0, 3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Keys, whatever kind they are (RFC 7517, 5).
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// Asks the issuer for its keys. Those of kinds that are not known are left out.
///
/// # Errors
/// What is wrong, for the log.
pub(super) async fn fetch_keys(config: &OidcConfig) -> Result<Vec<Jwk>, String> {
    let discovery = format!("{}/.well-known/openid-configuration", config.issuer.trim_end_matches('/'));
    let told: Discovery = parse(&fetch(&discovery, &config.authorities).await?)?;
    if told.issuer != config.issuer {
        return Err("the issuer calls itself by another name".to_owned());
    }
    let set: KeySet = parse(&fetch(&told.jwks_uri, &config.authorities).await?)?;
    Ok(set.keys.into_iter().take(KEYS_MAX).filter_map(|key| serde_json::from_value(key).ok()).collect())
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(text)
}

async fn fetch(url: &str, authorities: &Path) -> Result<Bytes, String> {
    let url = parse_url(url).ok_or("not an https URL")?;
    timeout(TIMEOUT, get(&url, authorities)).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

async fn get(url: &Uri, authorities: &Path) -> Result<Bytes, String> {
    let is_tls = url.scheme() == Some(&Scheme::HTTPS);
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(text)?;
    if !is_tls {
        return exchange(stream, url).await;
    }
    let name = ServerName::try_from(host).map_err(text)?;
    // Read each time: they may change.
    let connector = read_authorities(authorities).await.map_err(text)?;
    let stream = connector.connect(name, stream).await.map_err(text)?;
    exchange(stream, url).await
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, url: &Uri) -> Result<Bytes, String> {
    let (mut connection, driver) = handshake(TokioIo::new(stream)).await.map_err(text)?;
    // It ends when the connection is dropped.
    tokio::spawn(driver);
    let request = Request::get(url.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, url.authority().map_or("", |authority| authority.as_str()))
        .header(ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(text)?;
    let response = connection.send_request(request).await.map_err(text)?;
    if response.status() != StatusCode::OK {
        return Err(format!("the answer is {}", response.status()));
    }
    Ok(Limited::new(response.into_body(), BYTES_MAX).collect().await.map_err(text)?.to_bytes())
}

fn text(error: impl Display) -> String {
    error.to_string()
}
