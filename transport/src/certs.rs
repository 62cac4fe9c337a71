//! A development CA: the certificates that make mutual TLS work on one machine or in one small cluster.
//!
//! It writes files and nothing else. It knows neither sessions nor who will load them; production clusters bring
//! certificates of their own CA, with the same role URIs (see [`role_uri`]).

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kennel_protocol::wire::Role;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

use crate::tls::SERVER_NAME;

/// Where the files of a development CA lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevelopmentCa {
    /// The CA certificate that every process trusts.
    pub ca: PathBuf,
    /// The CA's private key: whoever holds it can be anybody.
    pub ca_key: PathBuf,
    /// For cache nodes.
    pub node: CertificateFiles,
    /// For shippers.
    pub shipper: CertificateFiles,
    /// For readers.
    pub client: CertificateFiles,
}

/// One certificate and its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM, readable by all.
    pub certificate: PathBuf,
    /// PEM, mode 0600.
    pub key: PathBuf,
}

/// What to do about files that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Touch nothing and say which file is in the way.
    Refuse,
    /// Replace them: every process of the cluster must load the new ones.
    Replace,
}

/// Why no development CA was made. All of them: fix what the line names, then run it again.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file is in the way and replacing was not asked for. Nothing was written.
    #[error("{} exists already; remove it or ask to overwrite", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// A name is neither a host name nor an IP address. Nothing was written.
    #[error("`{name}` can be neither a host name nor an IP address in a certificate")]
    Name {
        /// Which name.
        name: String,
    },
    /// A file or the directory could not be written.
    #[error("{} could not be written", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A key or certificate could not be generated. Nothing was written.
    #[error("a certificate could not be generated")]
    Generate(#[source] rcgen::Error),
}

/// The names that every node certificate carries beside [`SERVER_NAME`] and the names asked for.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Clocks of a small cluster may differ by this much.
const CLOCK_SKEW: Duration = Duration::from_hours(24);

/// Ten years: a development CA should not end a demo.
const CA_LIFETIME: Duration = Duration::from_hours(24 * 3650);

/// The longest that common verifiers still accept for a leaf.
const LEAF_LIFETIME: Duration = Duration::from_hours(24 * 825);

/// The SAN URI by which a certificate states what its holder may be. A certificate without one may only read.
pub fn role_uri(role: Role) -> &'static str {
    match role {
        Role::Node => "urn:kennel:role:node",
        Role::Shipper => "urn:kennel:role:shipper",
        Role::Client => "urn:kennel:role:client",
    }
}

/// Makes a CA and one certificate per role in `dir`, which is created if absent.
///
/// Node certificates carry [`SERVER_NAME`], the local names and `names` (hosts or IP addresses); only they may serve.
/// Private keys get mode 0600. Everything is generated and checked before the first file is written.
pub fn create_development_ca(dir: &Path, names: &[String], overwrite: Overwrite) -> Result<DevelopmentCa, CertsError> {
    let files = DevelopmentCa::in_dir(dir);
    if overwrite == Overwrite::Refuse
        && let Some(path) = files.paths().into_iter().find(|path| path.exists())
    {
        return Err(CertsError::Exists { path: path.clone() });
    }
    let authority = authority()?;
    let leaves = [
        (&files.node, leaf(&authority, Role::Node, names)?),
        (&files.shipper, leaf(&authority, Role::Shipper, &[])?),
        (&files.client, leaf(&authority, Role::Client, &[])?),
    ];
    fs::create_dir_all(dir).map_err(|source| CertsError::Write { path: dir.to_owned(), source })?;
    write(&files.ca_key, &authority.key().serialize_pem(), KEY_MODE)?;
    write(&files.ca, &authority.pem(), CERTIFICATE_MODE)?;
    for (place, leaf) in leaves {
        write(&place.key, &leaf.key, KEY_MODE)?;
        write(&place.certificate, &leaf.certificate, CERTIFICATE_MODE)?;
    }
    Ok(files)
}

impl DevelopmentCa {
    /// The file names of a development CA in `dir`; whether they exist is not looked at.
    pub fn in_dir(dir: &Path) -> Self {
        let pair = |name: &str| CertificateFiles {
            certificate: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
        };
        Self {
            ca: dir.join("ca.pem"),
            ca_key: dir.join("ca.key"),
            node: pair("node"),
            shipper: pair("shipper"),
            client: pair("client"),
        }
    }

