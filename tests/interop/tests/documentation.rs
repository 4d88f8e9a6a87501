//! What the documents say is so: configurations, messages, keys, names, options, targets and links.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use qtls_interop::client::Client;
use qtls_interop::documents::{Block, Document, Part, document, documents};
use qtls_interop::process::{Finished, PATIENCE, run};
use qtls_interop::server::free_port;
use qtls_interop::{Algorithm, Pki, Server, programs};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn whole_configurations_are_good() {
    let blocks = blocks_marked("jsonc");
    assert!(blocks.len() >= 4, "the documents show {} configurations", blocks.len());
    for block in blocks {
        let finished = load(&block);
        // For a client, a configuration is good when it gets as far as the server, and there is none.
        let good = if is_for_client(&block) && !has_tunnels(&block) { 3 } else { 0 };
        assert_eq!(finished.status.code(), Some(good), "{}: {}", block.place, finished.said());
    }
}

#[test]
fn commands_that_are_shown_work() {
    let blocks = blocks_marked("sh run");
    assert!(blocks.len() >= 3, "the documents show {} blocks of commands", blocks.len());
    let path = std::env::var("PATH").expect("there is a PATH");
    for block in blocks {
        let directory = TempDir::new().expect("a directory");
        furnish(directory.path());
        let shown = [("/etc/qtls/config/server.json", "server.json"), ("/var/log/qtls/server.log", "server.log")];
        let text = shown.iter().fold(block.text.clone(), |text, (shown, real)| text.replace(shown, real));
        let mut shell = Command::new("sh");
        shell.args(["-euc", &text]).current_dir(directory.path());
        shell.env("PATH", format!("{}:{path}", programs::directory().display()));
        let finished = run(&mut shell, b"");
        assert!(finished.status.success(), "{}: {}", block.place, finished.said());
    }
}

#[test]
fn refused_configurations_are_refused_with_these_words() {
    let mut seen = 0;
    for document in documents() {
        let blocks = document.blocks();
        for (index, block) in blocks.iter().enumerate().filter(|(_, block)| block.info == "jsonc refused") {
            let message = blocks.get(index + 1).filter(|next| next.info == "text");
            let message = message.unwrap_or_else(|| panic!("{}: no text follows", block.place));
            let finished = load(block);
            assert_eq!(finished.stderr.trim_end(), message.text.trim_end(), "{}", block.place);
            assert_eq!(finished.status.code(), Some(2), "{}", block.place);
            seen += 1;
        }
    }
    assert!(seen >= 3, "the documents show {seen} refusals");
}

#[test]
fn the_tables_of_keys_are_those_of_the_schemas() {
    let document = document("docs/CONFIGURATION.md");
    for (heading, schema) in [("## server.json", "server"), ("## client.json", "client")] {
        let schema = schema_keys(schema);
        let mut described = BTreeSet::new();
        for (line, row) in rows(document.section(heading)) {
            let [key, _, default, _] = row.as_slice() else { continue };
            let Some(key) = code(key).filter(|key| key.contains('.') || schema.contains_key(*key)) else { continue };
            let known = schema.get(key).unwrap_or_else(|| panic!("{heading}, {line}: there is no key {key}"));
            if let (Some(default), Some(known)) = (code(default), known) {
                let default: Value = serde_json::from_str(default).expect("a default is JSON");
                assert_eq!(default, *known, "{heading}: the default of {key}");
            } else if let Some(known) = known {
                panic!("{heading}: the default of {key} is {known}");
            }
            assert!(described.insert(key.to_owned()), "{heading}: {key} stands there twice");
        }
        let missing: Vec<_> = schema.keys().filter(|key| !described.contains(*key)).collect();
        assert!(missing.is_empty(), "{heading}: no word on {missing:?}");
    }
}

#[test]
fn names_of_algorithms_are_accepted_and_mean_what_the_table_says() {
    for readme in ["README.md", "README.ko.md"] {
        let mut names = 0;
        for (_, row) in rows(&document(readme).text) {
            let [standard, code_point, configured, ..] = row.as_slice() else { continue };
            if !code_point.starts_with("0x") {
                continue;
            }
            let key = match standard {
                suite if suite.starts_with("TLS_") => "algorithms.cipher",
                scheme if ["mldsa", "ecdsa", "ed25519", "rsa"].iter().any(|start| scheme.starts_with(start)) => {
                    "algorithms.signature"
                }
                _ => "algorithms.kem",
            };
            let configured: Vec<_> = configured.split(',').filter_map(code).collect();
            assert_names_one_thing(key, &configured);
            if key == "algorithms.kem" {
                assert_offers(configured[0], standard);
            }
            names += configured.len();
        }
        assert!(names > 20, "{readme} has {names} names of algorithms");
    }
}

