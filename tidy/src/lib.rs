//! Nothing to link against: the tests of this package read the repository and hold its walls.
//!
//! What needs a compiler is clippy's work; what needs only eyes is here, so that nobody has to remember it.
