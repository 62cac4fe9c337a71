//! What the bucket can answer besides the thing asked for, and what to do about each.
//!
//! The distinction that matters is whether a request may have taken effect: see [`BucketError::proves_nothing_written`].

use std::io;
use std::sync::Arc;

use object_store::client::{HttpError, HttpErrorKind};

use super::observe::ServerStatus;

/// What a caller, or a person, should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Try again after a growing, jittered pause.
    Retry,
    /// The bucket is away: go on without it and look again later.
    Wait,
    /// A person must change settings, permissions or the bucket.
    Fix,
    /// The bytes are wrong: do not go on with this object.
    Stop,
}

/// Why an operation on the bucket has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BucketError {
    /// No connection came up, so nothing was sent. *Wait*.
    #[error("the bucket cannot be reached; is the endpoint right, and up?")]
    Unreachable {
        /// What the client saw.
        #[source]
        source: Arc<object_store::Error>,
    },
    /// The connection broke after the request may have been sent: it may have happened. *Retry* (a create: read back).
    #[error("the connection to the bucket broke before the answer to {operation} `{key}` came")]
    Interrupted {
        /// The operation.
        operation: &'static str,
        /// The key.
        key: String,
        /// What the client saw.
        #[source]
        source: Arc<object_store::Error>,
    },
    /// No answer in time: it may have happened. *Retry* (a create: read back).
    #[error("no answer to {operation} `{key}` in time")]
    Timeout {
        /// The operation.
        operation: &'static str,
        /// The key.
        key: String,
    },
    /// Its turn did not come in time for one attempt, so nothing was sent. *Wait*.
    #[error("{operation} `{key}` waited too long behind other requests; raise the limit or slow down")]
    Busy {
        /// The operation.
        operation: &'static str,
        /// The key.
        key: String,
    },
    /// The store asks for fewer requests (429, 503). It may have happened all the same. *Retry*, slower.
    #[error("the bucket asks to slow down ({operation} `{key}`: status {status}, {code})")]
    Throttled {
        /// The operation.
        operation: &'static str,
        /// The key.
        key: String,
        /// HTTP status.
        status: u16,
        /// S3's error code, empty where none was given.
        code: String,
    },
    /// The store failed inside (5xx). It may have happened. *Retry* (a create: read back).
    #[error("the bucket failed ({operation} `{key}`: status {status}, {code})")]
    Server {
        /// The operation.
        operation: &'static str,
        /// The key.
        key: String,
        /// HTTP status.
        status: u16,
        /// S3's error code, empty where none was given.
        code: String,
    },
    /// Another conditional request on the key was under way (409). No verdict: read back, then *retry*.
    #[error("`{key}` was being written by another request (409, {code}): no verdict, read it back")]
    Conflict {
        /// The key.
        key: String,
        /// S3's error code.
        code: String,
    },
    /// The store refuses these credentials, or this permission. *Fix*.
    #[error(
        "the bucket refuses {operation} `{key}` ({code}); check the credentials, and grant s3:GetObject, \
         s3:PutObject, s3:DeleteObject and s3:ListBucket (without s3:ListBucket an absent object reads as forbidden)"
    )]
    Denied {
        /// The operation.
        operation: &'static str,
        /// The key.
        key: String,
        /// S3's error code, empty where none was given.
        code: String,
    },
    /// The bucket, or the root directory, does not exist. *Fix*.
    #[error("the bucket `{bucket}` does not exist; create it, or correct the url")]
    NotFoundBucket {
        /// The bucket or directory.
        bucket: String,
    },
    /// The store refuses the request as such (4xx, or a redirect to another region). *Fix*.
    #[error("the bucket rejects {operation} `{key}` (status {status}, {code}); check url, endpoint and region")]
    Rejected {
        /// The operation.
        operation: &'static str,
        /// The key.
        key: String,
        /// HTTP status.
        status: u16,
        /// S3's error code, empty where none was given.
        code: String,
    },
    /// The range is not inside the object. *Stop*: an index or a footer lied.
    #[error("`{key}` has {size} bytes, which do not hold the range {start}..{end}")]
    Range {
        /// The key.
        key: String,
        /// First byte wanted.
        start: u64,
        /// One past the last byte wanted.
        end: u64,
        /// Bytes that the object has.
        size: u64,
    },
    /// More bytes than a read may bring into memory. *Stop*, or raise the limit.
    #[error("reading `{key}` would take {size} bytes of memory where {limit} are allowed")]
    TooLarge {
        /// The key.
        key: String,
        /// Bytes asked for.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The answer contradicts itself. *Stop*.
    #[error("the bucket's answer to {operation} `{key}` is damaged: {reason}")]
    Corrupt {
        /// The operation.
        operation: &'static str,
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A key that no store could hold. *Fix*: it is a bug, or a prefix with bad characters.
    #[error("`{key}` is not a valid key: {reason}")]
    InvalidKey {
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting that cannot work. *Fix*.
    #[error("bucket setting `{setting}`: {reason}")]
    InvalidSettings {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Anything else that the store's client reports, a failing disk under `file://` above all. It may have happened.
    /// *Retry*.
    #[error("{operation} `{key}` failed in the store")]
    Store {
        /// The operation.
        operation: &'static str,
        /// The key.
        key: String,
        /// What the client saw.
        #[source]
        source: Arc<object_store::Error>,
    },
}

impl BucketError {
    /// What to do about it.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } => Advice::Wait,
            Self::Interrupted { .. }
            | Self::Timeout { .. }
            | Self::Throttled { .. }
            | Self::Server { .. }
            | Self::Conflict { .. }
            | Self::Store { .. } => Advice::Retry,
            Self::Denied { .. }
            | Self::NotFoundBucket { .. }
            | Self::Rejected { .. }
            | Self::InvalidKey { .. }
            | Self::InvalidSettings { .. } => Advice::Fix,
            Self::Range { .. } | Self::TooLarge { .. } | Self::Corrupt { .. } => Advice::Stop,
        }
    }

    /// Whether a write that ended so is known to have had no effect.
    ///
    /// True only where nothing was sent, or where the store's own rules say that it refuses before it writes. A 5xx
    /// proves nothing: gateways answer 503 for requests that went through behind them.
    pub fn proves_nothing_written(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Busy { .. }
            | Self::Denied { .. }
            | Self::NotFoundBucket { .. }
            | Self::Rejected { .. }
            | Self::InvalidKey { .. }
            | Self::InvalidSettings { .. } => true,
            Self::Interrupted { .. }
            | Self::Timeout { .. }
            | Self::Throttled { .. }
            | Self::Server { .. }
            | Self::Conflict { .. }
            | Self::Range { .. }
            | Self::TooLarge { .. }
            | Self::Corrupt { .. }
            | Self::Store { .. } => false,
        }
    }

    /// Puts the client's error into the caller's terms.
    pub(super) fn classify(error: object_store::Error, operation: &'static str, key: &str) -> Self {
        let key = key.to_owned();
        if let Some(status) = cause::<ServerStatus>(&error) {
            return Self::from_status(status, operation, key);
        }
        if let Some(http) = cause::<HttpError>(&error) {
            let kind = http.kind();
            let source = Arc::new(error);
            return match kind {
                HttpErrorKind::Connect => Self::Unreachable { source },
                HttpErrorKind::Timeout => Self::Timeout { operation, key },
                _ => Self::Interrupted { operation, key, source },
            };
        }
        let denied =
            matches!(error, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. })
                || cause::<io::Error>(&error).is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        if denied {
            return Self::Denied { operation, key, code: String::new() };
        }
        Self::Store { operation, key, source: Arc::new(error) }
    }

    fn from_status(ServerStatus { status, code }: &ServerStatus, operation: &'static str, key: String) -> Self {
        let (status, code) = (*status, code.clone());
        match status {
            _ if code == "NoSuchBucket" => Self::NotFoundBucket { bucket: key },
            401 | 403 => Self::Denied { operation, key, code },
            408 => Self::Timeout { operation, key },
            409 => Self::Conflict { key, code },
            429 | 503 => Self::Throttled { operation, key, status, code },
            500.. => Self::Server { operation, key, status, code },
            _ => Self::Rejected { operation, key, status, code },
        }
    }
}

