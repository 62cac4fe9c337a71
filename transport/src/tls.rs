//! Who we are and whom we trust: mutual TLS 1.3 from three PEM files.
//!
//! Both sides of every session present a certificate of the cluster's CA. This file reads and checks certificates; it
//! knows nothing of sockets, and it leaves to the hello whether a role may do what it asks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kennel_protocol::wire::Role;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, RootCertStore};
use x509_parser::extensions::GeneralName;

use crate::certs::role_uri;

/// The name that every node's certificate carries. One name for all: addresses come and go, membership of the
/// cluster's CA is what counts.
pub const SERVER_NAME: &str = "kennel";

/// The application protocol of every session, so that another QUIC service on the port is refused in the handshake.
pub const ALPN: &[u8] = b"kennel/1";

/// Our certificate and key, and the CA that both sides trust. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TlsIdentity {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    certified: Arc<CertifiedKey>,
    named: CertificateName,
}

/// Whom a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateName {
    /// The subject's common name; empty if there is none.
    pub common_name: String,
    /// What the holder may be, if the certificate says so (see [`role_uri`]).
    pub role: Option<Role>,
}

/// Why an identity cannot be used. All of them: fix the file that the line names.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file is missing or cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds no PEM section of the kind needed.
    #[error("{} holds no {expected} in PEM form", path.display())]
    NotPem {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// A file holds PEM, but what is inside cannot be used.
    #[error("{} holds a {expected} that cannot be used", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The key belongs to another certificate.
    #[error("the key {} does not belong to the certificate {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The certificate's time is over.
    #[error("the certificate {} has expired; make a new one", path.display())]
    Expired {
        /// The certificate.
        path: PathBuf,
    },
    /// The certificate's time has not come: it, or this host's clock, is wrong.
    #[error("the certificate {} is not valid yet; check this host's clock", path.display())]
    NotYetValid {
        /// The certificate.
        path: PathBuf,
    },
    /// Peers that trust the CA would refuse the certificate.
    #[error("the certificate {} was not issued by the CA {}", path.display(), ca.display())]
    OtherIssuer {
        /// The certificate.
        path: PathBuf,
        /// The CA.
        ca: PathBuf,
    },
}

impl TlsIdentity {
    /// Reads and checks the three PEM files. What loads here is accepted by every peer with the same CA and clock.
    pub fn load(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(load_roots(ca)?);
        let certified = load_certified(certificate, key, &provider)?;
        verify(&roots, &provider, &certified, ca, certificate)?;
        let named = read_name(&certified.cert[0]).map_err(|source| IdentityError::Unusable {
            path: certificate.to_owned(),
            expected: CERTIFICATE,
            source,
        })?;
        Ok(Self { provider, roots, certified: Arc::new(certified), named })
    }

    /// Whom our own certificate names.
    pub fn named(&self) -> &CertificateName {
        &self.named
    }

    /// The half that accepts: asks every peer for a certificate of the CA.
    pub(crate) fn server_config(&self) -> rustls::ServerConfig {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), self.provider.clone())
            .build()
            .expect("the CA was checked when it was loaded");
        let mut config = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring speaks TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.resolver());
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Early data could be replayed, and resumption would outlive a certificate.
        config.max_early_data_size = 0;
        config.send_tls13_tickets = 0;
        config
    }

    /// The half that connects: presents our certificate and takes only nodes of the CA.
    pub(crate) fn client_config(&self) -> rustls::ClientConfig {
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots.clone(), self.provider.clone())
            .build()
            .expect("the CA was checked when it was loaded");
        let mut config = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring speaks TLS 1.3")
            .with_webpki_verifier(verifier)
            .with_client_cert_resolver(self.resolver());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        config
    }

    fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(CertifiedKey::clone(&self.certified)))
    }
}

const CERTIFICATE: &str = "certificate";
const PRIVATE_KEY: &str = "private key";

fn load_roots(path: &Path) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in load_certificates(path)? {
        roots.add(certificate).map_err(|source| IdentityError::Unusable {
            path: path.to_owned(),
            expected: CERTIFICATE,
            source,
        })?;
    }
    Ok(roots)
}

fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let text = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(IdentityError::NotPem { path: path.to_owned(), expected: CERTIFICATE }),
    }
}

fn load_certified(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, IdentityError> {
    let chain = load_certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|_| IdentityError::NotPem { path: key.to_owned(), expected: PRIVATE_KEY })?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            IdentityError::KeyMismatch { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        rustls::Error::InvalidCertificate(_) => {
            IdentityError::Unusable { path: certificate.to_owned(), expected: CERTIFICATE, source: error }
        }
        _ => IdentityError::Unusable { path: key.to_owned(), expected: PRIVATE_KEY, source: error },
    })
}

