//! A configuration while it is built: what was set so far, checked as far as it can be alone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qtls_core::credentials::{self, Credential, Passphrase, Source, files};
use qtls_core::error::Error;
use qtls_core::policy::{CipherSuite, Group, GroupPreference, KeyAlgorithm, Named, PolicyChoice, Profile, lookup};
use qtls_core::sessions::TicketKeyFile;
use qtls_core::verify::{AllowRule, Crl, RevocationMode, SpkiHash, TrustAnchors};
use rustls::KeyLog;
use rustls::pki_types::CertificateDer;

use crate::abi::qtls_fault::QTLS_FAULT_CONFIGURATION;
use crate::abi::qtls_status::QTLS_E_UNSUPPORTED;
use crate::failure::Failure;
use crate::judge::Judge;

/// The side that a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// Whether a server asks clients for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientAuth {
    None,
    Optional,
    Required,
}

/// What was set so far.
#[derive(Debug)]
pub(crate) struct Building {
    pub(crate) role: Role,
    pub(crate) choice: PolicyChoice,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) roots: Vec<CertificateDer<'static>>,
    pub(crate) client_auth: ClientAuth,
    pub(crate) depth: Option<usize>,
    pub(crate) crls: Vec<Crl>,
    pub(crate) crl_mode: RevocationMode,
    pub(crate) pins: Vec<SpkiHash>,
    pub(crate) allowed: Vec<(String, String)>,
    pub(crate) sends_name: bool,
    pub(crate) sessions: Option<usize>,
    pub(crate) session_timeout: Duration,
    pub(crate) ticket_keys: Option<TicketKeyFile>,
    pub(crate) judge: Option<Arc<Judge>>,
    pub(crate) key_log: Option<Arc<dyn KeyLog>>,
    /// What files had to say when they were read.
    pub(crate) notes: Vec<String>,
}

/// Seven days (RFC 9846 §4.6.1), in seconds.
const LONGEST_SESSION: u32 = 604_800;

impl Building {
    pub(crate) fn new(role: Role) -> Self {
        Self {
            role,
            choice: PolicyChoice::default(),
            alpn: Vec::new(),
            credentials: Vec::new(),
            roots: Vec::new(),
            client_auth: ClientAuth::None,
            depth: None,
            crls: Vec::new(),
            crl_mode: RevocationMode::default(),
            pins: Vec::new(),
            allowed: Vec::new(),
            sends_name: true,
            sessions: None,
            session_timeout: Duration::from_secs(3600),
            ticket_keys: None,
            judge: None,
            key_log: None,
            notes: Vec::new(),
        }
    }

    /// Refuses what is for the other side.
    pub(crate) fn only_for(&self, role: Role) -> Result<(), Failure> {
        match (self.role == role, role) {
            (true, _) => Ok(()),
            (false, Role::Server) => Err(Failure::misuse("this is for servers, and the configuration is a client's")),
            (false, Role::Client) => Err(Failure::misuse("this is for clients, and the configuration is a server's")),
        }
    }

    pub(crate) fn set_profile(&mut self, name: &str) -> Result<(), Failure> {
        self.choice.profile = lookup::<Profile>(name)?.0;
        Ok(())
    }

    pub(crate) fn set_groups(&mut self, list: &str) -> Result<(), Failure> {
        self.choice.names.kem = Some(names::<Group>(list)?);
        Ok(())
    }

    pub(crate) fn set_signatures(&mut self, list: &str) -> Result<(), Failure> {
        self.choice.names.signature = Some(names::<KeyAlgorithm>(list)?);
        Ok(())
    }

    pub(crate) fn set_chain_signatures(&mut self, list: &str) -> Result<(), Failure> {
        self.choice.names.signature_chain = Some(names::<KeyAlgorithm>(list)?);
        Ok(())
    }

    pub(crate) fn set_suites(&mut self, list: &str) -> Result<(), Failure> {
        self.choice.names.cipher = Some(names::<CipherSuite>(list)?);
        Ok(())
    }

    pub(crate) fn set_group_preference(&mut self, preference: GroupPreference) -> Result<(), Failure> {
        self.only_for(Role::Server)?;
        self.choice.group_preference = preference;
        Ok(())
    }

    pub(crate) fn add_alpn(&mut self, protocol: &[u8]) -> Result<(), Failure> {
        if protocol.is_empty() || protocol.len() > 255 {
            let message = format!("a protocol's identifier has 1 to 255 bytes, and this one has {}", protocol.len());
            return Err(Failure::configuration(message));
        }
        if self.alpn.iter().any(|known| known == protocol) {
            let shown = protocol.escape_ascii();
            return Err(Failure::configuration(format!("the protocol \"{shown}\" has been added before")));
        }
        self.alpn.push(protocol.to_vec());
        Ok(())
    }

