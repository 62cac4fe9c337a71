//! Real requests on loopback, written by hand: no client library is needed to read what people read.

use std::future::ready;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

fn report() -> StatusReport {
    StatusReport {
        ready: true,
        node: 3,
        shards: vec![ShardReport { shard: 5, role: "owner".to_owned(), epoch: 7, ..Default::default() }],
        bucket: BucketReport { puts: 42, cost_usd: 0.25, ..Default::default() },
        ..Default::default()
    }
}

fn always(report: StatusReport) -> StatusSource {
    Arc::new(move || Box::pin(ready(report.clone())))
}

fn anywhere() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

async fn start(status: StatusSource) -> Http {
    Http::start(anywhere(), status, metrics::install()).await.expect("it starts")
}

/// The status code and everything after the head.
async fn read(http: &Http, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(http.address()).await.expect("it accepts");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it writes text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status code");
    (code, body.to_owned())
}

#[tokio::test]
async fn status_is_the_report() {
    let http = start(always(report())).await;
    let (code, body) = read(&http, "/status").await;
    assert_eq!(code, 200);
    assert_eq!(serde_json::from_str::<StatusReport>(&body).expect("JSON"), report());
    http.stop().await;
}

#[tokio::test]
async fn health_says_why_not() {
    let http = start(always(report())).await;
    assert_eq!(read(&http, "/health").await, (200, "ready\n".to_owned()));
    http.stop().await;
    let reason = Some("the bucket cannot be reached".to_owned());
    let http = start(always(StatusReport { ready: false, reason, ..report() })).await;
    assert_eq!(read(&http, "/health").await, (503, "the bucket cannot be reached\n".to_owned()));
    http.stop().await;
}

#[tokio::test]
async fn a_stuck_node_is_not_healthy() {
    let http = start(Arc::new(|| Box::pin(std::future::pending()))).await;
    let (code, body) = read(&http, "/health").await;
    assert_eq!(code, 503);
    assert!(body.contains("does not answer"), "{body}");
    http.stop().await;
}

#[tokio::test]
async fn metrics_carry_the_report() {
    let http = start(always(report())).await;
    let (code, body) = read(&http, "/metrics").await;
    assert_eq!(code, 200);
    assert!(body.contains("kennel_bucket_requests_total{kind=\"put\"} 42"), "{body}");
    assert!(body.contains("kennel_shard_epoch_number{shard=\"5\"} 7"), "{body}");
    assert!(body.contains("# HELP kennel_bucket_requests_total "), "{body}");
    http.stop().await;
}

#[tokio::test]
async fn the_page_is_self_contained() {
    let http = start(always(report())).await;
    let (code, body) = read(&http, "/").await;
    assert_eq!(code, 200);
    assert!(body.contains("fetch(\"status\""), "it reads its own node");
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!body.contains(outside), "the page loads `{outside}`");
    }
    http.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_one_clear_line() {
    let first = start(always(report())).await;
    let second = Http::start(first.address(), always(report()), metrics::install()).await;
    let error = second.expect_err("the port is taken").to_string();
    assert!(error.contains(&first.address().to_string()) && error.contains("listen.http"), "{error}");
    first.stop().await;
}
