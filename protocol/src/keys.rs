//! Where objects lie in the bucket: typed keys that print and parse, relative to the cluster's prefix.
//!
//! ```text
//! cluster                                      identity
//! claims/{shard}/{epoch:020}                   ownership
//! log/{shard}/{epoch:020}/{slot:020}           log objects, open records and seals
//! runs/{shard}/{epoch:020}-{put:032x}          run objects
//! manifests/{shard}/{epoch:020}/{number:020}   manifests
//! catalog/{number:020}                         catalogues
//! registry/{cluster:032x}                      outside every prefix: where a cluster lives
//! ```
//!
//! Numbers that count up have 20 digits, so a listing is in their order. A key has one spelling: what does not print
//! as it was read is refused.

use core::fmt;
use core::str::FromStr;

use crate::ids::{ClusterId, Epoch, PutId, ShardId, Slot};

/// The key of the cluster's identity.
pub const CLUSTER_KEY: &str = "cluster";

/// Text that is not the key it was meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the key of a {expected}; something else writes under this prefix")]
pub struct ParseKeyError {
    /// What stood there.
    pub text: String,
    /// What was expected, in words.
    pub expected: &'static str,
}

/// Parses a key with `read` and refuses every spelling but the one that it prints.
fn parse<K: fmt::Display>(
    text: &str,
    expected: &'static str,
    read: impl FnOnce(&str) -> Option<K>,
) -> Result<K, ParseKeyError> {
    let key = read(text).filter(|key| key.to_string() == text);
    key.ok_or_else(|| ParseKeyError { text: text.to_owned(), expected })
}

/// Splits `text` at its slashes into exactly `N` words.
fn words<const N: usize>(text: &str) -> Option<[&str; N]> {
    text.split('/').collect::<Vec<_>>().try_into().ok()
}

/// Where a claim lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimKey {
    /// Which shard.
    pub shard: ShardId,
    /// Which epoch.
    pub epoch: Epoch,
}

impl ClaimKey {
    /// What all claims of a shard begin with.
    pub fn prefix(shard: ShardId) -> String {
        format!("claims/{shard}/")
    }
}

impl fmt::Display for ClaimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "claims/{}/{:020}", self.shard, self.epoch.0)
    }
}

impl FromStr for ClaimKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        parse(text, "claim", |text| {
            let ["claims", shard, epoch] = words(text)? else { return None };
            Some(Self { shard: shard.parse().ok()?, epoch: epoch.parse().ok()? })
        })
    }
}

/// Where a slot of an epoch's log lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogKey {
    /// Which shard.
    pub shard: ShardId,
    /// Whose log.
    pub epoch: Epoch,
    /// Which slot of it.
    pub slot: Slot,
}

impl LogKey {
    /// What all slots of a shard begin with.
    pub fn shard_prefix(shard: ShardId) -> String {
        format!("log/{shard}/")
    }

    /// What all slots of one epoch's log begin with.
    pub fn epoch_prefix(shard: ShardId, epoch: Epoch) -> String {
        format!("log/{shard}/{:020}/", epoch.0)
    }
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log/{}/{:020}/{:020}", self.shard, self.epoch.0, self.slot.0)
    }
}

impl FromStr for LogKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        parse(text, "log slot", |text| {
            let ["log", shard, epoch, slot] = words(text)? else { return None };
            Some(Self { shard: shard.parse().ok()?, epoch: epoch.parse().ok()?, slot: slot.parse().ok()? })
        })
    }
}

/// Where a run object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    /// Which shard.
    pub shard: ShardId,
    /// The epoch of the owner that wrote it.
    pub epoch: Epoch,
    /// Names its exact bytes.
    pub put: PutId,
}

impl RunKey {
    /// What all run objects of a shard begin with.
    pub fn prefix(shard: ShardId) -> String {
        format!("runs/{shard}/")
    }
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runs/{}/{:020}-{}", self.shard, self.epoch.0, self.put)
    }
}

impl FromStr for RunKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        parse(text, "run object", |text| {
            let ["runs", shard, name] = words(text)? else { return None };
            let (epoch, put) = name.split_once('-')?;
            Some(Self { shard: shard.parse().ok()?, epoch: epoch.parse().ok()?, put: put.parse().ok()? })
        })
    }
}

