//! What a library offers: one provider on one device, with what it needs and what it can.
#![expect(unsafe_code, reason = "lists of the library's structures have no safe form")]

use std::ffi::{CString, c_char};
use std::ptr::{null, null_mut};
use std::sync::Arc;

use super::abi::{
    API_VERSION, FI_ADDR_STR, FI_CONTEXT, FI_CONTEXT2, FI_DELIVERY_COMPLETE, FI_EP_RDM, FI_MR_ALLOCATED, FI_MR_LOCAL,
    FI_MR_PROV_KEY, FI_MR_VIRT_ADDR, FI_MSG, FI_PROGRESS_MANUAL, FI_RM_ENABLED, FI_RMA, FI_SOCKADDR, FI_SOCKADDR_IN,
    FI_SOCKADDR_IN6, FI_SOURCE, FI_THREAD_DOMAIN, fi_info,
};
use super::symbols::text_of;
use super::{Code, Symbols};

/// What to ask for. Empty fields ask for anything.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wish<'a> {
    pub(crate) provider: Option<&'a str>,
    pub(crate) domain: Option<&'a str>,
    /// The own address, where the provider has addresses that a person writes.
    pub(crate) source: Option<&'a str>,
}

/// How a provider wants memory to be registered and addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent bits of the library")]
pub(crate) struct MemoryMode {
    /// What is sent must lie in registered memory, too.
    pub(crate) local: bool,
    /// Peers name places by address; else by distance from the start of the registration.
    pub(crate) virtual_addresses: bool,
    /// The memory must be there before it is registered.
    pub(crate) allocated: bool,
    /// The provider chooses keys.
    pub(crate) provider_keys: bool,
    /// Bits that this crate does not know how to obey.
    pub(crate) unknown: bool,
}

/// What a provider's addresses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressForm {
    /// A `sockaddr`, whose first two bytes say which.
    Socket,
    /// Text.
    Text,
    /// Bytes of one length.
    Opaque,
}

/// One provider on one device.
pub(crate) struct Offer {
    pub(super) info: *mut fi_info,
    pub(super) symbols: Arc<Symbols>,
}

/// What a library offers, in its order of preference. An empty list if nothing matches.
pub(crate) fn offers(symbols: &Arc<Symbols>, wish: Wish<'_>) -> Result<Vec<Offer>, Code> {
    let text = |text: Option<&str>| text.map(CString::new).transpose().map_err(|_| Code::NOTHING);
    let (provider, domain, source) = (text(wish.provider)?, text(wish.domain)?, text(wish.source)?);
    let hints = Hints::new(symbols, provider.as_ref(), domain.as_ref());
    let (node, flags) = source.as_ref().map_or((null(), 0), |source| (source.as_ptr(), FI_SOURCE));
    let mut list = null_mut();
    // SAFETY: the hints are a whole structure of the library's own making, the texts end with zeros and outlive the
    // call, and `list` takes a pointer that is freed below.
    let returned = unsafe { (symbols.getinfo)(API_VERSION, node, null(), flags, hints.0.info, &raw mut list) };
    match Code::check(returned.into()) {
        Err(Code::NOTHING) => return Ok(Vec::new()),
        returned => returned?,
    };
    let mut offers = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: `next` is an element of the list that the library just made; the copy is ours to free.
        let (info, after) = unsafe { ((symbols.dupinfo)(next), (*next).next) };
        if !info.is_null() {
            offers.push(Offer { info, symbols: Arc::clone(symbols) });
        }
        next = after;
    }
    // SAFETY: the list is the library's and whole, and nothing refers to it any more.
    unsafe { (symbols.freeinfo)(list) };
    Ok(offers)
}

/// What is asked for, in a structure of the library's that borrows texts from here.
struct Hints(Offer);