/// Does to our own certificate what a peer will do, so that a mistake shows at start and not as a peer's refusal.
fn verify(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    certified: &CertifiedKey,
    ca: &Path,
    path: &Path,
) -> Result<(), IdentityError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .expect("a CA file with no certificate was refused");
    let (leaf, chain) = certified.cert.split_first().expect("a certificate file with no certificate was refused");
    verifier.verify_client_cert(leaf, chain, UnixTime::now()).map(drop).map_err(|error| {
        let path = path.to_owned();
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                IdentityError::Expired { path }
            }
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            ) => IdentityError::NotYetValid { path },
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                IdentityError::OtherIssuer { path, ca: ca.to_owned() }
            }
            source => IdentityError::Unusable { path, expected: CERTIFICATE, source },
        }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(path).map_err(|source| IdentityError::Read { path: path.to_owned(), source })
}

/// Whom a certificate names. The caller has verified the certificate, or is about to.
pub(crate) fn read_name(certificate: &CertificateDer<'_>) -> Result<CertificateName, rustls::Error> {
    let bad = || rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).map_err(|_| bad())?;
    let common_name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let alternatives = certificate.subject_alternative_name().map_err(|_| bad())?;
    let mut uris = alternatives.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let role = uris.find_map(role_of);
    Ok(CertificateName { common_name: common_name.unwrap_or_default().to_owned(), role })
}

fn role_of(uri: &str) -> Option<Role> {
    [Role::Node, Role::Shipper, Role::Client].into_iter().find(|role| role_uri(*role) == uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::{CertificateFiles, DevelopmentCa, Overwrite, create_development_ca};

    fn authority(dir: &Path) -> DevelopmentCa {
        create_development_ca(dir, &[], Overwrite::Refuse).expect("a CA")
    }

    fn load(ca: &DevelopmentCa, files: &CertificateFiles) -> Result<TlsIdentity, IdentityError> {
        TlsIdentity::load(&ca.ca, &files.certificate, &files.key)
    }

    #[test]
    fn a_certificate_says_what_its_holder_may_be() {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = authority(dir.path());
        let cases = [(&ca.node, Role::Node), (&ca.shipper, Role::Shipper), (&ca.client, Role::Client)];
        for (files, role) in cases {
            assert_eq!(load(&ca, files).expect("an identity").named().role, Some(role));
        }
    }

    #[test]
    fn each_mistake_has_its_own_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let other_dir = tempfile::tempdir().expect("a directory");
        let (ca, other) = (authority(dir.path()), authority(other_dir.path()));
        let garbage = dir.path().join("garbage.pem");
        fs::write(&garbage, "not PEM").expect("a file");
        let missing = dir.path().join("missing.pem");
        let check = |ca: &Path, certificate: &Path, key: &Path, expected: &str| {
            let error = TlsIdentity::load(ca, certificate, key).expect_err(expected).to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "`{error}` should say `{expected}`");
        };
        check(&missing, &ca.node.certificate, &ca.node.key, "missing.pem cannot be read");
        check(&ca.ca, &garbage, &ca.node.key, "garbage.pem holds no certificate");
        check(&ca.ca, &ca.node.certificate, &garbage, "garbage.pem holds no private key");
        check(&ca.ca, &ca.node.certificate, &ca.client.key, "does not belong to the certificate");
        check(&other.ca, &ca.node.certificate, &ca.node.key, "was not issued by the CA");
    }
    #[test]
    fn a_certificate_out_of_its_time_is_named() {
        use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
        let dir = tempfile::tempdir().expect("a directory");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        let path = |name: &str| dir.path().join(name);
        fs::write(path("ca.pem"), issuer.pem()).expect("a file");
        let load = |from: i32, to: i32| {
            let mut params = CertificateParams::default();
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
            let key = KeyPair::generate().expect("a key");
            let leaf = params.signed_by(&key, &issuer).expect("a certificate");
            fs::write(path("leaf.pem"), leaf.pem()).expect("a file");
            fs::write(path("leaf.key"), key.serialize_pem()).expect("a file");
            TlsIdentity::load(&path("ca.pem"), &path("leaf.pem"), &path("leaf.key"))
        };
        assert!(matches!(load(2001, 2002), Err(IdentityError::Expired { .. })));
        assert!(matches!(load(3001, 3002), Err(IdentityError::NotYetValid { .. })));
        assert_eq!(load(2001, 3002).expect("in its time").named().role, None);
    }
}
