//! An advert: where a reader takes bytes, as it travels to the node over the session.
//!
//! ```text
//! 0   u8   version, 1
//! 1   u8   zero
//! 2   u16  bytes of the fabric address
//! 4   u32  bytes of the landing
//! 8   u64  key
//! 16  u64  address of the landing's first byte
//! 24       fabric address
//! ```
//! Little-endian. Whoever holds an advert may write the landing, so it travels inside of TLS only.

use crate::error::AdvertError;
use crate::limits::{ADDRESS_BYTES_MAX, LANDING_BYTES_MAX};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 24;

/// Bytes of an encoded advert at most.
pub const ADVERT_BYTES_MAX: usize = HEAD_BYTES + ADDRESS_BYTES_MAX;

/// Where a reader takes bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LandingAdvert {
    /// The reader's endpoint, in its provider's form.
    pub fabric_address: Vec<u8>,
    /// What opens the landing, and nothing else of the reader's memory.
    pub key: u64,
    /// The landing's first byte, as the provider names places.
    pub address: u64,
    /// Its length.
    pub bytes: u32,
}

impl LandingAdvert {
    /// As it travels.
    ///
    /// # Panics
    /// If the address is longer than any provider's.
    pub fn encode(&self) -> Vec<u8> {
        let address_bytes = self.fabric_address.len();
        assert!((1..=ADDRESS_BYTES_MAX).contains(&address_bytes), "providers' addresses have bounds");
        let mut encoded = Vec::with_capacity(HEAD_BYTES + address_bytes);
        encoded.extend_from_slice(&[VERSION, 0]);
        encoded.extend_from_slice(&u16::try_from(address_bytes).expect("at most 256").to_le_bytes());
        encoded.extend_from_slice(&self.bytes.to_le_bytes());
        encoded.extend_from_slice(&self.key.to_le_bytes());
        encoded.extend_from_slice(&self.address.to_le_bytes());
        encoded.extend_from_slice(&self.fabric_address);
        encoded
    }

    /// From what came. Every bound is checked before anything is allocated.
    pub fn decode(encoded: &[u8]) -> Result<Self, AdvertError> {
        let (head, fabric_address) = encoded.split_first_chunk::<HEAD_BYTES>().ok_or(AdvertError::Length)?;
        let [version, reserved, low, high, rest @ ..] = head;
        if (*version, *reserved) != (VERSION, 0) {
            return Err(AdvertError::Version);
        }
        let address_bytes = usize::from(u16::from_le_bytes([*low, *high]));
        if !(1..=ADDRESS_BYTES_MAX).contains(&address_bytes) {
            return Err(AdvertError::Address(address_bytes));
        }
        if fabric_address.len() != address_bytes {
            return Err(AdvertError::Length);
        }
        let (bytes, rest) = rest.split_first_chunk::<4>().ok_or(AdvertError::Length)?;
        let (key, rest) = rest.split_first_chunk::<8>().ok_or(AdvertError::Length)?;
        let (address, _) = rest.split_first_chunk::<8>().ok_or(AdvertError::Length)?;
        let bytes = u32::from_le_bytes(*bytes);
        if !(1..=LANDING_BYTES_MAX).contains(&(bytes as usize)) {
            return Err(AdvertError::Landing(bytes as usize));
        }
        let (key, address) = (u64::from_le_bytes(*key), u64::from_le_bytes(*address));
        if address.checked_add(u64::from(bytes)).is_none() {
            return Err(AdvertError::Landing(bytes as usize));
        }
        Ok(Self { fabric_address: fabric_address.to_vec(), key, address, bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn advert() -> LandingAdvert {
        let fabric_address = vec![2, 0, 0x1f, 0x90, 127, 0, 0, 1];
        LandingAdvert { fabric_address, key: 0x0102_0304_0506_0708, address: 0x1000, bytes: 1 << 20 }
    }

    #[test]
    fn the_bytes_of_an_advert_never_change() {
        let golden =
            [1, 0, 8, 0, 0, 0, 16, 0, 8, 7, 6, 5, 4, 3, 2, 1, 0, 16, 0, 0, 0, 0, 0, 0, 2, 0, 0x1f, 0x90, 127, 0, 0, 1];
        assert_eq!(advert().encode(), golden);
        assert_eq!(LandingAdvert::decode(&golden), Ok(advert()));
    }

    #[test]
    fn what_is_not_an_advert_is_refused() {
        let good = advert().encode();
        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            LandingAdvert::decode(&bad)
        };
        assert_eq!(with(0, 2), Err(AdvertError::Version));
        assert_eq!(with(1, 1), Err(AdvertError::Version));
        assert_eq!(with(2, 0), Err(AdvertError::Address(0)));
        assert_eq!(with(3, 2), Err(AdvertError::Address(520)));
        assert_eq!(with(2, 9), Err(AdvertError::Length));
        assert_eq!(with(6, 0), Err(AdvertError::Landing(0)));
        assert_eq!(with(7, 0xff), Err(AdvertError::Landing(0xff10_0000)));
        assert_eq!(LandingAdvert::decode(&good[..good.len() - 1]), Err(AdvertError::Length));
        assert_eq!(LandingAdvert::decode(&good[..10]), Err(AdvertError::Length));
        let beyond = LandingAdvert { address: u64::MAX, ..advert() };
        assert_eq!(LandingAdvert::decode(&beyond.encode()), Err(AdvertError::Landing(1 << 20)));
    }

    proptest! {
        #[test]
        fn adverts_come_out_as_they_went_in(
            fabric_address in prop::collection::vec(any::<u8>(), 1..=ADDRESS_BYTES_MAX),
            key: u64, address in 0..u64::MAX / 2, bytes in 1..=u32::try_from(LANDING_BYTES_MAX).expect("32 bits"),
        ) {
            let advert = LandingAdvert { fabric_address, key, address, bytes };
            prop_assert_eq!(LandingAdvert::decode(&advert.encode()), Ok(advert));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(advert) = LandingAdvert::decode(&bytes) {
                prop_assert_eq!(advert.encode(), bytes);
            }
        }
    }
}
