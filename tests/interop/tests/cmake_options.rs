//! What the build with CMake lets one choose: every option has the default of the documentation and an effect, and what this
//! version doesn't have is refused when it is asked for, with the way out.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use qtls_interop::cmake::Build;
use qtls_interop::programs;

/// The value of an option in the cache, with its type.
fn cached(build: &Build, option: &str) -> String {
    let cache = fs::read_to_string(build.directory.join("CMakeCache.txt")).expect("there is a cache");
    let line = cache.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{option} is not in the cache")).to_owned()
}

/// Whether the summary says this of that.
#[track_caller]
fn tells(said: &str, what: &str, value: &str) {
    let line = format!("--   {what}: {value}\n");
    assert!(said.contains(&line), "{line} is not in\n{said}");
}

#[track_caller]
fn refused(arguments: &[&str], message: &str) {
    let build = Build::new();
    let finished = build.configure(arguments).expect_code(1);
    assert!(finished.stderr.contains(message), "{message}\nis not in\n{}", finished.said());
    assert!(!build.directory.join("Makefile").exists(), "{arguments:?} is refused, and there is a Makefile");
}

/// The commands that make would run for a target.
fn commands(build: &Build, target: &str) -> String {
    build.make(&["--dry-run", target]).expect_success().stdout
}

#[test]
fn without_arguments_everything_that_is_there_is_built() {
    let build = Build::new();
    let said = build.configure(&[]).expect_success().stdout;
    let document = fs::read_to_string(programs::repository().join("docs/BUILDING.md")).expect("it is there");
    for (option, value) in [
        ("CMAKE_BUILD_TYPE", "STRING=Release"),
        ("CMAKE_INSTALL_PREFIX", "PATH=/usr/local"),
        ("ENABLE_HSM", "BOOL=OFF"),
        ("HSM_PKCS11_LIB", "FILEPATH=/usr/lib/libCryptoki2_64.so"),
        ("FIPS_MODE", "BOOL=OFF"),
        ("ENABLE_TESTS", "BOOL=ON"),
        ("ENABLE_EXAMPLES", "BOOL=ON"),
        ("ENABLE_LOGGING", "BOOL=ON"),
        ("ENABLE_PYTHON_BINDING", "BOOL=ON"),
        ("ENABLE_GO_BINDING", "BOOL=ON"),
        ("ENABLE_NODEJS_BINDING", "BOOL=ON"),
        ("BUILD_SHARED_LIBS", "BOOL=ON"),
        ("BUILD_STATIC_LIBS", "BOOL=OFF"),
    ] {
        assert_eq!(cached(&build, option), value, "{option}");
        let default = value.split_once('=').expect("it has a type").1;
        let row = format!("\n| `{option}` | `{default}` | ");
        assert!(document.contains(&row), "docs/BUILDING.md says something else of {option}");
    }
    tells(&said, "build type", "Release (cargo's profile release)");
    tells(&said, "shared library", "yes");
    tells(&said, "static library", "no (BUILD_STATIC_LIBS=OFF)");
    tells(&said, "detailed logs", "yes");
    tells(&said, "HSM", "no (ENABLE_HSM=OFF)");
    tells(&said, "FIPS", "no (FIPS_MODE=OFF)");
    tells(&said, "tests", "yes");
    for language in ["Python", "Go", "Node.js"] {
        tells(&said, &format!("{language} binding"), "no (not in this version)");
    }
    // Configuring it again is no choice of what was the default.
    let again = build.configure(&[]).expect_success();
    tells(&again.stdout, "Go binding", "no (not in this version)");
}

#[test]
fn what_this_version_does_not_have_is_refused_when_it_is_asked_for() {
    refused(
        &["-DENABLE_HSM=ON"],
        "ENABLE_HSM=ON: keys in an HSM (PKCS#11) are not in this version\n   \
         hint: leave ENABLE_HSM OFF, and keep private keys in files that only the server's user can read\n",
    );
    refused(
        &["-DFIPS_MODE=ON"],
        "FIPS_MODE=ON: the FIPS flavour is not in this version\n   hint: leave FIPS_MODE OFF; tls.profile \"fips\" keeps \
         a server to approved algorithms, without a validated module\n",
    );
    for (option, language, directory) in [
        ("ENABLE_PYTHON_BINDING", "Python", "python"),
        ("ENABLE_GO_BINDING", "Go", "go"),
        ("ENABLE_NODEJS_BINDING", "Node.js", "nodejs"),
    ] {
        refused(
            &[&format!("-D{option}=ON")],
            &format!(
                "{option}=ON: the {language} binding is not in this version (there is no bindings/{directory})\n   \
                 hint: leave {option} out, or set it to OFF;"
            ),
        );
    }
}

