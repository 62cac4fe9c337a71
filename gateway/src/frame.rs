//! Frames of Iggy's binary protocol 0.11: a header of 256 bytes, then a body that the header counts.
//!
//! Only the fields that a gateway looks at are read, by their place; everything else travels as it came. What bodies
//! mean is told in the files that look into them.
//!
//! | at | request | reply |
//! |---|---|---|
//! | 48 | size of header and body, u32 | the same |
//! | 60 | command, u8: 5 | 8, or 13 when the session is evicted |
//! | 128, 144 | client, request checksum | request checksum, context |
//! | 160 | timestamp | client |
//! | 168, 176 | request number, operation | operation number, commit |
//! | 184, 196 | session; code of what is not replicated | timestamp, - |
//! | 200, 208, 216 | | request number, operation, status |

use core::mem::offset_of;

use bytes::Bytes;
use iggy_binary_protocol::codes::PING_CODE;
use iggy_binary_protocol::consensus::{Command, HEADER_SIZE, Operation, ReplyHeader, RequestHeader};
use kennel_protocol::ids::Offset;

/// Length of a header.
pub(crate) const HEADER_BYTES: usize = HEADER_SIZE;

/// Largest request, header and body: what Iggy's own server takes.
pub(crate) const REQUEST_BYTES_MAX: u32 = 64 << 20;

/// Largest reply: Iggy counts the messages of a poll and not its bytes, so only the field's width bounds it. Replies are
/// passed on piece by piece and never kept whole.
pub(crate) const REPLY_BYTES_MAX: u32 = u32::MAX;

/// Where the code of a request stands that is not replicated.
const CODE_AT: usize = offset_of!(RequestHeader, reserved);

/// The fields that both kinds of headers have at the same place.
mod shared_at {
    use super::{RequestHeader, offset_of};

    pub(super) const CLUSTER: usize = offset_of!(RequestHeader, cluster);
    pub(super) const SIZE: usize = offset_of!(RequestHeader, size);
    pub(super) const VIEW: usize = offset_of!(RequestHeader, view);
    pub(super) const COMMAND: usize = offset_of!(RequestHeader, command);
}

/// Operations as they stand in a header.
mod operation {
    use super::Operation;

    pub(super) const REGISTER: u8 = Operation::Register as u8;
    pub(super) const LOGOUT: u8 = Operation::Logout as u8;
    pub(super) const SEND: u8 = Operation::SendMessages as u8;
    pub(super) const ASK: u8 = Operation::NonReplicated as u8;
    /// They change nobody's rights and no messages.
    pub(super) const GROUPS: [u8; 4] = [
        Operation::CreateConsumerGroup as u8,
        Operation::DeleteConsumerGroup as u8,
        Operation::JoinConsumerGroup as u8,
        Operation::LeaveConsumerGroup as u8,
    ];
}

const _: () = {
    assert!(shared_at::CLUSTER == offset_of!(ReplyHeader, cluster));
    assert!(shared_at::SIZE == offset_of!(ReplyHeader, size));
    assert!(shared_at::VIEW == offset_of!(ReplyHeader, view));
    assert!(shared_at::COMMAND == offset_of!(ReplyHeader, command));
    assert!(CODE_AT == 196 && offset_of!(ReplyHeader, status) == 216);
};

/// Why a header cannot be believed. The connection has lost its place: close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// A size below the header's own.
    #[error("a frame says it has {size} bytes, fewer than its header")]
    TooSmall {
        /// What the header says.
        size: u32,
    },
    /// A size above what is taken here.
    #[error("a frame says it has {size} bytes; the most is {most}")]
    TooLarge {
        /// What the header says.
        size: u32,
        /// What is taken.
        most: u32,
    },
}

/// A header whose size was checked.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Header(Bytes);

impl Header {
    /// Takes a header, after checking that it announces a frame of at most `most` bytes.
    ///
    /// # Panics
    /// If there are not [`HEADER_BYTES`] bytes.
    pub(crate) fn parse(bytes: Bytes, most: u32) -> Result<Self, FrameError> {
        assert_eq!(bytes.len(), HEADER_BYTES, "a header is taken whole");
        let header = Self(bytes);
        let size = header.u32_at(shared_at::SIZE);
        if (size as usize) < HEADER_BYTES {
            return Err(FrameError::TooSmall { size });
        }
        if size > most {
            return Err(FrameError::TooLarge { size, most });
        }
        Ok(header)
    }