/// Where a manifest lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManifestKey {
    /// Which shard.
    pub shard: ShardId,
    /// The epoch of the owner that wrote it.
    pub epoch: Epoch,
    /// Its number in the epoch.
    pub number: u64,
}

impl ManifestKey {
    /// What all manifests of a shard begin with.
    pub fn shard_prefix(shard: ShardId) -> String {
        format!("manifests/{shard}/")
    }

    /// What all manifests of one epoch begin with.
    pub fn epoch_prefix(shard: ShardId, epoch: Epoch) -> String {
        format!("manifests/{shard}/{:020}/", epoch.0)
    }
}

impl fmt::Display for ManifestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "manifests/{}/{:020}/{:020}", self.shard, self.epoch.0, self.number)
    }
}

impl FromStr for ManifestKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        parse(text, "manifest", |text| {
            let ["manifests", shard, epoch, number] = words(text)? else { return None };
            Some(Self { shard: shard.parse().ok()?, epoch: epoch.parse().ok()?, number: number.parse().ok()? })
        })
    }
}

/// Where a catalogue lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CatalogKey {
    /// Its number: dense from 0.
    pub number: u64,
}

impl CatalogKey {
    /// What all catalogues begin with.
    pub const PREFIX: &'static str = "catalog/";
}

impl fmt::Display for CatalogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "catalog/{:020}", self.number)
    }
}

impl FromStr for CatalogKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        parse(text, "catalogue", |text| {
            let ["catalog", number] = words(text)? else { return None };
            Some(Self { number: number.parse().ok()? })
        })
    }
}

/// Where the registry says how to find a cluster. Lies outside every cluster's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryKey {
    /// Which cluster.
    pub cluster: ClusterId,
}

impl RegistryKey {
    /// What all entries of the registry begin with.
    pub const PREFIX: &'static str = "registry/";
}

impl fmt::Display for RegistryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "registry/{}", self.cluster)
    }
}

impl FromStr for RegistryKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        parse(text, "registry entry", |text| {
            let ["registry", cluster] = words(text)? else { return None };
            Some(Self { cluster: cluster.parse().ok()? })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check<K>(key: K)
    where
        K: fmt::Display + fmt::Debug + PartialEq + FromStr<Err = ParseKeyError>,
    {
        assert_eq!(key.to_string().parse::<K>(), Ok(key));
    }

    proptest! {
        #[test]
        fn keys_read_back_what_they_print(shard: u16, epoch: u64, number: u64, put: u128) {
            let (shard, epoch) = (ShardId(shard), Epoch(epoch));
            check(ClaimKey { shard, epoch });
            check(LogKey { shard, epoch, slot: Slot(number) });
            check(RunKey { shard, epoch, put: PutId(put) });
            check(ManifestKey { shard, epoch, number });
            check(CatalogKey { number });
            check(RegistryKey { cluster: ClusterId(put) });
        }

        #[test]
        fn listings_are_in_the_order_of_the_numbers(shard: u16, one: u64, other: u64) {
            let key = |epoch| ClaimKey { shard: ShardId(shard), epoch: Epoch(epoch) };
            prop_assert_eq!(key(one).to_string().cmp(&key(other).to_string()), one.cmp(&other));
            prop_assert!(key(one).to_string().starts_with(&ClaimKey::prefix(ShardId(shard))));
        }
    }

    #[test]
    fn a_key_has_one_spelling() {
        assert_eq!("claims/3/00000000000000000012".parse(), Ok(ClaimKey { shard: ShardId(3), epoch: Epoch(12) }));
        for text in ["claims/3/12", "claims/03/00000000000000000012", "claims/+3/00000000000000000012", "claims/3", ""]
        {
            assert!(text.parse::<ClaimKey>().is_err(), "{text}");
        }
        let upper = format!("registry/{}", "A".repeat(32));
        assert!(upper.parse::<RegistryKey>().is_err() && upper.to_lowercase().parse::<RegistryKey>().is_ok());
        assert!("log/3/00000000000000000001".parse::<LogKey>().is_err());
    }
}
