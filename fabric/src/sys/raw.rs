//! An open endpoint: the library's objects in one place, closed in the one order that is safe, by the thread that made
//! them.
//!
//! A transfer owns the memory that the card reads, from posting until the library says that it has ended. A
//! registration owns a handle of its memory. What cannot be closed keeps its memory for ever: better lost than freed
//! under a card.
#![expect(unsafe_code, reason = "the library's objects are pointers to tables of functions")]

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::mem::{ManuallyDrop, size_of};
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr::null_mut;
use std::sync::Arc;

use bytes::Bytes;

use super::abi::{
    FI_COMPLETION, FI_CQ_FORMAT_CONTEXT, FI_DELIVERY_COMPLETE, FI_ENABLE, FI_GETWAIT, FI_KEY_NOTAVAIL, FI_READ,
    FI_RECV, FI_REMOTE_WRITE, FI_TRANSMIT, FI_WAIT_FD, FI_WAIT_NONE, FI_WRITE, fi_av_attr, fi_context2, fi_cq_attr,
    fi_cq_entry, fi_cq_err_entry, fi_msg_rma, fi_rma_iov, iovec,
};
use super::memory::{LandingMemory, Mapping, SendMemory};
use super::vtable::{fid, fid_av, fid_cq, fid_domain, fid_ep, fid_fabric, fid_mr};
use super::{Code, Offer};
use crate::error::FabricError;
use crate::limits::ADDRESS_BYTES_MAX;

/// Completions that are read at once.
const COMPLETIONS_AT_ONCE: usize = 16;

/// A peer's address as the library knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer(u64);

/// A registration of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region(usize);

/// What a registration permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Peers may write it, and nothing else.
    Landing,
    /// This side may send it. Peers may nothing.
    Send,
}

/// A place in a peer's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) address: u64,
    pub(crate) key: u64,
}

/// What a transfer does to the peer's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Writes it.
    Write,
    /// Reads it: only to show that it is refused.
    Read,
}

/// This side's memory of a transfer.
pub(crate) enum Payload {
    /// As it lies.
    Pieces(Vec<Bytes>),
    /// The first bytes of registered memory.
    Registered { memory: SendMemory, region: Region, bytes: usize },
}

/// One operation.
pub(crate) struct Transfer {
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    pub(crate) peer: Peer,
    pub(crate) remote: Remote,
    pub(crate) payload: Payload,
}

/// A transfer that has ended; its memory is free again.
pub(crate) struct Done {
    pub(crate) transfer: Transfer,
    /// The error, and the provider's own words for it.
    pub(crate) result: Result<(), (Code, String)>,
}

struct Registration {
    mr: *mut fid_mr,
    /// Held, so that the memory outlives the registration.
    _mapping: Arc<Mapping>,
}

struct InFlight {
    transfer: Transfer,
    _context: Box<fi_context2>,
}

/// The open objects of one endpoint. It stays on the thread that opened it.
pub(crate) struct RawEndpoint {
    offer: Offer,
    fabric: *mut fid_fabric,
    domain: *mut fid_domain,
    av: *mut fid_av,
    cq: *mut fid_cq,
    ep: *mut fid_ep,
    registrations: ManuallyDrop<Vec<Option<Registration>>>,
    in_flight: ManuallyDrop<BTreeMap<usize, InFlight>>,
    descriptor: Option<RawFd>,
}

fn check(returned: c_int) -> Result<(), Code> {
    Code::check(returned.into()).map(|_| ())
}

impl RawEndpoint {
    /// Opens everything. Where the provider has no descriptor to wait on, `wait` must be false.
    pub(crate) fn open(offer: Offer, wait: bool) -> Result<Self, (&'static str, Code)> {
        let mut endpoint = Self::closed(offer);
        endpoint.open_domain()?;
        endpoint.open_queue(wait)?;
        endpoint.open_endpoint()?;
        Ok(endpoint)
    }

    /// Whether the provider has a descriptor to wait on: found by trying.
    pub(crate) fn can_wait(offer: Offer) -> bool {
        let mut endpoint = Self::closed(offer);
        endpoint.open_domain().and_then(|()| endpoint.open_queue(true)).is_ok()
    }

    fn closed(offer: Offer) -> Self {
        Self {
            offer,
            fabric: null_mut(),
            domain: null_mut(),
            av: null_mut(),
            cq: null_mut(),
            ep: null_mut(),
            registrations: ManuallyDrop::new(Vec::new()),
            in_flight: ManuallyDrop::new(BTreeMap::new()),
            descriptor: None,
        }
    }

