//! Generates Iggy data, verifies reads and measures Kennel.

pub mod chaos;
pub mod generate;
pub mod live;
pub mod measure;
pub mod quickstart;
mod random;
pub mod scenario;
pub mod verify;
pub mod versus;
pub mod walk;