    pub(crate) fn add_key_pair(
        &mut self,
        cert: &[u8],
        key: &[u8],
        passphrase: Option<Passphrase>,
    ) -> Result<(), Failure> {
        let name = match self.credentials.len() {
            0 => "certificate".to_owned(),
            before => format!("certificate {}", before + 1),
        };
        let (cert, key) = (Source { origin: &name, bytes: cert }, Source { origin: "the key", bytes: key });
        let credential = Credential::from_sources(name.clone(), cert, key, passphrase.as_ref())?;
        self.add_credential(credential)
    }

    pub(crate) fn add_key_pair_files(
        &mut self,
        cert: &Path,
        key: &Path,
        passphrase: Option<Passphrase>,
    ) -> Result<(), Failure> {
        for path in [cert, key] {
            let scheme = path.as_os_str().as_encoded_bytes().get(..7);
            if scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"pkcs11:")) {
                let message = "this build has no HSM support: it can't use keys that are named by pkcs11: URIs";
                return Err(Failure::new(QTLS_E_UNSUPPORTED, QTLS_FAULT_CONFIGURATION, message)
                    .hint("qtls_has_feature(\"hsm\", QTLS_NTS) tells; keep the key in a file, or use another build"));
            }
        }
        let about_files =
            |error: Error| Failure::from(error).about_file(&files::resolve(cert)).about_file(&files::resolve(key));
        let credential = files::credential_with(cert, key, passphrase.as_ref()).map_err(about_files)?;
        self.add_credential(credential)
    }

    fn add_credential(&mut self, credential: Credential) -> Result<(), Failure> {
        if self.role == Role::Client && !self.credentials.is_empty() {
            return Err(Failure::misuse(
                "a client has one certificate at most, and this configuration has one already",
            ));
        }
        self.credentials.push(credential);
        Ok(())
    }

    pub(crate) fn add_ca(&mut self, pem: &[u8]) -> Result<(), Failure> {
        let certificates = credentials::certificates(Source { origin: "the CA certificates", bytes: pem })?;
        self.trust(certificates, "the CA certificates")
    }

    pub(crate) fn add_ca_file(&mut self, path: &Path) -> Result<(), Failure> {
        let about_file = |error: Error| Failure::from(error).about_file(&files::resolve(path));
        let anchors = files::anchors(path).map_err(about_file)?;
        self.notes.extend(anchors.warnings);
        self.trust(anchors.certificates, &path.display().to_string())
    }

    pub(crate) fn use_system_roots(&mut self) -> Result<(), Failure> {
        self.roots.extend(files::system_roots()?);
        Ok(())
    }

    fn trust(&mut self, certificates: Vec<CertificateDer<'static>>, origin: &str) -> Result<(), Failure> {
        TrustAnchors::new(certificates.iter().cloned(), None, Arc::default()).map_err(|error| error.at(origin))?;
        for certificate in certificates {
            if !self.roots.contains(&certificate) {
                self.roots.push(certificate);
            }
        }
        Ok(())
    }

    pub(crate) fn add_crl(&mut self, pem: &[u8]) -> Result<(), Failure> {
        self.crls.extend(Crl::parse(Source { origin: "the CRL", bytes: pem })?);
        Ok(())
    }

    pub(crate) fn add_crl_file(&mut self, path: &Path) -> Result<(), Failure> {
        let found = files::crls([path]).map_err(|error| Failure::from(error).about_file(path))?;
        self.notes.extend(found.warnings);
        self.crls.extend(found.crls);
        Ok(())
    }

    pub(crate) fn add_pin(&mut self, text: &str) -> Result<(), Failure> {
        self.pins.push(SpkiHash::parse(text)?);
        Ok(())
    }

    pub(crate) fn add_allowed(&mut self, field: &str, value: &str) -> Result<(), Failure> {
        self.only_for(Role::Server)?;
        AllowRule::parse(field, value)?;
        self.allowed.push((field.to_owned(), value.to_owned()));
        Ok(())
    }

    pub(crate) fn set_session_timeout(&mut self, seconds: u32) -> Result<(), Failure> {
        self.only_for(Role::Server)?;
        if seconds > LONGEST_SESSION {
            let message = format!("a session of TLS 1.3 lasts {LONGEST_SESSION} seconds at most, not {seconds}");
            return Err(Failure::configuration(message));
        }
        self.session_timeout = Duration::from_secs(seconds.into());
        Ok(())
    }

    pub(crate) fn set_ticket_keys(&mut self, text: &[u8]) -> Result<(), Failure> {
        self.only_for(Role::Server)?;
        self.ticket_keys = Some(TicketKeyFile::parse(Source { origin: "the ticket keys", bytes: text })?);
        Ok(())
    }
}

/// The names of a list, each of which is in the table. What becomes of them together is the policy's to say.
fn names<T: Named>(list: &str) -> Result<Vec<String>, Failure> {
    let names: Vec<_> = list.split([',', ':']).map(|name| name.trim().to_owned()).collect();
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(Failure::configuration(format!("name {} of the list is empty", index + 1))
                .hint("write names with one comma or colon between each two, and none before or behind them"));
        }
        lookup::<T>(name)?;
    }
    Ok(names)
}