    fn open_domain(&mut self) -> Result<(), (&'static str, Code)> {
        let info = self.offer.info;
        // SAFETY: the offer is whole and lives as long as `self`; what is opened is closed by `drop`.
        unsafe {
            let opened = (self.offer.symbols.fabric)((*info).fabric_attr, &raw mut self.fabric, null_mut());
            check(opened).map_err(|code| ("fi_fabric", code))?;
            let opened = ((*(*self.fabric).ops).domain)(self.fabric, info, &raw mut self.domain, null_mut());
            check(opened).map_err(|code| ("fi_domain", code))
        }
    }

    fn open_queue(&mut self, wait: bool) -> Result<(), (&'static str, Code)> {
        let mut attributes = fi_cq_attr {
            size: 0,
            flags: 0,
            format: FI_CQ_FORMAT_CONTEXT,
            wait_obj: if wait { FI_WAIT_FD } else { FI_WAIT_NONE },
            signaling_vector: 0,
            wait_cond: 0,
            wait_set: null_mut(),
        };
        // SAFETY: the domain is open; the attributes are read during the call only; what is opened is closed by `drop`.
        unsafe {
            let open = (*(*self.domain).ops).cq_open;
            check(open(self.domain, &raw mut attributes, &raw mut self.cq, null_mut()))
                .map_err(|code| ("fi_cq_open", code))?;
        }
        if wait {
            let mut descriptor: c_int = -1;
            // SAFETY: the queue is open, and this command writes a descriptor to where it is told.
            let returned = unsafe {
                let queue = &raw mut (*self.cq).fid;
                ((*(*queue).ops).control)(queue, FI_GETWAIT, (&raw mut descriptor).cast())
            };
            check(returned).map_err(|code| ("fi_control(FI_GETWAIT)", code))?;
            self.descriptor = Some(descriptor);
        }
        Ok(())
    }

    fn open_endpoint(&mut self) -> Result<(), (&'static str, Code)> {
        let mut attributes = fi_av_attr {
            kind: 0,
            rx_ctx_bits: 0,
            // As many as the provider likes; it grows.
            count: 0,
            ep_per_node: 0,
            name: std::ptr::null(),
            map_addr: null_mut(),
            flags: 0,
        };
        // SAFETY: domain and queue are open; the attributes are read during the call only; what is opened is closed by
        // `drop`, the endpoint before what it is bound to.
        unsafe {
            let domain = (*self.domain).ops;
            check(((*domain).av_open)(self.domain, &raw mut attributes, &raw mut self.av, null_mut()))
                .map_err(|code| ("fi_av_open", code))?;
            check(((*domain).endpoint)(self.domain, self.offer.info, &raw mut self.ep, null_mut()))
                .map_err(|code| ("fi_endpoint", code))?;
            let endpoint = &raw mut (*self.ep).fid;
            let operations = (*endpoint).ops;
            check(((*operations).bind)(endpoint, &raw mut (*self.av).fid, 0)).map_err(|code| ("fi_ep_bind", code))?;
            check(((*operations).bind)(endpoint, &raw mut (*self.cq).fid, FI_TRANSMIT | FI_RECV))
                .map_err(|code| ("fi_ep_bind", code))?;
            check(((*operations).control)(endpoint, FI_ENABLE, null_mut())).map_err(|code| ("fi_enable", code))
        }
    }

    /// What was offered.
    pub(crate) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// An error of a transfer, in the library's words.
    pub(crate) fn transfer_error(&self, code: Code) -> FabricError {
        FabricError::Transfer { code: code.0, text: self.offer.symbols.text(code) }
    }

    /// The own address, as peers need it.
    pub(crate) fn address(&self) -> Result<Vec<u8>, Code> {
        let mut address = vec![0_u8; ADDRESS_BYTES_MAX];
        let mut bytes = address.len();
        // SAFETY: the endpoint is open and enabled, and the function writes at most so many bytes as it is told.
        check(unsafe {
            ((*(*self.ep).cm).getname)(&raw mut (*self.ep).fid, address.as_mut_ptr().cast(), &raw mut bytes)
        })?;
        address.truncate(bytes);
        Ok(address)
    }

