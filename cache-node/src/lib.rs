//! The Kennel cache node: journal, ownership, uploads and reads, one process per host.
