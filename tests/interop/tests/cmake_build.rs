//! What the build with CMake makes, installs and removes: the library for C programs, the programs, their manuals and
//! completions.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use qtls_interop::cmake::{Build, files_below};
use qtls_interop::process::{PATIENCE, run, run_within};
use qtls_interop::programs;

/// Builds that share cargo's directory wait for each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const PROGRAMS: [&str; 5] = ["qtls", "qtls-bench", "qtls-client", "qtls-server", "qtls-version"];

fn text(path: &Path) -> &str {
    path.to_str().expect("it is text")
}

/// The symbols with which `nm` says a library can be linked, without their versions.
fn symbols(build: &Build, arguments: &[&str], library: &Path) -> BTreeSet<String> {
    let mut nm = build.command("nm");
    nm.args(["--defined-only", "--format=posix"]).args(arguments).arg(library);
    let listed = run_within(&mut nm, b"", 4 * PATIENCE).expect_success();
    let names = listed.stdout.lines().filter(|line| !line.ends_with(':'));
    names.filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
}

/// The functions that the header declares.
fn declared() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let directory = programs::repository().join("include/qtls");
    for header in fs::read_dir(directory).expect("it is readable") {
        let header = fs::read_to_string(header.expect("it is readable").path()).expect("it is text");
        // Comments name functions, too; declarations begin at the beginning of a line.
        let mut inside = false;
        for line in header.lines() {
            let comment = inside || line.trim_start().starts_with("/*");
            inside = comment && !line.contains("*/");
            if comment || line.starts_with([' ', '#', '}']) || line.starts_with("typedef") {
                continue;
            }
            if let Some((before, _)) = line.split_once('(') {
                let name = before.rsplit([' ', '*']).next().unwrap_or_default();
                names.extend(name.starts_with("qtls_").then(|| name.to_owned()));
            }
        }
    }
    names
}

#[test]
fn the_library_and_the_programs_are_built_tested_installed_and_removed() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let makefile = fs::read(programs::repository().join("Makefile")).expect("it is readable");
    let build = Build::new();
    let prefix = build.scratch.path().join("the prefix");
    build
        .configure_shared(&["-DBUILD_STATIC_LIBS=ON", &format!("-DCMAKE_INSTALL_PREFIX={}", prefix.display())])
        .expect_success();
    build.make(&["-j2"]).expect_success();

    // The shared library has its names, and exports what the header declares and nothing else.
    let library = build.directory.join("lib");
    for (link, to) in [("libqtls.so", "libqtls.so.1.0.0"), ("libqtls.so.1", "libqtls.so.1.0.0")] {
        assert_eq!(fs::read_link(library.join(link)).expect("it is a link"), PathBuf::from(to));
    }
    let real = library.join("libqtls.so.1.0.0");
    let dynamic = run(build.command("readelf").arg("-d").arg(&real), b"").expect_success().stdout;
    assert!(dynamic.contains("Library soname: [libqtls.so.1]\n"), "{dynamic}");
    let declared = declared();
    assert!(declared.len() > 50, "{declared:?}");
    assert_eq!(symbols(&build, &["--dynamic"], &real), declared);
    // The static one has no other global symbols either, though it has the same code.
    assert_eq!(symbols(&build, &["--extern-only"], &library.join("libqtls.a")), declared);

    // Nothing is built again that is built already.
    let again = build.make(&[]).expect_success().stdout;
    assert!(!again.contains("with cargo"), "{again}");

    let mut ctest = build.command("ctest");
    ctest.args(["--verbose", "-R", "^(consumer|qtls|qtls-bench|qtls-client|qtls-server|qtls-version)$"]);
    // It configures and compiles four programs.
    let tested = run_within(&mut ctest, b"", 8 * PATIENCE).expect_success();
    for by in ["pkg-config", "pkg-config --static", "find_package", "find_package, static"] {
        let line = format!("-- built by {by}: 1.0.0 X25519MLKEM768 SecP384r1MLKEM1024 SecP256r1MLKEM768 MLKEM768");
        assert!(tested.stdout.contains(&line), "{line} is not in {}", tested.said());
    }
    // CMake 4 says it in fewer words.
    let all = |line: &str| line.starts_with("100% tests passed") && line.ends_with(" out of 6");
    assert!(tested.stdout.lines().any(all), "{}", tested.said());

    below_a_destination(&build, &prefix);
    installed(&build, &prefix);
    assert_eq!(fs::read(programs::repository().join("Makefile")).expect("it is readable"), makefile);
}

