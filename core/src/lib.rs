//! The decisions of Kennel: pure state machines without I/O, clocks or tokio.
