//! The real thing, end to end: nodes, shipper and client as they ship, over real sockets, against buckets that misbehave.
//!
//! Everything is looked at from outside: what a reader gets, what a program prints, what a bucket was asked.

mod bad_input;
mod bad_source;
mod diverged;
mod full_journal;
mod gateway;
mod moves;
mod outage;
mod puts;
mod ring;
mod rot;
mod support;
mod take_over;
