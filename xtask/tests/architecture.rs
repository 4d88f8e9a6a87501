//! Who may import whom: the import order of the crates, as docs/ARCHITECTURE.md draws it, over `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What a crate may import of the others, and which foreign crates nobody but it may import.
struct Room {
    name: &'static str,
    may_import: &'static [&'static str],
    owns: &'static [&'static str],
}

/// Every crate of the workspace stands here: a new one has to say what it may import before it builds.
const ROOMS: &[Room] = &[
    // The only crate that names the cryptographic library; the others get its types through rustls and through this.
    Room { name: "qtls-core", may_import: &[], owns: &["aws-lc-rs", "aws-lc-sys"] },
    Room { name: "qtls-pki", may_import: &["qtls-core"], owns: &[] },
    // Never qtls-pki: what terminates connections has no business issuing certificates.
    Room { name: "qtls-proxy", may_import: &["qtls-core"], owns: &[] },
    Room { name: "qtls-cli", may_import: &["qtls-core", "qtls-pki", "qtls-proxy"], owns: &[] },
    // One file, which is built anew with each commit.
    Room { name: "qtls-version", may_import: &["qtls-cli"], owns: &[] },
    // Never qtls-proxy: a library in somebody else's program opens no sockets and starts no threads.
    Room { name: "qtls-ffi", may_import: &["qtls-core"], owns: &[] },
    // The suites see the product as its users do: as programs.
    Room { name: "qtls-interop", may_import: &[], owns: &[] },
    Room { name: "xtask", may_import: &["qtls-core", "qtls-pki", "qtls-proxy", "qtls-cli", "qtls-ffi"], owns: &[] },
];

/// Crates that only decide over values.
const DECIDING: &[&str] = &["qtls-core", "qtls-pki"];
/// Crates that open no sockets by themselves, and what they must not be built from by any route.
const WITHOUT_SOCKETS: &[&str] = &["qtls-core", "qtls-pki", "qtls-ffi"];
const SOCKETS: &[&str] = &["tokio", "hyper", "mio", "socket2"];

#[test]
fn crates_import_only_what_they_may() {
    let metadata = metadata();
    let members = members(&metadata);
    let mut violations = Vec::new();
    for (name, imports) in &members {
        let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
            violations.push(format!("{name} is not in ROOMS: say there what it may import"));
            continue;
        };
        for import in imports {
            if members.contains_key(import) && !room.may_import.contains(&import.as_str()) {
                violations.push(format!("{name} imports {import}, which it may not"));
            }
            let owner = ROOMS.iter().find(|room| room.owns.contains(&import.as_str()));
            if let Some(owner) = owner.filter(|owner| owner.name != name) {
                violations.push(format!("{name} imports {import}, which only {} may", owner.name));
            }
        }
    }
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn every_room_is_built() {
    let members = members(&metadata());
    let missing: Vec<_> = ROOMS.iter().map(|room| room.name).filter(|name| !members.contains_key(*name)).collect();
    assert!(missing.is_empty(), "in ROOMS, but not in the workspace: {missing:?}");
}

#[test]
fn decisions_bring_in_no_sockets_and_no_runtime() {
    let metadata = metadata();
    for name in WITHOUT_SOCKETS {
        let below = everything_below(&metadata, name);
        let found: Vec<_> = SOCKETS.iter().filter(|foreign| below.contains(**foreign)).collect();
        assert!(found.is_empty(), "{name} brings in {found:?}");
    }
}

#[test]
fn crates_that_decide_forbid_unsafe_code() {
    for name in DECIDING {
        let library = root().join("crates").join(name).join("src/lib.rs");
        let text = std::fs::read_to_string(&library).expect("the crate has a library");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{} must forbid unsafe code", library.display());
    }
}

/// The members of the workspace, each with its direct dependencies. Those of its tests are its own affair.
fn members(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let members: BTreeSet<_> = array(&metadata["workspace_members"]).iter().map(text).collect();
    let packages = array(&metadata["packages"]).iter().filter(|package| members.contains(text(&package["id"])));
    let imports = |package: &Value| {
        let dependencies = array(&package["dependencies"]).iter().filter(|one| one["kind"] != "dev");
        dependencies.map(|one| text(&one["name"]).to_owned()).collect()
    };
    packages.map(|package| (text(&package["name"]).to_owned(), imports(package))).collect()
}

/// The names of all packages that `name` is built from: its dependencies, theirs, and so on.
fn everything_below(metadata: &Value, name: &str) -> BTreeSet<String> {
    let names: BTreeMap<_, _> =
        array(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
    let nodes: BTreeMap<_, _> =
        array(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), array(&node["deps"]))).collect();
    let start = names.iter().find(|(_, one)| **one == name).unwrap_or_else(|| panic!("there is no crate {name}")).0;
    let (mut seen, mut next) = (BTreeSet::new(), vec![*start]);
    while let Some(package) = next.pop() {
        for dependency in nodes[package] {
            let built_in = array(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            if built_in && seen.insert(text(&dependency["pkg"])) {
                next.push(text(&dependency["pkg"]));
            }
        }
    }
    seen.into_iter().map(|package| names[package].to_owned()).collect()
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Offline, and with Cargo.lock as it is: a test must not be what resolves it anew.
    command.args(["metadata", "--format-version=1", "--all-features", "--locked", "--offline"]);
    // Without this, it would want the crates of other platforms too, which nobody has downloaded.
    command.args(["--filter-platform", &host()]).current_dir(root());
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8(output.stdout).expect("rustc prints text");
    version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

fn array(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("not an array: {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}
