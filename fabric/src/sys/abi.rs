//! libfabric's structures, field by field in the library's own names, and their layout asserted.
//!
//! Fields that the library may append are not here, and nothing here is ever copied as a whole.
#![expect(non_camel_case_types, reason = "they are the library's names, as its manual pages have them")]

use std::ffi::{c_char, c_int, c_void};
use std::mem::{offset_of, size_of};

/// `FI_VERSION(1, 17)`: the interface that this binding was checked against, and that newer libraries keep offering.
pub(crate) const API_VERSION: u32 = (1 << 16) + 17;

pub(crate) const FI_MSG: u64 = 1 << 1;
pub(crate) const FI_RMA: u64 = 1 << 2;
pub(crate) const FI_READ: u64 = 1 << 8;
pub(crate) const FI_WRITE: u64 = 1 << 9;
pub(crate) const FI_RECV: u64 = 1 << 10;
pub(crate) const FI_TRANSMIT: u64 = 1 << 11;
pub(crate) const FI_REMOTE_WRITE: u64 = 1 << 13;
pub(crate) const FI_COMPLETION: u64 = 1 << 24;
pub(crate) const FI_DELIVERY_COMPLETE: u64 = 1 << 28;
pub(crate) const FI_SOURCE: u64 = 1 << 57;
pub(crate) const FI_CONTEXT: u64 = 1 << 59;
pub(crate) const FI_CONTEXT2: u64 = 1 << 52;

pub(crate) const FI_MR_LOCAL: c_int = 1 << 2;
pub(crate) const FI_MR_VIRT_ADDR: c_int = 1 << 4;
pub(crate) const FI_MR_ALLOCATED: c_int = 1 << 5;
pub(crate) const FI_MR_PROV_KEY: c_int = 1 << 6;

pub(crate) const FI_EP_RDM: c_int = 3;
pub(crate) const FI_THREAD_DOMAIN: c_int = 3;
pub(crate) const FI_PROGRESS_MANUAL: c_int = 2;
pub(crate) const FI_RM_ENABLED: c_int = 2;
pub(crate) const FI_WAIT_NONE: c_int = 0;
pub(crate) const FI_WAIT_FD: c_int = 3;
pub(crate) const FI_CQ_FORMAT_CONTEXT: c_int = 1;
pub(crate) const FI_GETWAIT: c_int = 5;
pub(crate) const FI_ENABLE: c_int = 6;
pub(crate) const FI_KEY_NOTAVAIL: u64 = u64::MAX;

/// Addresses are `struct sockaddr` of a family.
pub(crate) const FI_SOCKADDR: u32 = 1;
/// Addresses are `struct sockaddr_in`.
pub(crate) const FI_SOCKADDR_IN: u32 = 2;
/// Addresses are `struct sockaddr_in6`.
pub(crate) const FI_SOCKADDR_IN6: u32 = 3;
/// Addresses are text that ends with a zero.
pub(crate) const FI_ADDR_STR: u32 = 9;

#[repr(C)]
pub(crate) struct fi_info {
    pub(crate) next: *mut fi_info,
    pub(crate) caps: u64,
    pub(crate) mode: u64,
    pub(crate) addr_format: u32,
    pub(crate) src_addrlen: usize,
    pub(crate) dest_addrlen: usize,
    pub(crate) src_addr: *mut c_void,
    pub(crate) dest_addr: *mut c_void,
    pub(crate) handle: *mut c_void,
    pub(crate) tx_attr: *mut fi_tx_attr,
    pub(crate) rx_attr: *mut c_void,
    pub(crate) ep_attr: *mut fi_ep_attr,
    pub(crate) domain_attr: *mut fi_domain_attr,
    pub(crate) fabric_attr: *mut fi_fabric_attr,
    pub(crate) nic: *mut c_void,
}

#[repr(C)]
pub(crate) struct fi_tx_attr {
    pub(crate) caps: u64,
    pub(crate) mode: u64,
    pub(crate) op_flags: u64,
    pub(crate) msg_order: u64,
    pub(crate) comp_order: u64,
    pub(crate) inject_size: usize,
    pub(crate) size: usize,
    pub(crate) iov_limit: usize,
    pub(crate) rma_iov_limit: usize,
}

#[repr(C)]
pub(crate) struct fi_ep_attr {
    /// `type` in C.
    pub(crate) kind: c_int,
    pub(crate) protocol: u32,
    pub(crate) protocol_version: u32,
    pub(crate) max_msg_size: usize,
}

