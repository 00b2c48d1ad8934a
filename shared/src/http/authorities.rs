//! Whom we believe that a server is who it says, when we are the client.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Where Debian, Alpine and most images keep the authorities that are believed.
pub const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What checks that a server is who it says, by the authorities in a file (PEM).
///
/// # Errors
/// Why the file is of no use.
pub async fn read_authorities(path: &Path) -> io::Result<TlsConnector> {
    let path = path.to_owned();
    let read = move || -> io::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(io::Error::other)? {
            roots.add_parsable_certificates([certificate.map_err(io::Error::other)?]);
        }
        if roots.is_empty() { Err(io::Error::other("the file has no certificate that can be used")) } else { Ok(roots) }
    };
    let roots = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}
