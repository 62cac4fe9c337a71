//! The same over TLS, on both sides.

use std::path::{Path, PathBuf};

use super::*;
use crate::{GatewayTls, OriginTls};

/// A certificate for the loopback that is its own authority.
fn certificate(directory: &Path) -> GatewayTls {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let signed = signed.expect("a certificate");
    let write = |file: &str, text: String| -> PathBuf {
        let path = directory.join(file);
        std::fs::write(&path, text).expect("it can be written");
        path
    };
    GatewayTls { cert: write("cert.pem", signed.cert.pem()), key: write("key.pem", signed.signing_key.serialize_pem()) }
}

#[tokio::test]
async fn a_stock_client_reads_over_tls_and_so_does_a_second_gateway() {
    let directory = tempfile::tempdir().expect("a directory");
    let tls = certificate(directory.path());
    let ca = tls.cert.clone();
    let rig = Rig::with(&history(), |settings| GatewaySettings { tls: Some(tls), ..settings }).await;
    let address = rig.gateway.address();
    let text = format!(
        "iggy://iggy:iggy@{address}?tls=true&tls_domain=localhost&tls_ca_file={}",
        ca.to_str().expect("a plain path")
    );
    let client = IggyClient::from_connection_string(&text).expect("a connection string");
    client.connect().await.expect("a session");
    let start = request(WirePollingStrategy::offset(0), 5);
    let body = poll(&client, &start).await;
    assert_eq!(told(&body), (5, 29));
    assert_eq!(rig.served(), 1);

    // A gateway whose server is the first gateway speaks TLS to it.
    let mut settings = GatewaySettings::new((Ipv4Addr::LOCALHOST, 0).into(), address.to_string());
    settings.origin_tls = Some(OriginTls { ca, name: "localhost".to_owned() });
    let second = Gateway::start(settings, Arc::clone(&rig.ring) as _).await.expect("a gateway");
    let client = super::client(second.address()).await;
    assert_eq!(poll(&client, &start).await, body);
    assert_eq!(second.counts().served, 1);
}

#[tokio::test]
async fn certificates_that_are_missing_are_named() {
    let tls = GatewayTls { cert: PathBuf::from("no/cert.pem"), key: PathBuf::from("no/key.pem") };
    let mut settings = GatewaySettings::new((Ipv4Addr::LOCALHOST, 0).into(), "127.0.0.1:1");
    settings.tls = Some(tls);
    let error = Gateway::start(settings, Arc::new(MemoryRing::default())).await.expect_err("no file");
    assert!(error.to_string().contains("no/cert.pem"), "{error}");
}
