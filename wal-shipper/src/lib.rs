//! Ships what an Iggy server has written to the Kennel ring.
