//! Randomness from the operating system, for ids that must never repeat.

use rustix::rand::{GetRandomFlags, getrandom};

/// 128 bits from the operating system.
///
/// # Panics
/// If the system has no source of randomness: nothing safe can be done without one.
pub fn id() -> u128 {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty()).expect("the system gives random bytes");
    }
    u128::from_le_bytes(bytes)
}
