//! From pointers to references, and from panics and errors to codes.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::{ptr, slice};

use super::{QTLS_NTS, qtls_error, qtls_status};
use crate::failure::Failure;

/// Runs what a function that can fail does. Nothing unwinds out of it; an error becomes its code, and an object where
/// the caller wants one.
///
/// # Safety
/// `error` is NULL or can be written to.
pub(crate) unsafe fn enter(error: *mut *mut qtls_error, body: impl FnOnce() -> Result<c_int, Failure>) -> c_int {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(status)) => status,
        Ok(Err(failure)) => {
            // SAFETY: as the caller promises.
            unsafe { report(error, failure) }
        }
        Err(panic) => {
            // SAFETY: as the caller promises.
            unsafe { report(error, Failure::panicked(&said(panic.as_ref()))) }
        }
    }
}

/// Runs what a function does that answers with an object, or NULL.
///
/// # Safety
/// As of [`enter`].
pub(crate) unsafe fn make<T>(error: *mut *mut qtls_error, body: impl FnOnce() -> Result<*mut T, Failure>) -> *mut T {
    let mut made = ptr::null_mut();
    // SAFETY: as the caller promises.
    unsafe {
        enter(error, || {
            made = body()?;
            Ok(OK)
        });
    }
    made
}

/// Runs what a function does that can't fail; what it answers with after a bug is `otherwise`.
pub(crate) fn answer<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// QTLS_OK.
pub(crate) const OK: c_int = qtls_status::QTLS_OK as c_int;

unsafe fn report(error: *mut *mut qtls_error, failure: Failure) -> c_int {
    let code = failure.code();
    if !error.is_null() {
        // SAFETY: the caller of `enter` promises that it can be written to.
        unsafe { *error = qtls_error::into_raw(failure) };
    }
    code
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

/// An object, by the name of the parameter.
///
/// # Safety
/// NULL, or an object of this type that lives as long as the call.
pub(crate) unsafe fn object<'a, T>(what: &str, pointer: *const T) -> Result<&'a T, Failure> {
    // SAFETY: as the caller promises.
    unsafe { pointer.as_ref() }.ok_or_else(|| Failure::null(what))
}

/// Where an answer goes.
///
/// # Safety
/// NULL, or memory for a value of this type.
pub(crate) unsafe fn output<'a, T>(what: &str, pointer: *mut T) -> Result<&'a mut T, Failure> {
    // SAFETY: as the caller promises.
    unsafe { pointer.as_mut() }.ok_or_else(|| Failure::null(what))
}

/// Data.
///
/// # Safety
/// NULL, or so many bytes that can be read.
pub(crate) unsafe fn data<'a>(what: &str, pointer: *const c_void, length: usize) -> Result<&'a [u8], Failure> {
    let length = checked(what, pointer.is_null(), length)?;
    if length == 0 {
        return Ok(&[]);
    }
    // SAFETY: as the caller promises, and neither NULL nor too long.
    Ok(unsafe { slice::from_raw_parts(pointer.cast(), length) })
}

/// Memory that data goes into.
///
/// # Safety
/// NULL, or so many bytes that can be written to.
pub(crate) unsafe fn room<'a>(what: &str, pointer: *mut c_void, length: usize) -> Result<&'a mut [u8], Failure> {
    let length = checked(what, pointer.is_null(), length)?;
    if length == 0 {
        return Ok(&mut []);
    }
    // SAFETY: as the caller promises, and neither NULL nor too long.
    Ok(unsafe { slice::from_raw_parts_mut(pointer.cast(), length) })
}

/// A text or a path as bytes: not empty, and without NUL bytes.
///
/// # Safety
/// NULL; or so many bytes that can be read; or, where the length is QTLS_NTS, bytes up to a NUL.
unsafe fn characters<'a>(what: &str, pointer: *const c_char, length: usize) -> Result<&'a [u8], Failure> {
    // SAFETY: as the caller promises.
    let bytes = unsafe { optional_characters(what, pointer, length)? }.ok_or_else(|| Failure::null(what))?;
    if bytes.is_empty() {
        return Err(text_failure(format!("{what} is empty")));
    }
    if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
        let shown = bytes.escape_ascii();
        return Err(text_failure(format!("{what} has a NUL byte in it, at offset {offset}: \"{shown}\"")));
    }
    Ok(bytes)
}