    fn paths(&self) -> [&PathBuf; 8] {
        [
            &self.ca,
            &self.ca_key,
            &self.node.certificate,
            &self.node.key,
            &self.shipper.certificate,
            &self.shipper.key,
            &self.client.certificate,
            &self.client.key,
        ]
    }
}

struct Leaf {
    certificate: String,
    key: String,
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, CertsError> {
    let key = KeyPair::generate().map_err(CertsError::Generate)?;
    // A name of its own tells it from the development CA that it replaces: a verifier finds issuers by name.
    let mut params = named(&format!("Kennel development CA {}", short_name(&key)), CA_LIFETIME);
    // No intermediate may hang below it: whatever it signs is a leaf.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, key).map_err(CertsError::Generate)
}

/// The last four bytes of the public key in hex: as good as random, and no secret.
fn short_name(key: &KeyPair) -> String {
    let last = key.public_key_raw().last_chunk().expect("a P-256 key has 65 bytes");
    format!("{:08x}", u32::from_be_bytes(*last))
}

fn leaf(authority: &CertifiedIssuer<'_, KeyPair>, role: Role, names: &[String]) -> Result<Leaf, CertsError> {
    let (common_name, purposes): (_, &[_]) = match role {
        Role::Node => ("kennel node", &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]),
        // Without the server purpose a stolen client key cannot pose as a node.
        Role::Shipper => ("kennel shipper", &[ExtendedKeyUsagePurpose::ClientAuth]),
        Role::Client => ("kennel client", &[ExtendedKeyUsagePurpose::ClientAuth]),
    };
    let mut params = named(common_name, LEAF_LIFETIME);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = purposes.to_vec();
    params.use_authority_key_identifier_extension = true;
    let uri = role_uri(role).try_into().map_err(CertsError::Generate)?;
    params.subject_alt_names.push(SanType::URI(uri));
    if role == Role::Node {
        for name in [SERVER_NAME].into_iter().chain(LOCAL_NAMES).chain(names.iter().map(String::as_str)) {
            params.subject_alt_names.push(host(name)?);
        }
    }
    let key = KeyPair::generate().map_err(CertsError::Generate)?;
    let certificate = params.signed_by(&key, authority).map_err(CertsError::Generate)?;
    Ok(Leaf { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn named(common_name: &str, lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + lifetime).into();
    params
}

fn host(name: &str) -> Result<SanType, CertsError> {
    if let Ok(address) = name.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let fail = || CertsError::Name { name: name.to_owned() };
    // rustls parses the name as it will when it verifies: what it would not match is refused here.
    rustls::pki_types::DnsName::try_from(name).map_err(|_| fail())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| fail())?))
}

const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;

fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertsError> {
    let fail = |source| CertsError::Write { path: path.to_owned(), source };
    // An old file would keep its own mode, so it goes first; `create_new` then cannot follow a link.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(fail)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_private_and_nothing_is_overwritten_unasked() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = create_development_ca(dir.path(), &["node-1.example".into()], Overwrite::Refuse).expect("a CA");
        for key in [&files.ca_key, &files.node.key, &files.shipper.key, &files.client.key] {
            let mode = fs::metadata(key).expect("a key").permissions().mode();
            assert_eq!(mode & 0o777, KEY_MODE, "{}", key.display());
        }
        let before = fs::read(&files.ca).expect("the CA");
        let refused = create_development_ca(dir.path(), &[], Overwrite::Refuse).expect_err("files are in the way");
        assert!(matches!(&refused, CertsError::Exists { path } if *path == files.ca), "{refused}");
        assert_eq!(fs::read(&files.ca).expect("the CA"), before);
        create_development_ca(dir.path(), &[], Overwrite::Replace).expect("a new CA");
        assert_ne!(fs::read(&files.ca).expect("the CA"), before);
    }

    #[test]
    fn a_name_that_no_certificate_can_carry_is_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["two words", "", "näme"] {
            let refused = create_development_ca(dir.path(), &[name.into()], Overwrite::Refuse).expect_err("a bad name");
            assert!(matches!(refused, CertsError::Name { .. }), "{refused}");
        }
        assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 0);
    }
}
