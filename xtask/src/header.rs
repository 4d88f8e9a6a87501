//! The C headers, from the signatures and the documentation of the boundary in qtls-ffi.

use std::path::{Path, PathBuf};

use cbindgen::{Builder, Config, DocumentationStyle, Language, Style};
use qtls_core::version::VERSION;

/// `include/qtls/qtls.h`.
pub fn qtls() -> String {
    let sheet = Sheet {
        source: "src/abi/mod.rs",
        guard: "QTLS_H",
        includes: &[],
        enums: ENUMS,
        head: HEAD,
        definitions: definitions(),
        groups: GROUPS,
    };
    sheet.text()
}

/// `include/qtls/crypto.h`.
pub fn crypto() -> String {
    let sheet = Sheet {
        source: "src/crypto.rs",
        guard: "QTLS_CRYPTO_H",
        includes: &["qtls/qtls.h"],
        enums: CRYPTO_ENUMS,
        head: CRYPTO_HEAD,
        definitions: String::new(),
        groups: CRYPTO_GROUPS,
    };
    sheet.text()
}

/// What a header is made from.
struct Sheet {
    /// The module with its functions, from the directory of qtls-ffi.
    source: &'static str,
    /// The macro that tells that it was read before.
    guard: &'static str,
    /// Other headers of the library.
    includes: &'static [&'static str],
    /// Enumerations that no function names.
    enums: &'static [&'static str],
    /// What stands before everything else.
    head: &'static str,
    /// Macros.
    definitions: String,
    groups: &'static [Group],
}

/// A group of functions in the header and in the reference.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The function that it begins with.
    pub first: &'static str,
    /// Its title.
    pub title: &'static str,
}

/// The groups of `qtls.h`, in its order.
pub const GROUPS: &[Group] = &[
    Group { first: "qtls_version", title: "The library" },
    Group { first: "qtls_error_code", title: "Errors" },
    Group { first: "qtls_config_new", title: "Configurations" },
    Group { first: "qtls_config_set_profile", title: "Configurations: algorithms" },
    Group { first: "qtls_config_add_ca_pem", title: "Configurations: trust" },
    Group { first: "qtls_config_set_session_cache", title: "Configurations: resumption" },
    Group { first: "qtls_config_set_verify_callback", title: "Configurations: callbacks" },
    Group { first: "qtls_conn_new_client", title: "Connections" },
    Group { first: "qtls_conn_feed", title: "Connections: bytes in, bytes out" },
    Group { first: "qtls_conn_info", title: "Connections: facts" },
];

/// The groups of `crypto.h`, in its order.
pub const CRYPTO_GROUPS: &[Group] = &[
    Group { first: "qtls_ml_kem_encapsulation_key_size", title: "ML-KEM" },
    Group { first: "qtls_ml_dsa_public_key_size", title: "ML-DSA" },
];

const CRYPTO_ENUMS: &[&str] = &["qtls_ml_kem", "qtls_ml_dsa"];

/// Enumerations whose values functions take and return as int, so that no value from outside can be undefined behaviour.
const ENUMS: &[&str] = &[
    "qtls_status",
    "qtls_fault",
    "qtls_role",
    "qtls_group_preference",
    "qtls_client_auth",
    "qtls_crl_mode",
    "qtls_verify_answer",
];

/// What stands at the head of `qtls.h`: the rules that hold everywhere.
const HEAD: &str = r#"/*
 * Q-TLS: TLS 1.3 with post-quantum key exchange and signatures.
 *
 * Generated from crates/qtls-ffi by `cargo run -p xtask -- generate`: change it there.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

/**
 * @file
 * The rules that hold for every function:
 *
 * - **Status.** A function that can fail returns an int, one of qtls_status: QTLS_OK (0), a positive value that says what
 *   to wait for or that the end was reached, or a negative error. Its last parameter takes an error object: it may be NULL;
 *   where it isn't, `*error` is set if the call fails, and left alone if it doesn't. Free the object with
 *   qtls_error_free(), before the variable is passed again. Functions that make something return NULL where they fail.
 * - **NULL.** A NULL where an object, a buffer or an output is needed is QTLS_E_MISUSE; functions that return a value return
 *   0 or NULL. To free NULL does nothing. Any pointer that is neither NULL nor valid is undefined behaviour.
 * - **Texts.** Names and paths are UTF-8 with a length in bytes; QTLS_NTS as the length says that a NUL byte ends them. A
 *   NUL byte before that length, or what isn't UTF-8, is QTLS_E_TEXT (paths may be any bytes but NUL). Texts that the
 *   library returns are UTF-8 and end with a NUL byte.
 * - **Data.** Everything else comes with a length in bytes, and may have any content. With length 0 the pointer may be
 *   NULL.
 * - **Borrowed pointers.** What a function returns or fills in belongs to the object that it was asked of, and is valid
 *   until the next call on that object, unless its documentation says that it is valid for longer.
 * - **Threads.** Different objects may be used by different threads at once. A configuration is used by one thread while
 *   it is built, and by any number once it is frozen. A connection and an error are used by one thread at a time. The
 *   library has no global state, starts no threads, and has nothing to be initialised.
 * - **Bugs.** No function ends the program or unwinds into it: a bug of the library is QTLS_E_INTERNAL, and the connection
 *   it happened in can't be used any more.
 */
