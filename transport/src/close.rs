//! How sessions and lanes end, and what the side that sees it should do.
//!
//! It holds the numbers and the words; when something ends is decided elsewhere.

use std::fmt;

use kennel_protocol::wire::ErrorCode;

/// Why a session or a lane was ended by one of its sides: a stable [`ErrorCode`], or [`CloseCode::DONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// Nothing is wrong: the side has no more to say. Also what dropping the last handle means.
    pub const DONE: Self = Self(0);

    /// The error behind the code; `None` if there is none or this build does not know the number.
    pub fn error(self) -> Option<ErrorCode> {
        ERROR_CODES.into_iter().find(|code| *code as u16 == self.0)
    }

    /// What the side that sees this code should do.
    pub fn advice(self) -> Advice {
        // An orderly end, or the number of a newer build: try again.
        self.error().map_or(Advice::Retry, Advice::from)
    }

    pub(crate) fn number(self) -> u32 {
        self.0.into()
    }

    /// A number that does not fit cannot be one of ours and stays unknown.
    pub(crate) fn from_number(number: u64) -> Self {
        Self(u16::try_from(number).unwrap_or(u16::MAX))
    }
}

impl From<ErrorCode> for CloseCode {
    fn from(code: ErrorCode) -> Self {
        Self(code as u16)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error() {
            Some(code) => write!(f, "{code:?} ({})", self.0),
            None if *self == Self::DONE => f.write_str("done"),
            None => write!(f, "unknown code {}", self.0),
        }
    }
}

const ERROR_CODES: [ErrorCode; 18] = [
    ErrorCode::VersionWindow,
    ErrorCode::WrongCluster,
    ErrorCode::FrameTooLarge,
    ErrorCode::Malformed,
    ErrorCode::Checksum,
    ErrorCode::NotAllowed,
    ErrorCode::Moved,
    ErrorCode::NoOwner,
    ErrorCode::Busy,
    ErrorCode::OffsetTrimmed,
    ErrorCode::UnknownPartition,
    ErrorCode::Stale,
    ErrorCode::Rewound,
    ErrorCode::Diverged,
    ErrorCode::BucketUnavailable,
    ErrorCode::Corrupt,
    ErrorCode::Stopping,
    ErrorCode::Internal,
];

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Try again at once, on a new session or at another node.
    Retry,
    /// Try again after a pause.
    Wait,
    /// A person or the caller's code must change something first.
    Fix,
    /// Trying again cannot help.
    Stop,
}

impl From<ErrorCode> for Advice {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Checksum | ErrorCode::Moved | ErrorCode::Stale | ErrorCode::Stopping | ErrorCode::Internal => {
                Self::Retry
            }
            ErrorCode::NoOwner | ErrorCode::Busy | ErrorCode::BucketUnavailable => Self::Wait,
            ErrorCode::VersionWindow
            | ErrorCode::WrongCluster
            | ErrorCode::FrameTooLarge
            | ErrorCode::Malformed
            | ErrorCode::NotAllowed
            | ErrorCode::UnknownPartition => Self::Fix,
            ErrorCode::OffsetTrimmed | ErrorCode::Rewound | ErrorCode::Diverged | ErrorCode::Corrupt => Self::Stop,
        }
    }
}

/// Why a session is over. Whatever was in flight on it may have happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// This side closed it.
    #[error("this side closed the session")]
    ClosedHere,
    /// The peer closed it. The code says what to do.
    #[error("the peer closed the session: {code}{}", Reason(reason))]
    ClosedByPeer {
        /// Why, for programs.
        code: CloseCode,
        /// Why, for people; may be empty.
        reason: String,
    },
    /// Nothing came from the peer for the idle limit: it, or the network, is gone. Retry.
    #[error("the peer was silent for longer than the idle limit")]
    Silent,
    /// The peer started anew and knows nothing of the session. Retry.
    #[error("the peer has restarted and no longer knows the session")]
    PeerRestarted,
    /// One side does not take the other's certificate. Fix: the certificates.
    #[error("no mutual trust: {reason}")]
    NotTrusted {
        /// Whose certificate, and what is wrong with it.
        reason: String,
    },
    /// The transport's own protocol failed. Retry; if it stays so, the sides are not compatible.
    #[error("the transport failed: {reason}")]
    Broken {
        /// What it said.
        reason: String,
    },
}

impl SessionError {
    /// What to do about it.
    pub fn advice(&self) -> Advice {
        match self {
            Self::ClosedHere => Advice::Stop,
            Self::ClosedByPeer { code, .. } => code.advice(),
            Self::Silent | Self::PeerRestarted | Self::Broken { .. } => Advice::Retry,
            Self::NotTrusted { .. } => Advice::Fix,
        }
    }
}

/// Appends `: reason` unless there is none.
struct Reason<'a>(&'a str);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_wire() {
        for code in ERROR_CODES {
            let sent = CloseCode::from(code);
            assert_eq!(CloseCode::from_number(sent.number().into()).error(), Some(code));
        }
        assert_eq!(CloseCode::from_number(0), CloseCode::DONE);
        assert_eq!(CloseCode::from_number(u64::MAX).error(), None);
    }

    #[test]
    fn a_refusal_reads_as_one_line() {
        let error = SessionError::ClosedByPeer { code: ErrorCode::WrongCluster.into(), reason: "I am b".into() };
        assert_eq!(error.to_string(), "the peer closed the session: WrongCluster (2): I am b");
        assert_eq!(error.advice(), Advice::Fix);
        let error = SessionError::ClosedByPeer { code: CloseCode::DONE, reason: String::new() };
        assert_eq!(error.to_string(), "the peer closed the session: done");
    }
}