    /// Makes a peer known. The caller has checked that the address has this provider's form.
    ///
    /// # Panics
    /// If the address is longer than any.
    pub(crate) fn insert_peer(&mut self, address: &[u8]) -> Result<Peer, Code> {
        // The library is not told the length: whatever it takes the address for, it reads no memory but this.
        let mut padded = [0_u64; 2 * ADDRESS_BYTES_MAX / size_of::<u64>()];
        assert!(address.len() <= ADDRESS_BYTES_MAX, "adverts have bounds");
        for (word, bytes) in padded.iter_mut().zip(address.chunks(size_of::<u64>())) {
            let mut full = [0; size_of::<u64>()];
            full[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(full);
        }
        let mut peer = u64::MAX;
        // SAFETY: the vector is open, and one address of the provider's form lies where it is told, followed by zeros.
        let inserted =
            unsafe { ((*(*self.av).ops).insert)(self.av, padded.as_ptr().cast(), 1, &raw mut peer, 0, null_mut()) };
        match Code::check(inserted.into())? {
            1 => Ok(Peer(peer)),
            _ => Err(Code::NOTHING),
        }
    }

    /// Forgets a peer; providers that have connections close the one to it.
    pub(crate) fn remove_peer(&mut self, peer: Peer) -> Result<(), Code> {
        let mut address = peer.0;
        // SAFETY: the vector is open and the address was inserted into it.
        check(unsafe { ((*(*self.av).ops).remove)(self.av, &raw mut address, 1, 0) })
    }

    /// Registers a landing. Returns the key that peers need.
    pub(crate) fn register_landing(&mut self, memory: &LandingMemory, key: u64) -> Result<(Region, u64), Code> {
        self.register(&memory.0, Access::Landing, key)
    }

    /// Registers memory for sending.
    pub(crate) fn register_send(&mut self, memory: &SendMemory, key: u64) -> Result<Region, Code> {
        self.register(&memory.0, Access::Send, key).map(|(region, _)| region)
    }

    fn register(&mut self, mapping: &Arc<Mapping>, access: Access, key: u64) -> Result<(Region, u64), Code> {
        let access = match access {
            Access::Landing => FI_RECV | FI_REMOTE_WRITE,
            Access::Send => FI_WRITE | FI_READ,
        };
        let mut mr = null_mut();
        // SAFETY: the domain is open. The memory is mapped for as long as the registration, which holds a handle of it.
        let returned = unsafe {
            let domain = &raw mut (*self.domain).fid;
            let register = (*(*self.domain).mr).reg;
            register(domain, mapping.start().cast(), mapping.bytes(), access, 0, key, 0, &raw mut mr, null_mut())
        };
        check(returned)?;
        let at = self.registrations.iter().position(Option::is_none).unwrap_or(self.registrations.len());
        if at == self.registrations.len() {
            self.registrations.push(None);
        }
        self.registrations[at] = Some(Registration { mr, _mapping: Arc::clone(mapping) });
        // SAFETY: the registration was just made.
        let key = unsafe { (*mr).key };
        if key == FI_KEY_NOTAVAIL {
            // Keys that do not fit a number would need another advert.
            let _ = self.deregister(Region(at));
            return Err(Code::KEY);
        }
        Ok((Region(at), key))
    }

    /// Ends a registration: from here on its key opens nothing. If that fails, memory and registration stay.
    pub(crate) fn deregister(&mut self, region: Region) -> Result<(), Code> {
        let Some(registration) = self.registrations[region.0].take() else { return Ok(()) };
        // SAFETY: it was registered, and is closed once: here it left the table.
        let closed = check(unsafe { close(&raw mut (*registration.mr).fid) });
        if closed.is_err() {
            self.registrations[region.0] = Some(registration);
        }
        closed
    }

    /// The address that peers name a landing's first byte by.
    pub(crate) fn remote_address(&self, memory: &LandingMemory) -> u64 {
        if self.offer.memory_mode().virtual_addresses { memory.0.start().addr() as u64 } else { 0 }
    }

    /// Starts a transfer; from here on it owns its memory. What could not be started comes back.
    pub(crate) fn post(&mut self, transfer: Transfer) -> Result<(), (Box<Transfer>, Code)> {
        let mut context: Box<fi_context2> = Box::new([0; 8]);
        let (pieces, description, bytes) = self.pieces(&transfer.payload);
        let mut descriptions = vec![description; pieces.len()];
        let remote = fi_rma_iov { addr: transfer.remote.address, len: bytes, key: transfer.remote.key };
        let message = fi_msg_rma {
            msg_iov: pieces.as_ptr(),
            desc: descriptions.as_mut_ptr(),
            iov_count: pieces.len(),
            addr: transfer.peer.0,
            rma_iov: &raw const remote,
            rma_iov_count: 1,
            context: context.as_mut_ptr().cast(),
            data: 0,
        };
        let flags = FI_COMPLETION | FI_DELIVERY_COMPLETE;
        // SAFETY: the endpoint is open; the message and its lists are read during the call only. Memory and context
        // live in `in_flight` until the library says that the transfer has ended, or everything is closed.
        let returned = unsafe {
            let operations = (*self.ep).rma;
            match transfer.kind {
                Kind::Write => ((*operations).writemsg)(self.ep, &raw const message, flags),
                Kind::Read => ((*operations).readmsg)(self.ep, &raw const message, flags),
            }
        };
        if let Err(code) = Code::check(returned as i64) {
            return Err((Box::new(transfer), code));
        }
        let address = context.as_ptr().addr();
        self.in_flight.insert(address, InFlight { transfer, _context: context });
        Ok(())
    }

    fn pieces(&self, payload: &Payload) -> (Vec<iovec>, *mut c_void, usize) {
        match payload {
            Payload::Pieces(pieces) => {
                let piece = |piece: &Bytes| iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
                (pieces.iter().map(piece).collect(), null_mut(), pieces.iter().map(Bytes::len).sum())
            }
            Payload::Registered { memory, region, bytes } => {
                assert!(*bytes <= memory.0.bytes(), "the plan fits the buffer");
                let registration = self.registrations[region.0].as_ref().expect("send buffers stay registered");
                // SAFETY: the registration is open.
                let description = unsafe { (*registration.mr).mem_desc };
                (vec![iovec { iov_base: memory.0.start().cast(), iov_len: *bytes }], description, *bytes)
            }
        }
    }

    /// Makes progress, and takes all transfers that have ended.
    pub(crate) fn poll(&mut self, done: &mut Vec<Done>) -> Result<(), Code> {
        loop {
            let mut entries = [fi_cq_entry { op_context: null_mut() }; COMPLETIONS_AT_ONCE];
            // SAFETY: the queue is open, and the array has room for so many entries of its format.
            let read = unsafe { ((*(*self.cq).ops).read)(self.cq, entries.as_mut_ptr().cast(), COMPLETIONS_AT_ONCE) };
            match Code::check(read as i64) {
                Ok(0) | Err(Code::AGAIN) => return Ok(()),
                Ok(count) => {
                    let count = usize::try_from(count).expect("at most what was asked for");
                    done.extend(entries[..count].iter().filter_map(|entry| self.ended(entry.op_context, Ok(()))));
                }
                Err(Code::ERROR_AVAILABLE) => done.extend(self.poll_error()?),
                Err(code) => return Err(code),
            }
        }
    }

    fn poll_error(&mut self) -> Result<Option<Done>, Code> {
        // SAFETY: all fields are numbers and pointers, of which zeros are values.
        let mut entry: fi_cq_err_entry = unsafe { std::mem::zeroed() };
        // SAFETY: the queue is open, and the entry has room for what libraries have appended.
        let read = unsafe { ((*(*self.cq).ops).readerr)(self.cq, &raw mut entry, 0) };
        match Code::check(read as i64) {
            Ok(0) | Err(Code::AGAIN) => return Ok(None),
            returned => returned?,
        };
        let code = Code(entry.err);
        Ok(self.ended(entry.op_context, Err((code, self.offer.symbols.text(code)))))
    }

    /// The transfer of a context. Contexts of nobody, such as a broken connection's, are not asked about further.
    fn ended(&mut self, context: *mut c_void, result: Result<(), (Code, String)>) -> Option<Done> {
        let InFlight { transfer, .. } = self.in_flight.remove(&context.addr())?;
        Some(Done { transfer, result })
    }

    /// What to wait on, where the provider has it.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the descriptor is the queue's and open as long as that is.
        self.descriptor.map(|descriptor| unsafe { BorrowedFd::borrow_raw(descriptor) })
    }

