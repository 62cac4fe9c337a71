//! libfabric's objects and the tables of functions in them. What is never called is an opaque pointer.
#![expect(non_camel_case_types, reason = "they are the library's names, as its manual pages have them")]

use std::ffi::{c_char, c_int, c_void};
use std::mem::{offset_of, size_of};

use super::abi::{fi_av_attr, fi_cq_attr, fi_cq_err_entry, fi_info, fi_msg_rma};

type unused = *const c_void;

#[repr(C)]
pub(crate) struct fid {
    pub(crate) fclass: usize,
    pub(crate) context: *mut c_void,
    pub(crate) ops: *const fi_ops,
}

#[repr(C)]
pub(crate) struct fi_ops {
    pub(crate) size: usize,
    pub(crate) close: unsafe extern "C" fn(*mut fid) -> c_int,
    pub(crate) bind: unsafe extern "C" fn(*mut fid, *mut fid, u64) -> c_int,
    pub(crate) control: unsafe extern "C" fn(*mut fid, c_int, *mut c_void) -> c_int,
}

#[repr(C)]
pub(crate) struct fid_fabric {
    pub(crate) fid: fid,
    pub(crate) ops: *const fi_ops_fabric,
}

#[repr(C)]
pub(crate) struct fi_ops_fabric {
    pub(crate) size: usize,
    pub(crate) domain: unsafe extern "C" fn(*mut fid_fabric, *mut fi_info, *mut *mut fid_domain, *mut c_void) -> c_int,
    pub(crate) passive_ep: unused,
    pub(crate) eq_open: unused,
    pub(crate) wait_open: unused,
    pub(crate) trywait: unsafe extern "C" fn(*mut fid_fabric, *mut *mut fid, c_int) -> c_int,
}

#[repr(C)]
pub(crate) struct fid_domain {
    pub(crate) fid: fid,
    pub(crate) ops: *const fi_ops_domain,
    pub(crate) mr: *const fi_ops_mr,
}

#[repr(C)]
pub(crate) struct fi_ops_domain {
    pub(crate) size: usize,
    pub(crate) av_open: unsafe extern "C" fn(*mut fid_domain, *mut fi_av_attr, *mut *mut fid_av, *mut c_void) -> c_int,
    pub(crate) cq_open: unsafe extern "C" fn(*mut fid_domain, *mut fi_cq_attr, *mut *mut fid_cq, *mut c_void) -> c_int,
    pub(crate) endpoint: unsafe extern "C" fn(*mut fid_domain, *mut fi_info, *mut *mut fid_ep, *mut c_void) -> c_int,
}

#[repr(C)]
pub(crate) struct fi_ops_mr {
    pub(crate) size: usize,
    /// Domain, memory, its length, access, offset, requested key, flags, what is made, context.
    pub(crate) reg: unsafe extern "C" fn(
        *mut fid,
        *const c_void,
        usize,
        u64,
        u64,
        u64,
        u64,
        *mut *mut fid_mr,
        *mut c_void,
    ) -> c_int,
}

#[repr(C)]
pub(crate) struct fid_mr {
    pub(crate) fid: fid,
    pub(crate) mem_desc: *mut c_void,
    pub(crate) key: u64,
}

#[repr(C)]
pub(crate) struct fid_av {
    pub(crate) fid: fid,
    pub(crate) ops: *const fi_ops_av,
}

#[repr(C)]
pub(crate) struct fi_ops_av {
    pub(crate) size: usize,
    pub(crate) insert: unsafe extern "C" fn(*mut fid_av, *const c_void, usize, *mut u64, u64, *mut c_void) -> c_int,
    pub(crate) insertsvc: unused,
    pub(crate) insertsym: unused,
    pub(crate) remove: unsafe extern "C" fn(*mut fid_av, *mut u64, usize, u64) -> c_int,
}

#[repr(C)]
pub(crate) struct fid_cq {
    pub(crate) fid: fid,
    pub(crate) ops: *const fi_ops_cq,
}

#[repr(C)]
pub(crate) struct fi_ops_cq {
    pub(crate) size: usize,
    pub(crate) read: unsafe extern "C" fn(*mut fid_cq, *mut c_void, usize) -> isize,
    pub(crate) readfrom: unused,
    pub(crate) readerr: unsafe extern "C" fn(*mut fid_cq, *mut fi_cq_err_entry, u64) -> isize,
    pub(crate) sread: unused,
    pub(crate) sreadfrom: unused,
    pub(crate) signal: unused,
    pub(crate) strerror:
        Option<unsafe extern "C" fn(*mut fid_cq, c_int, *const c_void, *mut c_char, usize) -> *const c_char>,
}

#[repr(C)]
pub(crate) struct fid_ep {
    pub(crate) fid: fid,
    pub(crate) ops: unused,
    pub(crate) cm: *const fi_ops_cm,
    pub(crate) msg: unused,
    pub(crate) rma: *const fi_ops_rma,
}

#[repr(C)]
pub(crate) struct fi_ops_cm {
    pub(crate) size: usize,
    pub(crate) setname: unused,
    pub(crate) getname: unsafe extern "C" fn(*mut fid, *mut c_void, *mut usize) -> c_int,
}

#[repr(C)]
pub(crate) struct fi_ops_rma {
    pub(crate) size: usize,
    pub(crate) read: unused,
    pub(crate) readv: unused,
    pub(crate) readmsg: unsafe extern "C" fn(*mut fid_ep, *const fi_msg_rma, u64) -> isize,
    pub(crate) write: unused,
    pub(crate) writev: unused,
    pub(crate) writemsg: unsafe extern "C" fn(*mut fid_ep, *const fi_msg_rma, u64) -> isize,
}

const _: () = {
    assert!(size_of::<fid>() == 24 && offset_of!(fi_ops, control) == 24);
    assert!(offset_of!(fid_domain, mr) == 32 && offset_of!(fid_ep, cm) == 32 && offset_of!(fid_ep, rma) == 48);
    assert!(offset_of!(fid_mr, mem_desc) == 24 && offset_of!(fid_mr, key) == 32);
    assert!(offset_of!(fi_ops_fabric, trywait) == 40 && offset_of!(fi_ops_domain, endpoint) == 24);
    assert!(offset_of!(fi_ops_mr, reg) == 8 && offset_of!(fi_ops_av, insert) == 8);
    assert!(offset_of!(fi_ops_av, remove) == 32 && offset_of!(fi_ops_cm, getname) == 16);
    assert!(offset_of!(fi_ops_cq, readerr) == 24 && offset_of!(fi_ops_cq, strerror) == 56);
    assert!(offset_of!(fi_ops_rma, readmsg) == 24 && offset_of!(fi_ops_rma, writemsg) == 48);
};