#[test]
fn translations_say_the_same() {
    for name in ["README", "docs/GUIDE", "docs/OPERATIONS", "docs/SECURITY"] {
        let (original, translation) = (document(&format!("{name}.md")), document(&format!("{name}.ko.md")));
        assert_say_the_same(&without_labels_of_metrics(original), &translation);
    }
}

#[test]
fn unsafe_code_stands_where_the_document_says() {
    let named: BTreeSet<_> = document("docs/SECURITY.md").code_spans().into_iter().collect();
    let mut found = BTreeSet::new();
    let mut directories = vec![programs::repository().join("crates")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("the repository is readable") {
            let path = entry.expect("the repository is readable").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let shown = path.strip_prefix(programs::repository()).expect("below the root").display().to_string();
            // The product's own code; libqtls has its boundary, of which the document speaks by itself.
            let is_ours = shown.ends_with(".rs") && shown.contains("/src/") && !shown.contains("/tests");
            if is_ours && !shown.starts_with("crates/qtls-ffi/") {
                let text = fs::read_to_string(&path).expect("a source is text");
                // The lint is denied everywhere: whoever uses it has to lift that.
                let lifts = text.lines().any(|line| line.starts_with("#!") && line.contains("unsafe_code)"));
                if (lifts && !text.contains("#![forbid(unsafe_code)]")) || text.contains("unsafe {") {
                    found.insert(shown);
                }
            }
        }
    }
    let listed: BTreeSet<_> =
        named.into_iter().filter(|span| span.starts_with("crates/") && span.contains("/src/")).collect();
    assert_eq!(found, listed);
    assert!(found.len() >= 3, "{found:?}");
}

const PROGRAMS: [&str; 5] = ["qtls", "qtls-bench", "qtls-server", "qtls-client", "qtls-version"];

#[test]
fn options_that_are_shown_exist() {
    let mut seen = 0;
    for document in documents() {
        for block in document.blocks().iter().filter(|block| matches!(block.info.as_str(), "sh" | "console")) {
            let text = block.text.replace("\\\n", " ");
            for words in text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()) {
                let Some(at) = words.iter().position(|word| PROGRAMS.contains(&file_name(word))) else {
                    continue;
                };
                let program = file_name(words[at]);
                let rest = words[at + 1..].split(|word| *word == "|").next().unwrap_or_default();
                let mut help = programs::command(program);
                if program == "qtls" {
                    help.args(rest.iter().take_while(|word| !word.starts_with('-')));
                }
                let help = run(help.arg("--help"), b"").expect_success().stdout;
                for option in rest.iter().filter(|word| word.starts_with("--")) {
                    let option = option.split('=').next().unwrap_or_default();
                    let known =
                        help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|word| word == option);
                    assert!(known, "{}: {program} has no {option}", block.place);
                    seen += 1;
                }
            }
        }
    }
    assert!(seen >= 10, "the documents show {seen} options");
}

#[test]
fn make_targets_that_are_named_exist() {
    let makefile = fs::read_to_string(programs::repository().join("Makefile")).expect("there is a Makefile");
    let targets: BTreeSet<_> =
        makefile.lines().filter_map(|line| line.split_once(':')).flat_map(|(names, _)| names.split(' ')).collect();
    // What CMake generates has targets of its own.
    let cmake: BTreeSet<_> = ["test", "install", "uninstall", "qtls-library", "qtls-programs"].into();
    let mut seen = BTreeSet::new();
    for document in documents() {
        let of_cmake = document.text.contains("\ncmake ..\n");
        let shown = document.blocks().into_iter().filter(|block| block.info == "sh").map(|block| block.text);
        for command in shown.chain(document.code_spans()) {
            for line in command.lines() {
                let mut words = line.split_whitespace().skip_while(|word| word.contains('=') || *word == "sudo");
                if words.next() != Some("make") {
                    continue;
                }
                for target in words.take_while(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-')) {
                    let known = targets.contains(target) || (of_cmake && cmake.contains(target));
                    assert!(known, "{}: there is no `make {target}`", document.path.display());
                    seen.insert(target.to_owned());
                }
            }
        }
    }
    assert!(seen.contains("run") && seen.contains("test"), "the documents name {seen:?}");
}

