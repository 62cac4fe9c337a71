//! Counts the disk writes that the cache engine drops without a word: its only sign of them is a metric.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mixtrics::metrics::{
    BoxedCounter, BoxedCounterVec, BoxedGauge, BoxedGaugeVec, BoxedHistogram, BoxedHistogramVec, CounterOps,
    CounterVecOps, GaugeOps, GaugeVecOps, HistogramOps, HistogramVecOps, RegistryOps,
};

/// The labels under which the engine counts a write that it gave up.
const DROPS: [&str; 3] = ["buffer_overflow", "channel_overflow", "enqueue_skip"];

/// Writes dropped so far. Clones share the count.
#[derive(Debug, Clone, Default)]
pub(super) struct DroppedWrites(Arc<AtomicU64>);

impl DroppedWrites {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl RegistryOps for DroppedWrites {
    fn register_counter_vec(
        &self,
        _: Cow<'static, str>,
        _: Cow<'static, str>,
        _: &'static [&'static str],
    ) -> BoxedCounterVec {
        Box::new(self.clone())
    }

    fn register_gauge_vec(
        &self,
        _: Cow<'static, str>,
        _: Cow<'static, str>,
        _: &'static [&'static str],
    ) -> BoxedGaugeVec {
        Box::new(Unheard)
    }

    fn register_histogram_vec(
        &self,
        _: Cow<'static, str>,
        _: Cow<'static, str>,
        _: &'static [&'static str],
    ) -> BoxedHistogramVec {
        Box::new(Unheard)
    }

    fn register_histogram_vec_with_buckets(
        &self,
        _: Cow<'static, str>,
        _: Cow<'static, str>,
        _: &'static [&'static str],
        _: Vec<f64>,
    ) -> BoxedHistogramVec {
        Box::new(Unheard)
    }
}

impl CounterVecOps for DroppedWrites {
    fn counter(&self, labels: &[Cow<'static, str>]) -> BoxedCounter {
        let drops = labels.last().is_some_and(|label| DROPS.contains(&label.as_ref()));
        if drops { Box::new(self.clone()) } else { Box::new(Unheard) }
    }
}

impl CounterOps for DroppedWrites {
    fn increase(&self, val: u64) {
        self.0.fetch_add(val, Ordering::Relaxed);
    }
}

/// A metric of the engine that nobody asks for.
#[derive(Debug)]
struct Unheard;

impl CounterOps for Unheard {
    fn increase(&self, _: u64) {}
}

impl GaugeOps for Unheard {
    fn increase(&self, _: u64) {}
    fn decrease(&self, _: u64) {}
    fn absolute(&self, _: u64) {}
}

impl HistogramOps for Unheard {
    fn record(&self, _: f64) {}
}

impl GaugeVecOps for Unheard {
    fn gauge(&self, _: &[Cow<'static, str>]) -> BoxedGauge {
        Box::new(Self)
    }
}

impl HistogramVecOps for Unheard {
    fn histogram(&self, _: &[Cow<'static, str>]) -> BoxedHistogram {
        Box::new(Self)
    }
}
