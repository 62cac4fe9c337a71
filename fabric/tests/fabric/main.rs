//! The fabric over libfabric's providers of software: both ways of addressing memory, without a card.

mod kill;
mod lifecycle;
mod place;
mod quarantine;
mod refuse;
mod support;
