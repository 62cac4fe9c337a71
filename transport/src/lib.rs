//! Sessions between Kennel processes: QUIC and loopback behind one interface.
