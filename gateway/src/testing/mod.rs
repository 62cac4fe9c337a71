//! For tests: an Iggy server in the process, small enough to read, that speaks the protocol as the real one does.
//!
//! It keeps streams, topics and batches in memory, takes any login, and knows of the protocol what readers and a simple
//! producer use. It has no groups and no rights, except that it can be told to refuse polls.

mod origin;
mod replies;
mod store;

pub use origin::IggyOrigin;
pub use store::Store;
