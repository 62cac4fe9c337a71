//! Listing and deleting: the background's work, in pages and in batches.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::counters::RequestKind;
use super::error::BucketError;
use super::store::{Backing, Bucket};

/// Keys in one bulk delete; S3's own limit.
const DELETE_BATCH_MAX: usize = 1_000;

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEntry {
    /// Its key, relative to the handle's prefix.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When the store says that it was written, in milliseconds since 1970 by the store's own clock.
    pub modified_millis: i64,
}

/// Objects in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// What was found, ascending by key.
    pub entries: Vec<ListEntry>,
    /// Whether that is all. If not, list again after the last key.
    pub complete: bool,
}

/// What a deletion is known to have done.
#[derive(Debug)]
#[must_use = "keys that are not confirmed may still be there"]
pub struct Deleted {
    /// Known to be gone, whether or not they were there.
    pub confirmed: Vec<String>,
    /// Anything may have become of these: delete them again later.
    pub unconfirmed: Vec<String>,
    /// Why the first of them was not confirmed.
    pub first_error: Option<BucketError>,
}

impl Bucket {
    /// At most `entries_max` objects whose keys lie in the folder `prefix` (whole path parts), from the smallest key.
    ///
    /// Cancel safety: reads only; drop it at any time.
    pub async fn list(&self, prefix: &str, entries_max: usize) -> Result<Listing, BucketError> {
        self.list_from(prefix, None, entries_max).await
    }

    /// As [`Bucket::list`], but only keys greater than `start`, which need not exist.
    ///
    /// Cancel safety: reads only; drop it at any time.
    pub async fn list_after(&self, prefix: &str, start: &str, entries_max: usize) -> Result<Listing, BucketError> {
        self.list_from(prefix, Some(start), entries_max).await
    }

    async fn list_from(&self, prefix: &str, start: Option<&str>, entries_max: usize) -> Result<Listing, BucketError> {
        let folder = self.prefix.path(prefix)?;
        let start = start.map(|start| self.prefix.path(start)).transpose()?;
        let lane = &self.stores.background;
        let pages = async {
            self.stores.count_local(RequestKind::List, 0);
            let stream = match &start {
                Some(start) => lane.store.list_with_offset(Some(&folder), start),
                None => lane.store.list(Some(&folder)),
            };
            match self.stores.backing {
                Backing::S3 { .. } => first_in_order(stream, entries_max).await,
                Backing::File { .. } | Backing::Memory { .. } => smallest(stream, entries_max).await,
            }
        };
        let (found, complete) = lane.run(&self.stores, "list", prefix, pages).await?;
        let entries = found.into_iter().filter_map(|meta| self.entry(&meta)).collect();
        Ok(Listing { entries, complete })
    }

    fn entry(&self, meta: &ObjectMeta) -> Option<ListEntry> {
        let key = self.prefix.key(&meta.location)?;
        Some(ListEntry { key, size: meta.size, modified_millis: meta.last_modified.timestamp_millis() })
    }

    /// Deletes `keys`, a thousand in one request. Says which are known to be gone; deleting again is harmless.
    ///
    /// Cancel safety: dropped before it ends, some of the keys may be gone.
    pub async fn delete_many(&self, keys: &[String]) -> Deleted {
        let mut deleted = Deleted { confirmed: Vec::new(), unconfirmed: Vec::new(), first_error: None };
        for batch in keys.chunks(DELETE_BATCH_MAX) {
            match self.delete_batch(batch).await {
                Ok((gone, error)) => {
                    let (confirmed, unconfirmed) =
                        batch.iter().cloned().partition::<Vec<_>, _>(|key| gone.contains(key));
                    deleted.confirmed.extend(confirmed);
                    deleted.unconfirmed.extend(unconfirmed);
                    deleted.first_error = deleted.first_error.or(error);
                }
                Err(error) => {
                    deleted.unconfirmed.extend_from_slice(batch);
                    deleted.first_error.get_or_insert(error);
                }
            }
        }
        deleted
    }

    async fn delete_batch(&self, keys: &[String]) -> Result<(BTreeSet<String>, Option<BucketError>), BucketError> {
        let paths = keys.iter().map(|key| self.prefix.path(key)).collect::<Result<Vec<Path>, _>>()?;
        let lane = &self.stores.background;
        let requests = async {
            self.stores.count_local(RequestKind::Delete, 0);
            let answers = lane.store.delete_stream(stream::iter(paths.clone()).map(Ok).boxed());
            Ok(answers.collect::<Vec<_>>().await)
        };
        let answers = lane.run(&self.stores, "delete", &keys[0], requests).await?;
        // Answers come in the order of the keys, unless a whole request failed and answers once.
        let in_order = answers.len() == keys.len();
        let mut gone = BTreeSet::new();
        let mut first_error = None;
        for (at, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(path) => gone.extend(self.prefix.key(&path)),
                Err(object_store::Error::NotFound { .. }) if in_order => gone.extend(keys.get(at).cloned()),
                Err(error) => {
                    let key = keys.get(at).map_or("", String::as_str);
                    first_error.get_or_insert_with(|| self.stores.error(error, "delete", key));
                }
            }
        }
        Ok((gone, first_error))
    }
}

/// The first entries of a stream that is in order; pages beyond them are not asked for.
async fn first_in_order(
    stream: stream::BoxStream<'static, object_store::Result<ObjectMeta>>,
    entries_max: usize,
) -> object_store::Result<(Vec<ObjectMeta>, bool)> {
    let mut found: Vec<_> = stream.take(entries_max.saturating_add(1)).try_collect().await?;
    let complete = found.len() <= entries_max;
    found.truncate(entries_max);
    Ok((found, complete))
}

/// The entries with the smallest keys of a stream in any order, holding no more than those.
async fn smallest(
    mut stream: stream::BoxStream<'static, object_store::Result<ObjectMeta>>,
    entries_max: usize,
) -> object_store::Result<(Vec<ObjectMeta>, bool)> {
    let mut found = BTreeMap::new();
    let mut complete = true;
    while let Some(meta) = stream.try_next().await? {
        found.insert(meta.location.as_ref().to_owned(), meta);
        if found.len() > entries_max {
            found.pop_last();
            complete = false;
        }
    }
    Ok((found.into_values().collect(), complete))
}
