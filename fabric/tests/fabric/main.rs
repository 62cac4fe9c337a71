//! The fabric over libfabric's providers of software: both ways of addressing memory, without a card.
#![expect(clippy::print_stdout, reason = "what was skipped or refused is told to who runs the tests")]

mod kill;
mod lasting;
mod lifecycle;
mod place;
mod quarantine;
mod refuse;
mod support;