#[test]
fn what_can_not_be_is_refused_and_says_what_can() {
    refused(
        &["-DCMAKE_BUILD_TYPE=MinSizeRel"],
        "CMAKE_BUILD_TYPE=MinSizeRel is none of Release, Debug, RelWithDebInfo\n   hint: choose one of these\n",
    );
    refused(
        &["-DBUILD_SHARED_LIBS=OFF"],
        "BUILD_SHARED_LIBS and BUILD_STATIC_LIBS are both OFF: there would be no library\n   hint: set one of them to ON\n",
    );
    refused(
        &["-DQTLS_CARGO=/nonexistent/cargo"],
        "/nonexistent/cargo --version failed: No such file or directory\n   hint: check with: /nonexistent/cargo --version\n",
    );
    // A cargo that is too old.
    let scratch = tempfile::tempdir().expect("the temporary directory is writable");
    let old = scratch.path().join("cargo");
    fs::write(&old, "#!/bin/sh\necho cargo 1.70.0\n").expect("it is writable");
    set_executable(&old);
    refused(
        &[&format!("-DQTLS_CARGO={}", old.display())],
        &format!("{} is of Rust 1.70.0, and Q-TLS needs 1.88 or later\n   hint: rustup update; or", old.display()),
    );
}

fn set_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

#[test]
fn a_binding_that_is_asked_for_later_is_refused_and_one_that_is_off_is_not_missed() {
    let build = Build::new();
    let said = build.configure(&["-DENABLE_GO_BINDING=OFF"]).expect_success().stdout;
    tells(&said, "Go binding", "no (ENABLE_GO_BINDING=OFF)");
    let finished = build.configure(&["-DENABLE_PYTHON_BINDING=ON"]).expect_code(1);
    assert!(finished.stderr.contains("ENABLE_PYTHON_BINDING=ON: the Python binding is not in"), "{}", finished.said());
    // What was asked for is remembered, until it is taken back.
    build.configure(&[]).expect_code(1);
    build.configure(&["-DENABLE_PYTHON_BINDING=OFF"]).expect_success();
}

#[test]
fn a_binding_that_is_there_is_built_unless_it_is_off() {
    // The sources as links, beside a binding.
    let scratch = tempfile::tempdir().expect("the temporary directory is writable");
    let source = scratch.path().join("sources");
    fs::create_dir_all(source.join("bindings/go")).expect("it is writable");
    for entry in fs::read_dir(programs::repository()).expect("it is readable") {
        let entry = entry.expect("it is readable");
        if !["target", "bindings", "build"].iter().any(|name| entry.file_name() == *name) {
            symlink(entry.path(), source.join(entry.file_name())).expect("it is writable");
        }
    }
    let binding = "add_custom_target(go-binding ALL COMMAND ${CMAKE_COMMAND} -E echo this is the binding)\n";
    fs::write(source.join("bindings/go/CMakeLists.txt"), binding).expect("it is writable");
    for arguments in [&[][..], &["-DENABLE_GO_BINDING=ON"]] {
        let build = Build::of(source.clone());
        tells(&build.configure(arguments).expect_success().stdout, "Go binding", "yes");
        let said = build.make(&["go-binding"]).expect_success().stdout;
        assert!(said.contains("this is the binding\n"), "{said}");
    }
    let build = Build::of(source);
    let said = build.configure(&["-DENABLE_GO_BINDING=OFF"]).expect_success().stdout;
    tells(&said, "Go binding", "no (ENABLE_GO_BINDING=OFF)");
    build.make(&["go-binding"]).expect_code(2);
}

