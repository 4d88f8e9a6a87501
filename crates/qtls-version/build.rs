//! Finds out which commit the sources are of: what `QTLS_COMMIT` says, or git, or the file that `git archive` fills in.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=QTLS_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=COMMIT");
    // cargo sets it for every build script.
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let commit = env::var("QTLS_COMMIT").ok().filter(|commit| is_word(commit));
    if let Some(commit) = commit.or_else(|| of_git(&package)).or_else(|| of_archive(&package)) {
        println!("cargo::rustc-env=QTLS_BUILT_FROM={commit}");
    }
}

/// The commit that is checked out, if the sources are a repository of their own and not files in somebody else's.
fn of_git(package: &Path) -> Option<String> {
    let root = package.parent()?.parent()?.canonicalize().ok()?;
    let top = PathBuf::from(git(&root, &["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if top != root {
        return None;
    }
    // What changes with a commit or a checkout. A file that isn't there would have this run each time.
    let branch = git(&root, &["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        let path = root.join(git(&root, &["rev-parse", "--git-path", name])?);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(&root, &["rev-parse", "--verify", "HEAD"]).filter(|commit| is_commit(commit))
}

fn of_archive(package: &Path) -> Option<String> {
    let text = fs::read_to_string(package.join("COMMIT")).ok()?;
    Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    // `sudo make install` reads the repository of another user, which git refuses to without this.
    let safe = format!("safe.directory={}", root.display());
    let output = Command::new("git").arg("-C").arg(root).args(["-c", &safe]).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What packagers call it may be more than a hash, but is one word.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