/// With DESTDIR everything is below it, and made for the prefix.
fn below_a_destination(build: &Build, prefix: &Path) {
    let destination = build.scratch.path().join("destination");
    let variable = format!("DESTDIR={}", destination.display());
    build.make(&["install", &variable]).expect_success();
    assert!(!prefix.exists());
    let below = destination.join(prefix.strip_prefix("/").expect("it is absolute"));
    let pc = fs::read_to_string(below.join("lib/pkgconfig/qtls.pc")).expect("it is installed");
    assert!(pc.starts_with(&format!("prefix={}\nlibdir=${{prefix}}/lib\n", prefix.display())), "{pc}");
    // Another installation is another matter.
    let without = build.make(&["uninstall"]).expect_code(2);
    let message = format!(
        "nothing is installed from {}\n   hint: uninstall from the build directory, and with the DESTDIR, that were \
         installed with\n",
        build.directory.display()
    );
    assert!(without.stderr.contains(&message), "{}", without.said());
    build.make(&["uninstall", &variable]).expect_success();
    let left: Vec<_> = fs::read_dir(&destination).expect("the root itself stays").collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

fn installed(build: &Build, prefix: &Path) {
    // Somebody else's file in a directory that is there before.
    let others = prefix.join("share/man/man1/other.1");
    fs::create_dir_all(others.parent().expect("it has one")).expect("it is writable");
    fs::write(&others, "").expect("it is writable");
    fs::create_dir_all(prefix.join("share/fish")).expect("it is writable");
    build.make(&["install"]).expect_success();
    let files: BTreeSet<_> = files_below(prefix).into_iter().collect();

    let mut expected: BTreeSet<_> = [
        "include/qtls/qtls.h",
        "lib/libqtls.a",
        "lib/libqtls.so",
        "lib/libqtls.so.1",
        "lib/libqtls.so.1.0.0",
        "lib/cmake/qtls/qtlsConfig.cmake",
        "lib/cmake/qtls/qtlsConfigVersion.cmake",
        "lib/pkgconfig/qtls.pc",
        "share/doc/qtls/LICENSE",
        "share/doc/qtls/configs/server.json",
        "share/doc/qtls/configs/server.schema.json",
        "share/doc/qtls/configs/client.json",
        "share/doc/qtls/configs/client.schema.json",
        "share/man/man1/qtls.1",
        "share/man/man1/qtls-bench.1",
        "share/man/man1/qtls-client.1",
        "share/man/man1/qtls-version.1",
        "share/man/man8/qtls-server.8",
    ]
    .map(str::to_owned)
    .into();
    for program in PROGRAMS {
        expected.insert(format!("bin/{program}"));
        expected.insert(format!("share/bash-completion/completions/{program}"));
        expected.insert(format!("share/zsh/site-functions/_{program}"));
        expected.insert(format!("share/fish/vendor_completions.d/{program}.fish"));
    }
    for example in files_below_if_there(&programs::repository().join("examples")) {
        if let Some(name) = example.strip_suffix(".c") {
            expected.insert(format!("lib/qtls/examples/{name}"));
            expected.insert(format!("share/doc/qtls/examples/{example}"));
        }
    }
    let missing: Vec<_> = expected.difference(&files).collect();
    assert!(missing.is_empty(), "not installed: {missing:?}");
    // What else is there is documents, sample configurations and headers.
    let kinds = ["share/doc/qtls/", "include/qtls/", "share/man/man1/other.1"];
    let strange: Vec<_> =
        files.difference(&expected).filter(|file| !kinds.iter().any(|kind| file.starts_with(kind))).collect();
    assert!(strange.is_empty(), "installed: {strange:?}");

    let pkg_config = |arguments: &[&str]| {
        let mut command = build.command("pkg-config");
        command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(arguments).arg("qtls");
        run(&mut command, b"").expect_success().stdout.trim_end().to_owned()
    };
    assert_eq!(pkg_config(&["--modversion"]), "1.0.0");
    assert_eq!(pkg_config(&["--variable=prefix"]), text(prefix));
    let private = pkg_config(&["--static", "--libs-only-l"]);
    assert!(private.split(' ').any(|library| library == "-lqtls"), "{private}");
    assert!(private.split(' ').any(|library| library == "-lc"), "what the static library needs: {private}");
    assert_eq!(pkg_config(&["--libs-only-l"]), "-lqtls");

    // The cache of the dynamic linker, in a file of ours.
    let (configuration, cache) = (build.scratch.path().join("ld.so.conf"), build.scratch.path().join("ld.so.cache"));
    fs::write(&configuration, format!("{}\n", prefix.join("lib").display())).expect("it is writable");
    let ldconfig = |arguments: &[&str]| {
        let mut command = build.command("/sbin/ldconfig");
        run(command.arg("-C").arg(&cache).args(arguments), b"").expect_success().stdout
    };
    ldconfig(&["-X", "-f", text(&configuration)]);
    let listed = ldconfig(&["-p"]);
    let line = listed.lines().find(|line| line.starts_with("\tlibqtls.so.1 ")).unwrap_or_else(|| panic!("{listed}"));
    assert!(line.ends_with(&format!("=> {}/lib/libqtls.so.1", prefix.display())), "{line}");

    // What is installed works: the commit that qtls-version tells is that of the sources.
    let version = Command::new(prefix.join("bin/qtls-version")).arg("--json").output().expect("it runs");
    let version: serde_json::Value = serde_json::from_slice(&version.stdout).expect("it is JSON");
    let head = run(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(programs::repository()), b"");
    assert_eq!(version["commit"].as_str(), Some(head.expect_success().stdout.trim_end()));
    assert_eq!(version["features"]["detailed_logs"], true);

    build.make(&["uninstall"]).expect_success();
    assert_eq!(files_below(prefix), ["share/man/man1/other.1"], "somebody else's file stays, and nothing else");
    assert!(prefix.join("share/fish").is_dir(), "what was there before stays, also where it is empty");
    assert!(!prefix.join("bin").exists() && !prefix.join("share/man/man8").exists() && !prefix.join("lib").exists());
    build.make(&["uninstall"]).expect_code(2);
}

fn files_below_if_there(directory: &Path) -> Vec<String> {
    if directory.exists() { files_below(directory) } else { Vec::new() }
}

/// A directory for cargo with the dependencies that are compiled already, and nothing of ours. For other sources it has to be
/// another directory: cargo takes what it built of a member of one workspace for the member of any other.
fn seeded() -> PathBuf {
    let (from, to) = (programs::target_directory(), programs::target_directory().join("an archive's"));
    let script = r#"
        rm -rf "$2" && mkdir -p "$2/debug/deps" && cd "$1/debug"
        find deps -maxdepth 1 -type f \( -name '*.rlib' -o -name '*.rmeta' -o -name '*.so' -o -name '*.d' \) -print0 |
            xargs -0 cp --preserve=timestamps --reflink=auto --target-directory="$2/debug/deps"
        cp -a --reflink=auto build .fingerprint "$2/debug"
        rm -rf "$2"/debug/.fingerprint/qtls* "$2"/debug/.fingerprint/xtask*
    "#;
    // They may be gigabytes.
    run_within(Command::new("sh").args(["-euc", script, "sh"]).arg(from).arg(&to), b"", 8 * PATIENCE).expect_success();
    to
}

/// A release as it is downloaded, without a repository, built without detailed logs.
#[test]
fn an_archive_is_built_and_knows_its_commit_and_a_build_without_detailed_logs_says_so() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Inside of a repository, which isn't the archive's.
    let source = programs::target_directory().join("an archive");
    if source.exists() {
        fs::remove_dir_all(&source).expect("it is ours");
    }
    fs::create_dir(&source).expect("it is writable");
    let tar = source.join("release.tar");
    let mut git = Command::new("git");
    git.args(["archive", "--output", text(&tar), "HEAD"]).current_dir(programs::repository());
    run(&mut git, b"").expect_success();
    run(Command::new("tar").args(["-xf", text(&tar), "-C", text(&source)]), b"").expect_success();
    let head = run(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(programs::repository()), b"");
    let head = head.expect_success().stdout.trim_end().to_owned();

    let build = Build::of(source);
    let target = seeded();
    let said = build.configure_with(&target, &["-DENABLE_LOGGING=OFF"]).expect_success().stdout;
    assert!(said.contains("--   detailed logs: no (ENABLE_LOGGING=OFF)\n"), "{said}");
    build.make(&["-j2", "qtls-programs"]).expect_success();
    fs::remove_dir_all(&target).expect("it is ours");

    let bin = build.directory.join("bin");
    let version = run(build.command(bin.join("qtls-version")).arg("--json"), b"").expect_success().stdout;
    let version: serde_json::Value = serde_json::from_str(&version).expect("it is JSON");
    assert_eq!(version["commit"].as_str(), Some(&*head));
    assert_eq!(version["features"]["detailed_logs"], false);
    let fips = run(build.command(bin.join("qtls-version")).arg("--fips"), b"").expect_code(21);
    assert!(fips.stdout.starts_with("no: this is the standard flavour, "), "{}", fips.said());

    // Who asks for details is told, and gets what there is.
    let pki = build.scratch.path().join("pki");
    let mut quickstart = build.command(bin.join("qtls"));
    run(quickstart.args(["quickstart", "--dir", text(&pki), "--name", "localhost"]), b"").expect_success();
    let test_config = |level: &str| {
        let mut server = build.command(bin.join("qtls-server"));
        server.args(["--test-config", "--config", text(&pki.join("server.json")), "--set"]);
        run(server.arg(format!("logging.level={level}")), b"").expect_success().stderr
    };
    let warning = "logging.level: debug is not in this build: nothing below info is logged";
    assert!(test_config("debug").contains(warning), "{}", test_config("debug"));
    assert!(!test_config("info").contains("is not in this build"));
}

/// As it is installed: optimized across crates, which cargo does for one kind of library at a time.
#[test]
fn the_library_of_a_release_is_smaller_than_that_for_debugging() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let size = |build_type: &str| {
        let build = Build::new();
        build.configure_shared(&[&format!("-DCMAKE_BUILD_TYPE={build_type}")]).expect_success();
        build.make(&["-j2", "qtls-library"]).expect_success();
        let library = build.directory.join("lib/libqtls.so.1.0.0");
        assert_eq!(symbols(&build, &["--dynamic"], &library), declared(), "{build_type}");
        let sizes = run(build.command("size").arg(&library), b"").expect_success().stdout;
        let text = sizes.lines().nth(1).and_then(|line| line.split_whitespace().next()).expect("size prints a table");
        text.parse::<u64>().expect("it is a number")
    };
    let (debug, release) = (size("Debug"), size("Release"));
    assert!(release < debug * 4 / 5, "the code of the library has {release} bytes, and {debug} for debugging");
}
