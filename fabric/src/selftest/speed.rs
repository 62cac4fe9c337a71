//! Whether bytes arrive, and how fast.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::{deadline, pattern, wait};
use crate::endpoint::Endpoint;
use crate::error::FabricError;
use crate::sys::Kind;

/// The sizes that are measured: a record, a run of records, a block.
pub(super) const SIZES: [usize; 3] = [4 << 10, 64 << 10, BYTES_MAX];

/// The largest of them.
pub(super) const BYTES_MAX: usize = 1 << 20;

/// How long each size is measured, one at a time and then several: enough for some hundred of the largest anywhere.
const SPAN: Duration = Duration::from_millis(400);

/// How many are under way at once for the throughput.
const AT_ONCE: usize = 8;

/// How fast placements of one size are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speed {
    /// Bytes of each.
    pub bytes: usize,
    /// How many were measured one at a time.
    pub placements: usize,
    /// From asking until the bytes have arrived: the middle one.
    pub micros_p50: f64,
    /// One in a hundred took longer.
    pub micros_p99: f64,
    /// Of eight at once.
    pub mebibytes_per_second: f64,
    /// CPU time of both sides together, eight at once.
    pub cpu_micros_per_mebibyte: f64,
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, micros_p50, micros_p99, mebibytes_per_second, cpu_micros_per_mebibyte, .. } = self;
        write!(
            f,
            "{} KiB: p50 {micros_p50:.1} us, p99 {micros_p99:.1} us; 8 at once {mebibytes_per_second:.0} MiB/s, CPU \
             {cpu_micros_per_mebibyte:.0} us per MiB",
            bytes >> 10
        )
    }
}

/// Whether placements of many lengths arrive as they were.
pub(super) fn arrives(node: &Endpoint, reader: &Endpoint) -> Result<bool, FabricError> {
    let lengths = [1, 2, 63, 64, 65, 1000, 4096, 4097, 100_000, 1 << 18, BYTES_MAX];
    for (length, salt) in lengths.into_iter().zip(1..) {
        let bytes = pattern(length, salt);
        let mut landing = reader.landing()?;
        let pieces = vec![bytes.slice(..length / 3), bytes.slice(length / 3..)];
        let placed = wait(node.place(landing.advert(), pieces, deadline()))?;
        if landing.filled(placed.len)? != bytes {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Measures one size.
pub(super) fn measure(node: &Endpoint, reader: &Endpoint, bytes: usize) -> Result<Speed, FabricError> {
    let body = pattern(bytes, 0);
    let mut micros = one_at_a_time(node, reader, &body)?;
    micros.sort_by(f64::total_cmp);
    let (started, cpu) = (Instant::now(), cpu_time());
    let moved = several_at_once(node, reader, &body)?;
    let (took, cpu) = (started.elapsed(), cpu_time().saturating_sub(cpu));
    let mebibytes = as_float(moved * bytes) / as_float(1 << 20);
    Ok(Speed {
        bytes,
        placements: micros.len(),
        micros_p50: micros[micros.len() / 2],
        micros_p99: micros[micros.len() * 99 / 100],
        mebibytes_per_second: mebibytes / took.as_secs_f64(),
        cpu_micros_per_mebibyte: cpu.as_secs_f64() * 1e6 / mebibytes,
    })
}

fn one_at_a_time(node: &Endpoint, reader: &Endpoint, body: &Bytes) -> Result<Vec<f64>, FabricError> {
    let (mut micros, started) = (Vec::new(), Instant::now());
    while started.elapsed() < SPAN || micros.is_empty() {
        let mut landing = reader.landing()?;
        let began = Instant::now();
        let placed = wait(node.place(landing.advert(), vec![body.clone()], deadline()))?;
        micros.push(began.elapsed().as_secs_f64() * 1e6);
        drop(landing.filled(placed.len)?);
    }
    Ok(micros)
}

fn several_at_once(node: &Endpoint, reader: &Endpoint, body: &Bytes) -> Result<usize, FabricError> {
    let (mut moved, started) = (0, Instant::now());
    let mut under_way = VecDeque::new();
    loop {
        let more = started.elapsed() < SPAN;
        while more && under_way.len() < AT_ONCE {
            let mut landing = reader.landing()?;
            let begun = node.begin(Kind::Write, landing.advert(), vec![body.clone()], deadline())?;
            under_way.push_back((landing, begun));
        }
        let Some((landing, begun)) = under_way.pop_front() else { return Ok(moved) };
        let placed = wait(begun).map_err(|_| FabricError::Closed)??;
        drop(landing.filled(placed.len)?);
        moved += 1;
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

#[expect(clippy::cast_precision_loss, reason = "what is measured here is far below what a float holds exactly")]
fn as_float(number: usize) -> f64 {
    number as f64
}