/// A text as bytes, whatever they are; `None` for NULL.
///
/// # Safety
/// As of [`characters`].
pub(crate) unsafe fn optional_characters<'a>(
    what: &str,
    pointer: *const c_char,
    length: usize,
) -> Result<Option<&'a [u8]>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    if length == QTLS_NTS {
        // SAFETY: as the caller promises.
        return Ok(Some(unsafe { CStr::from_ptr(pointer) }.to_bytes()));
    }
    // SAFETY: as the caller promises.
    unsafe { data(what, pointer.cast(), length) }.map(Some)
}

/// A name.
///
/// # Safety
/// As of [`characters`].
pub(crate) unsafe fn text<'a>(what: &str, pointer: *const c_char, length: usize) -> Result<&'a str, Failure> {
    // SAFETY: as the caller promises.
    let bytes = unsafe { characters(what, pointer, length)? };
    std::str::from_utf8(bytes).map_err(|error| {
        let (offset, shown) = (error.valid_up_to(), bytes.escape_ascii());
        text_failure(format!("{what} is not UTF-8, at offset {offset}: \"{shown}\""))
    })
}

/// A path.
///
/// # Safety
/// As of [`characters`].
pub(crate) unsafe fn path<'a>(what: &str, pointer: *const c_char, length: usize) -> Result<&'a Path, Failure> {
    // SAFETY: as the caller promises.
    unsafe { characters(what, pointer, length) }.map(|bytes| Path::new(OsStr::from_bytes(bytes)))
}

/// A switch.
pub(crate) fn switch(what: &str, value: c_int) -> Result<bool, Failure> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Failure::misuse(format!("{what} is {value}: it may be 0 or 1"))),
    }
}

fn checked(what: &str, null: bool, length: usize) -> Result<usize, Failure> {
    match (null, length) {
        (true, 1..) => Err(Failure::null(what)),
        (false, length) if isize::try_from(length).is_err() => {
            Err(Failure::misuse(format!("{what} can't be {length} bytes long")))
        }
        (_, length) => Ok(length),
    }
}

fn text_failure(message: String) -> Failure {
    Failure::new(qtls_status::QTLS_E_TEXT, super::qtls_fault::QTLS_FAULT_MISUSE, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{qtls_error_code, qtls_error_free, qtls_error_message};

    #[test]
    fn a_panic_is_an_error_and_goes_no_further() {
        let mut error = ptr::null_mut();
        // SAFETY: `error` can be written to, and what was written is freed once.
        unsafe {
            let code = enter(&mut error, || panic!("on purpose {}", 1));
            assert_eq!((code, qtls_error_code(error)), (-1, -1));
            let message = CStr::from_ptr(qtls_error_message(error)).to_str().unwrap();
            assert_eq!(message, "a bug of the library: on purpose 1");
            qtls_error_free(error);
            assert_eq!(enter(ptr::null_mut(), || panic!("on purpose")), -1);
        }
        assert_eq!(answer(7, || panic!("on purpose")), 7);
    }

    #[test]
    fn texts_are_checked() {
        let message = |bytes: &[u8]| {
            // SAFETY: the length is the slice's.
            let text = unsafe { text("the name", bytes.as_ptr().cast(), bytes.len()) };
            text.map(str::to_owned).map_err(|failure| (failure.code(), failure.message().to_str().unwrap().to_owned()))
        };
        assert_eq!(message(b"a.example"), Ok("a.example".to_owned()));
        assert_eq!(message(b""), Err((-5, "the name is empty".to_owned())));
        let nul = "the name has a NUL byte in it, at offset 1: \"a\\x00b\"";
        assert_eq!(message(b"a\0b"), Err((-5, nul.to_owned())));
        assert_eq!(message(b"a\xffb"), Err((-5, "the name is not UTF-8, at offset 1: \"a\\xffb\"".to_owned())));
        // SAFETY: NULL is allowed, and the other ends with a NUL byte.
        unsafe {
            assert_eq!(text("the name", ptr::null(), 3).unwrap_err().message(), c"the name is NULL");
            assert_eq!(text("the name", c"a.example".as_ptr(), QTLS_NTS).unwrap(), "a.example");
            let huge = data("the data", c"".as_ptr().cast(), usize::MAX).unwrap_err();
            assert!(huge.message().to_str().unwrap().starts_with("the data can't be 1844"), "{huge:?}");
            assert_eq!(data("the data", ptr::null(), 0).unwrap(), b"");
        }
    }
}