#[test]
fn a_pkcs11_module_that_nothing_would_load_is_warned_of() {
    let build = Build::new();
    let finished = build.configure(&["-DHSM_PKCS11_LIB=/opt/hsm/lib.so"]).expect_success();
    let warning =
        "HSM_PKCS11_LIB=/opt/hsm/lib.so has no effect: ENABLE_HSM is OFF, so nothing loads a PKCS#11 module\n";
    assert!(finished.stderr.contains(warning), "{}", finished.said());
    assert_eq!(Build::new().configure(&[]).expect_success().stderr, "", "the default is not warned of");
}

#[test]
fn the_build_type_is_a_profile_of_cargo() {
    for (build_type, profile, directory) in [
        ("Release", "release", "release"),
        ("Debug", "dev", "debug"),
        ("RelWithDebInfo", "release-with-debug-info", "release-with-debug-info"),
    ] {
        let build = Build::new();
        let said = build.configure(&[&format!("-DCMAKE_BUILD_TYPE={build_type}")]).expect_success().stdout;
        tells(&said, "build type", &format!("{build_type} (cargo's profile {profile})"));
        // Not of everything: programs in C are linked with a library that nobody makes in a dry run.
        let commands = commands(&build, "qtls-programs");
        assert!(commands.contains(&format!(" -DPROFILE={profile} ")), "{commands}");
        // The directory of cargo is in the build directory unless another one is named.
        let built = format!("\"-DBUILT={}/cargo/{directory}\"", build.directory.display());
        assert!(commands.contains(&built), "{built} is not in {commands}");
    }
    // cargo knows that profile.
    let manifest = fs::read_to_string(programs::repository().join("Cargo.toml")).expect("it is readable");
    assert!(manifest.contains("\n[profile.release-with-debug-info]\ninherits = \"release\"\ndebug = \"full\"\n"));
}

#[test]
fn the_kinds_of_library_are_chosen() {
    let build = Build::new();
    build.configure(&[]).expect_success();
    let both = commands(&build, "qtls-library");
    assert!(both.contains("-DSTEP=shared") && !both.contains("-DSTEP=static"), "{both}");
    let build = Build::new();
    let said = build.configure(&["-DBUILD_SHARED_LIBS=OFF", "-DBUILD_STATIC_LIBS=ON"]).expect_success().stdout;
    tells(&said, "shared library", "no (BUILD_SHARED_LIBS=OFF)");
    tells(&said, "static library", "yes");
    let archive = commands(&build, "qtls-library");
    assert!(!archive.contains("-DSTEP=shared") && archive.contains("-DSTEP=static"), "{archive}");
}

#[test]
fn examples_and_tests_are_left_out_where_they_are_off() {
    let build = Build::new();
    let said = build.configure(&["-DENABLE_TESTS=OFF", "-DENABLE_EXAMPLES=OFF"]).expect_success().stdout;
    tells(&said, "examples", "no (ENABLE_EXAMPLES=OFF)");
    tells(&said, "tests", "no (ENABLE_TESTS=OFF)");
    build.make(&["test"]).expect_code(2);
    let targets = build.make(&["help"]).expect_success().stdout;
    for source in c_files("examples") {
        assert!(!targets.contains(&format!("... {source}\n")), "{targets}");
    }
    assert!(!targets.contains("... test-"), "{targets}");
    // And are there where they are not.
    let build = Build::new();
    let said = build.configure(&[]).expect_success().stdout;
    let examples = c_files("examples");
    tells(
        &said,
        "examples",
        &if examples.is_empty() { "none in these sources".to_owned() } else { examples.join(", ") },
    );
    let targets = build.make(&["help"]).expect_success().stdout;
    for name in examples.into_iter().chain(c_files("tests/c").into_iter().map(|name| format!("test-{name}"))) {
        assert!(targets.contains(&format!("... {name}\n")), "{name} is not in {targets}");
    }
    let tests = build.command("ctest").arg("--show-only").output().expect("ctest runs").stdout;
    assert!(String::from_utf8_lossy(&tests).contains(": consumer\n"));
}

/// The names of the programs in C in a directory of the repository, in order.
fn c_files(directory: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(programs::repository().join(directory)) else { return Vec::new() };
    let names = entries.map(|entry| entry.expect("it is readable").file_name().into_string().expect("it is text"));
    let mut names: Vec<_> = names.filter_map(|name| Some(name.strip_suffix(".c")?.to_owned())).collect();
    names.sort();
    names
}