/// The first error of type `E` in the chain of causes.
fn cause<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(status: u16, code: &str) -> object_store::Error {
        let status = ServerStatus { status, code: code.to_owned() };
        object_store::Error::Generic { store: "S3", source: Box::new(HttpError::new(HttpErrorKind::Unknown, status)) }
    }

    #[test]
    fn only_refusals_prove_that_nothing_was_written() {
        for (status, code, proof) in [
            (400, "InvalidRequest", true),
            (403, "SignatureDoesNotMatch", true),
            (404, "NoSuchBucket", true),
            (301, "PermanentRedirect", true),
            (408, "RequestTimeout", false),
            (409, "ConditionalRequestConflict", false),
            (429, "", false),
            (500, "InternalError", false),
            (503, "SlowDown", false),
        ] {
            let error = BucketError::classify(wrapped(status, code), "put", "key");
            assert_eq!(error.proves_nothing_written(), proof, "{status} {code}: {error}");
        }
    }

    #[test]
    fn transport_errors_are_unknown_unless_no_connection_came_up() {
        for (kind, proof) in [
            (HttpErrorKind::Connect, true),
            (HttpErrorKind::Request, false),
            (HttpErrorKind::Timeout, false),
            (HttpErrorKind::Interrupted, false),
            (HttpErrorKind::Unknown, false),
        ] {
            let source = HttpError::new(kind, io::Error::other("wire"));
            let error = object_store::Error::Generic { store: "S3", source: Box::new(source) };
            let error = BucketError::classify(error, "put", "key");
            assert_eq!(error.proves_nothing_written(), proof, "{kind:?}: {error}");
        }
    }

    #[test]
    fn a_refusal_names_the_permission_that_is_missing() {
        let error = BucketError::classify(wrapped(403, "AccessDenied"), "get", "claims/0/1");
        assert!(error.to_string().contains("s3:ListBucket"), "{error}");
        assert_eq!(error.advice(), Advice::Fix);
    }
}
