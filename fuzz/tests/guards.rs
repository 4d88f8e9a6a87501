//! The program that replays the corpora notices what it is there to notice.

use std::path::Path;
use std::process::Command;

fn said(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_replay")).args(arguments).output().expect("the program runs");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_panic_a_runaway_allocation_and_an_endless_run_fail_and_keep_the_input() {
    for (target, complaint) in [
        ("broken-panic", "broken-panic panicked; the input is in "),
        ("broken-memory", "broken-memory held 64 MiB of memory; the input is in "),
        ("broken-endless", "a run takes more than 1 s; the input is in "),
    ] {
        let (success, told) = said(&["--count", "0", "--patience", "1", target]);
        let place = told.lines().find_map(|line| line.strip_prefix("replay: ")?.strip_prefix(complaint));
        let place = place.unwrap_or_else(|| panic!("{target}: {told}"));
        assert!(!success, "{target} passed");
        assert_eq!(std::fs::read(place).expect("the input was kept"), [0]);
        std::fs::remove_file(place).expect("it is ours");
    }
}

#[test]
fn arguments_that_mean_nothing_are_refused() {
    for arguments in [&["--count"][..], &["--count", "many"], &["no-such-target"], &["--input", "/nonexistent", "pem"]]
    {
        let (success, told) = said(arguments);
        assert!(!success && told.starts_with("replay: "), "{arguments:?}: {told}");
    }
}

#[test]
fn every_target_has_a_program_for_libfuzzer() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for target in qtls_fuzz::TARGETS {
        let program = here.join("fuzz_targets").join(format!("{}.rs", target.name));
        let text = std::fs::read_to_string(&program).unwrap_or_else(|_| panic!("{} is missing", program.display()));
        assert!(text.contains(&format!("qtls_fuzz::targets::{}(input)", target.name)), "{}", program.display());
    }
}
