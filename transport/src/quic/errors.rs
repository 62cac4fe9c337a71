//! quinn's words for the end of a connection, in ours.

use quinn::ConnectionError;

use crate::close::{CloseCode, SessionError};

/// What the end of a connection means to whoever holds the session.
pub(super) fn session_error(error: &ConnectionError) -> SessionError {
    match error {
        ConnectionError::LocallyClosed => SessionError::ClosedHere,
        ConnectionError::ApplicationClosed(close) => SessionError::ClosedByPeer {
            code: CloseCode::from_number(close.error_code.into()),
            reason: String::from_utf8_lossy(&close.reason).into_owned(),
        },
        ConnectionError::TimedOut => SessionError::Silent,
        ConnectionError::Reset => SessionError::PeerRestarted,
        ConnectionError::TransportError(failure) => {
            transport_failure(failure.code.into(), Decider::Here, || failure.to_string())
        }
        ConnectionError::ConnectionClosed(close) => {
            transport_failure(close.error_code.into(), Decider::Peer, || close.to_string())
        }
        ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => {
            SessionError::Broken { reason: error.to_string() }
        }
    }
}

/// Which side ended the connection.
#[derive(Clone, Copy)]
enum Decider {
    Here,
    Peer,
}

/// Codes of failed handshakes are TLS alerts above this number (RFC 9001, 4.8).
const TLS_ALERTS: u64 = 0x100;

fn transport_failure(code: u64, decider: Decider, words: impl Fn() -> String) -> SessionError {
    let alert = code.checked_sub(TLS_ALERTS).and_then(|alert| u8::try_from(alert).ok());
    let Some(alert) = alert else {
        return SessionError::Broken { reason: words() };
    };
    let (judge, judged) = match decider {
        Decider::Here => ("we refuse the peer's certificate", "the peer"),
        Decider::Peer => ("the peer refuses our certificate", "this side"),
    };
    // RFC 8446, 6.2: the alerts that a wrong set of certificates can cause.
    let reason = match alert {
        // 51 is what a CA of the same name but another key causes.
        48 | 51 => format!("{judge}: it was issued by another CA"),
        45 => format!("{judge}: it has expired or is not valid yet"),
        42 | 43 | 44 | 46 => format!("{judge}: {}", words()),
        116 => format!("{judged} presented no certificate"),
        120 => format!("{judged} does not speak kennel/1; check the address and port"),
        _ => words(),
    };
    SessionError::NotTrusted { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refused_certificate_reads_as_one_line() {
        let check = |alert: u64, decider, expected: &str| {
            let error = transport_failure(TLS_ALERTS + alert, decider, || "words".into());
            assert_eq!(error, SessionError::NotTrusted { reason: expected.into() });
        };
        check(48, Decider::Here, "we refuse the peer's certificate: it was issued by another CA");
        check(48, Decider::Peer, "the peer refuses our certificate: it was issued by another CA");
        check(51, Decider::Here, "we refuse the peer's certificate: it was issued by another CA");
        check(45, Decider::Peer, "the peer refuses our certificate: it has expired or is not valid yet");
        check(116, Decider::Peer, "this side presented no certificate");
        let error = transport_failure(10, Decider::Here, || "words".into());
        assert_eq!(error, SessionError::Broken { reason: "words".into() });
    }
}
