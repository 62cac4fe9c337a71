//! S3's operations on the objects. Signatures, XML and HTTP are the crate `s3s`'s.

use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc64Nvme, Md5};
use s3s::dto::{
    CreateBucketInput, CreateBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, GetObjectInput, GetObjectOutput, HeadObjectInput,
    HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Object as Listed, PutObjectInput, PutObjectOutput,
    StreamingBlob, Timestamp,
};
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use crate::faults::Faults;
use crate::state::{Condition, Contents, Object, Refusal};

/// Keys in one page of a listing; S3's own limit.
const PAGE_KEYS_MAX: usize = 1_000;
/// Largest body of one PUT: more than anything that a single PUT should carry.
const BODY_BYTES_MAX: usize = 1 << 30;

/// The operations, over shared contents.
pub(crate) struct Api {
    pub(crate) contents: Contents,
    pub(crate) faults: Faults,
}

#[async_trait::async_trait]
impl S3 for Api {
    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        if !self.contents.create_bucket(&request.input.bucket) {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let PutObjectInput { bucket, key, body, if_none_match, if_match, checksum_crc64nvme, content_length, .. } =
            request.input;
        let condition = self.condition(if_none_match, if_match)?;
        let body = collect(body, content_length).await?;
        if checksum_crc64nvme.is_some_and(|expected| crc64(&body) != Some(expected)) {
            return Err(s3_error!(BadDigest, "the body does not have the checksum that was sent with it"));
        }
        let tag = hex(&Md5::checksum(&body));
        let object = Object { body, tag: tag.clone(), modified: SystemTime::now() };
        self.contents.put(&bucket, &key, object, &condition).map_err(refused)?;
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(ETag::Strong(tag)), ..PutObjectOutput::default() }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let GetObjectInput { bucket, key, range, .. } = request.input;
        let object = self.find(&bucket, &key)?;
        let size = object.body.len() as u64;
        let (body, content_range) = match range {
            None => (object.body.clone(), None),
            Some(range) => {
                // The end of an empty object is an empty range, which S3 does not have.
                let range = range.check(size).ok().filter(|range| !range.is_empty());
                let range = range.ok_or_else(|| s3_error!(InvalidRange))?;
                let part = object.body.slice(index(range.start)?..index(range.end)?);
                (part, Some(format!("bytes {}-{}/{size}", range.start, range.end - 1)))
            }
        };
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(length(body.len())?),
            body: Some(StreamingBlob::from(Body::from(body))),
            content_range,
            e_tag: Some(ETag::Strong(object.tag)),
            last_modified: Some(Timestamp::from(object.modified)),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let object = self.find(&request.input.bucket, &request.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(length(object.body.len())?),
            e_tag: Some(ETag::Strong(object.tag)),
            last_modified: Some(Timestamp::from(object.modified)),
            ..HeadObjectOutput::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.contents.delete(&request.input.bucket, &request.input.key).map_err(refused)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        if delete.objects.len() > PAGE_KEYS_MAX {
            return Err(s3_error!(MalformedXML, "at most {PAGE_KEYS_MAX} keys in one request"));
        }
        let mut deleted = Vec::new();
        for object in delete.objects {
            self.contents.delete(&bucket, &object.key).map_err(refused)?;
            deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() });
        }
        Ok(S3Response::new(DeleteObjectsOutput { deleted: Some(deleted), ..DeleteObjectsOutput::default() }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        if self.faults.always().absent_is_forbidden {
            return Err(s3_error!(AccessDenied));
        }
        if input.delimiter.is_some() {
            return Err(s3_error!(NotImplemented, "this server lists without a delimiter only"));
        }
        let prefix = input.prefix.clone().unwrap_or_default();
        // The token is the last key of the page before it.
        let after = input.continuation_token.clone().or(input.start_after.clone()).unwrap_or_default();
        let wanted = input.max_keys.and_then(|keys| usize::try_from(keys).ok()).unwrap_or(PAGE_KEYS_MAX);
        let page = self.contents.list(&input.bucket, &prefix, &after, wanted.min(PAGE_KEYS_MAX));
        let (page, more) = page.map_err(refused)?;
        let last = page.last().map(|(key, _)| key.clone());
        let contents = page.into_iter().map(listed).collect::<S3Result<Vec<_>>>()?;
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: i32::try_from(contents.len()).ok(),
            contents: Some(contents),
            continuation_token: input.continuation_token,
            is_truncated: Some(more),
            max_keys: input.max_keys,
            name: Some(input.bucket),
            next_continuation_token: last.filter(|_| more),
            prefix: input.prefix,
            ..ListObjectsV2Output::default()
        }))
    }
}

impl Api {
    fn find(&self, bucket: &str, key: &str) -> S3Result<Object> {
        match self.contents.get(bucket, key).map_err(refused)? {
            Some(object) => Ok(object),
            None if self.faults.always().absent_is_forbidden => Err(s3_error!(AccessDenied)),
            None => Err(s3_error!(NoSuchKey)),
        }
    }

    fn condition(&self, none_match: Option<ETagCondition>, if_match: Option<ETagCondition>) -> S3Result<Condition> {
        if self.faults.always().conditions_are_ignored {
            return Ok(Condition::None);
        }
        match (none_match, if_match) {
            (None, None) => Ok(Condition::None),
            (Some(ETagCondition::Any), None) => Ok(Condition::Absent),
            (None, Some(ETagCondition::ETag(tag))) => Ok(Condition::Tag(tag.into_value())),
            _ => Err(s3_error!(NotImplemented, "If-None-Match takes * and If-Match takes one etag")),
        }
    }
}

async fn collect(body: Option<StreamingBlob>, content_length: Option<i64>) -> S3Result<Bytes> {
    let promised = content_length.and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    if promised > BODY_BYTES_MAX {
        return Err(s3_error!(EntityTooLarge));
    }
    let mut collected = BytesMut::with_capacity(promised);
    if let Some(mut body) = body {
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| S3Error::with_source(S3ErrorCode::IncompleteBody, error))?;
            if collected.len() + piece.len() > BODY_BYTES_MAX {
                return Err(s3_error!(EntityTooLarge));
            }
            collected.extend_from_slice(&piece);
        }
    }
    Ok(collected.freeze())
}

fn listed((key, object): (String, Object)) -> S3Result<Listed> {
    Ok(Listed {
        key: Some(key),
        size: Some(length(object.body.len())?),
        e_tag: Some(ETag::Strong(object.tag)),
        last_modified: Some(Timestamp::from(object.modified)),
        ..Listed::default()
    })
}

fn refused(refusal: Refusal) -> S3Error {
    match refusal {
        Refusal::NoBucket => s3_error!(NoSuchBucket),
        Refusal::NoKey => s3_error!(NoSuchKey),
        Refusal::Condition => s3_error!(PreconditionFailed),
        Refusal::Full => s3_error!(ServiceUnavailable, "the server's memory limit is reached; delete something"),
    }
}

fn crc64(body: &[u8]) -> Option<String> {
    let mut hasher = ChecksumHasher { crc64nvme: Some(Crc64Nvme::new()), ..ChecksumHasher::default() };
    hasher.update(body);
    hasher.finalize().checksum_crc64nvme
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

fn length(length: usize) -> S3Result<i64> {
    i64::try_from(length).map_err(S3Error::internal_error)
}

fn index(position: u64) -> S3Result<usize> {
    usize::try_from(position).map_err(S3Error::internal_error)
}
