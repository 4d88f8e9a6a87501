//! `qtls ticket-keys` as its users meet it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use qtls_pki::files::Exclusive;

fn qtls(place: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_qtls"))
        .current_dir(place)
        .args(["ticket-keys"])
        .args(arguments)
        .output()
        .expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    (status.code().expect("it was not killed"), text(stdout), text(stderr))
}

/// The keys of a file, in its order, with the word before each.
fn keys(path: &Path) -> Vec<(bool, String)> {
    let text = fs::read_to_string(path).expect("it is there");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let key = |line: &str| {
        let line = line.split_once('#').map_or(line, |(key, _)| key).trim().to_owned();
        line.strip_prefix("next ").map_or((false, line.clone()), |key| (true, key.to_owned()))
    };
    lines.map(key).collect()
}

/// What it printed of each key: the start of its name, and what it does.
fn told(out: &str) -> Vec<(String, String)> {
    let list = out.lines().next().and_then(|line| line.strip_prefix("ticket.keys: ")).expect("a list of keys");
    list.split(", ")
        .map(|key| key.split_once(' ').map(|(name, does)| (name.to_owned(), does.to_owned())).expect("a name"))
        .collect()
}

#[test]
fn a_new_file_has_a_key_and_the_next_one_and_is_its_owners_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("ticket.keys");
    let (code, out, err) = qtls(place.path(), &["generate", "ticket.keys"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let made = keys(&path);
    assert_eq!(made.iter().map(|(next, _)| *next).collect::<Vec<_>>(), [false, true]);
    let roles: Vec<_> = told(&out).into_iter().map(|(_, does)| does).collect();
    assert_eq!(roles, ["encrypts", "is next"]);
    for (_, key) in &made {
        assert_eq!((key.len(), key.bytes().all(|octet| octet.is_ascii_hexdigit())), (64, true));
        assert!(!out.contains(&key[..8]), "a key is never shown");
    }
    let before = fs::read(&path).unwrap();
    let (code, _, err) = qtls(place.path(), &["generate", "ticket.keys"]);
    assert_eq!(code, 2);
    assert!(err.starts_with("qtls: ticket.keys: already exists, and is not overwritten\n  hint: "), "{err}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_rotation_lets_the_prepared_key_encrypt() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("ticket.keys");
    let (_, mut out, _) = qtls(place.path(), &["generate", "ticket.keys"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    for round in 0..4 {
        let (before, names_before) = (keys(&path), told(&out));
        let (code, now, err) = qtls(place.path(), &["rotate", "ticket.keys", "--keep", "2"]);
        assert_eq!((code, err.as_str()), (0, ""));
        let (after, names_after) = (keys(&path), told(&now));
        assert_eq!(after[0].1, before[1].1, "the prepared key encrypts");
        assert!(after[1].0 && !before.contains(&after[1]), "another is prepared");
        assert_eq!(after[2], before[0], "the one before decrypts");
        assert_eq!(after.len(), [3, 4, 4, 4][round]);
        assert_eq!(names_after[0].0, names_before[1].0, "names stay with their keys");
        assert_eq!(now.contains("\nleft out: 1 of the oldest\n"), round >= 2, "{now}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        out = now;
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn a_file_with_one_key_gets_the_next_one_prepared() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("ticket.keys");
    qtls(place.path(), &["generate", "ticket.keys"]);
    let (_, first) = keys(&path).remove(0);
    fs::write(&path, format!("# by hand\n{first}\n")).unwrap();
    let (code, out, _) = qtls(place.path(), &["rotate", "ticket.keys"]);
    assert_eq!(code, 0);
    assert!(
        out.ends_with("\nno key was prepared, so the same one still encrypts; the next rotation replaces it\n"),
        "{out}"
    );
    let after = keys(&path);
    assert_eq!((after.len(), after[0].clone(), after[1].0), (2, (false, first), true));
    assert!(fs::read_to_string(&path).unwrap().starts_with("# by hand\n"));
}

#[test]
fn two_rotations_at_once_are_one_and_a_refusal() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("ticket.keys");
    qtls(place.path(), &["generate", "ticket.keys"]);
    // Whoever replaces the file holds this lock.
    let held = Exclusive::open(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let (code, _, err) = qtls(place.path(), &["rotate", "ticket.keys"]);
    assert_eq!(code, 2);
    assert!(err.contains("ticket.keys: is being replaced by another process\n  hint: wait"), "{err}");
    assert_eq!(fs::read(&path).unwrap(), before);
    drop(held);
    assert_eq!(qtls(place.path(), &["rotate", "ticket.keys"]).0, 0);

    // None of many at once is lost or done twice: each that succeeds moves the file by one rotation.
    let (_, prepared) = keys(&path).remove(1);
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qtls"));
        command.current_dir(place.path()).args(["ticket-keys", "rotate", "ticket.keys", "--keep", "98"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs")
    };
    let running: Vec<_> = (0..8).map(|_| start()).collect();
    let done = running.into_iter().filter_map(|mut rotation| rotation.wait().unwrap().success().then_some(())).count();
    assert!(done >= 1);
    assert_eq!(keys(&path).len(), 3 + done);
    assert!(keys(&path).iter().any(|(_, key)| *key == prepared));
}

#[test]
fn a_file_that_is_no_key_file_stays_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("ticket.keys");
    let (code, _, err) = qtls(place.path(), &["rotate", "ticket.keys"]);
    assert_eq!(code, 2);
    assert!(err.starts_with("qtls: ticket.keys: can't be opened: No such file"), "{err}");
    fs::write(&path, "0123456789abcdef\n").unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    let (code, _, err) = qtls(place.path(), &["rotate", "ticket.keys"]);
    assert_eq!(code, 2);
    assert!(err.contains("ticket.keys:1: has 16 hexadecimal digits, and a key has 64\n  hint: "), "{err}");
    assert_eq!(fs::read(&path).unwrap(), b"0123456789abcdef\n");
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    assert_eq!(qtls(place.path(), &["rotate", "ticket.keys", "--keep", "0"]).0, 2);
}

#[test]
fn a_secret_is_sixty_four_digits_of_its_owners_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("ticket.secret");
    let (code, out, err) = qtls(place.path(), &["generate", "--secret", "ticket.secret"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "ticket.secret: a new secret for ticket keys; give the same to every server\n");
    let secret = fs::read_to_string(&path).unwrap();
    assert_eq!((secret.len(), secret.trim_end().bytes().all(|octet| octet.is_ascii_hexdigit())), (65, true));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(qtls(place.path(), &["generate", "--secret", "ticket.secret"]).0, 2);
    assert_eq!(fs::read_to_string(&path).unwrap(), secret);
}
