//! Reads: whole objects, ranges, tails and sizes. `None` is a proven absence, never a guess.

use std::ops::Range;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectStoreExt};

use super::counters::RequestKind;
use super::error::BucketError;
use super::store::{Backing, Bucket};

/// The end of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suffix {
    /// Its last bytes; all of them if it has fewer than were asked for.
    pub bytes: Bytes,
    /// Bytes in the whole object.
    pub object_size: u64,
}

/// What a HEAD tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectHead {
    /// Bytes in the object.
    pub size: u64,
    /// When the store says that it was written, in milliseconds since 1970 by the store's own clock.
    pub modified_millis: i64,
}

impl Bucket {
    /// The whole object, or `None` if it is known to be absent.
    ///
    /// Cancel safety: reads only; drop it at any time.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, BucketError> {
        let found = self.fetch("get", key, GetOptions::default()).await?;
        Ok(found.map(|found| found.bytes))
    }

    /// Exactly the bytes of `range`, or `None` if the object is known to be absent.
    ///
    /// Cancel safety: reads only; drop it at any time.
    ///
    /// # Errors
    /// [`BucketError::Range`] if the object does not hold the whole range.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, BucketError> {
        let out_of = |size| BucketError::Range { key: key.to_owned(), start: range.start, end: range.end, size };
        if range.start >= range.end {
            return Err(out_of(0));
        }
        self.check_size(key, range.end - range.start)?;
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        match self.fetch("get range of", key, options).await {
            Ok(Some(found)) if found.object_size < range.end => Err(out_of(found.object_size)),
            Ok(found) => Ok(found.map(|found| found.bytes)),
            // Stores say "no such range" in many ways; the size says it in one.
            Err(error) if may_be_about_the_range(&error) => match self.head(key).await? {
                Some(head) if head.size < range.end => Err(out_of(head.size)),
                Some(_) => Err(error),
                None => Ok(None),
            },
            Err(error) => Err(error),
        }
    }

    /// The last `length` bytes and the object's size, or `None` if the object is known to be absent.
    ///
    /// Cancel safety: reads only; drop it at any time.
    pub async fn get_suffix(&self, key: &str, length: u64) -> Result<Option<Suffix>, BucketError> {
        let options = GetOptions { range: Some(GetRange::Suffix(length)), ..GetOptions::default() };
        match self.fetch("get the end of", key, options).await {
            // An empty object has no last bytes: S3 answers 416.
            Err(error) if may_be_about_the_range(&error) => match self.head(key).await? {
                Some(ObjectHead { size: 0, .. }) => Ok(Some(Suffix { bytes: Bytes::new(), object_size: 0 })),
                Some(_) => Err(error),
                None => Ok(None),
            },
            other => other,
        }
    }

    /// Size and time, or `None` if the object is known to be absent.
    ///
    /// Cancel safety: reads only; drop it at any time.
    pub async fn head(&self, key: &str) -> Result<Option<ObjectHead>, BucketError> {
        let path = self.prefix.path(key)?;
        let lane = self.reads();
        let head = async {
            self.stores.count_local(RequestKind::Head, 0);
            absent_as_none(lane.store.head(&path).await)
        };
        let found = lane.run(&self.stores, "head", key, head).await?;
        let Some(meta) = found else {
            // A 404 to HEAD has no body to say what is missing, the object or the bucket. One to GET does.
            self.prove_absence(key).await?;
            return Ok(None);
        };
        Ok(Some(ObjectHead { size: meta.size, modified_millis: meta.last_modified.timestamp_millis() }))
    }

    async fn prove_absence(&self, key: &str) -> Result<(), BucketError> {
        match &self.stores.backing {
            // Only the answer's kind matters; an object that appeared meanwhile is as good.
            Backing::S3 { .. } => {
                let path = self.prefix.path(key)?;
                let options = GetOptions { range: Some(GetRange::Bounded(0..1)), ..GetOptions::default() };
                let lane = self.reads();
                let get = async { absent_as_none(lane.store.get_opts(&path, options).await) };
                match lane.run(&self.stores, "get", key, get).await {
                    Err(error) if !may_be_about_the_range(&error) => Err(error),
                    _ => Ok(()),
                }
            }
            Backing::File { root } => match tokio::fs::metadata(root).await {
                Ok(_) => Ok(()),
                Err(_) => Err(BucketError::NotFoundBucket { bucket: self.stores.backing.to_string() }),
            },
            Backing::Memory { .. } => Ok(()),
        }
    }

    /// One GET with its body, checked against the limit before anything is allocated.
    async fn fetch(
        &self,
        operation: &'static str,
        key: &str,
        options: GetOptions,
    ) -> Result<Option<Suffix>, BucketError> {
        let path = self.prefix.path(key)?;
        let lane = self.reads();
        let get = async {
            self.stores.count_local(RequestKind::Get, 0);
            let Some(found) = absent_as_none(lane.store.get_opts(&path, options).await)? else { return Ok(Ok(None)) };
            self.take(key, &path, found).await
        };
        let found = lane.run(&self.stores, operation, key, get).await??;
        if found.is_none() && matches!(self.stores.backing, Backing::File { .. }) {
            self.prove_absence(key).await?;
        }
        Ok(found)
    }

    /// The body of an answer. Two kinds of errors: the outer is the client's, the inner already ours.
    async fn take(
        &self,
        key: &str,
        path: &Path,
        found: GetResult,
    ) -> object_store::Result<Result<Option<Suffix>, BucketError>> {
        let object_size = found.meta.size;
        let promised = found.range.end - found.range.start;
        if let Err(error) = self.check_size(key, promised) {
            return Ok(Err(error));
        }
        let bytes = found.bytes().await?;
        self.stores.counters.received(bytes.len() as u64);
        if bytes.len() as u64 != promised {
            let reason = format!("{} bytes came where {promised} were promised for {path}", bytes.len());
            return Ok(Err(BucketError::Corrupt { operation: "get", key: key.to_owned(), reason }));
        }
        Ok(Ok(Some(Suffix { bytes, object_size })))
    }

    fn check_size(&self, key: &str, size: u64) -> Result<(), BucketError> {
        let limit = self.stores.read_bytes_max;
        if size > limit {
            return Err(BucketError::TooLarge { key: key.to_owned(), size, limit });
        }
        Ok(())
    }
}

fn absent_as_none<T>(answer: object_store::Result<T>) -> object_store::Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the error may mean that the object has no such range, rather than trouble on the way.
fn may_be_about_the_range(error: &BucketError) -> bool {
    matches!(error, BucketError::Store { .. } | BucketError::Rejected { status: 416, .. })
}
