//! Ships live from a running Iggy server.
//!
//! | file | what it does |
//! |---|---|
//! | `source` | the seam: what a live source is asked, and what it answers |
//! | `sdk` | the live source over Iggy's SDK |
//! | `secret` | its password |
//! | `watch` | decides what to ask the server, and what changed: partitions, ends, lives, names |
//! | `pace` | decides how long the watch rests |
//! | `watch_task` | drives both, on a thread of its own |
//! | `sizes` | how long messages are, for polls that count them |
//! | `polled` | what a poll's answer means: whole batches, slices, holes, ends |
//! | `history` | reads what is far behind from the server's files |
//! | `reads` | the shipper machine's reads: polls or files |
//! | `names` | keeps the ring's catalogue |
//! | `barrier` | keeps the server from deleting what is not in the bucket |
//! | `observer`, `health` | what is known of both sides, for people |
//! | `report`, `metrics`, `http` | and how it is told |
//! | `serve` | all of them together |

mod ahead;
mod barrier;
mod health;
mod history;
mod http;
mod metrics;
mod names;
mod observer;
mod pace;
mod polled;
mod reads;
mod report;
mod sdk;
mod secret;
mod serve;
mod sizes;
mod source;
mod watch;
mod watch_task;

pub use barrier::Barrier;
pub use health::SourceHealth;
pub use http::{HttpError, Site, answer, bind};
pub use metrics::install as install_metrics;
pub use observer::{Snapshot, Snapshots};
pub use pace::{Pace, PaceLimits};
pub use polled::{Meaning, Wanted, examine};
pub use report::{LagReport, LiveReport, SourceReport, StoppedReport};
pub use sdk::IggyServer;
pub use secret::{Password, PasswordError};
pub use serve::{BarrierSettings, LiveSettings, serve};
pub use sizes::Sizes;
pub use source::{
    LiveError, LiveSession, LiveSource, PartitionPlace, PartitionSeen, Poll, Polled, StreamSeen, TopicPlace, TopicSeen,
    Totals,
};
pub use watch::{Answer, Ask, News, Watch, place_of};
