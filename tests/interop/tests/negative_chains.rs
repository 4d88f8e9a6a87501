//! Chains that must not be trusted, and some that must: our verdict and OpenSSL 3.5's, side by side.
//!
//! Where the two differ, the table says why. OpenSSL runs with the security level that its TLS has by default (2).

#[path = "negative_chains/encodings.rs"]
mod encodings;
// The suites of qtls-core use other parts of it.
#[allow(dead_code)]
#[path = "../../../crates/qtls-core/tests/forge/mod.rs"]
mod forge;
#[path = "negative_chains/names.rs"]
mod names;
#[path = "negative_chains/paths.rs"]
mod paths;
#[path = "negative_chains/shown.rs"]
mod shown;

use std::fmt::Write;
use std::fs;

use qtls_interop::openssl::text;
use qtls_interop::peers;
use qtls_interop::process::{PATIENCE, run_within};
use shown::{OK, Shown};

/// One line of the table: what it is, what Q-TLS says, what OpenSSL says, and why they differ where they do.
type Case = (&'static str, fn() -> Shown, &'static str, &'static str, &'static str);

#[test]
fn each_chain_gets_its_verdict_from_both() {
    let cases = cases();
    let refused = cases.iter().filter(|case| case.2 != OK || case.3 != OK).count();
    assert!(refused >= 60, "only {refused} chains are refused by anyone");
    let work = tempfile::tempdir().expect("the temporary directory is writable");
    let shown: Vec<Shown> = cases.iter().map(|case| case.1()).collect();
    for (index, shown) in shown.iter().enumerate() {
        let directory = work.path().join(format!("{index:03}"));
        fs::create_dir(&directory).expect("it is writable");
        shown.write(&directory);
    }
    let script = r#"
        cd "$1"
        for case in *; do
            ( cd "$case" && openssl verify $(cat arguments) leaf.pem > said 2>&1 )
        done
        exit 0
    "#;
    let mut command = peers::debian("sh", [work.path()]);
    // A program for each of them.
    run_within(command.args(["-c", script, "sh", text(work.path())]), b"", 4 * PATIENCE).expect_success();
    let mut table = String::new();
    let mut wrong = 0;
    for (index, ((what, _, ours, theirs, why), shown)) in cases.iter().zip(&shown).enumerate() {
        let said = fs::read_to_string(work.path().join(format!("{index:03}/said"))).expect("OpenSSL said something");
        let (we_say, they_say) = (shown.ours(), verdict(&said));
        let differ = (we_say == OK) != (they_say == OK);
        let as_expected = matches(&we_say, ours) && matches(&they_say, theirs) && differ != why.is_empty();
        wrong += usize::from(!as_expected);
        let mark = if as_expected { ' ' } else { '!' };
        writeln!(table, "{mark} {what}\n      ours:    {we_say}\n      OpenSSL: {they_say}").expect("strings grow");
    }
    assert!(wrong == 0, "{wrong} of {} verdicts are not as the table says:\n{table}", cases.len());
}

/// `OK` is the whole verdict; of a refusal the table gives a part.
fn matches(said: &str, expected: &str) -> bool {
    if expected == OK { said == OK } else { said != OK && said.contains(expected) }
}

/// The first error that OpenSSL names, or its whole output where it names none.
fn verdict(said: &str) -> String {
    if said.trim_end() == "leaf.pem: OK" {
        return OK.to_owned();
    }
    let error = said.lines().find_map(|line| line.strip_prefix("error ")?.split_once(": ").map(|(_, text)| text));
    error.map_or_else(|| said.replace('\n', " / "), str::to_owned)
}

fn cases() -> Vec<Case> {
    [paths::CASES, names::CASES, encodings::CASES].concat()
}
