//! The name by which programs find the shared library: it changes when programs have to be built anew.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of = |variable: &str| env::var(variable).unwrap_or_default();
    let argument = match (of("CARGO_CFG_TARGET_VENDOR").as_str(), of("CARGO_CFG_TARGET_OS").as_str()) {
        ("apple", _) => "-Wl,-install_name,@rpath/libqtls.1.dylib",
        (_, "linux") => "-Wl,-soname,libqtls.so.1",
        _ => return,
    };
    // Rust's own rule does the rest: of what is linked in, only the functions of this crate are exported.
    println!("cargo::rustc-cdylib-link-arg={argument}");
}