"#;

/// What stands at the head of `crypto.h`.
const CRYPTO_HEAD: &str = r#"/*
 * Q-TLS: ML-KEM (FIPS 203) and ML-DSA (FIPS 204) on their own.
 *
 * Generated from crates/qtls-ffi by `cargo run -p xtask -- generate`: change it there.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

/**
 * @file
 * For programs that use these algorithms outside of TLS. The rules at the head of qtls.h hold here, too; and:
 *
 * - **Lengths.** What has one length in its parameter set is given with exactly that length: another one is QTLS_E_MISUSE,
 *   and the message says which. The functions that end with `_size` give the lengths.
 * - **Outputs.** Where a function fails, it has written nothing, unless its documentation says so.
 * - **Secrets.** Keys are objects, which are wiped when they are freed. What is written into memory of the program is the
 *   program's to wipe.
 */
"#;

fn definitions() -> String {
    let mut parts = VERSION.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    let mut part = || parts.next().unwrap_or_default();
    let number = (part() << 16) | (part() << 8) | part();
    format!(
        "/** The version of this header. */\n\
         #define QTLS_VERSION \"{VERSION}\"\n\
         /** The version of this header as a number: major, minor and patch version, a byte each. */\n\
         #define QTLS_VERSION_NUMBER 0x{number:06x}u\n\
         /** As the length of a text: a NUL byte ends it. */\n\
         #define QTLS_NTS ((size_t)-1)\n"
    )
}

impl Sheet {
    fn text(&self) -> String {
        let Self { source, guard, includes, enums, head, definitions, groups } = self;
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let mut config = Config {
            language: Language::C,
            header: Some((*head).to_owned()),
            include_guard: Some((*guard).to_owned()),
            no_includes: true,
            sys_includes: owned(&[&["stddef.h", "stdint.h"], *includes].concat()),
            after_includes: Some(format!("\n{definitions}")),
            cpp_compat: true,
            style: Style::Both,
            usize_is_size_t: true,
            documentation_style: DocumentationStyle::Doxy,
            line_length: 120,
            tab_width: 4,
            ..Config::default()
        };
        config.export.include = owned(enums);
        let bindings = Builder::new().with_config(config).with_src(ffi().join(source)).generate();
        let bindings = bindings.unwrap_or_else(|error| panic!("{source} doesn't make a header: {error}"));
        let mut text = Vec::new();
        bindings.write(&mut text);
        let text = String::from_utf8(text);
        let text = text.unwrap_or_else(|error| panic!("the header of {source} is not text: {error}"));
        grouped(&tidied(&text), groups)
    }
}

/// With a title before each group of functions.
fn grouped(header: &str, groups: &[Group]) -> String {
    let mut lines: Vec<String> = header.lines().map(str::to_owned).collect();
    let mut open = false;
    for Group { first, title } in groups {
        let declares = |line: &String| {
            let before = line.split_once(&format!("{first}(")).map(|(before, _)| before);
            before.is_some_and(|before| before.ends_with([' ', '*']) && !before.starts_with(' '))
        };
        let declaration = lines.iter().position(declares);
        let declaration = declaration.unwrap_or_else(|| panic!("the header has no {first}, which begins a group"));
        let start = lines[..declaration].iter().rposition(|line| line.starts_with("/**")).unwrap_or(declaration);
        let mut before: Vec<String> = Vec::new();
        if open {
            before.extend(["/** @} */".to_owned(), String::new()]);
        }
        before.extend([
            "/**".to_owned(),
            format!(" * @name {title}"),
            " * @{".to_owned(),
            " */".to_owned(),
            String::new(),
        ]);
        lines.splice(start..start, before);
        open = true;
    }
    let end = lines.iter().rposition(|line| line == "#ifdef __cplusplus").unwrap_or(lines.len());
    lines.splice(end..end, ["/** @} */".to_owned(), String::new()]);
    lines.join("\n") + "\n"
}

/// As people write it: types by their names alone, short comments on one line, no empty lines in a row.
fn tidied(header: &str) -> String {
    let header = header.replace("const struct qtls_", "const qtls_");
    let mut lines: Vec<String> = Vec::new();
    for line in header.lines() {
        let line = line.replace("(struct qtls_", "(qtls_").replace(" struct qtls_", " qtls_");
        let line = if line.starts_with("struct qtls_") { line.replacen("struct ", "", 1) } else { line };
        let line =
            if line.starts_with("typedef qtls_") { line.replacen("typedef ", "typedef struct ", 1) } else { line };
        if line.trim() == "*/"
            && let [.., opening, content] = &lines[..]
            && opening.trim() == "/**"
            && let Some(content) = content.trim_start().strip_prefix("* ")
        {
            let short = format!("{} {content} */", opening);
            if short.len() <= 120 {
                lines.truncate(lines.len() - 2);
                lines.push(short);
                continue;
            }
        }
        if line.is_empty() && lines.last().is_some_and(String::is_empty) {
            continue;
        }
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

fn ffi() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/qtls-ffi")).to_owned()
}
