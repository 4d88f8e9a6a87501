//! Profiles and the policy that is tried, from the configuration on: what each host gets, what is refused with which
//! words, and what an operator hears.
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::LazyLock;

use qtls_core::client_hello::Offer;
use qtls_core::credentials::{generate, signing_key};
use qtls_core::policy::{Group, KeyAlgorithm, Profile, Rule};
use qtls_pki::issue::Profile as Use;
use qtls_pki::pem;
use qtls_proxy::config::{Source, load_server};
use qtls_proxy::plan::Plan;
use rustls::SignatureScheme as Scheme;
use rustls::pki_types::UnixTime;
use support::Ca;
use tempfile::TempDir;

/// Chains in three kinds, each below a root of its own, and one whose leaf is ML-DSA-87 and whose CA is not.
static FILES: LazyLock<Files> = LazyLock::new(Files::new);

struct Files {
    directory: TempDir,
    client: Vec<rustls::pki_types::CertificateDer<'static>>,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ml_dsa = Ca::new(KeyAlgorithm::MlDsa87);
        let ecdsa = Ca::new(KeyAlgorithm::EcdsaP256);
        write(directory.path(), "ml-dsa", &ml_dsa, KeyAlgorithm::MlDsa87);
        write(directory.path(), "ecdsa", &ecdsa, KeyAlgorithm::EcdsaP256);
        write(directory.path(), "rsa", &ecdsa, KeyAlgorithm::Rsa2048);
        write(directory.path(), "mixed", &ecdsa, KeyAlgorithm::MlDsa87);
        let roots = [&ml_dsa, &ecdsa].map(|ca| pem::encode(pem::CERTIFICATE, ca.root.certificate()).unwrap());
        std::fs::write(directory.path().join("roots.pem"), roots.concat()).unwrap();
        std::fs::write(directory.path().join("ecdsa-root.pem"), &roots[1]).unwrap();
        let key = support::new_key(KeyAlgorithm::EcdsaP256);
        Self { client: ecdsa.chain(Use::Client, "client.example", key.as_ref()), directory }
    }

    /// `CERT(x)` in `text` is the chain `x` with its key, `DIR` the directory.
    fn plan(&self, text: &str) -> qtls_core::Result<Plan> {
        let mut text = text.to_owned();
        for name in ["ml-dsa", "ecdsa", "rsa", "mixed"] {
            text = text.replace(
                &format!("CERT({name})"),
                &format!(r#""server_cert": "DIR/{name}.pem", "server_key": "DIR/{name}-key.pem""#),
            );
        }
        let own = tempfile::tempdir().unwrap();
        let file = own.path().join("server.json");
        std::fs::write(&file, text.replace("DIR", &self.directory.path().display().to_string())).unwrap();
        let loaded = load_server(&Source { file: Some(file), ..Source::default() }).map_err(|error| {
            qtls_core::Error::configuration(error.to_string().replace(&format!("{}/", own.path().display()), ""))
        })?;
        Plan::new(loaded).map_err(|error| {
            let shown = error.to_string().replace(&format!("{}/", own.path().display()), "");
            qtls_core::Error::configuration(shown.replace(&self.directory.path().display().to_string(), "DIR"))
        })
    }

    #[track_caller]
    fn error(&self, text: &str) -> String {
        self.plan(text).unwrap_err().message().to_owned()
    }
}

fn write(directory: &Path, name: &str, ca: &Ca, algorithm: KeyAlgorithm) {
    let key = generate(algorithm).unwrap();
    let chain = ca.chain(Use::Server, "a.example", signing_key(&key).unwrap().as_ref());
    let chain: String = chain.iter().map(|one| pem::encode(pem::CERTIFICATE, one).unwrap()).collect();
    std::fs::write(directory.join(format!("{name}.pem")), chain).unwrap();
    std::fs::write(directory.join(format!("{name}-key.pem")), pem::encode("PRIVATE KEY", key.secret_der()).unwrap())
        .unwrap();
}

fn offer(groups: &[Group], schemes: &[Scheme]) -> Offer {
    let points: Vec<_> = groups.iter().map(|group| group.code_point()).collect();
    Offer {
        groups: points.clone(),
        shares: points,
        schemes: schemes.to_vec(),
        suites: vec![0x1301, 0x1302],
        ..Offer::default()
    }
}

/// What the host with this index would refuse.
fn rules(plan: &Plan, host: usize, offer: &Offer) -> Vec<Rule> {
    plan.hosts.host(host).endpoint.would_refuse(offer, None)
}

const ECDSA: Scheme = Scheme::ECDSA_NISTP256_SHA256;
const ALL_SCHEMES: [Scheme; 4] = [Scheme::ML_DSA_87, ECDSA, Scheme::RSA_PSS_SHA256, Scheme::RSA_PKCS1_SHA256];

