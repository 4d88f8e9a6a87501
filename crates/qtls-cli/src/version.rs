//! `qtls-version`: what exactly is installed.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Command, CommandFactory, Parser};
use qtls_core::policy::{CipherSuite, Group, KeyAlgorithm, Named, scheme_name};
use qtls_core::version::{CRYPTO_MODULE, FLAVOUR, VERSION, is_fips};
use qtls_core::{Error, Result};
use serde::Serialize;
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};

use crate::ui;

const PROGRAM: &str = "qtls-version";
/// The exit code of `--fips` where the answer is no. Far from those of [`Fault`](qtls_core::Fault).
const NOT_FIPS: u8 = 21;

/// Runs the program with the process' arguments. `commit` is what the sources were built from, where that is known.
pub fn main(commit: Option<&str>) -> ExitCode {
    match run(&Arguments::parse(), commit, &mut io::stdout().lock()) {
        Ok(code) => code,
        Err(error) => ui::finish(PROGRAM, Err(error)),
    }
}

/// The command line, for what is generated from it.
pub fn command() -> Command {
    Arguments::command()
}

/// Show version, commit, features, cryptographic module and algorithms of Q-TLS
///
/// Everything that is shown is asked of the program itself: the groups, signature schemes and cipher suites are those that
/// it can negotiate, most preferred first.
#[derive(Parser)]
#[command(name = PROGRAM, version = VERSION)]
#[command(after_help = "Exit codes: 0 success, 1 internal error, 2 wrong use, 21 not a FIPS build (--fips)")]
#[command(after_long_help = LONG)]
struct Arguments {
    /// Print one line of JSON
    #[arg(long, conflicts_with = "fips")]
    json: bool,
    /// Tell whether this is a FIPS build, and exit with 0 if it is, or else with 21
    ///
    /// A FIPS build is one whose cryptographic module is validated by FIPS 140-3. The profile `fips` of the standard flavour
    /// restricts the algorithms, and doesn't make it one.
    #[arg(long)]
    fips: bool,
}

/// The end of `--help`. Lines fit 80 columns: where a terminal is narrower, they are broken once more.
const LONG: &str = "\
Output:
  --json prints one object, on one line:
    version, commit (null where it is not known), flavour, fips,
    crypto_module, groups (each with name, code_point, post_quantum),
    signature_schemes, cipher_suites (lists of names of the IANA registries),
    features (detailed_logs, hsm, fips: true or false)

Exit codes:
  0   success
  1   an internal error, or standard output failed
  2   wrong use
  21  with --fips: this is not a FIPS build

Examples:
  The groups that can be negotiated, for a script:
      qtls-version --json | jq -r '.groups[].name'
  Only where it is a FIPS build:
      qtls-version --fips && systemctl start qtls-server";

/// What there is to say. Serialized it is the object of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    version: &'a str,
    commit: Option<&'a str>,
    flavour: &'a str,
    fips: bool,
    crypto_module: &'a str,
    features: Features,
    groups: Vec<GroupRow>,
    signature_schemes: Vec<String>,
    cipher_suites: Vec<&'static str>,
}

#[derive(Serialize)]
struct Features {
    /// Whether the levels debug and trace are compiled in.
    detailed_logs: bool,
    hsm: bool,
    fips: bool,
}

#[derive(Serialize)]
struct GroupRow {
    name: &'static str,
    /// As in the IANA registry: `0x11EC`.
    code_point: String,
    post_quantum: bool,
}

impl<'a> Report<'a> {
    fn new(commit: Option<&'a str>, levels: LevelFilter) -> Self {
        let group = |group: &Group| GroupRow {
            name: group.iana_name(),
            code_point: format!("0x{:04X}", group.code_point()),
            post_quantum: group.is_post_quantum(),
        };
        let mut signature_schemes: Vec<String> = Vec::new();
        for scheme in KeyAlgorithm::ALL.iter().flat_map(|kind| kind.schemes()) {
            let name = scheme_name(*scheme);
            if !signature_schemes.contains(&name) {
                signature_schemes.push(name);
            }
        }
        let fips = is_fips();
        Self {
            version: VERSION,
            commit,
            flavour: FLAVOUR,
            fips,
            crypto_module: CRYPTO_MODULE,
            // Keys in an HSM are refused by the configuration of this version.
            features: Features { detailed_logs: levels >= LevelFilter::DEBUG, hsm: false, fips },
            groups: Group::ALL.iter().map(group).collect(),
            signature_schemes,
            cipher_suites: CipherSuite::ALL.iter().map(|suite| suite.iana_name()).collect(),
        }
    }

