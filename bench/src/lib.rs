//! Generates Iggy data, verifies reads and measures Kennel.

pub mod generate;
pub mod quickstart;
pub mod verify;
pub mod walk;
