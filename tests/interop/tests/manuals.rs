//! The manual pages and the completions that are installed: readers and shells understand them.

use std::fs;
use std::process::Command;

use qtls_interop::process::run;
use qtls_interop::programs;

const PAGES: [(&str, &str); 5] =
    [("qtls", "1"), ("qtls-bench", "1"), ("qtls-client", "1"), ("qtls-version", "1"), ("qtls-server", "8")];

#[test]
fn pages_are_formatted_without_a_warning() {
    for (name, section) in PAGES {
        let page = programs::repository().join(format!("docs/man/{name}.{section}"));
        for locale in ["C", "C.UTF-8"] {
            let mut man = Command::new("man");
            man.args(["--warnings", "--local-file"]).arg(&page).env("LC_ALL", locale).env("MANWIDTH", "80");
            let shown = run(man.env("MANPAGER", "cat").env_remove("MANOPT"), b"").expect_success();
            assert_eq!(shown.stderr, "", "{name} in {locale}");
            let first = shown.stdout.lines().find(|line| !line.is_empty()).expect("there is a title");
            assert!(first.starts_with(&format!("{name}({section})")), "{first}");
            for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"] {
                assert!(shown.stdout.lines().any(|line| line == heading), "{name}: there is no {heading}");
            }
        }
        let groff = run(Command::new("groff").args(["-man", "-ww", "-Tascii", "-z"]).arg(&page), b"").expect_success();
        assert_eq!(groff.stderr, "", "{name}");
    }
}

#[test]
fn pages_name_pages_that_exist() {
    for (name, section) in PAGES {
        let page =
            fs::read_to_string(programs::repository().join(format!("docs/man/{name}.{section}"))).expect("it is there");
        let see_also = page.split_once(".SH \"SEE ALSO\"\n").expect("it has this section").1;
        let others = PAGES.iter().filter(|(other, _)| *other != name);
        for (other, number) in others {
            let reference = format!("\\fB{}\\fR({number})", other.replace('-', "\\-"));
            assert!(see_also.contains(&reference), "{name} doesn't name {other}({number}) in {see_also}");
        }
    }
}

#[test]
fn every_option_of_the_help_is_in_the_page() {
    for (name, section) in PAGES {
        let page =
            fs::read_to_string(programs::repository().join(format!("docs/man/{name}.{section}"))).expect("it is there");
        let help = run(programs::command(name).arg("--help"), b"").expect_success().stdout;
        let mut seen = 0;
        for line in help.lines().map(str::trim_start).filter(|line| line.starts_with('-')) {
            let options = line.split([' ', ',', ':', '.']).filter(|word| word.starts_with("--") && word.len() > 2);
            for option in options.take(1) {
                assert!(page.contains(&format!("\\fB{}\\fR", option.replace('-', "\\-"))), "{name} {option}");
                seen += 1;
            }
        }
        assert!(seen >= 2, "{name} has {seen} options");
    }
}

/// What bash offers after these words, the last of which is begun.
fn completed(words: &[&str]) -> Vec<String> {
    let script = r#"
        source "$1"; program=$2; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        registered=$(complete -p "$program") && [[ $registered =~ -F\ ([^ ]+) ]] || exit 1
        "${BASH_REMATCH[1]}" "$program" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}" || exit 1
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let file = programs::repository().join("deploy/completions/bash").join(words[0]);
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash"]).arg(file).args(words);
    run(&mut bash, b"").expect_success().stdout.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_options_and_commands() {
    assert_eq!(completed(&["qtls-server", "--test"]), ["--test-config"]);
    assert_eq!(completed(&["qtls-client", "--pq"]), ["--pqc-only"]);
    assert_eq!(completed(&["qtls-version", "--"]), ["--json", "--fips", "--help", "--version"]);
    assert_eq!(completed(&["qtls-bench", "hand"]), ["handshakes"]);
    assert_eq!(completed(&["qtls", "quick"]), ["quickstart"]);
    assert_eq!(completed(&["qtls", "ca", "iss"]), ["issue"]);
}

#[test]
fn every_shell_has_every_program() {
    for program in ["qtls", "qtls-bench", "qtls-client", "qtls-server", "qtls-version"] {
        let read = |path: String| {
            let path = programs::repository().join("deploy/completions").join(path);
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        assert!(read(format!("zsh/_{program}")).starts_with(&format!("#compdef {program}\n")));
        assert!(read(format!("fish/{program}.fish")).contains(&format!("complete -c {program} ")));
    }
}
