//! The thin layer that reads credential files, with errors that name the path, the reason, and as which user.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use zeroize::Zeroizing;

use super::{Credential, Passphrase, Source, certificates, date, display_name, private_key};
use crate::sessions::{TicketKeyFile, TicketSecret};
use crate::verify::Crl;
use crate::{Error, Result};

/// The largest file that is read, in octets: room for a bundle of every public root, ten times over.
pub const MAX_SIZE: u64 = 8 * 1024 * 1024;

/// Reads a file that is no secret.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    read_secret(path).map(|mut content| std::mem::take(&mut *content))
}

/// Reads a file whose content is wiped when the returned value is dropped.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    read_or(path, "correct the path, or make test certificates with `qtls quickstart --dir DIR --name NAME`")
}

fn read_or(path: &Path, make: &str) -> Result<Zeroizing<Vec<u8>>> {
    let fail = |error: std::io::Error| unreadable(path, &error, make);
    let file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if metadata.is_dir() {
        return Err(Error::certificate("is a directory, not a file").at(path.display()));
    }
    // The one allocation is made up front: growing would leave copies of a secret behind.
    let mut content = Zeroizing::new(Vec::with_capacity(metadata.len().min(MAX_SIZE) as usize + 1));
    file.take(MAX_SIZE + 1).read_to_end(&mut content).map_err(fail)?;
    if content.len() as u64 > MAX_SIZE {
        return Err(Error::certificate(format!(
            "is larger than {} MiB: this can't be a certificate or a key",
            MAX_SIZE >> 20
        ))
        .at(path.display()));
    }
    Ok(content)
}

/// The ticket keys in a file.
pub fn ticket_keys(path: &Path) -> Result<TicketKeyFile> {
    let content = read_or(path, "correct the path, or make the file with `qtls ticket-keys generate FILE`")?;
    TicketKeyFile::parse(Source { origin: &path.to_string_lossy(), bytes: &content })
}

/// The secret in a file, for ticket keys to be derived from.
pub fn ticket_secret(path: &Path) -> Result<TicketSecret> {
    let make = "correct the path, or make the file with `qtls ticket-keys generate --secret FILE`; every server needs the \
                same";
    TicketSecret::new(read_or(path, make)?, path.display())
}

/// A sentence about a secret file that every user of the machine may read; `None` where it is not so.
#[cfg(unix)]
pub fn open_to_everybody(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o004 != 0).then(|| {
        format!(
            "{}: every user of this machine may read this secret file (mode {mode:04o}): take that right away with \
             `chmod o-rwx`, or with `defaultMode` where Kubernetes mounts it",
            path.display()
        )
    })
}

/// A passphrase from a file, whose one line it is.
pub fn passphrase(path: &Path) -> Result<Passphrase> {
    Passphrase::new(read_secret(path)?, path.display().to_string())
}

/// A passphrase from an environment variable.
pub fn passphrase_from_environment(variable: &str) -> Result<Passphrase> {
    let origin = format!("environment variable {variable}");
    match std::env::var_os(variable) {
        Some(value) => Passphrase::new(Zeroizing::new(value.into_encoded_bytes()), origin),
        None => Err(Error::configuration("is not set, and holds the passphrase of a private key")
            .at(origin)
            .hint("set it in the environment of the service, or keep the passphrase in a file")),
    }
}

/// [`credential_with`] for a key that isn't encrypted.
pub fn credential(cert: &Path, key: &Path) -> Result<Credential> {
    credential_with(cert, key, None)
}

/// The chain in `cert` with the key in `key`; named after the stem of `cert`. Both paths are tried as [`resolve`] says.
pub fn credential_with(cert: &Path, key: &Path, passphrase: Option<&Passphrase>) -> Result<Credential> {
    let (cert, key) = (resolve(cert), resolve(key));
    let (cert_bytes, key_bytes) = (read(&cert)?, read_secret(&key)?);
    let name = cert.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Credential::from_sources(
        name,
        Source { origin: &cert.to_string_lossy(), bytes: &cert_bytes },
        Source { origin: &key.to_string_lossy(), bytes: &key_bytes },
        passphrase,
    )
}

