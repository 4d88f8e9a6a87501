//! The header, the list of functions and the shared library are one; and compilers have nothing to say about the header.
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The functions of the library, a line each: a name that goes from here breaks programs.
fn golden() -> Vec<String> {
    let list = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("symbols.txt")).unwrap();
    list.lines().map(str::to_owned).collect()
}

fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../include")
}

/// The shared library that these tests are built with.
fn library() -> PathBuf {
    env::current_exe().unwrap().with_file_name(format!("{}qtls{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX))
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} can't be run: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {out}{err}");
    assert_eq!(err, "", "{program} has something to say");
    out.into_owned()
}

#[test]
fn the_header_declares_what_is_listed_and_nothing_else() {
    let mut declared = Vec::new();
    for header in ["qtls.h", "crypto.h"] {
        // The second may not be there yet.
        let Ok(text) = fs::read_to_string(include().join("qtls").join(header)) else { continue };
        let lines = text.lines().filter(|line| !line.starts_with([' ', '/', '#']) && !line.starts_with("typedef"));
        let names = lines.filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next());
        declared.extend(names.map(str::to_owned));
    }
    declared.sort();
    assert_eq!(declared, golden(), "crates/qtls-ffi/symbols.txt is not what the header declares");
}

#[cfg(target_os = "linux")]
#[test]
fn the_shared_library_exports_what_is_listed_and_nothing_else() {
    let library = library();
    let symbols = run("nm", &["-D", "--defined-only", library.to_str().unwrap()]);
    let mut exported: Vec<_> = symbols.lines().filter_map(|line| Some(line.split(' ').nth(2)?.to_owned())).collect();
    exported.sort();
    assert_eq!(exported, golden(), "crates/qtls-ffi/symbols.txt is not what the library exports");
}

#[cfg(target_os = "linux")]
#[test]
fn the_shared_library_has_its_name() {
    let library = library();
    let dynamic = run("readelf", &["-d", library.to_str().unwrap()]);
    assert!(dynamic.contains("Library soname: [libqtls.so.1]"), "{dynamic}");
}

/// Uses every type and a function of each kind, so that a compiler has something to check.
const PROGRAM: &str = r#"
#include <qtls/crypto.h>
#include <qtls/crypto.h>
#include <qtls/qtls.h>
#include <qtls/qtls.h>

static int verify(void *user, const qtls_chain *chain)
{
    (void)user;
    return chain->verdict == QTLS_OK && chain->count > 0 ? QTLS_VERIFY_ACCEPT : QTLS_VERIFY_REFUSE;
}

static void log_line(void *user, const char *line, size_t length)
{
    (void)user;
    (void)line;
    (void)length;
}

int main(void)
{
    qtls_error *error = NULL;
    qtls_config *config = qtls_config_new(QTLS_CLIENT, &error);
    qtls_conn *conn;
    qtls_info info = { sizeof(qtls_info), 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, 0, NULL, 0 };
    char buffer[16];
    size_t count = 0;
    qtls_status status = QTLS_E_TRUNCATED;
    qtls_fault fault = QTLS_FAULT_NETWORK;
    qtls_ml_kem_key *kem = qtls_ml_kem_key_generate(QTLS_ML_KEM_768, NULL);
    qtls_ml_dsa_key *dsa = qtls_ml_dsa_key_generate(QTLS_ML_DSA_65, NULL);

    qtls_ml_dsa_sign(dsa, "hello", 5, buffer, sizeof(buffer), NULL);
    qtls_ml_dsa_key_free(dsa);
    qtls_ml_kem_key_free(kem);
    qtls_config_set_groups(config, "X25519MLKEM768", QTLS_NTS, NULL);
    qtls_config_set_verify_callback(config, verify, NULL, NULL);
    qtls_config_danger_set_key_log_callback(config, log_line, NULL, NULL);
    conn = qtls_conn_new_client(config, "a.example", 9, NULL);
    qtls_conn_write(conn, "hello", 5, &count, NULL);
    qtls_conn_read(conn, buffer, sizeof(buffer), &count, NULL);
    if (qtls_conn_info(conn, &info, NULL) == QTLS_OK && info.group_post_quantum) {
        return 1;
    }
    qtls_conn_free(conn);
    qtls_config_free(config);
    qtls_error_free(error);
    return (int)status + (int)fault + (int)(QTLS_VERSION_NUMBER >> 16) + (int)sizeof(QTLS_VERSION);
}
"#;

#[test]
fn compilers_of_c_and_cpp_have_nothing_to_say() {
    let directory = tempfile::tempdir().unwrap();
    let include = include();
    for (compiler, standards, file) in [
        ("cc", &["-std=c11", "-std=c17"][..], "program.c"),
        ("c++", &["-std=c++11", "-std=c++17", "-std=c++20"], "program.cc"),
    ] {
        let path = directory.path().join(file);
        fs::write(&path, PROGRAM).unwrap();
        for standard in standards {
            let flags = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror", "-fsyntax-only"];
            let rest = ["-I", include.to_str().unwrap(), path.to_str().unwrap()];
            run(compiler, &[&[*standard][..], &flags, &rest].concat());
        }
    }
}