#[repr(C)]
pub(crate) struct fi_domain_attr {
    pub(crate) domain: *mut c_void,
    pub(crate) name: *mut c_char,
    pub(crate) threading: c_int,
    pub(crate) control_progress: c_int,
    pub(crate) data_progress: c_int,
    pub(crate) resource_mgmt: c_int,
    pub(crate) av_type: c_int,
    pub(crate) mr_mode: c_int,
    pub(crate) mr_key_size: usize,
}

#[repr(C)]
pub(crate) struct fi_fabric_attr {
    pub(crate) fabric: *mut c_void,
    pub(crate) name: *mut c_char,
    pub(crate) prov_name: *mut c_char,
    pub(crate) prov_version: u32,
    pub(crate) api_version: u32,
}

#[repr(C)]
pub(crate) struct fi_av_attr {
    /// `type` in C.
    pub(crate) kind: c_int,
    pub(crate) rx_ctx_bits: c_int,
    pub(crate) count: usize,
    pub(crate) ep_per_node: usize,
    pub(crate) name: *const c_char,
    pub(crate) map_addr: *mut c_void,
    pub(crate) flags: u64,
}

#[repr(C)]
pub(crate) struct fi_cq_attr {
    pub(crate) size: usize,
    pub(crate) flags: u64,
    pub(crate) format: c_int,
    pub(crate) wait_obj: c_int,
    pub(crate) signaling_vector: c_int,
    pub(crate) wait_cond: c_int,
    pub(crate) wait_set: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct fi_cq_entry {
    pub(crate) op_context: *mut c_void,
}

#[repr(C)]
pub(crate) struct fi_cq_err_entry {
    pub(crate) op_context: *mut c_void,
    pub(crate) flags: u64,
    pub(crate) len: usize,
    pub(crate) buf: *mut c_void,
    pub(crate) data: u64,
    pub(crate) tag: u64,
    pub(crate) olen: usize,
    pub(crate) err: c_int,
    pub(crate) prov_errno: c_int,
    pub(crate) err_data: *mut c_void,
    pub(crate) err_data_size: usize,
    /// Newer libraries write the source's address here, and may write more.
    pub(crate) appended: [u64; 8],
}

#[repr(C)]
pub(crate) struct iovec {
    pub(crate) iov_base: *mut c_void,
    pub(crate) iov_len: usize,
}

#[repr(C)]
pub(crate) struct fi_rma_iov {
    pub(crate) addr: u64,
    pub(crate) len: usize,
    pub(crate) key: u64,
}

#[repr(C)]
pub(crate) struct fi_msg_rma {
    pub(crate) msg_iov: *const iovec,
    pub(crate) desc: *mut *mut c_void,
    pub(crate) iov_count: usize,
    pub(crate) addr: u64,
    pub(crate) rma_iov: *const fi_rma_iov,
    pub(crate) rma_iov_count: usize,
    pub(crate) context: *mut c_void,
    pub(crate) data: u64,
}

/// Room for the library's own notes on an operation, where it asks for some: `struct fi_context2`.
pub(crate) type fi_context2 = [usize; 8];

const _: () = {
    assert!(size_of::<fi_info>() == 120);
    assert!(offset_of!(fi_info, addr_format) == 24 && offset_of!(fi_info, src_addr) == 48);
    assert!(offset_of!(fi_info, tx_attr) == 72 && offset_of!(fi_info, ep_attr) == 88);
    assert!(offset_of!(fi_info, domain_attr) == 96 && offset_of!(fi_info, fabric_attr) == 104);
    assert!(offset_of!(fi_tx_attr, op_flags) == 16 && offset_of!(fi_tx_attr, iov_limit) == 56);
    assert!(offset_of!(fi_ep_attr, max_msg_size) == 16);
    assert!(offset_of!(fi_domain_attr, name) == 8 && offset_of!(fi_domain_attr, threading) == 16);
    assert!(offset_of!(fi_domain_attr, mr_mode) == 36 && offset_of!(fi_domain_attr, mr_key_size) == 40);
    assert!(size_of::<fi_fabric_attr>() == 32 && offset_of!(fi_fabric_attr, prov_name) == 16);
    assert!(size_of::<fi_av_attr>() == 48 && size_of::<fi_cq_attr>() == 40 && size_of::<fi_cq_entry>() == 8);
    assert!(offset_of!(fi_cq_attr, format) == 16 && offset_of!(fi_cq_attr, wait_obj) == 20);
    assert!(offset_of!(fi_cq_err_entry, err) == 56 && offset_of!(fi_cq_err_entry, appended) == 80);
    assert!(size_of::<fi_msg_rma>() == 64 && size_of::<fi_rma_iov>() == 24 && size_of::<iovec>() == 16);
    assert!(size_of::<fi_context2>() == 64);
};