    /// Whether the thread may sleep on the descriptor. If not, there is something to poll first.
    pub(crate) fn may_wait(&self) -> bool {
        // SAFETY: fabric and queue are open, and the list has one element.
        let returned = unsafe {
            let mut queue = &raw mut (*self.cq).fid;
            ((*(*self.fabric).ops).trywait)(self.fabric, &raw mut queue, 1)
        };
        check(returned).is_ok()
    }
}

/// Closes an object, if there is one.
///
/// # Safety
/// It is null or open, and nothing uses it afterwards.
unsafe fn close(object: *mut fid) -> c_int {
    if object.is_null() {
        return 0;
    }
    // SAFETY: the caller says that it is open.
    unsafe { ((*(*object).ops).close)(object) }
}

impl Drop for RawEndpoint {
    fn drop(&mut self) {
        // First what moves bytes, then what it moved them from and to, then what those belong to.
        // SAFETY: each was opened or is null, every object is the first field of its structure, and none is used again.
        let mut closed = unsafe { close(self.ep.cast()) == 0 };
        for registration in self.registrations.iter_mut().filter_map(Option::take) {
            // SAFETY: as above; it left the table.
            if unsafe { close(registration.mr.cast()) } != 0 {
                closed = false;
                std::mem::forget(registration);
            }
        }
        // SAFETY: as above.
        let rest = unsafe {
            [self.av.cast(), self.cq.cast(), self.domain.cast(), self.fabric.cast()].map(|object| close(object))
        };
        if closed && rest.iter().all(|returned| *returned == 0) {
            // SAFETY: nothing can read or write this memory any more, and neither field is used again.
            unsafe {
                ManuallyDrop::drop(&mut self.in_flight);
                ManuallyDrop::drop(&mut self.registrations);
            }
        }
    }
}
