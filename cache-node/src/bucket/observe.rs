//! Stands between the S3 client and the wire: counts what is billed, and keeps the status that the client drops.
//!
//! `object_store` folds a 409 into `AlreadyExists`, both kinds of 404 into `NotFound`, and hides every other status in
//! a private type. Here each becomes a [`ServerStatus`] in the chain of causes, where our own errors find it.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};

use super::counters::{Counters, RequestKind};

/// Most bytes of an error's body that are read: S3's are below 1 KiB.
const ERROR_BODY_BYTES_MAX: usize = 16 << 10;

/// An answer that is neither success, nor "not found", nor "precondition failed".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store answered with status {status} {code}")]
pub(super) struct ServerStatus {
    /// HTTP status.
    pub(super) status: u16,
    /// S3's error code, empty where none was given.
    pub(super) code: String,
}

/// Makes HTTP clients that report to `counters`.
#[derive(Debug)]
pub(super) struct ObservedConnector {
    pub(super) counters: Arc<Counters>,
}

impl HttpConnector for ObservedConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(ObservedClient { client, counters: Arc::clone(&self.counters) }))
    }
}

#[derive(Debug)]
struct ObservedClient {
    client: HttpClient,
    counters: Arc<Counters>,
}

#[async_trait]
impl HttpService for ObservedClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Requests for credentials go through the same client; they are not signed, not billed and not ours.
        if request.headers().contains_key("authorization") {
            let kind = request_kind(&request);
            self.counters.count(kind);
            if kind == RequestKind::Put {
                self.counters.sent(request.body().content_length() as u64);
            }
        }
        let response = self.client.execute(request).await?;
        judge(response).await
    }
}

/// What the store will bill the request as.
fn request_kind(request: &HttpRequest) -> RequestKind {
    let query = request.uri().query().unwrap_or_default();
    match request.method().as_str() {
        "HEAD" => RequestKind::Head,
        "GET" if query.contains("list-type=") => RequestKind::List,
        "GET" => RequestKind::Get,
        "DELETE" => RequestKind::Delete,
        "POST" if query.split('&').any(|part| part == "delete" || part.starts_with("delete=")) => RequestKind::Delete,
        _ => RequestKind::Put,
    }
}

/// Lets through what the client understands, and turns every other answer into a [`ServerStatus`].
async fn judge(response: HttpResponse) -> Result<HttpResponse, HttpError> {
    let status = response.status().as_u16();
    match status {
        200..=299 | 304 | 412 => return Ok(response),
        _ => {}
    }
    let (parts, body) = response.into_parts();
    let body = read_start(body).await?;
    let code = error_code(&body);
    if status == 404 && code != "NoSuchBucket" {
        return Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(body)));
    }
    // `Request` makes the client try again where it may; the handle for conditional PUTs never does.
    let kind = match status {
        408 | 429 | 500.. => HttpErrorKind::Request,
        _ => HttpErrorKind::Unknown,
    };
    Err(HttpError::new(kind, ServerStatus { status, code }))
}

/// The first [`ERROR_BODY_BYTES_MAX`] bytes.
async fn read_start(body: HttpResponseBody) -> Result<Vec<u8>, HttpError> {
    let mut stream = body.bytes_stream();
    let mut start = Vec::new();
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        let room = ERROR_BODY_BYTES_MAX - start.len();
        start.extend_from_slice(&piece[..piece.len().min(room)]);
        if start.len() == ERROR_BODY_BYTES_MAX {
            break;
        }
    }
    Ok(start)
}

/// The text of S3's `<Code>` element, empty where there is none.
fn error_code(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map(|(code, _)| code.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_found_in_the_error_body() {
        let body = b"<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>less</Message></Error>";
        assert_eq!(error_code(body), "SlowDown");
        assert_eq!(error_code(b"<html>Bad Gateway</html>"), "");
        assert_eq!(error_code(&[0xff, 0xfe]), "");
    }
}