/// `path`, or if nothing is there the same without or with `.pem`, if that exists: Kubernetes Secret keys are
/// customarily named `server-cert`, files `server-cert.pem`.
pub fn resolve(path: &Path) -> PathBuf {
    if path.exists() {
        return path.to_owned();
    }
    let other = match path.extension() {
        Some(extension) if extension == "pem" => path.with_extension(""),
        _ => {
            let mut name = path.as_os_str().to_owned();
            name.push(".pem");
            PathBuf::from(name)
        }
    };
    if other.is_file() { other } else { path.to_owned() }
}

/// Trust anchors from a file or a directory, and what was skipped on the way.
#[derive(Clone, Debug, Default)]
pub struct Anchors {
    /// The anchors, each once.
    pub certificates: Vec<CertificateDer<'static>>,
    /// One sentence about each file of a directory that holds no trust anchor, and about each anchor whose period is
    /// over or has not begun: chains up to it verify here, but not everywhere.
    pub warnings: Vec<String>,
}

/// The trust anchors of [`anchors`], for callers that tell nobody what was skipped.
pub fn roots(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    anchors(path).map(|anchors| anchors.certificates)
}

/// The trust anchors in a bundle (PEM or DER), or in the files of a directory.
///
/// In a bundle each certificate must be readable as an anchor. In a directory a file without one is skipped with a
/// warning, but a file that can't be read is an error, and so is a directory without any anchor. Hidden files and
/// subdirectories are passed over. The path is tried as [`resolve`] says.
pub fn anchors(path: &Path) -> Result<Anchors> {
    let path = resolve(path);
    let mut found = Anchors::default();
    if !path.is_dir() {
        found.certificates = bundle(&path)?;
        found.warnings = out_of_period(&found.certificates, &path, SystemTime::now());
        return Ok(found);
    }
    for file in entries(&path)? {
        let bytes = read(&file)?;
        match anchors_in(&file, &bytes) {
            Ok(certificates) => {
                found.warnings.extend(out_of_period(&certificates, &file, SystemTime::now()));
                for certificate in certificates {
                    // Directories made by `openssl rehash` name each file twice.
                    if !found.certificates.contains(&certificate) {
                        found.certificates.push(certificate);
                    }
                }
            }
            Err(error) => found.warnings.push(format!("skipped: {}: {}", file.display(), error.message())),
        }
    }
    if found.certificates.is_empty() {
        return Err(Error::certificate("is a directory that holds no CA certificate")
            .at(path.display())
            .hint("put CA certificates into it, in PEM or DER"));
    }
    Ok(found)
}

/// CRLs from files and directories, and what was skipped on the way.
#[derive(Clone, Debug, Default)]
pub struct Crls {
    /// The CRLs.
    pub crls: Vec<Crl>,
    /// One sentence about each file of a directory that holds no CRL.
    pub warnings: Vec<String>,
}

/// The CRLs (PEM or DER) in files and in the files of directories.
///
/// A file must hold a usable CRL. In a directory a file without one is skipped with a warning, but a file that holds
/// an unusable CRL or can't be read is an error: what it revokes must not be forgotten in silence. A directory may be
/// empty; what that means is [`Revocation`](crate::verify::Revocation)'s to say.
pub fn crls<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Crls> {
    let mut found = Crls::default();
    for path in paths {
        let path = path.as_ref();
        if !path.is_dir() {
            found.crls.extend(crls_in(path)?);
            continue;
        }
        for file in entries(path)? {
            if is_crl(&read(&file)?) {
                found.crls.extend(crls_in(&file)?);
            } else {
                found.warnings.push(format!("skipped: {}: holds no CRL", file.display()));
            }
        }
    }
    Ok(found)
}

