//! The probe at start: does this store decide races, and may we ask what we must ask?
//!
//! Some S3 services ignore `If-None-Match` in silence. On such a store every claimant wins, so it is refused before a
//! single claim is made.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{join, join_all};

use super::create::CreateOutcome;
use super::error::BucketError;
use super::store::Bucket;
use crate::random;

/// Scratch keys raced for. A store with rare double winners is not found by any affordable number; one that ignores
/// the condition is found by the first.
const ROUNDS: usize = 3;
/// Creates at once on one scratch key.
const RACERS: usize = 8;
/// Folder of the scratch keys.
const FOLDER: &str = "probe";

/// What the probe found good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeReport {
    /// Scratch keys raced for.
    pub rounds: usize,
    /// Creates at once on each.
    pub racers: usize,
    /// Rounds in which one racer was told that it won; in the others the answer was lost and only the read back counts.
    pub decided: usize,
    /// How long it took.
    pub elapsed: Duration,
    /// Scratch objects that could not be deleted; harmless.
    pub left_over: usize,
}

/// Why this store must not be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Several racers created the same key. *Fix*: another store.
    #[error(
        "{winners} of {RACERS} racing creates of one key all succeeded: this store does not honour If-None-Match, \
         so two nodes would own one shard; use a store that does (AWS S3, GCS, Azure, R2, MinIO, Ceph 16 or later)"
    )]
    SeveralWinners {
        /// How many were told that they had created it.
        winners: usize,
    },
    /// The object is not the winner's. *Fix*: another store.
    #[error("a racer was told that it had created a key, and other bytes are there: this store loses races")]
    WinnerOverwritten,
    /// What was created cannot be found. *Fix*: another store.
    #[error("an object that exists could not be read back: this store does not read its own writes")]
    NotReadBack,
    /// No racer was told that it had won, in any round. *Retry*.
    #[error("no racing create got an answer that decides anything; the bucket is not in a state to start on")]
    Undecided {
        /// What one of them got.
        #[source]
        source: Option<BucketError>,
    },
    /// An absent key does not answer "not found". *Fix*: grant the permission.
    #[error(
        "an absent object reads as forbidden; grant s3:ListBucket on the bucket, or nobody can tell absent from hidden"
    )]
    AbsentIsForbidden {
        /// What the store said.
        #[source]
        source: BucketError,
    },
    /// The bucket could not be asked.
    #[error("the bucket could not be probed")]
    Bucket {
        /// Why.
        #[source]
        source: BucketError,
    },
}

impl Bucket {
    /// Races creates on scratch keys, reads them back, reads an absent key, and cleans up.
    ///
    /// About three round trips. Cancel safety: dropped before it ends it may leave scratch objects under `probe/`.
    pub async fn probe(&self) -> Result<ProbeReport, ProbeError> {
        let start = Instant::now();
        let run = random::id();
        let absent = format!("{FOLDER}/{run:032x}/absent");
        let keys: Vec<_> = (0..ROUNDS).map(|round| format!("{FOLDER}/{run:032x}/{round}")).collect();
        let races = join_all(keys.iter().map(|key| self.race(key)));
        let (verdicts, absence) = join(races, self.get(&absent)).await;
        let left_over = self.delete_many(&keys).await.unconfirmed.len();
        let verdicts = verdicts.into_iter().collect::<Result<Vec<_>, _>>()?;
        check_absence(absence)?;
        let decided = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Decided)).count();
        if decided == 0 {
            let source = verdicts.into_iter().find_map(Verdict::reason);
            return Err(ProbeError::Undecided { source });
        }
        Ok(ProbeReport { rounds: ROUNDS, racers: RACERS, decided, elapsed: start.elapsed(), left_over })
    }

    async fn race(&self, key: &str) -> Result<Verdict, ProbeError> {
        let bodies: Vec<_> = (0..RACERS).map(|_| Bytes::copy_from_slice(&random::id().to_le_bytes())).collect();
        let outcomes = join_all(bodies.iter().map(|body| self.create(key, vec![body.clone()]))).await;
        let mut winners = Vec::new();
        let mut unknown = None;
        for (body, outcome) in bodies.iter().zip(outcomes) {
            match outcome {
                CreateOutcome::Done => winners.push(body),
                CreateOutcome::Exists => {}
                CreateOutcome::Unknown(error) => unknown = Some(error),
                CreateOutcome::Failed(source) => return Err(ProbeError::Bucket { source }),
            }
        }
        if winners.len() > 1 {
            return Err(ProbeError::SeveralWinners { winners: winners.len() });
        }
        let there = self.get(key).await.map_err(|source| ProbeError::Bucket { source })?;
        match (winners.first(), there) {
            (Some(winner), Some(there)) if there == **winner => Ok(Verdict::Decided),
            (Some(_), Some(_)) => Err(ProbeError::WinnerOverwritten),
            (Some(_), None) => Err(ProbeError::NotReadBack),
            (None, _) => Ok(Verdict::Undecided(unknown)),
        }
    }
}

/// How a race that broke no rule ended.
enum Verdict {
    /// One racer was told that it won, and its bytes are there.
    Decided,
    /// No racer was told so: the winner's answer was lost, or nothing was written at all.
    Undecided(Option<BucketError>),
}

impl Verdict {
    fn reason(self) -> Option<BucketError> {
        match self {
            Self::Decided => None,
            Self::Undecided(reason) => reason,
        }
    }
}

/// Creates and reads of what exists went through before this is asked: what is refused now is the absence itself.
fn check_absence(answer: Result<Option<Bytes>, BucketError>) -> Result<(), ProbeError> {
    match answer {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(ProbeError::WinnerOverwritten),
        Err(source @ BucketError::Denied { .. }) => Err(ProbeError::AbsentIsForbidden { source }),
        Err(source) => Err(ProbeError::Bucket { source }),
    }
}
