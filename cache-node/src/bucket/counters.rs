//! How many requests went to the bucket, and what they cost.
//!
//! It counts requests as the store bills them: retries and the pages of a listing one by one. It knows list prices of
//! one region and nothing of discounts.

use std::sync::atomic::{AtomicU64, Ordering};

/// US dollars for one million PUT or LIST requests (us-east-1 list price).
const PUT_LIST_DOLLARS_PER_MILLION: f64 = 5.0;
/// US dollars for one million GET or HEAD requests (us-east-1 list price). DELETE is free.
const GET_HEAD_DOLLARS_PER_MILLION: f64 = 0.4;

/// What a request does, as the store bills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Writes an object.
    Put,
    /// Reads an object or a range of it.
    Get,
    /// One page of a listing.
    List,
    /// Size and time of an object.
    Head,
    /// Removes one object, or up to a thousand in one request.
    Delete,
}

/// Requests since the process started. Shared by every handle of one bucket.
#[derive(Debug, Default)]
pub struct Counters {
    put: AtomicU64,
    get: AtomicU64,
    list: AtomicU64,
    head: AtomicU64,
    delete: AtomicU64,
    bytes_put: AtomicU64,
    bytes_got: AtomicU64,
}

impl Counters {
    /// One request more.
    pub(super) fn count(&self, kind: RequestKind) {
        let counter = match kind {
            RequestKind::Put => &self.put,
            RequestKind::Get => &self.get,
            RequestKind::List => &self.list,
            RequestKind::Head => &self.head,
            RequestKind::Delete => &self.delete,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Body bytes handed to the store, whatever became of them.
    pub(super) fn sent(&self, bytes: u64) {
        self.bytes_put.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Body bytes that arrived.
    pub(super) fn received(&self, bytes: u64) {
        self.bytes_got.fetch_add(bytes, Ordering::Relaxed);
    }

    /// All counters, each read once. They are not read at one instant: good for rates, not for sums that must balance.
    pub fn snapshot(&self) -> CountersSnapshot {
        CountersSnapshot {
            put: self.put.load(Ordering::Relaxed),
            get: self.get.load(Ordering::Relaxed),
            list: self.list.load(Ordering::Relaxed),
            head: self.head.load(Ordering::Relaxed),
            delete: self.delete.load(Ordering::Relaxed),
            bytes_put: self.bytes_put.load(Ordering::Relaxed),
            bytes_got: self.bytes_got.load(Ordering::Relaxed),
        }
    }
}

/// The counters at one moment, for `/status` and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct CountersSnapshot {
    /// PUT requests.
    pub put: u64,
    /// GET requests.
    pub get: u64,
    /// LIST requests (pages).
    pub list: u64,
    /// HEAD requests.
    pub head: u64,
    /// DELETE requests; a bulk delete is one.
    pub delete: u64,
    /// Body bytes sent.
    pub bytes_put: u64,
    /// Body bytes received.
    pub bytes_got: u64,
}

impl CountersSnapshot {
    /// What these requests cost at list price, in US dollars.
    #[expect(clippy::cast_precision_loss, reason = "a price is shown to a few digits")]
    pub fn dollars(&self) -> f64 {
        let dear = (self.put + self.list) as f64 * PUT_LIST_DOLLARS_PER_MILLION;
        let cheap = (self.get + self.head) as f64 * GET_HEAD_DOLLARS_PER_MILLION;
        (dear + cheap) / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_of_each_costs_the_list_price() {
        let million = 1_000_000;
        let snapshot = CountersSnapshot {
            put: million,
            get: million,
            list: million,
            head: million,
            delete: million,
            ..Default::default()
        };
        assert!((snapshot.dollars() - 10.8).abs() < 1e-9, "{}", snapshot.dollars());
    }

    #[test]
    fn every_kind_has_its_own_counter() {
        let counters = Counters::default();
        for (times, kind) in
            [RequestKind::Put, RequestKind::Get, RequestKind::List, RequestKind::Head, RequestKind::Delete]
                .into_iter()
                .enumerate()
        {
            (0..=times).for_each(|_| counters.count(kind));
        }
        let CountersSnapshot { put, get, list, head, delete, .. } = counters.snapshot();
        assert_eq!([put, get, list, head, delete], [1, 2, 3, 4, 5]);
    }
}
