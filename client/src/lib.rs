//! Reads partitions through the Kennel ring.