fn crls_in(path: &Path) -> Result<Vec<Crl>> {
    Crl::parse(Source { origin: &path.to_string_lossy(), bytes: &read(path)? })
}

/// Certificates and keys are commonly kept beside CRLs; a damaged CRL must not pass for one of them.
fn is_crl(bytes: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN X509 CRL-----";
    if bytes.windows(BEGIN.len()).any(|window| window == BEGIN) {
        return true;
    }
    let source = Source { origin: "", bytes };
    bytes.first() == Some(&0x30) && certificates(source).is_err() && private_key(source, None).is_err()
}

/// The files of a directory in the order of their names, without hidden ones and directories.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let fail = |error: std::io::Error| unreadable(directory, &error, "correct the path");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        // Mounted Kubernetes volumes keep what their symbolic links point to under names that begin with two dots.
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let path = entry.path();
        if !hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// webpki takes an anchor as a name and a key (RFC 5280, section 6.1), without its period.
fn out_of_period(anchors: &[CertificateDer<'_>], path: &Path, now: SystemTime) -> Vec<String> {
    let trouble = |anchor: &CertificateDer<'_>| {
        // What can't be read in full is an anchor all the same.
        let parsed = Certificate::from_der(anchor).ok()?;
        let validity = parsed.tbs_certificate().validity();
        let (from, to) = (validity.not_before.to_system_time(), validity.not_after.to_system_time());
        let what = if now > to {
            format!("expired on {}", date(to))
        } else if now < from {
            format!("is not valid before {}", date(from))
        } else {
            return None;
        };
        let subject = display_name(parsed.tbs_certificate().subject());
        Some(format!("{}: the trust anchor {subject} {what}: other programs refuse what it issued", path.display()))
    };
    anchors.iter().filter_map(trouble).collect()
}

fn bundle(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    anchors_in(path, &read(path)?)
}

fn anchors_in(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let origin = path.to_string_lossy();
    let found = certificates(Source { origin: &origin, bytes })?;
    for (index, certificate) in found.iter().enumerate() {
        webpki::anchor_from_trusted_cert(certificate).map_err(|error| {
            Error::certificate(format!("certificate {} can't be a trust anchor: {error}", index + 1))
                .at(&origin)
                .hint("a bundle holds CA certificates in `CERTIFICATE` sections: remove or replace this one")
        })?;
    }
    Ok(found)
}

/// The trust anchors of the operating system, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
pub fn system_roots() -> Result<Vec<CertificateDer<'static>>> {
    let loaded = rustls_native_certs::load_native_certs();
    if !loaded.certs.is_empty() {
        return Ok(loaded.certs);
    }
    let reason = loaded.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
    Err(Error::configuration(format!("the system has no trust anchors{reason}"))
        .hint("install them (Debian: `apt-get install ca-certificates`), or name a CA bundle of your own"))
}

/// The files and directories that [`system_roots`] reads.
pub fn system_root_paths() -> Vec<PathBuf> {
    let found = openssl_probe::probe();
    let mut paths: Vec<_> = found.cert_file.into_iter().chain(found.cert_dir).collect();
    // A directory that the environment names may be the usual one.
    paths.sort_unstable();
    paths.dedup();
    paths
}

fn unreadable(path: &Path, error: &std::io::Error, make: &str) -> Error {
    let place = path.display();
    match error.kind() {
        ErrorKind::NotFound => match missing_parent(path) {
            Some(parent) => {
                Error::certificate(format!("does not exist: there is no directory {}", parent.display())).at(place)
            }
            None => Error::certificate("does not exist").at(place),
        }
        .hint(make),
        ErrorKind::PermissionDenied => Error::certificate(format!("may not be read by {}", current_user()))
            .at(place)
            .hint("give that user read access to the file and search access (x) to each directory above it"),
        _ => Error::certificate(format!("can't be read: {error}")).at(place),
    }
}

