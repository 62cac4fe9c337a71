//! TLS of both sides: what a gateway presents to clients, and whom it believes to be its server.
//!
//! Nobody is asked for a certificate of its own: Iggy knows its users by their logins.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::error::GatewayError;
use crate::settings::{GatewayTls, OriginTls};

/// What clients are shown.
pub(crate) fn acceptor(settings: &GatewayTls) -> Result<TlsAcceptor, GatewayError> {
    let chain = certificates(&settings.cert)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key)
        .map_err(|source| unreadable(&settings.key, "a private key", source.into()))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| GatewayError::Unusable(source.into()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|source| GatewayError::Unusable(source.into()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// How the server is dialed.
pub(crate) fn connector(settings: &OriginTls) -> Result<(TlsConnector, ServerName<'static>), GatewayError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&settings.ca)? {
        roots.add(certificate).map_err(|source| unreadable(&settings.ca, "certificates", source.into()))?;
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| GatewayError::Unusable(source.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(settings.name.clone());
    let name = name.map_err(|_| GatewayError::ServerName(settings.name.clone()))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, GatewayError> {
    let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    chain.map_err(|source| unreadable(path, "certificates", source.into()))
}

fn unreadable(path: &Path, expected: &'static str, source: Box<dyn std::error::Error + Send + Sync>) -> GatewayError {
    GatewayError::Certificates { path: path.to_owned(), expected, source }
}
