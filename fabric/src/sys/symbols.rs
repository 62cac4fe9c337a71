//! The library itself: looked for, opened, asked for its version, and never closed again.
#![expect(unsafe_code, reason = "functions of a library that is opened at run time have no safe form")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;

use libloading::Library;

use super::Code;
use super::abi::{fi_fabric_attr, fi_info};
use super::vtable::fid_fabric;

type FiGetinfo =
    unsafe extern "C" fn(u32, *const c_char, *const c_char, u64, *const fi_info, *mut *mut fi_info) -> c_int;

/// The functions that the library exports and this crate calls. All others hang off objects.
pub(crate) struct Symbols {
    pub(super) getinfo: FiGetinfo,
    pub(super) freeinfo: unsafe extern "C" fn(*mut fi_info),
    pub(super) dupinfo: unsafe extern "C" fn(*const fi_info) -> *mut fi_info,
    pub(super) fabric: unsafe extern "C" fn(*mut fi_fabric_attr, *mut *mut fid_fabric, *mut c_void) -> c_int,
    strerror: unsafe extern "C" fn(c_int) -> *const c_char,
    version: unsafe extern "C" fn() -> u32,
}

impl Symbols {
    /// Opens a library by name or path. It stays open: providers start threads and leave handlers behind.
    pub(crate) fn open(path: &Path) -> Result<Self, libloading::Error> {
        // SAFETY: opening runs the library's initialisers, which is what an operator who installed or named it wants.
        let library = unsafe { Library::new(path)? };
        // SAFETY: the names and types are those of libfabric's manual pages, unchanged since its first release.
        let symbols = unsafe {
            Self {
                getinfo: *library.get(c"fi_getinfo")?,
                freeinfo: *library.get(c"fi_freeinfo")?,
                dupinfo: *library.get(c"fi_dupinfo")?,
                fabric: *library.get(c"fi_fabric")?,
                strerror: *library.get(c"fi_strerror")?,
                version: *library.get(c"fi_version")?,
            }
        };
        std::mem::forget(library);
        Ok(symbols)
    }

    /// Major and minor number.
    pub(crate) fn version(&self) -> (u32, u32) {
        // SAFETY: it takes nothing and returns a constant.
        let version = unsafe { (self.version)() };
        (version >> 16, version & 0xffff)
    }

    /// What an error number means, in the library's words.
    pub(crate) fn text(&self, code: Code) -> String {
        // SAFETY: it takes any number, and returns text that ends with a zero and is overwritten or freed by nobody
        // while it is copied: texts of the library are constants, others are of this thread's C library.
        let text = unsafe { (self.strerror)(code.0) };
        text_of(text).unwrap_or_else(|| format!("error {}", code.0))
    }
}

/// Text of the library, if there is some.
pub(super) fn text_of(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: callers pass what the library gave them as text: it ends with a zero and lives until the next call.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
