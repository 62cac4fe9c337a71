//! Create-if-absent: the one primitive that everything else stands on.

use bytes::Bytes;
use object_store::{PutMode, PutOptions, PutPayload};

use super::counters::RequestKind;
use super::error::BucketError;
use super::store::Bucket;

/// What became of a create. Only `Done` and `Failed` are verdicts.
#[derive(Debug)]
#[must_use = "an unread outcome is a lost object"]
pub enum CreateOutcome {
    /// This very request created the object.
    Done,
    /// Something is there, perhaps one's own earlier try: read it back and compare.
    Exists,
    /// Nothing was written, and nothing will be by this request.
    Failed(BucketError),
    /// It may have been written, or may yet be: read it back, and while it is absent send the same bytes again.
    Unknown(BucketError),
}

impl Bucket {
    /// Writes `pieces`, one after the other, as the object `key`, unless one is there. Sent once, never retried here.
    ///
    /// Cancel safety: none. Dropped before it ends, the outcome is unknown, as with [`CreateOutcome::Unknown`].
    pub async fn create(&self, key: &str, pieces: Vec<Bytes>) -> CreateOutcome {
        let path = match self.prefix.path(key) {
            Ok(path) => path,
            Err(error) => return CreateOutcome::Failed(error),
        };
        let lane = &self.stores.puts;
        let payload = PutPayload::from_iter(pieces);
        let options = PutOptions::from(PutMode::Create);
        let bytes = payload.content_length() as u64;
        let put = async {
            self.stores.count_local(RequestKind::Put, bytes);
            match lane.store.put_opts(&path, payload, options).await {
                Ok(_) => Ok(CreateOutcome::Done),
                Err(object_store::Error::AlreadyExists { .. }) => Ok(CreateOutcome::Exists),
                Err(error) => Err(error),
            }
        };
        match lane.run(&self.stores, "create", key, put).await {
            Ok(outcome) => outcome,
            Err(error) if error.proves_nothing_written() => CreateOutcome::Failed(error),
            Err(error) => CreateOutcome::Unknown(error),
        }
    }
}
