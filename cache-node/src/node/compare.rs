//! Tells a source that is behind from one whose history is another: compares single messages with what the shard holds.
//!
//! Asked of the owner only, because it is the one who remembers the difference for people (PROTOCOL R15). It reads what
//! is committed, from memory, cache or bucket, like any reader; it refuses to know what a shipper does with the answer.

use futures::StreamExt;
use kennel_core::shard::{Divergence, Input};
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::{Epoch, Offset, PartitionKey, ShardId};
use kennel_protocol::wire::{
    CompareRequest, Compared, ErrorCode, Fetch, FetchFrom, Message, PositionsRequest, WireError,
};

use super::answers::Answers;
use super::shard_task::ShardInput;
use crate::read::{ReadOutcome, identity_at};

/// Messages of one question that are read at once.
const READS_AT_ONCE: usize = 8;

/// About one batch: the read answers the whole batch that holds the message.
const READ_BYTES: u32 = 1;

impl Answers {
    /// What the shard has at the offsets that are named. A partition that cannot be read now is left out.
    ///
    /// # Cancel safety
    /// Safe: it only reads, and tells the shard what it has found.
    pub(super) async fn compare(&self, request: CompareRequest) -> Result<Message, WireError> {
        let CompareRequest { shard, messages } = request;
        let partitions = messages.iter().map(|(partition, _)| *partition).collect();
        let positions = PositionsRequest { shard, partitions };
        let positions = self.ask_shard(shard, |answer| ShardInput::Positions(positions, answer)).await?;
        let marks = positions.ok_or_else(|| self.moved(shard))?.marks;
        let reads = messages.clone().into_iter().zip(marks).map(|((partition, source), marks)| async move {
            // The end of the log is known, committed or not.
            match marks.last.filter(|last| last.offset == source.offset) {
                Some(last) => Some((partition, Some(last))),
                None => self.message(partition, source.offset).await.map(|ring| (partition, ring)),
            }
        });
        let read: Vec<_> = futures::stream::iter(reads).buffered(READS_AT_ONCE).collect().await;
        let ring: Vec<_> = read.into_iter().flatten().collect();
        for (partition, source) in messages {
            let held = ring.iter().find(|(held, _)| *held == partition).and_then(|(_, held)| *held);
            if let Some(held) = held.filter(|held| *held != source) {
                let found = Input::Diverged(partition, Divergence { ring: held, source });
                self.tell_shard(shard, found).await?;
            }
        }
        Ok(Message::Compared(Compared { shard, ring }))
    }

    /// The committed message at an offset, `Some(None)` if there is none, `None` if it could not be read now.
    async fn message(&self, partition: PartitionKey, offset: Offset) -> Option<Option<MessageIdentity>> {
        let fetch = Fetch {
            partition,
            from: FetchFrom::Offset(offset),
            bytes_max: READ_BYTES,
            messages_max: 1,
            wait_millis: 0,
            epoch: Epoch(0),
            last: None,
            forwarded: true,
        };
        match self.reader.fetch(&fetch).await {
            Ok(ReadOutcome::Answer(pieces)) if pieces.next > offset => {
                Some(pieces.batches.iter().find_map(|batch| identity_at(batch, offset)))
            }
            // Not committed yet, or not known yet where it lies.
            Ok(ReadOutcome::Answer(_) | ReadOutcome::AskOwner) => None,
            Err(error) if error.code == ErrorCode::OffsetTrimmed => Some(None),
            Err(error) => {
                tracing::debug!(%partition, %offset, error = error.message, "a message cannot be compared now");
                None
            }
        }
    }

    async fn tell_shard(&self, shard: ShardId, input: Input) -> Result<(), WireError> {
        let stopping = |_| super::serve::refuse(ErrorCode::Stopping, "the node is stopping", None);
        self.inbox(shard)?.send(ShardInput::Machine(input)).await.map_err(stopping)
    }
}