    /// A heartbeat: the one request that a server answers before a login.
    pub(crate) fn ping() -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        put(&mut bytes, shared_at::SIZE, &size_of_frame(0).to_le_bytes());
        put(&mut bytes, shared_at::COMMAND, &[Command::Request as u8]);
        // Whose it is does not matter, but nobody's is refused.
        put(&mut bytes, offset_of!(RequestHeader, client), &1_u128.to_le_bytes());
        put(&mut bytes, offset_of!(RequestHeader, operation), &[operation::ASK]);
        put(&mut bytes, CODE_AT, &PING_CODE.to_le_bytes());
        Self(bytes.into())
    }

    /// Length of the body, bytes.
    pub(crate) fn body_bytes(&self) -> usize {
        self.u32_at(shared_at::SIZE) as usize - HEADER_BYTES
    }

    /// The header as it came.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// What a request wants.
    pub(crate) fn wish(&self) -> Wish {
        if self.0[shared_at::COMMAND] != Command::Request as u8 {
            return Wish::Other;
        }
        match self.0[offset_of!(RequestHeader, operation)] {
            operation::ASK => Wish::Ask(self.u32_at(CODE_AT)),
            operation::SEND => Wish::Send,
            operation::REGISTER | operation::LOGOUT => Wish::Session,
            group if operation::GROUPS.contains(&group) => Wish::Other,
            Operation::METADATA_START..Operation::PARTITION_START => Wish::Change,
            _ => Wish::Other,
        }
    }

    /// Whether this is an answer, and not word that the session is over.
    pub(crate) fn is_reply(&self) -> bool {
        self.0[shared_at::COMMAND] == Command::Reply as u8
    }

    /// Of a reply: 0, or Iggy's code of the error.
    pub(crate) fn status(&self) -> u32 {
        self.u32_at(offset_of!(ReplyHeader, status))
    }

    /// Of a reply: what Iggy's metadata has committed.
    pub(crate) fn commit(&self) -> u64 {
        self.u64_at(offset_of!(ReplyHeader, commit))
    }

    /// The header of a request of the same session for `code`, which is not replicated and so takes no number.
    #[must_use]
    pub(crate) fn ask(&self, code: u32, body_bytes: usize) -> Self {
        let mut bytes = self.0.to_vec();
        put(&mut bytes, shared_at::SIZE, &size_of_frame(body_bytes).to_le_bytes());
        put(&mut bytes, CODE_AT, &code.to_le_bytes());
        Self(bytes.into())
    }

    /// The header of the server's reply to this request of a kind that is not replicated.
    #[must_use]
    pub(crate) fn reply(&self, commit: u64, status: u32, body_bytes: usize) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        let mut echo = |from: usize, to: usize, length: usize| put(&mut bytes, to, &self.0[from..from + length]);
        echo(shared_at::CLUSTER, shared_at::CLUSTER, 16);
        // View and release stand side by side, on either side.
        echo(shared_at::VIEW, shared_at::VIEW, 8);
        echo(offset_of!(RequestHeader, replica), offset_of!(ReplyHeader, replica), 1);
        echo(offset_of!(RequestHeader, request_checksum), offset_of!(ReplyHeader, request_checksum), 16);
        echo(offset_of!(RequestHeader, client), offset_of!(ReplyHeader, client), 16);
        echo(offset_of!(RequestHeader, session), offset_of!(ReplyHeader, op), 8);
        echo(offset_of!(RequestHeader, timestamp), offset_of!(ReplyHeader, timestamp), 8);
        echo(offset_of!(RequestHeader, request), offset_of!(ReplyHeader, request), 8);
        echo(offset_of!(RequestHeader, operation), offset_of!(ReplyHeader, operation), 1);
        bytes[shared_at::COMMAND] = Command::Reply as u8;
        put(&mut bytes, shared_at::SIZE, &size_of_frame(body_bytes).to_le_bytes());
        put(&mut bytes, offset_of!(ReplyHeader, commit), &commit.to_le_bytes());
        put(&mut bytes, offset_of!(ReplyHeader, status), &status.to_le_bytes());
        Self(bytes.into())
    }

    /// This header over a body of another length.
    #[must_use]
    pub(crate) fn resized(&self, body_bytes: usize) -> Self {
        let mut bytes = self.0.to_vec();
        put(&mut bytes, shared_at::SIZE, &size_of_frame(body_bytes).to_le_bytes());
        Self(bytes.into())
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32_at(&self.0, at)
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64_at(&self.0, at)
    }
}

impl core::fmt::Debug for Header {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("Header").field("wish", &self.wish()).field("body_bytes", &self.body_bytes()).finish()
    }
}

/// What a request wants, as far as a gateway cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Something that is not replicated, by its code.
    Ask(u32),
    /// To send messages.
    Send,
    /// To log in or out.
    Session,
    /// To change streams, topics, partitions, segments, users or their rights.
    Change,
    /// Anything else.
    Other,
}

/// The first message in a body of a poll's reply, as far as it shows in the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PollHead {
    /// The newest offset of the partition; 0 also where there is none.
    pub(crate) current: Offset,
    /// How many messages.
    pub(crate) count: u32,
}

/// Length of the head of a poll's reply.
pub(crate) const POLL_HEAD_BYTES: usize = 16;

impl PollHead {
    /// The head of a poll's reply; `None` if the body is too short to have one.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        (body.len() >= POLL_HEAD_BYTES).then(|| Self { current: Offset(u64_at(body, 4)), count: u32_at(body, 12) })
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

fn size_of_frame(body_bytes: usize) -> u32 {
    u32::try_from(HEADER_BYTES + body_bytes).expect("bodies are below the largest frame")
}