fn missing_parent(path: &Path) -> Option<&Path> {
    path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()).last()
}

/// `user qtls (uid 998)`. From files and not from system calls, since this crate has no unsafe code.
fn current_user() -> String {
    let Some(uid) = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| effective_uid(&status)) else {
        return "this user".to_owned();
    };
    match std::fs::read_to_string("/etc/passwd").ok().and_then(|passwd| user_name(&passwd, uid)) {
        Some(name) => format!("user {name} (uid {uid})"),
        None => format!("uid {uid}"),
    }
}

fn effective_uid(status: &str) -> Option<u32> {
    // Real, effective, saved and file system uid (proc_pid_status(5)); opening files goes by the last.
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(3)?.parse().ok()
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::super::test_chain::{certificate, chain_pem, pem};
    use super::super::{KeyKind, generate, signing_key};
    use super::*;
    use crate::policy::KeyAlgorithm;

    fn refusal<T>(result: Result<T>) -> String {
        match result {
            Ok(_) => panic!("was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_path_means_the_variant_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let write = |name: &str| std::fs::write(path(name), "").unwrap();
        assert_eq!(resolve(&path("a.pem")), path("a.pem"), "an absent file keeps its name for the error");
        write("a");
        assert_eq!(resolve(&path("a.pem")), path("a"));
        write("a.pem");
        assert_eq!(resolve(&path("a.pem")), path("a.pem"));
        write("b.crt.pem");
        assert_eq!(resolve(&path("b.crt")), path("b.crt.pem"));
        std::fs::create_dir(path("c")).unwrap();
        assert_eq!(resolve(&path("c.pem")), path("c.pem"), "a directory is no variant of a file");
    }

    #[test]
    fn a_missing_file_is_told_from_a_missing_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("server-cert.pem");
        let error = refusal(read(&file));
        assert!(error.starts_with(&format!("{}: does not exist\n", file.display())), "{error}");
        let error = refusal(read(&dir.path().join("certs/deep/server-cert.pem")));
        assert!(error.contains(&format!("there is no directory {}", dir.path().join("certs").display())), "{error}");
    }

    #[test]
    fn directories_and_huge_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(refusal(read(dir.path())).contains("is a directory, not a file"));
        let huge = dir.path().join("huge");
        File::create(&huge).unwrap().set_len(MAX_SIZE + 1).unwrap();
        assert!(refusal(read(&huge)).contains("is larger than 8 MiB"));
        File::create(&huge).unwrap().set_len(MAX_SIZE).unwrap();
        assert_eq!(read(&huge).unwrap().len() as u64, MAX_SIZE);
    }

    #[test]
    fn a_refused_permission_names_the_user() {
        let denied = std::io::Error::from(ErrorKind::PermissionDenied);
        let error = unreadable(Path::new("/etc/qtls/certs/server-key.pem"), &denied, "").to_string();
        assert!(error.starts_with("/etc/qtls/certs/server-key.pem: may not be read by "), "{error}");
        assert_eq!(effective_uid("Name:\tx\nUid:\t0\t0\t0\t998\nGid:\t1\t1\t1\t1\n"), Some(998));
        let passwd = "root:x:0:0::/root:/bin/sh\nqtls:x:998:997::/var/lib/qtls:/bin/false\n";
        assert_eq!(user_name(passwd, 998).as_deref(), Some("qtls"));
        assert_eq!(user_name(passwd, 997), None);
    }

    #[test]
    fn both_customary_file_names_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let with = dir.path().join("server-cert.pem");
        let without = dir.path().join("server-cert");
        assert_eq!(resolve(&with), with, "when neither is there, messages name the configured one");
        std::fs::write(&without, "x").unwrap();
        assert_eq!(resolve(&with), without);
        std::fs::write(&with, "x").unwrap();
        assert_eq!(resolve(&with), with);
        std::fs::remove_file(&without).unwrap();
        assert_eq!(resolve(&without), with);
    }

    #[test]
    fn a_credential_is_read_from_files_and_named_after_them() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("server-cert.pem"), dir.path().join("server-key.pem"));
        let der = generate(KeyAlgorithm::EcdsaP256).unwrap();
        let leaf = certificate("x", signing_key(&der).unwrap().as_ref(), -60, 60, &["x.example"]);
        std::fs::write(&cert, chain_pem(&[leaf])).unwrap();
        std::fs::write(&key, pem("PRIVATE KEY", der.secret_der())).unwrap();
        let read = credential(&cert, &key).unwrap();
        assert_eq!((read.name.as_str(), read.kind), ("server-cert", KeyKind::EcdsaP256));
        let error = refusal(credential(&cert, &cert));
        assert!(error.starts_with(&format!("{}: holds no private key", cert.display())), "{error}");
    }

    #[test]
    fn passphrases_come_from_files_and_variables() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("passphrase");
        std::fs::write(&file, "sesame\n").unwrap();
        assert_eq!(passphrase(&file).unwrap().origin(), file.to_string_lossy());
        let error = refusal(passphrase_from_environment("QTLS_TEST_PASSPHRASE_THAT_IS_NOT_SET"));
        assert!(error.starts_with("environment variable QTLS_TEST_PASSPHRASE_THAT_IS_NOT_SET: is not set"), "{error}");
        // Every test process has this one.
        assert!(passphrase_from_environment("PATH").is_ok());
    }

    #[test]
    fn a_directory_gives_every_anchor_once_and_tells_what_it_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let ca = |name: &str| {
            certificate(name, signing_key(&generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap().as_ref(), -60, 60, &[])
        };
        let error = refusal(anchors(dir.path()));
        assert!(error.contains("is a directory that holds no CA certificate"), "{error}");
        let (one, two) = (ca("one"), ca("two"));
        let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
        put("one.pem", &chain_pem(std::slice::from_ref(&one)));
        put("two.der", &two);
        put("3ea1b7c2.0", &chain_pem(&[one.clone(), two.clone()]));
        put("README", b"CA certificates of the site");
        put(".hidden", b"x");
        std::fs::create_dir(dir.path().join("old")).unwrap();
        let found = anchors(dir.path()).unwrap();
        assert_eq!(found.certificates, [one, two]);
        assert_eq!(found.warnings.len(), 1, "{:?}", found.warnings);
        assert!(found.warnings[0].contains("README: holds no certificate: it has no PEM section"));
    }

    #[test]
    fn an_expired_anchor_is_an_anchor_and_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let signer = signing_key(&generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap();
        let roots = [("old", -120, -60), ("now", -60, 60), ("next", 60, 120)]
            .map(|(name, from, to)| certificate(name, signer.as_ref(), from, to, &[]));
        let file = dir.path().join("ca-bundle.pem");
        std::fs::write(&file, chain_pem(&roots)).unwrap();
        for path in [file.as_path(), dir.path()] {
            let found = anchors(path).unwrap();
            assert_eq!(found.certificates, roots);
            assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
            assert!(found.warnings[0].contains("ca-bundle.pem: the trust anchor CN=old expired on 20"));
            assert!(found.warnings[1].contains("the trust anchor CN=next is not valid before 20"));
        }
    }

    #[test]
    fn a_bundle_with_a_certificate_that_is_no_anchor_is_told_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca-bundle.pem");
        let der = generate(KeyAlgorithm::EcdsaP256).unwrap();
        let root = certificate("root", signing_key(&der).unwrap().as_ref(), -60, 60, &[]);
        std::fs::write(&path, chain_pem(&[root.clone(), root.clone()])).unwrap();
        assert_eq!(roots(&path).unwrap().len(), 2);
        std::fs::write(&path, chain_pem(&[root, CertificateDer::from(vec![0x30, 0x00])])).unwrap();
        assert!(refusal(roots(&path)).contains("certificate 2 can't be a trust anchor"));
    }
}