#[test]
fn links_and_paths_lead_somewhere() {
    let mut seen = 0;
    for document in documents() {
        let directory =
            programs::repository().join(&document.path).parent().expect("a document lies in a directory").to_owned();
        for target in document.links() {
            if target.contains("://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if path.is_empty() { programs::repository().join(&document.path) } else { directory.join(path) };
            assert!(file.exists(), "{}: {target} leads nowhere", document.path.display());
            if !anchor.is_empty() {
                let text = fs::read_to_string(&file).expect("an anchor is in a document");
                let anchors: Vec<_> = text.lines().filter(|line| line.starts_with('#')).map(anchor_of).collect();
                assert!(
                    anchors.iter().any(|known| known == anchor),
                    "{}: no heading for {target}",
                    document.path.display()
                );
            }
            seen += 1;
        }
        for span in document.code_spans() {
            let of_ours = ["crates/", "tests/", "docs/", "configs/", "scripts/", "xtask/"]
                .iter()
                .any(|top| span.starts_with(top));
            if of_ours && !span.contains(['*', ' ']) {
                assert!(programs::repository().join(&span).exists(), "{}: there is no {span}", document.path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "the documents have {seen} links");
}

/// What labels can be stands in the original alone.
fn without_labels_of_metrics(document: Document) -> Document {
    let Some((before, rest)) = document.text.split_once("\n| Metric | Label | Values |\n") else { return document };
    let after = rest.split_once("<!-- end of generated: metrics -->").expect("it ends").1;
    Document { text: format!("{before}\n{after}"), ..document }
}

/// The same blocks, headings of the same levels, and below each the same names, in tables row by row.
#[track_caller]
fn assert_say_the_same(original: &Document, translation: &Document) {
    // Comments in configurations are translated.
    let uncommented = |line: &str| line.split("//").next().unwrap_or_default().trim_end().to_owned();
    let shown = |block: &Block| -> Vec<String> {
        match block.info.as_str() {
            "jsonc" => block.text.lines().map(uncommented).collect(),
            _ => block.text.lines().map(str::to_owned).collect(),
        }
    };
    let (blocks, translated) = (original.blocks(), translation.blocks());
    for (block, translated) in blocks.iter().zip(&translated) {
        let about = format!("{}, translated in {}", block.place, translated.place);
        assert_eq!((&block.info, shown(block)), (&translated.info, shown(translated)), "{about}");
    }
    assert_eq!(blocks.len(), translated.len(), "blocks in {}", translation.path.display());
    let (parts, translated) = (original.parts(), translation.parts());
    for (part, translated) in parts.iter().zip(&translated) {
        let about = format!("{:?}, translated as {:?}", part.heading, translated.heading);
        assert_eq!(part.level(), translated.level(), "{about}");
        let rows = |part: &Part| -> Vec<BTreeSet<String>> {
            rows(&part.text).into_iter().map(|(_, cells)| spans_of(&cells.join(" | "))).collect()
        };
        assert_eq!(rows(part), rows(translated), "{about}: names in the rows of tables");
        assert_eq!(spans_of(&part.text), spans_of(&translated.text), "{about}: names");
    }
    assert_eq!(parts.len(), translated.len(), "headings of {}", translation.path.display());
}

fn blocks_marked(info: &str) -> Vec<Block> {
    documents().iter().flat_map(Document::blocks).filter(|block| block.info == info).collect()
}

fn is_for_client(block: &Block) -> bool {
    let has = |key: &str| block.text.contains(&format!("\"{key}\":"));
    // A server is a client of its upstream.
    has_tunnels(block) || (!has("upstream") && ["client", "client_cert", "verify_peer"].into_iter().any(has))
}

fn has_tunnels(block: &Block) -> bool {
    block.text.contains("\"tunnels\":")
}

/// Runs the program that a configuration is for, with certificates and directories of this test in place of the shown.
fn load(block: &Block) -> Finished {
    let directory = TempDir::new().expect("a directory");
    let (text, program) =
        (with_real_paths(&block.text, directory.path()), if is_for_client(block) { "client" } else { "server" });
    let file = format!("{program}.json");
    fs::write(directory.path().join(&file), text).expect("writable");
    let mut command: Command = programs::command(&format!("qtls-{program}"));
    // Relative, so that messages show the name alone.
    command.current_dir(directory.path()).args(["--config", &file]);
    if is_for_client(block) && !has_tunnels(block) {
        command.args(["127.0.0.1", &free_port().to_string()]).env("QTLS__CLIENT__MAX_RETRIES", "0");
    } else {
        command.arg("--test-config");
    }
    run(&mut command, b"")
}

/// What commands find in their directory: the configuration of a server, a stricter one, and logs of a connection.
fn furnish(directory: &Path) {
    static LOG: OnceLock<String> = OnceLock::new();
    let log = LOG.get_or_init(|| {
        let file = TempDir::new().expect("a directory");
        let path = file.path().join("server.log");
        let server = Server::start(json!({ "logging": { "file": path } }));
        Client::new(server.port).get("/").expect_success();
        server.process.signal(Signal::TERM);
        server.process.finish(PATIENCE).expect_success();
        fs::read_to_string(path).expect("it logged")
    });
    for name in ["server.log", "server.log.20261122T100000.123Z", "server.log.1"] {
        fs::write(directory.join(name), log).expect("writable");
    }
    run(Command::new("gzip").arg(directory.join("server.log.1")), b"").expect_success();
    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    for (name, tls) in [("server.json", json!({})), ("stricter.json", json!({ "pqc_only": true }))] {
        let config = json!({ "certificates": { "server_cert": cert, "server_key": key }, "tls": tls });
        fs::write(directory.join(name), config.to_string()).expect("writable");
    }
}

fn with_real_paths(text: &str, directory: &Path) -> String {
    let (cert, key) = Pki::shared().server(Algorithm::Rsa4096);
    let (client_cert, client_key) = Pki::shared().client(Algorithm::Rsa4096);
    [
        ("/etc/qtls/certs/server-cert.pem", cert),
        ("/etc/qtls/certs/server-key.pem", key),
        ("/etc/qtls/certs/client-cert.pem", client_cert),
        ("/etc/qtls/certs/client-key.pem", client_key),
        ("/etc/qtls/certs/ca-bundle.pem", Pki::shared().ca()),
        ("/var/log/qtls", directory.to_owned()),
        ("/run/qtls", directory.to_owned()),
    ]
    .iter()
    .fold(text.to_owned(), |text, (shown, real)| text.replace(shown, &real.to_string_lossy()))
}

/// All of these names are known, and stand for the same thing.
fn assert_names_one_thing(key: &str, names: &[&str]) {
    let refused = |first: &str, second: &str| {
        let mut command = programs::command("qtls-server");
        command.args(["--test-config", "--set", &format!("{key}={first},{second}")]);
        run(&mut command, b"").expect_code(2).stderr
    };
    let first = names.first().unwrap_or_else(|| panic!("a row of {key} has no name"));
    let said = refused(first, "nonsense");
    assert!(said.contains(&format!("{key}[1]: unknown ")), "{first}: {said}");
    for other in &names[1..] {
        let said = refused(first, other);
        assert!(said.contains(&format!("{key}[1]: \"{other}\" stands in this list twice")), "{first}, {other}: {said}");
    }
}

/// A server with this one name in its list offers the group that is called `standard`.
fn assert_offers(name: &str, standard: &str) {
    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    let (hybrid, pure) = (standard.contains("MLKEM") && !standard.starts_with("MLKEM"), standard.starts_with("MLKEM"));
    let mut command = programs::command("qtls-server");
    command.arg("--test-config");
    for (key, value) in [
        ("certificates.server_cert", cert.to_string_lossy().as_ref()),
        ("certificates.server_key", key.to_string_lossy().as_ref()),
        ("tls.hybrid_mode", &hybrid.to_string()),
        ("tls.pqc_only", &pure.to_string()),
        ("algorithms.kem", name),
    ] {
        command.args(["--set", &format!("{key}={value}")]);
    }
    let said = run(&mut command, b"").expect_success().stdout;
    assert!(said.contains(&format!("groups: {standard};")), "{name}: {said}");
}

/// The rows of all tables, each with the number of its line.
fn rows(text: &str) -> Vec<(usize, Vec<String>)> {
    let row = |line: &str| {
        let inner = line.strip_prefix("| ")?.strip_suffix('|')?;
        Some(inner.split(" | ").map(|cell| cell.trim().to_owned()).collect())
    };
    (1..).zip(text.lines()).filter_map(|(number, line)| Some((number, row(line)?))).collect()
}

/// Everything that stands between backquotes.
fn spans_of(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What stands between backquotes, if that is all.
fn code(cell: &str) -> Option<&str> {
    cell.trim().strip_prefix('`')?.strip_suffix('`').filter(|inner| !inner.contains('`'))
}

/// Every key with its default, if the schema has one.
fn schema_keys(program: &str) -> BTreeMap<String, Option<Value>> {
    let text =
        fs::read_to_string(programs::repository().join(format!("configs/{program}.schema.json"))).expect("a schema");
    let schema: Value = serde_json::from_str(&text).expect("a schema is JSON");
    let mut keys = BTreeMap::new();
    collect(&schema, &schema, "", &mut keys);
    keys.remove("$schema");
    assert!(keys.len() > 15, "{keys:?}");
    keys
}

fn collect(schema: &Value, node: &Value, path: &str, keys: &mut BTreeMap<String, Option<Value>>) {
    // What may be null is `anyOf` the thing and null.
    let inner = node["anyOf"].as_array().and_then(|either| either.first()).unwrap_or(node);
    let target = inner["$ref"].as_str().and_then(|reference| schema.pointer(reference.trim_start_matches('#')));
    match target.unwrap_or(inner)["properties"].as_object() {
        Some(properties) => {
            for (name, inner) in properties {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(schema, inner, &path, keys);
            }
        }
        None => {
            keys.insert(path.to_owned(), node.get("default").filter(|value| !value.is_null()).cloned());
        }
    }
}

/// The anchor that a heading gets.
fn anchor_of(heading: &str) -> String {
    let title = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    title.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn file_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}
