//! Peers by their addresses: made known when first written to, forgotten when there are too many, or when one is late.

use std::collections::BTreeMap;

use crate::error::AdvertError;
use crate::limits::PEERS_MAX;
use crate::sys::{AddressForm, Code, Peer, RawEndpoint};

/// All peers of an endpoint.
pub(crate) struct Peers {
    known: BTreeMap<Vec<u8>, Known>,
    own: Vec<u8>,
    form: AddressForm,
    /// Whether the library can forget a peer that something is under way to.
    forgets_busy: bool,
    uses: u64,
}

struct Known {
    peer: Peer,
    /// Tells it from one of the same address that was known before.
    number: u64,
    /// When it was last used, counted in uses.
    used: u64,
    busy: usize,
}

/// A peer in use by one placement.
#[derive(Debug, Clone)]
pub(crate) struct PeerUse {
    pub(crate) peer: Peer,
    address: Vec<u8>,
    number: u64,
}

impl Peers {
    pub(crate) fn new(own: Vec<u8>, form: AddressForm, forgets_busy: bool) -> Self {
        Self { known: BTreeMap::new(), own, form, forgets_busy, uses: 0 }
    }

    /// Whether an address has this provider's form: the library is not told how long it is.
    pub(crate) fn check(&self, address: &[u8]) -> Result<(), AdvertError> {
        let same = |bytes: usize| address.get(..bytes).is_some_and(|start| self.own.get(..bytes) == Some(start));
        let fits = match self.form {
            AddressForm::Socket => address.len() == self.own.len() && same(2),
            AddressForm::Text => {
                let scheme = self.own.windows(3).position(|three| three == b"://").map_or(1, |at| at + 3);
                let text = address.strip_suffix(&[0]).unwrap_or(address);
                same(scheme) && !text.contains(&0)
            }
            AddressForm::Opaque => address.len() == self.own.len(),
        };
        if fits { Ok(()) } else { Err(AdvertError::Provider) }
    }

    /// The peer of an address that was checked.
    pub(crate) fn begin(&mut self, raw: &mut RawEndpoint, address: Vec<u8>) -> Result<PeerUse, Code> {
        self.uses += 1;
        if !self.known.contains_key(&address) {
            self.make_room(raw);
            let peer = raw.insert_peer(&address)?;
            self.known.insert(address.clone(), Known { peer, number: self.uses, used: 0, busy: 0 });
        }
        let known = self.known.get_mut(&address).expect("inserted, if it was not there");
        known.used = self.uses;
        known.busy += 1;
        Ok(PeerUse { peer: known.peer, address, number: known.number })
    }

    fn make_room(&mut self, raw: &mut RawEndpoint) {
        if self.known.len() < PEERS_MAX {
            return;
        }
        let idle = self.known.iter().filter(|(_, known)| known.busy == 0).min_by_key(|(_, known)| known.used);
        if let Some(address) = idle.map(|(address, _)| address.clone()) {
            self.remove(raw, &address);
        }
    }

    /// A placement has ended.
    pub(crate) fn end(&mut self, peer: &PeerUse) {
        if let Some(known) = self.known.get_mut(&peer.address).filter(|known| known.number == peer.number) {
            known.busy -= 1;
        }
    }

    /// Forgets a peer, with its connection: what it does from here on is no longer expected.
    pub(crate) fn forget(&mut self, raw: &mut RawEndpoint, peer: &PeerUse) {
        if self.forgets_busy && self.known.get(&peer.address).is_some_and(|known| known.number == peer.number) {
            self.remove(raw, &peer.address);
        }
    }

    fn remove(&mut self, raw: &mut RawEndpoint, address: &[u8]) {
        if let Some(known) = self.known.remove(address) {
            // A library that does not let go of it has one entry too many, which its size allows for.
            let _ = raw.remove_peer(known.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_another_form_are_refused_before_the_library_sees_them() {
        let own = [&[2, 0, 31, 144, 127, 0, 0, 1][..], &[0; 8]].concat();
        let other = [&[2, 0, 99, 99, 10, 0, 0, 7][..], &[0; 8]].concat();
        let peers = Peers::new(own.clone(), AddressForm::Socket, true);
        assert_eq!(peers.check(&other), Ok(()));
        assert_eq!(peers.check(&other[..15]), Err(AdvertError::Provider));
        assert_eq!(peers.check(&[&[10, 0][..], &other[2..]].concat()), Err(AdvertError::Provider));

        let peers = Peers::new(b"fi_shm://1:2\0".to_vec(), AddressForm::Text, true);
        assert_eq!(peers.check(b"fi_shm://123:0:4\0"), Ok(()));
        assert_eq!(peers.check(b"fi_shm://1\x002\0"), Err(AdvertError::Provider));
        assert_eq!(peers.check(b"efa://1:2\0"), Err(AdvertError::Provider));

        let peers = Peers::new(vec![7; 32], AddressForm::Opaque, true);
        assert_eq!(peers.check(&[1; 32]), Ok(()));
        assert_eq!(peers.check(&[1; 31]), Err(AdvertError::Provider));
    }
}