#[test]
fn a_profile_is_what_is_served() {
    let plan = FILES.plan(r#"{"certificates": {CERT(ml-dsa)}, "tls": {"profile": "cnsa2"}}"#).unwrap();
    let policy = plan.hosts.host(0).endpoint.policy();
    assert_eq!(policy.profile, Profile::Cnsa2);
    assert_eq!(policy.groups, [Group::SecP384r1MlKem1024, Group::MlKem1024]);
    assert_eq!(policy.signatures, [KeyAlgorithm::MlDsa87]);
    assert_eq!(
        plan.summary()[0],
        "0.0.0.0:8443 → the built-in page; profile cnsa2; groups: SecP384r1MLKEM1024, MLKEM1024; certificate: ml-dsa \
         (ML-DSA-87); sessions: in this process"
    );
    assert!(plan.warnings[0].starts_with("browsers speak no post-quantum group but X25519MLKEM768"));
}

#[test]
fn a_certificate_outside_of_the_profile_is_refused_with_its_whole_chain() {
    assert_eq!(
        FILES.error(r#"{"certificates": {CERT(rsa)}, "tls": {"profile": "cnsa2"}}"#),
        "server.json:1:34: certificates.server_cert: DIR/rsa.pem: the certificate's key is RSA-2048, which the profile \
         cnsa2 (ml-dsa-87) doesn't allow\n  hint: use a certificate with a key that cnsa2 has, or choose another \
         tls.profile"
    );
    assert_eq!(
        FILES.error(r#"{"certificates": {CERT(mixed)}, "tls": {"profile": "cnsa2"}}"#),
        "server.json:1:34: certificates.server_cert: DIR/mixed.pem: the chain has a certificate that is signed with \
         ecdsa_secp256r1_sha256, and the profile cnsa2 has ml-dsa-87 for the whole chain\n  hint: have it issued by a \
         CA whose keys cnsa2 has, or choose another tls.profile"
    );
    // Other profiles take it, and a list that lacks it is told as a list.
    FILES.plan(r#"{"certificates": {CERT(mixed)}, "tls": {"profile": "fips"}}"#).unwrap();
    assert_eq!(
        FILES.error(
            r#"{"certificates": {CERT(rsa)}, "tls": {"profile": "fips"}, "algorithms": {"signature": ["ecdsa-p256"]}}"#
        ),
        "server.json:1:34: certificates.server_cert: DIR/rsa.pem: the certificate's key is RSA-2048, which \
         algorithms.signature (ecdsa-p256) doesn't allow\n  hint: add \"rsa-2048\" to algorithms.signature, or use \
         another certificate"
    );
}

#[test]
fn what_contradicts_a_profile_names_its_line() {
    assert_eq!(
        FILES.error(
            "{\"certificates\": {CERT(ml-dsa)},\n \"tls\": {\"profile\": \"cnsa2\"},\n \"algorithms\": {\n  \"kem\": \
             [\"kyber1024\", \"x25519mlkem768\"]}}"
        ),
        "server.json:4:24: algorithms.kem[1]: X25519MLKEM768 is outside of the profile cnsa2, which has \
         SecP384r1MLKEM1024, MLKEM1024\n  hint: name what the profile has, or choose the profile \"default\""
    );
    assert_eq!(
        FILES.error(
            "{\"certificates\": {CERT(ml-dsa)},\n \"tls\": {\"profile\": \"cnsa2\", \"hybrid_mode\": true,\n \
             \"pqc_only\": false}}"
        ),
        "server.json:3:14: tls.pqc_only: false lets clients in that have no post-quantum key exchange, and the profile \
         cnsa2 has no group for them\n  hint: remove this key, or choose another profile"
    );
}

/// The specification's own modes and lists are at the top: a host with a profile has that profile, and not them.
#[test]
fn a_host_with_a_profile_of_its_own_has_nothing_that_contradicts_it_from_the_top() {
    let plan = FILES
        .plan(
            r#"{
              "certificates": {CERT(ecdsa)},
              "tls": {"hybrid_mode": true, "pqc_only": false, "session_timeout": 7},
              "algorithms": {"kem": ["x25519mlkem768", "x25519"], "signature": ["ecdsa-p256"], "cipher": ["aes-128-gcm"]},
              "virtual_hosts": [
                {"names": ["strict.example"], "certificates": {CERT(ml-dsa)}, "tls": {"profile": "cnsa2"}},
                {"names": ["same.example"], "tls": {"pqc_only": true}}
              ]
            }"#,
        )
        .unwrap();
    let strict = plan.hosts.host(1).endpoint.policy();
    assert_eq!((strict.profile, &strict.groups[..]), (Profile::Cnsa2, &Profile::Cnsa2.groups()[..]));
    assert_eq!(strict.suites, Profile::Cnsa2.suites());
    assert_eq!(
        plan.config.virtual_hosts[0].tls.session_timeout.as_secs(),
        7,
        "what doesn't contradict it is inherited"
    );
    assert_eq!(plan.hosts.host(2).endpoint.policy().groups, [Group::X25519MlKem768]);
}

#[test]
fn what_is_tried_is_what_would_be_in_force_with_the_same_keys() {
    let of = |report: &str, in_force: &str| {
        let text = format!(
            r#"{{"certificates": {{CERT(ecdsa)}}, "tls": {{"report": {report}}}, "algorithms": {{{in_force}}}}}"#
        );
        let plan = FILES.plan(&text).unwrap();
        let endpoint = &plan.hosts.host(0).endpoint;
        assert!(!endpoint.policy().groups.is_empty(), "in force: {:?}", endpoint.policy().groups);
        endpoint.tried().unwrap().clone()
    };
    use Group::{MlKem1024, SecP384r1MlKem1024, X25519MlKem768};
    // The rest is as in force …
    let tried = of(r#"{"pqc_only": true}"#, r#""kem": ["x25519mlkem768", "x25519"], "cipher": ["aes-128-gcm"]"#);
    assert_eq!(tried.groups, [X25519MlKem768]);
    assert_eq!(tried.suites.len(), 1);
    let tried = of(r#"{"algorithms": {"cipher": ["aes-256-gcm"]}}"#, r#""kem": ["x25519mlkem768", "x25519"]"#);
    assert_eq!((tried.groups.len(), tried.suites.len()), (2, 1));
    // … and a profile is a whole.
    let tried = of(r#"{"profile": "cnsa2"}"#, r#""kem": ["x25519mlkem768", "x25519"]"#);
    assert_eq!(tried.groups, [SecP384r1MlKem1024, MlKem1024]);
    let tried = of(r#"{"profile": "cnsa2", "hybrid_mode": true}"#, r#""kem": ["x25519mlkem768", "x25519"]"#);
    assert_eq!(tried.groups, [SecP384r1MlKem1024]);
}

#[test]
fn a_report_that_is_wrong_names_its_key() {
    let error = |report: &str, in_force: &str| {
        FILES.error(&format!(
            "{{\"certificates\": {{CERT(ecdsa)}},\n \"tls\": {{\"report\": {report}}},\n \"algorithms\": {{{in_force}}}}}"
        ))
    };
    assert_eq!(
        error(r#"{"algorithms": {"kem": ["x25519", "kyber7688"]}}"#, ""),
        "server.json:2:54: tls.report.algorithms.kem[1]: unknown key exchange algorithm \"kyber7688\"\n  hint: did you \
         mean \"kyber768\"?"
    );
    assert_eq!(
        error(r#"{"profile": "cnsa2", "pqc_only": false}"#, ""),
        "server.json:2:53: tls.report.pqc_only: false lets clients in that have no post-quantum key exchange, and the \
         profile cnsa2 has no group for them\n  hint: remove this key, or choose another profile"
    );
    assert_eq!(
        error(r#"{"hybrid_mode": false, "pqc_only": true}"#, r#""kem": ["x25519mlkem768", "x25519"]"#),
        "server.json:2:20: tls.report: together with what is in force, algorithms.kem[0]: X25519MLKEM768 is a hybrid \
         group, and tls.hybrid_mode is false\n  hint: set tls.hybrid_mode to true, or name ml-kem-768 or ml-kem-1024"
    );
    assert_eq!(
        error("{}", ""),
        "server.json:2:20: tls.report: an empty report tries nothing\n  hint: say what to try, such as `\"pqc_only\": \
         true`, or remove it"
    );
    assert_eq!(
        FILES.error(
            "{\"certificates\": {CERT(ecdsa)}, \"virtual_hosts\": [{\"names\": [\"a.example\"],\n \"tls\": {\"report\": \
             {\"algorithms\": {\"cipher\": [\"rot13\"]}}}}]}"
        ),
        "server.json:2:47: virtual_hosts[0].tls.report.algorithms.cipher[0]: unknown cipher suite \"rot13\"\n  hint: \
         known are: aes-256-gcm, aes-128-gcm, chacha20-poly1305"
    );
}

#[test]
fn a_report_that_can_refuse_nobody_or_everybody_is_warned_about() {
    let warnings = |certificates: &str, tls: &str, more: &str| {
        let text = format!(r#"{{"certificates": {{{certificates}}}, "tls": {tls}{more}}}"#);
        let mut warnings = FILES.plan(&text).unwrap().warnings;
        warnings.retain(|warning| warning.contains("tls.report"));
        warnings
    };
    assert_eq!(warnings("CERT(ecdsa)", r#"{"report": {"pqc_only": true}}"#, ""), [""; 0]);
    let nobody = "tls.report would refuse nobody: what is in force is as strict, for the certificates that are here; \
                  remove it, or make it stricter";
    for tls in [
        r#"{"pqc_only": true, "report": {"pqc_only": true}}"#,
        r#"{"report": {"profile": "compatible"}}"#,
        r#"{"pqc_only": true, "report": {"pqc_only": false}}"#,
        r#"{"report": {"algorithms": {"signature": ["ecdsa-p256"]}}}"#,
    ] {
        assert_eq!(warnings("CERT(ecdsa)", tls, ""), [nobody], "{tls}");
    }
    assert_eq!(
        warnings("CERT(ecdsa)", r#"{"report": {"profile": "cnsa2"}}"#, ""),
        ["tls.report would refuse everybody, by the rule scheme: none of the certificates that are here fits it; get \
          one that does before it is put in force, and until then look at the other rules"]
    );
    assert_eq!(
        warnings(
            r#"CERT(ml-dsa), "verify_client": true, "ca_bundle": "DIR/ecdsa-root.pem""#,
            r#"{"report": {"profile": "cnsa2"}}"#,
            ""
        ),
        ["tls.report would refuse everybody, by the rule scheme: clients have to show a certificate, and none of the \
          trust anchors in certificates.ca_bundle has a key that it allows"]
    );
    // What is tried at the top needs no word where a host is as strict already; what a host tries itself does.
    let strict = r#"[{"names": ["a.example"], "tls": {"pqc_only": true}}]"#;
    assert_eq!(
        warnings("CERT(ecdsa)", r#"{"report": {"pqc_only": true}}"#, &format!(r#", "virtual_hosts": {strict}"#)),
        [""; 0]
    );
    let own = r#"[{"names": ["a.example"], "tls": {"pqc_only": true, "report": {"pqc_only": true}}}]"#;
    assert_eq!(
        warnings("CERT(ecdsa)", "{}", &format!(r#", "virtual_hosts": {own}"#)),
        [format!("a.example: {nobody}")]
    );
}

#[test]
fn each_host_tries_its_own() {
    let plan = FILES
        .plan(
            r#"{
              "certificates": {CERT(ml-dsa), "additional": [{"cert": "DIR/ecdsa.pem", "key": "DIR/ecdsa-key.pem"}]},
              "tls": {"report": {"pqc_only": true}},
              "virtual_hosts": [
                {"names": ["inherits.example"]},
                {"names": ["own.example"], "tls": {"report": {"profile": "cnsa2"}}},
                {"names": ["none.example"], "tls": {"report": null}},
                {"names": ["strict.example"], "tls": {"pqc_only": true}}
              ]
            }"#,
        )
        .unwrap();
    let browser = offer(&[Group::X25519MlKem768, Group::X25519], &ALL_SCHEMES);
    let classical = offer(&[Group::X25519], &ALL_SCHEMES[1..]);
    let each = |offer: &Offer| (0..5).map(|host| rules(&plan, host, offer)).collect::<Vec<_>>();
    assert_eq!(each(&browser), [vec![], vec![], vec![Rule::Group], vec![], vec![]]);
    assert_eq!(
        each(&classical),
        // The last one refuses it already.
        [vec![Rule::Group], vec![Rule::Group], vec![Rule::Group, Rule::Scheme], vec![], vec![]]
    );
    assert!(plan.hosts.host(3).endpoint.tried().is_none());
    let summary = plan.summary();
    assert!(
        summary[0].ends_with("; tls.report tries it without the groups x25519, secp384r1, secp256r1"),
        "{summary:?}"
    );
    assert!(summary[2].contains("the signatures ecdsa-p256"), "{summary:?}");
    assert!(!summary[3].contains("report") && !summary[4].contains("report"), "{summary:?}");
}

#[test]
fn a_clients_own_certificate_is_tried_too() {
    let plan = FILES
        .plan(
            r#"{
              "certificates": {CERT(ml-dsa), "verify_client": "optional", "ca_bundle": "DIR/roots.pem"},
              "tls": {"report": {"profile": "cnsa2"}}
            }"#,
        )
        .unwrap();
    let endpoint = &plan.hosts.host(0).endpoint;
    assert!(endpoint.would_refuse_chain(&FILES.client, UnixTime::now()), "its chain is ECDSA");
    assert!(!endpoint.would_refuse_chain(&[], UnixTime::now()), "it may show none");
    let plan = FILES
        .plan(
            r#"{
              "certificates": {CERT(ecdsa), "verify_client": true, "ca_bundle": "DIR/roots.pem"},
              "tls": {"report": {"algorithms": {"signature": ["ecdsa-p256"]}}}
            }"#,
        )
        .unwrap();
    assert!(!plan.hosts.host(0).endpoint.would_refuse_chain(&FILES.client, UnixTime::now()));
}