    fn text(&self) -> String {
        let yes = |is: bool| if is { "yes" } else { "no" };
        let Features { detailed_logs, hsm, fips } = self.features;
        let mut text = format!(
            "Q-TLS {}\ncommit: {}\nflavour: {}\ncrypto module: {}\n",
            self.version,
            self.commit.unwrap_or("unknown"),
            self.flavour,
            self.crypto_module
        );
        let _ = writeln!(text, "features: detailed logs {}, hsm {}, fips {}", yes(detailed_logs), yes(hsm), yes(fips));
        text.push_str("groups:\n");
        for GroupRow { name, code_point, post_quantum } in &self.groups {
            let kind = if *post_quantum { "post-quantum" } else { "classical" };
            let _ = writeln!(text, "  {name} ({code_point}, {kind})");
        }
        let _ = writeln!(text, "signature schemes: {}", self.signature_schemes.join(", "));
        let _ = writeln!(text, "cipher suites: {}", self.cipher_suites.join(", "));
        text
    }
}

fn run(arguments: &Arguments, commit: Option<&str>, out: &mut dyn Write) -> Result<ExitCode> {
    let report = Report::new(commit, STATIC_MAX_LEVEL);
    if arguments.fips {
        let (answer, code) = fips_answer(&report);
        ui::print(out, &answer)?;
        return Ok(code);
    }
    let text = if arguments.json {
        serde_json::to_string(&report).map_err(|error| Error::internal(error.to_string()))? + "\n"
    } else {
        report.text()
    };
    ui::print(out, &text)?;
    Ok(ExitCode::SUCCESS)
}

fn fips_answer(report: &Report<'_>) -> (String, ExitCode) {
    let Report { flavour, crypto_module, fips, .. } = report;
    if *fips {
        return (format!("yes: the cryptographic module, {crypto_module}, is a validated one\n"), ExitCode::SUCCESS);
    }
    let answer = format!(
        "no: this is the {flavour} flavour, whose cryptographic module, {crypto_module}, is not a validated one; \
         the profile \"fips\" restricts the algorithms, and makes no FIPS build of it\n"
    );
    (answer, ExitCode::from(NOT_FIPS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(arguments: &[&str], commit: Option<&str>) -> (String, ExitCode) {
        let mut out = Vec::new();
        let arguments = Arguments::parse_from(std::iter::once(&PROGRAM).chain(arguments));
        let code = run(&arguments, commit, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), code)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_commit_that_is_not_known_is_said_to_be_so() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert!(output(&[], Some(commit)).0.starts_with(&format!("Q-TLS {VERSION}\ncommit: {commit}\n")));
        assert!(output(&[], None).0.contains("\ncommit: unknown\n"));
        let json: serde_json::Value = serde_json::from_str(&output(&["--json"], None).0).unwrap();
        assert!(json["commit"].is_null());
    }

    #[test]
    fn every_algorithm_of_the_table_is_there_once() {
        let json: serde_json::Value = serde_json::from_str(&output(&["--json"], None).0).unwrap();
        let group = |index: usize| json["groups"][index].clone();
        assert_eq!(
            group(0),
            serde_json::json!({ "name": "X25519MLKEM768", "code_point": "0x11EC", "post_quantum": true })
        );
        assert_eq!(group(7), serde_json::json!({ "name": "secp256r1", "code_point": "0x0017", "post_quantum": false }));
        let names = |key: &str| {
            let list: Vec<_> = json[key].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            list.join(" ")
        };
        assert_eq!(
            names("signature_schemes"),
            "mldsa65 mldsa87 mldsa44 ecdsa_secp384r1_sha384 ecdsa_secp256r1_sha256 ecdsa_secp521r1_sha512 ed25519 \
             rsa_pss_rsae_sha512 rsa_pss_rsae_sha384 rsa_pss_rsae_sha256"
        );
        assert_eq!(
            names("cipher_suites"),
            "TLS_AES_256_GCM_SHA384 TLS_AES_128_GCM_SHA256 TLS_CHACHA20_POLY1305_SHA256"
        );
    }

    #[test]
    fn the_standard_flavour_says_no_to_fips_and_a_validated_module_yes() {
        let (text, code) = output(&["--fips"], None);
        assert!(text.starts_with("no: this is the standard flavour, whose cryptographic module, aws-lc, is not"));
        assert_eq!(code, ExitCode::from(21));
        let validated = Report { fips: true, crypto_module: "aws-lc-fips", ..Report::new(None, LevelFilter::TRACE) };
        let (text, code) = fips_answer(&validated);
        assert_eq!(text, "yes: the cryptographic module, aws-lc-fips, is a validated one\n");
        assert_eq!(code, ExitCode::SUCCESS);
    }

    #[test]
    fn a_build_without_detailed_logs_says_so() {
        assert!(
            Report::new(None, LevelFilter::INFO).text().contains("\nfeatures: detailed logs no, hsm no, fips no\n")
        );
        assert!(Report::new(None, LevelFilter::DEBUG).text().contains("\nfeatures: detailed logs yes, hsm no,"));
    }
}