#[test]
fn the_jobs_of_make_are_those_of_cargo_and_verbose_shows_its_commands() {
    // A cargo that says how it was called, and fails.
    let scratch = tempfile::tempdir().expect("the temporary directory is writable");
    let cargo = scratch.path().join("cargo");
    let script = "#!/bin/sh\n[ \"$1\" != --version ] || { echo cargo 1.95.0; exit; }\n\
                  echo \"called: $* with jobs=${CARGO_BUILD_JOBS-none} makeflags=${MAKEFLAGS-none}\"; exit 1\n";
    fs::write(&cargo, script).expect("it is writable");
    set_executable(&cargo);
    let named = format!("-DQTLS_CARGO={}", cargo.display());
    let build = Build::new();
    build.configure(&[&named, "-DQTLS_CARGO_FLAGS=--offline;--quiet"]).expect_success();
    let called = |arguments: &[&str], variable: Option<&str>| {
        let mut make = build.command("make");
        make.env_remove("CARGO_BUILD_JOBS").envs(variable.map(|jobs| ("CARGO_BUILD_JOBS", jobs)));
        let finished = qtls_interop::process::run(make.arg("qtls-library").args(arguments), b"").expect_code(2);
        assert!(finished.stderr.contains("cargo failed; its messages are above"), "{}", finished.said());
        finished.stdout
    };
    let arguments = format!(
        "rustc --locked --profile release --target-dir {}/cargo --offline --quiet --package qtls-ffi --lib \
         --crate-type cdylib",
        build.directory.display()
    );
    let quiet = called(&[], None);
    assert!(quiet.contains(&format!("called: {arguments} with jobs=none makeflags=none\n")), "{quiet}");
    assert!(!quiet.contains(&format!("{} rustc", cargo.display())), "{quiet}");
    assert!(called(&["-j3"], None).contains(" with jobs=3 makeflags=none\n"));
    assert!(called(&["-j3"], Some("2")).contains(" with jobs=2 makeflags=none\n"));
    let verbose = called(&["VERBOSE=1"], None);
    assert!(verbose.contains(&format!("\n{} {arguments}\n", cargo.display())), "{verbose}");
    build.configure(&["-DCMAKE_VERBOSE_MAKEFILE=ON"]).expect_success();
    let verbose = called(&["-j2"], None);
    assert!(verbose.contains(&format!("\nCARGO_BUILD_JOBS=2 {} {arguments}\n", cargo.display())), "{verbose}");
}

#[test]
fn the_sources_and_their_makefile_are_left_alone() {
    // A tree of its own, since a build in it is tried.
    let scratch = tempfile::tempdir().expect("the temporary directory is writable");
    let source = scratch.path().join("sources");
    fs::create_dir(&source).expect("it is writable");
    for entry in fs::read_dir(programs::repository()).expect("it is readable") {
        let entry = entry.expect("it is readable");
        if entry.file_type().expect("it has a type").is_dir() {
            symlink(entry.path(), source.join(entry.file_name())).expect("it is writable");
        } else {
            fs::copy(entry.path(), source.join(entry.file_name())).expect("it is writable");
        }
    }
    let makefile = fs::read(source.join("Makefile")).expect("it is readable");
    let build = Build::of(source.clone());
    for directory in [&source, &build.directory.join("link")] {
        if *directory != source {
            symlink(&source, directory).expect("it is writable");
        }
        let mut cmake = build.command("cmake");
        let finished = qtls_interop::process::run(cmake.current_dir(directory).arg("."), b"").expect_code(1);
        let message = "Q-TLS is not built in its sources: the Makefile there is its own.\n   \
                       hint: rm -rf CMakeCache.txt CMakeFiles && mkdir build && cd build && cmake ..\n";
        assert!(finished.stderr.contains(message), "{}", finished.said());
        assert_eq!(fs::read(source.join("Makefile")).expect("it is readable"), makefile);
    }
    // With what the hint says, it works.
    fs::remove_file(source.join("CMakeCache.txt")).expect("CMake made it");
    fs::remove_dir_all(source.join("CMakeFiles")).expect("CMake made it");
    build.configure(&[]).expect_success();
    assert_eq!(fs::read(source.join("Makefile")).expect("it is readable"), makefile);
}
