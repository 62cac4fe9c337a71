//! The objects: buckets of keys in order, behind one lock, within one limit.
//!
//! Every change looks and writes under the lock, so that conditions are decided one at a time. It knows no HTTP.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

/// Why a change was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No such bucket.
    NoBucket,
    /// The condition on the key does not hold.
    Condition,
    /// The object to be replaced is absent.
    NoKey,
    /// The server's memory is used up.
    Full,
}

/// What must hold for a PUT to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Nothing: it overwrites.
    None,
    /// The key is absent.
    Absent,
    /// The object's etag is this one.
    Tag(String),
}

/// One stored object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) body: Bytes,
    pub(crate) tag: String,
    pub(crate) modified: SystemTime,
}

/// Key and size, as tests like to see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSummary {
    /// The whole key.
    pub key: String,
    /// Bytes of the body.
    pub size: u64,
}

/// A shared view of everything that is stored. Clones are handles of the same objects.
#[derive(Debug, Clone)]
pub struct Contents {
    state: Arc<Mutex<State>>,
    bytes_max: u64,
}

#[derive(Debug, Default)]
struct State {
    buckets: BTreeMap<String, BTreeMap<String, Object>>,
    bytes: u64,
}

impl Contents {
    pub(crate) fn new(buckets: &[String], bytes_max: u64) -> Self {
        let buckets = buckets.iter().map(|name| (name.clone(), BTreeMap::new())).collect();
        Self { state: Arc::new(Mutex::new(State { buckets, bytes: 0 })), bytes_max }
    }

    /// Adds a bucket; `false` if it was there.
    pub(crate) fn create_bucket(&self, name: &str) -> bool {
        let mut state = self.lock();
        let absent = !state.buckets.contains_key(name);
        state.buckets.entry(name.to_owned()).or_default();
        absent
    }

    /// Stores `object` if `condition` holds. Deciding and storing are one step.
    pub(crate) fn put(&self, bucket: &str, key: &str, object: Object, condition: &Condition) -> Result<(), Refusal> {
        let mut state = self.lock();
        let State { buckets, bytes } = &mut *state;
        let objects = buckets.get_mut(bucket).ok_or(Refusal::NoBucket)?;
        let old = objects.get(key);
        match (condition, old) {
            (Condition::Absent, Some(_)) => return Err(Refusal::Condition),
            (Condition::Tag(_), None) => return Err(Refusal::NoKey),
            (Condition::Tag(tag), Some(old)) if *tag != old.tag => return Err(Refusal::Condition),
            _ => {}
        }
        let after = *bytes - old.map_or(0, |old| old.body.len() as u64) + object.body.len() as u64;
        if after > self.bytes_max {
            return Err(Refusal::Full);
        }
        *bytes = after;
        objects.insert(key.to_owned(), object);
        Ok(())
    }

    pub(crate) fn get(&self, bucket: &str, key: &str) -> Result<Option<Object>, Refusal> {
        Ok(self.lock().buckets.get(bucket).ok_or(Refusal::NoBucket)?.get(key).cloned())
    }

    /// Removes `key`, whether or not it is there.
    pub(crate) fn delete(&self, bucket: &str, key: &str) -> Result<(), Refusal> {
        let mut state = self.lock();
        let State { buckets, bytes } = &mut *state;
        if let Some(old) = buckets.get_mut(bucket).ok_or(Refusal::NoBucket)?.remove(key) {
            *bytes -= old.body.len() as u64;
        }
        Ok(())
    }

    /// At most `keys_max` objects greater than `after` whose keys begin with `prefix`, and whether there are more.
    pub(crate) fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: &str,
        keys_max: usize,
    ) -> Result<(Vec<(String, Object)>, bool), Refusal> {
        let state = self.lock();
        let objects = state.buckets.get(bucket).ok_or(Refusal::NoBucket)?;
        let start = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let mut matching = objects
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, object)| (key.clone(), object.clone()));
        let page = matching.by_ref().take(keys_max).collect();
        Ok((page, matching.next().is_some()))
    }

    /// Every object of `bucket`, in order of keys; empty if there is no such bucket.
    pub fn objects(&self, bucket: &str) -> Vec<ObjectSummary> {
        let state = self.lock();
        let objects = state.buckets.get(bucket).into_iter().flatten();
        objects.map(|(key, object)| ObjectSummary { key: key.clone(), size: object.body.len() as u64 }).collect()
    }

    /// The body of an object, past every fault: what is really there.
    pub fn body(&self, bucket: &str, key: &str) -> Option<Bytes> {
        self.get(bucket, key).ok().flatten().map(|object| object.body)
    }

    /// Replaces an object's body, as a failing disk would.
    pub fn corrupt(&self, bucket: &str, key: &str, body: Bytes) -> bool {
        let Ok(Some(object)) = self.get(bucket, key) else { return false };
        self.put(bucket, key, Object { body, ..object }, &Condition::None).is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic between two writes of one change is not possible: nothing in there can fail half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(body: &'static str) -> Object {
        Object { body: Bytes::from_static(body.as_bytes()), tag: body.to_owned(), modified: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn conditions_are_kept() {
        let contents = Contents::new(&["b".to_owned()], 100);
        assert_eq!(contents.put("b", "k", object("one"), &Condition::Absent), Ok(()));
        assert_eq!(contents.put("b", "k", object("two"), &Condition::Absent), Err(Refusal::Condition));
        assert_eq!(contents.put("b", "k", object("two"), &Condition::Tag("x".into())), Err(Refusal::Condition));
        assert_eq!(contents.put("b", "k", object("two"), &Condition::Tag("one".into())), Ok(()));
        assert_eq!(contents.put("b", "m", object("two"), &Condition::Tag("one".into())), Err(Refusal::NoKey));
        assert_eq!(contents.put("c", "k", object("one"), &Condition::None), Err(Refusal::NoBucket));
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let contents = Contents::new(&["b".to_owned()], 5);
        assert_eq!(contents.put("b", "k", object("12345"), &Condition::None), Ok(()));
        assert_eq!(contents.put("b", "l", object("1"), &Condition::None), Err(Refusal::Full));
        assert_eq!(contents.put("b", "k", object("1234"), &Condition::None), Ok(()));
        assert_eq!(contents.put("b", "l", object("1"), &Condition::None), Ok(()));
        assert_eq!(contents.delete("b", "k"), Ok(()));
        assert_eq!(contents.put("b", "m", object("1234"), &Condition::None), Ok(()));
    }

    #[test]
    fn pages_join_without_a_seam() {
        let contents = Contents::new(&["b".to_owned()], 1000);
        let keys = ["a/1", "a/2", "a/3", "ab/1", "b"];
        for key in keys {
            assert_eq!(contents.put("b", key, object("x"), &Condition::Absent), Ok(()));
        }
        let mut seen: Vec<String> = Vec::new();
        loop {
            let after = seen.last().cloned().unwrap_or_default();
            let (page, more) = contents.list("b", "a/", &after, 2).expect("the bucket exists");
            seen.extend(page.into_iter().map(|(key, _)| key));
            if !more {
                break;
            }
        }
        assert_eq!(seen, ["a/1", "a/2", "a/3"]);
    }
}
