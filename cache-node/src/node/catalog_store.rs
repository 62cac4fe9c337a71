//! Catalogues in the bucket: `catalog/{revision}`, each created once, none ever deleted.
//!
//! It resolves outcomes that are unknown by reading back (DESIGN 2.5), and knows neither who may write nor what the
//! catalogues say.

use bytes::Bytes;
use kennel_protocol::keys::CatalogKey;

use crate::bucket::{Bucket, BucketError, CreateOutcome};

/// Most keys of one page of a listing: a thousand, as the stores page.
const LIST_MAX: usize = 1_000;

/// How often a create whose outcome is unknown is sent again before the bucket counts as away.
const TRIES_MAX: u32 = 3;

/// What became of a create, for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    /// These bytes are the catalogue of the revision, by this request or an earlier one.
    Ours,
    /// Others are.
    Taken,
}

/// Catalogues of one cluster.
#[derive(Debug, Clone)]
pub(super) struct CatalogStore {
    bucket: Bucket,
}

impl CatalogStore {
    pub(super) fn new(bucket: Bucket) -> Self {
        Self { bucket }
    }

    /// The newest catalogue and its revision, if there is one above the one that is known.
    ///
    /// # Cancel safety
    /// Safe: reads only.
    pub(super) async fn newest_above(&self, known: Option<u64>) -> Result<Option<(u64, Bytes)>, BucketError> {
        let key = |number| CatalogKey { number }.to_string();
        let (mut newest, mut after) = (None, known.map(key));
        loop {
            let listing = match &after {
                Some(after) => self.bucket.list_after(CatalogKey::PREFIX, after, LIST_MAX).await?,
                None => self.bucket.list(CatalogKey::PREFIX, LIST_MAX).await?,
            };
            let numbers = listing.entries.iter().filter_map(|entry| entry.key.parse::<CatalogKey>().ok());
            newest = numbers.map(|key| key.number).max().or(newest);
            match listing.entries.last() {
                Some(last) if !listing.complete => after = Some(last.key.clone()),
                _ => break,
            }
        }
        let Some(revision) = newest.filter(|newest| known.is_none_or(|known| known < *newest)) else { return Ok(None) };
        // What is listed and absent would be a store that forgets: there is nothing newer to show.
        Ok(self.bucket.get(&key(revision)).await?.map(|bytes| (revision, bytes)))
    }

    /// Makes these bytes the catalogue of a revision that has none.
    ///
    /// # Cancel safety
    /// Not safe: it may have happened.
    pub(super) async fn create(&self, revision: u64, bytes: Bytes) -> Result<Created, BucketError> {
        let key = CatalogKey { number: revision }.to_string();
        let mut tries = 0;
        loop {
            tries += 1;
            let unknown = match self.bucket.create(&key, vec![bytes.clone()]).await {
                CreateOutcome::Done => return Ok(Created::Ours),
                CreateOutcome::Failed(error) => return Err(error),
                CreateOutcome::Exists => None,
                CreateOutcome::Unknown(error) => Some(error),
            };
            // The same bytes are the same catalogue, whoever wrote them.
            match (self.bucket.get(&key).await?, unknown) {
                (Some(there), _) if there == bytes => return Ok(Created::Ours),
                (Some(_), _) => return Ok(Created::Taken),
                (None, Some(error)) if tries == TRIES_MAX => return Err(error),
                (None, None) if tries == TRIES_MAX => return Ok(Created::Taken),
                (None, _) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::BucketSettings;

    async fn store(name: &str) -> CatalogStore {
        let settings = BucketSettings::at(format!("memory://{name}"));
        CatalogStore::new(Bucket::connect(&settings).await.expect("a bucket in memory"))
    }

    #[tokio::test]
    async fn a_revision_is_created_once() {
        let store = store("catalogues-once").await;
        let (one, other) = (Bytes::from_static(b"one"), Bytes::from_static(b"other"));
        assert_eq!(store.newest_above(None).await.expect("a bucket"), None);
        assert_eq!(store.create(1, one.clone()).await.expect("a bucket"), Created::Ours);
        assert_eq!(store.create(1, one.clone()).await.expect("a bucket"), Created::Ours, "again is the same");
        assert_eq!(store.create(1, other.clone()).await.expect("a bucket"), Created::Taken);
        assert_eq!(store.create(7, other.clone()).await.expect("a bucket"), Created::Ours);
        assert_eq!(store.newest_above(None).await.expect("a bucket"), Some((7, other.clone())));
        assert_eq!(store.newest_above(Some(1)).await.expect("a bucket"), Some((7, other)));
        assert_eq!(store.newest_above(Some(7)).await.expect("a bucket"), None);
    }

    #[tokio::test]
    async fn the_newest_is_found_behind_many_pages() {
        let store = store("catalogues-many").await;
        let last = 2 * LIST_MAX as u64 + 5;
        for revision in 1..=last {
            assert_eq!(store.create(revision, Bytes::from(revision.to_string())).await.expect("room"), Created::Ours);
        }
        assert_eq!(store.newest_above(None).await.expect("a bucket").map(|(revision, _)| revision), Some(last));
        assert_eq!(store.newest_above(Some(last - 1)).await.expect("a bucket").map(|found| found.0), Some(last));
    }
}
