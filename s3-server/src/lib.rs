//! A small S3 server for tests and benches: atomic create-if-absent, faults and a latency model.
