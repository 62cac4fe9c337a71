//! Keys under a prefix: callers name objects relative to their cluster, the store sees whole paths.

use object_store::path::Path;

use super::error::BucketError;

/// S3's limit on a key, in bytes.
const KEY_BYTES_MAX: usize = 1024;

/// Where a cluster lives inside a bucket. Empty: at its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix(String);

impl Prefix {
    /// Checks `prefix`; slashes at its ends do not matter.
    pub(super) fn parse(prefix: &str) -> Result<Self, BucketError> {
        let prefix = prefix.trim_matches('/');
        parse(prefix)?;
        Ok(Self(prefix.to_owned()))
    }

    /// The whole path of `key`.
    pub(super) fn path(&self, key: &str) -> Result<Path, BucketError> {
        match (self.0.is_empty(), key.is_empty()) {
            (true, _) => parse(key),
            (false, true) => parse(&self.0),
            (false, false) => parse(&format!("{}/{key}", self.0)),
        }
    }

    /// The key of `path`, `None` if it lies elsewhere.
    pub(super) fn key(&self, path: &Path) -> Option<String> {
        let path = path.as_ref();
        if self.0.is_empty() {
            return Some(path.to_owned());
        }
        path.strip_prefix(&self.0)?.strip_prefix('/').map(str::to_owned)
    }

    /// The prefix without slashes at its ends.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

fn parse(path: &str) -> Result<Path, BucketError> {
    let invalid = |reason: String| BucketError::InvalidKey { key: path.to_owned(), reason };
    if path.len() > KEY_BYTES_MAX {
        return Err(invalid(format!("{} bytes, where stores take {KEY_BYTES_MAX}", path.len())));
    }
    Path::parse(path).map_err(|error| invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_path() {
        for prefix in ["", "kennel", "/a/b/"] {
            let prefix = Prefix::parse(prefix).expect("a valid prefix");
            let path = prefix.path("claims/0/7").expect("a valid key");
            assert_eq!(prefix.key(&path).as_deref(), Some("claims/0/7"), "{prefix:?}");
        }
    }

    #[test]
    fn a_longer_name_is_not_inside_a_prefix() {
        let prefix = Prefix::parse("kennel").expect("a valid prefix");
        assert_eq!(prefix.key(&Path::from("kennel2/claims")), None);
    }

    #[test]
    fn bad_keys_are_refused() {
        let prefix = Prefix::parse("kennel").expect("a valid prefix");
        for key in ["../other", "a//b", "a/./b", &"k".repeat(2000)] {
            assert!(matches!(prefix.path(key), Err(BucketError::InvalidKey { .. })), "{key}");
        }
    }
}
