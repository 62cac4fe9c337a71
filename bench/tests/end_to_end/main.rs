//! The real thing, end to end: nodes, shipper and client as they ship, over real sockets, against buckets that misbehave.
//!
//! Everything is looked at from outside: what a reader gets, what a program prints, what a bucket was asked.

mod bad_input;
mod bad_source;
mod churn;
mod diverged;
mod fabric;
mod full_journal;
mod gateway;
mod gateway_server;
mod live;
mod live_server;
mod memory;
mod moves;
mod names;
mod outage;
mod puts;
mod restore_server;
mod ring;
mod rot;
mod shared_memory;
mod stuck;
mod support;
mod take_over;
