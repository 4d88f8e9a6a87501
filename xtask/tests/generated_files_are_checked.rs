//! The check of generated files fails where it should, and names the file and the way out.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use xtask::{GENERATED, Generated, check, generate};

const SAMPLE: &[Generated] = &[Generated { path: "sample.txt", part: None, text: || "one\ntwo\nthree\n".to_owned() }];
const PART: &[Generated] = &[Generated { path: "sample.txt", part: Some("x"), text: || "one\n".to_owned() }];

#[test]
fn a_missing_file_is_named() {
    let root = TempDir::new().unwrap();
    let error = check(root.path(), SAMPLE).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sample.txt: the generated file is missing\n  \
         hint: run `cargo run -p xtask -- generate`, and commit the result"
    );
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn the_first_line_that_differs_is_named() {
    for (there, line) in [("one\n2\nthree\n", 2), ("", 1), ("one\ntwo\n", 3), ("one\ntwo\nthree\nfour\n", 4)] {
        let root = TempDir::new().unwrap();
        fs::write(root.path().join("sample.txt"), there).unwrap();
        assert_eq!(
            check(root.path(), SAMPLE).unwrap_err().to_string(),
            format!(
                "sample.txt:{line}: the file is not what its types generate\n  \
                 hint: run `cargo run -p xtask -- generate`, and commit the result"
            )
        );
    }
}

#[test]
fn generating_makes_the_check_pass_and_writes_only_what_differs() {
    let root = TempDir::new().unwrap();
    assert_eq!(generate(root.path(), SAMPLE).unwrap(), ["sample.txt"]);
    check(root.path(), SAMPLE).unwrap();
    assert_eq!(generate(root.path(), SAMPLE).unwrap(), [""; 0]);
}

#[test]
fn of_a_file_that_is_generated_in_part_the_rest_stays() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("sample.txt");
    fs::write(&file, "before\n<!-- generated: x -->\nold\n<!-- end of generated: x -->\nafter\n").unwrap();
    assert!(check(root.path(), PART).unwrap_err().to_string().starts_with("sample.txt:3: the file is not what"));
    assert_eq!(generate(root.path(), PART).unwrap(), ["sample.txt"]);
    let text = "before\n<!-- generated: x -->\n\none\n\n<!-- end of generated: x -->\nafter\n";
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    check(root.path(), PART).unwrap();

    fs::write(&file, "before\n<!-- generated: x -->\nold\nafter\n").unwrap();
    assert_eq!(
        check(root.path(), PART).unwrap_err().to_string(),
        "sample.txt: the marks of the generated part `x` are missing\n  \
         hint: put the lines `<!-- generated: x -->` and `<!-- end of generated: x -->` where it belongs"
    );
}

#[test]
fn the_committed_files_are_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    check(&root, GENERATED).unwrap_or_else(|error| panic!("{error}"));
}