impl Hints {
    fn new(symbols: &Arc<Symbols>, provider: Option<&CString>, domain: Option<&CString>) -> Self {
        let pointer = |text: Option<&CString>| text.map_or(null_mut(), |text| text.as_ptr().cast_mut());
        // SAFETY: without an argument the function makes an empty structure with all its parts.
        let info = unsafe { (symbols.dupinfo)(null()) };
        assert!(!info.is_null(), "the library has memory for one structure");
        // SAFETY: the structure is whole, ours, and as the layout assertions say; the parts are not null.
        unsafe {
            (*info).caps = FI_MSG | FI_RMA;
            (*info).mode = FI_CONTEXT | FI_CONTEXT2;
            (*(*info).ep_attr).kind = FI_EP_RDM;
            (*(*info).tx_attr).op_flags = FI_DELIVERY_COMPLETE;
            let domain_attr = (*info).domain_attr;
            (*domain_attr).threading = FI_THREAD_DOMAIN;
            (*domain_attr).control_progress = FI_PROGRESS_MANUAL;
            (*domain_attr).data_progress = FI_PROGRESS_MANUAL;
            // Posting says that there is no room, instead of losing completions.
            (*domain_attr).resource_mgmt = FI_RM_ENABLED;
            (*domain_attr).mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
            (*domain_attr).name = pointer(domain);
            (*(*info).fabric_attr).prov_name = pointer(provider);
        }
        Self(Offer { info, symbols: Arc::clone(symbols) })
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        // SAFETY: as above. The texts are not the library's to free.
        unsafe {
            (*(*self.0.info).domain_attr).name = null_mut();
            (*(*self.0.info).fabric_attr).prov_name = null_mut();
        }
    }
}

impl Offer {
    fn text(&self, of: impl FnOnce(&fi_info) -> *mut c_char) -> String {
        // SAFETY: the structure is whole and lives as long as `self`.
        text_of(of(unsafe { &*self.info })).unwrap_or_default()
    }

    /// The provider's name, such as `verbs;ofi_rxm`.
    pub(crate) fn provider(&self) -> String {
        // SAFETY: an offer has all its parts.
        self.text(|info| unsafe { (*info.fabric_attr).prov_name })
    }

    /// The fabric's name, such as `efa-direct`.
    pub(crate) fn fabric(&self) -> String {
        // SAFETY: an offer has all its parts.
        self.text(|info| unsafe { (*info.fabric_attr).name })
    }

    /// The device's name.
    pub(crate) fn domain(&self) -> String {
        // SAFETY: an offer has all its parts.
        self.text(|info| unsafe { (*info.domain_attr).name })
    }

    /// The form of its addresses.
    pub(crate) fn address_form(&self) -> AddressForm {
        // SAFETY: the structure is whole and lives as long as `self`.
        match unsafe { (*self.info).addr_format } {
            FI_SOCKADDR | FI_SOCKADDR_IN | FI_SOCKADDR_IN6 => AddressForm::Socket,
            FI_ADDR_STR => AddressForm::Text,
            _ => AddressForm::Opaque,
        }
    }

    /// How it wants memory.
    pub(crate) fn memory_mode(&self) -> MemoryMode {
        // SAFETY: an offer has all its parts.
        let bits = unsafe { (*(*self.info).domain_attr).mr_mode };
        let known = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
        MemoryMode {
            local: bits & FI_MR_LOCAL != 0,
            virtual_addresses: bits & FI_MR_VIRT_ADDR != 0,
            allocated: bits & FI_MR_ALLOCATED != 0,
            provider_keys: bits & FI_MR_PROV_KEY != 0,
            unknown: bits & !known != 0,
        }
    }

    /// Bytes of a key at most.
    pub(crate) fn key_bytes(&self) -> usize {
        // SAFETY: an offer has all its parts.
        unsafe { (*(*self.info).domain_attr).mr_key_size }
    }

    /// Bytes of one write at most.
    pub(crate) fn write_bytes_max(&self) -> usize {
        // SAFETY: an offer has all its parts.
        unsafe { (*(*self.info).ep_attr).max_msg_size }
    }

    /// Pieces of memory that one write gathers at most.
    pub(crate) fn pieces_max(&self) -> usize {
        // SAFETY: an offer has all its parts.
        unsafe { (*(*self.info).tx_attr).iov_limit }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        // SAFETY: the structure is the library's, whole, alone, and nothing refers to it any more.
        unsafe { (self.symbols.freeinfo)(self.info) };
    }
}
