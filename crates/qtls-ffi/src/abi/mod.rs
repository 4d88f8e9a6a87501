//! The boundary to C: every exported function, every type of the header, and all `unsafe` code of this crate.
//!
//! The documentation here is what the header and the reference show, so it is written for C programmers. The names are
//! those of C. What the functions do is done elsewhere; here, pointers become references and errors become codes.
#![expect(non_camel_case_types, unsafe_code, reason = "the names of the header, and the pointers of its callers")]
#![expect(clippy::missing_safety_doc, reason = "the rules for pointers stand once, at the head of the header")]

pub(crate) mod pointers;

// In the order of the header, and not of the alphabet: hence the empty lines.
mod status;

mod library;

mod errors;

mod config;

mod algorithms;

mod trust;

mod sessions;

mod callbacks;

mod connection;

mod transfer;

mod facts;

pub use algorithms::*;
pub use callbacks::*;
pub use config::*;
pub use connection::*;
pub use errors::*;
pub use facts::*;
pub use library::*;
pub use sessions::*;
pub use status::*;
pub use transfer::*;
pub use trust::*;
