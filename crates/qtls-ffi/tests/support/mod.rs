//! The functions of the header as a program in C calls them, a CA, and both sides of a connection in memory. Not every
//! test file uses all of it.
#![allow(dead_code, missing_docs, unreachable_pub, unsafe_code, clippy::unwrap_used)]
#![allow(clippy::undocumented_unsafe_blocks, reason = "a test is the program that keeps the rules of the header")]

pub mod nothing;
pub mod pki;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};

use qtls::abi::*;

pub use pki::Ca;

/// As in the header.
pub const NTS: usize = usize::MAX;

/// A status as the header names it, which is what tests compare.
pub fn name(status: c_int) -> &'static str {
    unsafe { CStr::from_ptr(qtls_status_name(status)) }.to_str().unwrap()
}

pub fn string(text: *const c_char) -> Option<String> {
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned())
}

/// What an error object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub status: &'static str,
    pub fault: c_int,
    pub sent: c_int,
    pub received: c_int,
    pub message: String,
    pub hint: Option<String>,
}

/// Calls something with an error, and answers with the status, or with what the error object says, which must agree.
pub fn call(function: impl FnOnce(*mut *mut qtls_error) -> c_int) -> Result<c_int, Failed> {
    let mut error = ptr::null_mut();
    let status = function(&mut error);
    if status >= 0 {
        assert!(error.is_null(), "{} with an error", name(status));
        return Ok(status);
    }
    let failed = taken(error);
    assert_eq!(failed.status, name(status));
    Err(failed)
}

/// As [`call`], for what makes something.
pub fn make<T>(function: impl FnOnce(*mut *mut qtls_error) -> *mut T) -> Result<*mut T, Failed> {
    let mut error = ptr::null_mut();
    let made = function(&mut error);
    if made.is_null() { Err(taken(error)) } else { Ok(made) }
}

fn taken(error: *mut qtls_error) -> Failed {
    assert!(!error.is_null(), "a failure without an error");
    unsafe {
        let failed = Failed {
            status: name(qtls_error_code(error)),
            fault: qtls_error_fault(error),
            sent: qtls_error_alert_sent(error),
            received: qtls_error_alert_received(error),
            message: string(qtls_error_message(error)).unwrap(),
            hint: string(qtls_error_hint(error)),
        };
        qtls_error_free(error);
        failed
    }
}

/// A reference to a configuration.
pub struct Config(pub *mut qtls_config);

// A frozen one may be used by any thread.
unsafe impl Send for Config {}
unsafe impl Sync for Config {}

impl Config {
    pub fn client() -> Self {
        Self(make(|error| unsafe { qtls_config_new(qtls_role::QTLS_CLIENT as c_int, error) }).unwrap())
    }

    pub fn server() -> Self {
        Self(make(|error| unsafe { qtls_config_new(qtls_role::QTLS_SERVER as c_int, error) }).unwrap())
    }

    /// Sets something.
    pub fn try_set(
        &self,
        setter: impl FnOnce(*mut qtls_config, *mut *mut qtls_error) -> c_int,
    ) -> Result<c_int, Failed> {
        call(|error| setter(self.0, error))
    }

    /// Sets something that can be set.
    #[must_use]
    pub fn set(self, setter: impl FnOnce(*mut qtls_config, *mut *mut qtls_error) -> c_int) -> Self {
        assert_eq!(self.try_set(setter), Ok(0));
        self
    }

    pub fn try_text(&self, setter: TextSetter, text: &str) -> Result<c_int, Failed> {
        self.try_set(|config, error| unsafe { setter(config, text.as_ptr().cast(), text.len(), error) })
    }

    #[must_use]
    pub fn text(self, setter: TextSetter, text: &str) -> Self {
        assert_eq!(self.try_text(setter, text), Ok(0), "{text}");
        self
    }

    #[must_use]
    pub fn number(
        self,
        setter: unsafe extern "C" fn(*mut qtls_config, c_int, *mut *mut qtls_error) -> c_int,
        number: c_int,
    ) -> Self {
        self.set(|config, error| unsafe { setter(config, number, error) })
    }

    #[must_use]
    pub fn alpn(self, protocol: &str) -> Self {
        self.set(|config, error| unsafe {
            qtls_config_add_alpn(config, protocol.as_ptr().cast(), protocol.len(), error)
        })
    }

    #[must_use]
    pub fn ca(self, pem: &str) -> Self {
        self.set(|config, error| unsafe { qtls_config_add_ca_pem(config, pem.as_ptr().cast(), pem.len(), error) })
    }

    #[must_use]
    pub fn crl(self, pem: &str) -> Self {
        self.set(|config, error| unsafe { qtls_config_add_crl_pem(config, pem.as_ptr().cast(), pem.len(), error) })
    }

    pub fn try_allowed(&self, field: &str, value: &str) -> Result<c_int, Failed> {
        let (field, value) = ((field.as_ptr().cast(), field.len()), (value.as_ptr().cast(), value.len()));
        self.try_set(|config, error| unsafe {
            qtls_config_add_allowed(config, field.0, field.1, value.0, value.1, error)
        })
    }

    #[must_use]
    pub fn allowed(self, field: &str, value: &str) -> Self {
        assert_eq!(self.try_allowed(field, value), Ok(0));
        self
    }

    pub fn try_files(&self, cert: &Path, key: &Path, passphrase: Option<&str>) -> Result<c_int, Failed> {
        let (cert, key) = (cert.as_os_str().as_encoded_bytes(), key.as_os_str().as_encoded_bytes());
        let (text, length) = passphrase.map_or((ptr::null(), 0), |text| (text.as_ptr(), text.len()));
        self.try_set(|config, error| unsafe {
            qtls_config_add_key_pair_files(
                config,
                cert.as_ptr().cast(),
                cert.len(),
                key.as_ptr().cast(),
                key.len(),
                text.cast(),
                length,
                error,
            )
        })
    }

    #[must_use]
    pub fn sessions(self, count: usize) -> Self {
        self.set(|config, error| unsafe { qtls_config_set_session_cache(config, count, error) })
    }

    pub fn try_timeout(&self, seconds: u32) -> Result<c_int, Failed> {
        self.try_set(|config, error| unsafe { qtls_config_set_session_timeout(config, seconds, error) })
    }

    /// Has `judge` asked about peers; `alone` says whether it decides alone.
    #[must_use]
    pub fn judged_by(self, judge: &Judge, alone: bool) -> Self {
        let user = ptr::from_ref(judge).cast_mut().cast();
        self.set(|config, error| unsafe {
            if alone {
                qtls_config_danger_set_trust_callback(config, Some(ask), user, error)
            } else {
                qtls_config_set_verify_callback(config, Some(ask), user, error)
            }
        })
    }

    /// Has the secrets of connections written down in `lines`.
    #[must_use]
    pub fn logging_to(self, lines: &Lines) -> Self {
        let user = ptr::from_ref(lines).cast_mut().cast();
        self.set(|config, error| unsafe {
            qtls_config_danger_set_key_log_callback(config, Some(write_down), user, error)
        })
    }

    pub fn try_key_pair(&self, pair: &pki::Pair, passphrase: Option<&str>) -> Result<c_int, Failed> {
        let (cert, key) = (&pair.cert, &pair.key);
        let (text, length) = passphrase.map_or((ptr::null(), 0), |text| (text.as_ptr(), text.len()));
        self.try_set(|config, error| unsafe {
            qtls_config_add_key_pair_pem(
                config,
                cert.as_ptr().cast(),
                cert.len(),
                key.as_ptr().cast(),
                key.len(),
                text.cast(),
                length,
                error,
            )
        })
    }

    #[must_use]
    pub fn key_pair(self, pair: &pki::Pair) -> Self {
        assert_eq!(self.try_key_pair(pair, None), Ok(0));
        self
    }

    pub fn try_freeze(&self) -> Result<c_int, Failed> {
        self.try_set(|config, error| unsafe { qtls_config_freeze(config, error) })
    }

    #[must_use]
    pub fn frozen(self) -> Self {
        assert_eq!(self.try_freeze(), Ok(0));
        self
    }

    pub fn notes(&self) -> Vec<String> {
        let count = unsafe { qtls_config_note_count(self.0) };
        assert_eq!(string(unsafe { qtls_config_note(self.0, count) }), None);
        (0..count).map(|index| string(unsafe { qtls_config_note(self.0, index) }).unwrap()).collect()
    }
}

pub type NumberSetter = unsafe extern "C" fn(*mut qtls_config, c_int, *mut *mut qtls_error) -> c_int;
pub type TextSetter = unsafe extern "C" fn(*mut qtls_config, *const c_char, usize, *mut *mut qtls_error) -> c_int;

impl Drop for Config {
    fn drop(&mut self) {
        unsafe { qtls_config_free(self.0) };
    }
}

pub fn try_number(config: &Config, setter: NumberSetter, number: c_int) -> Result<c_int, Failed> {
    config.try_set(|config, error| unsafe { setter(config, number, error) })
}

pub fn groups(config: *mut qtls_config, names: &[u8], error: *mut *mut qtls_error) -> c_int {
    unsafe { qtls_config_set_groups(config, names.as_ptr().cast(), names.len(), error) }
}

pub fn alpn(config: *mut qtls_config, protocol: &[u8], error: *mut *mut qtls_error) -> c_int {
    unsafe { qtls_config_add_alpn(config, protocol.as_ptr().cast(), protocol.len(), error) }
}

pub fn new_config(role: c_int, error: *mut *mut qtls_error) -> *mut qtls_config {
    unsafe { qtls_config_new(role, error) }
}

/// One more reference.
pub fn another(config: &Config) -> Config {
    Config(unsafe { qtls_config_ref(config.0) })
}

/// One side of a connection.
pub struct Conn(pub *mut qtls_conn);

// One thread at a time may use it.
unsafe impl Send for Conn {}

impl Conn {
    pub fn try_client(config: &Config, server_name: &str) -> Result<Self, Failed> {
        let (text, length) = (server_name.as_ptr().cast(), server_name.len());
        make(|error| unsafe { qtls_conn_new_client(config.0, text, length, error) }).map(Self)
    }

    pub fn client(config: &Config, server_name: &str) -> Self {
        Self::try_client(config, server_name).unwrap()
    }

    pub fn try_server(config: &Config) -> Result<Self, Failed> {
        make(|error| unsafe { qtls_conn_new_server(config.0, error) }).map(Self)
    }

    pub fn server(config: &Config) -> Self {
        Self::try_server(config).unwrap()
    }

    pub fn handshake(&self) -> Result<c_int, Failed> {
        call(|error| unsafe { qtls_conn_handshake(self.0, error) })
    }

    /// How much was taken, and how it went.
    pub fn feed(&self, data: &[u8]) -> (usize, Result<c_int, Failed>) {
        let mut consumed = usize::MAX;
        let outcome =
            call(|error| unsafe { qtls_conn_feed(self.0, data.as_ptr().cast(), data.len(), &mut consumed, error) });
        (consumed, outcome)
    }

    pub fn feed_eof(&self) -> Result<c_int, Failed> {
        call(|error| unsafe { qtls_conn_feed_eof(self.0, error) })
    }

    /// At most so much of what has to be sent.
    pub fn drain_some(&self, most: usize) -> Vec<u8> {
        let (mut buffer, mut produced) = (vec![0; most], usize::MAX);
        let drained =
            call(|error| unsafe { qtls_conn_drain(self.0, buffer.as_mut_ptr().cast(), most, &mut produced, error) });
        assert_eq!(drained, Ok(0));
        buffer.truncate(produced);
        buffer
    }

    /// Everything that has to be sent.
    pub fn drain(&self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let some = self.drain_some(1000);
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    }

    pub fn read(&self, buffer: &mut [u8]) -> (usize, Result<c_int, Failed>) {
        let mut count = usize::MAX;
        let outcome = call(|error| unsafe {
            qtls_conn_read(self.0, buffer.as_mut_ptr().cast(), buffer.len(), &mut count, error)
        });
        (count, outcome)
    }

    /// Everything that can be read, and what stands behind it.
    pub fn read_all(&self) -> (Vec<u8>, Result<c_int, Failed>) {
        let (mut all, mut buffer) = (Vec::new(), [0; 5000]);
        loop {
            match self.read(&mut buffer) {
                (count, Ok(0)) => all.extend_from_slice(&buffer[..count]),
                (count, outcome) => {
                    assert_eq!(count, 0);
                    return (all, outcome);
                }
            }
        }
    }

    pub fn write(&self, data: &[u8]) -> (usize, Result<c_int, Failed>) {
        let mut count = usize::MAX;
        let outcome =
            call(|error| unsafe { qtls_conn_write(self.0, data.as_ptr().cast(), data.len(), &mut count, error) });
        (count, outcome)
    }

    pub fn flush(&self) -> Result<c_int, Failed> {
        call(|error| unsafe { qtls_conn_flush(self.0, error) })
    }

    pub fn shutdown(&self) -> Result<c_int, Failed> {
        call(|error| unsafe { qtls_conn_shutdown(self.0, error) })
    }

    pub fn set_fd(&self, fd: c_int) -> Result<c_int, Failed> {
        call(|error| unsafe { qtls_conn_set_fd(self.0, fd, error) })
    }

    pub fn set_user(&self, user: usize) {
        let user = ptr::without_provenance_mut(user);
        assert_eq!(call(|error| unsafe { qtls_conn_set_user(self.0, user, error) }), Ok(0));
    }

    pub fn user(&self) -> usize {
        let user = unsafe { qtls_conn_user(self.0) };
        user as usize
    }

    pub fn want(&self) -> &'static str {
        name(unsafe { qtls_conn_want(self.0) })
    }

    pub fn pending(&self) -> usize {
        unsafe { qtls_conn_pending(self.0) }
    }

    pub fn info(&self) -> Result<Info, Failed> {
        let mut info: qtls_info = unsafe { std::mem::zeroed() };
        info.size = size_of::<qtls_info>();
        call(|error| unsafe { qtls_conn_info(self.0, &mut info, error) })?;
        assert_eq!(info.size, size_of::<qtls_info>());
        assert_eq!(string(info.version_name).as_deref(), Some("TLSv1.3"));
        assert_eq!(info.version, 0x0304);
        assert_eq!(string(info.group_name), string(qtls_group_name(info.group)));
        assert_eq!(c_int::from(info.group_post_quantum), qtls_group_is_post_quantum(info.group));
        let alpn = (!info.alpn.is_null()).then(|| {
            let protocol = unsafe { std::slice::from_raw_parts(info.alpn, info.alpn_len) };
            String::from_utf8(protocol.to_vec()).unwrap()
        });
        Ok(Info {
            group: string(info.group_name).unwrap(),
            post_quantum: info.group_post_quantum == 1,
            scheme: string(info.scheme_name),
            suite: string(info.suite_name).unwrap(),
            resumed: info.resumed == 1,
            retried: info.hello_retry_request == 1,
            alpn,
            server_name: string(info.server_name),
            peer_chain: info.peer_chain_length,
        })
    }

    pub fn peer_certificate(&self, index: usize) -> Result<Vec<u8>, Failed> {
        let (mut der, mut len) = (ptr::null(), 0);
        call(|error| unsafe { qtls_conn_peer_certificate(self.0, index, &mut der, &mut len, error) })?;
        Ok(unsafe { std::slice::from_raw_parts(der, len) }.to_vec())
    }

    pub fn identity(&self) -> Option<String> {
        string(unsafe { qtls_conn_peer_identity(self.0) })
    }

    pub fn export(&self, label: &str, context: &[u8], length: usize) -> Result<Vec<u8>, Failed> {
        let mut out = vec![0; length];
        call(|error| unsafe {
            qtls_conn_export(
                self.0,
                label.as_ptr().cast(),
                label.len(),
                context.as_ptr().cast::<c_void>(),
                context.len(),
                out.as_mut_ptr().cast(),
                length,
                error,
            )
        })?;
        Ok(out)
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        unsafe { qtls_conn_free(self.0) };
    }
}

/// What a verify callback was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub chain: Vec<Vec<u8>>,
    pub server_name: Option<String>,
    pub verdict: &'static str,
    pub message: Option<String>,
    pub conn_user: usize,
}

/// A verify callback that answers with `answer`, and takes down what it was told.
#[derive(Default)]
pub struct Judge {
    pub answer: c_int,
    /// A connection that it uses where it must not.
    pub meddles: AtomicPtr<qtls_conn>,
    pub asked: Mutex<Vec<Asked>>,
    /// What came of that.
    pub refused: Mutex<Vec<Failed>>,
}

impl Judge {
    pub fn with(answer: c_int) -> Self {
        Self { answer, ..Self::default() }
    }
}

unsafe extern "C" fn ask(user: *mut c_void, chain: *const qtls_chain) -> c_int {
    let judge = unsafe { &*user.cast::<Judge>() };
    let chain = unsafe { &*chain };
    assert_eq!(chain.size, size_of::<qtls_chain>());
    let certificates = unsafe { std::slice::from_raw_parts(chain.certificates, chain.count) };
    let lengths = unsafe { std::slice::from_raw_parts(chain.lengths, chain.count) };
    let der = |(der, length): (&*const u8, &usize)| unsafe { std::slice::from_raw_parts(*der, *length) }.to_vec();
    judge.asked.lock().unwrap().push(Asked {
        chain: certificates.iter().zip(lengths).map(der).collect(),
        server_name: string(chain.server_name),
        verdict: name(chain.verdict),
        message: string(chain.verdict_message),
        conn_user: chain.conn_user as usize,
    });
    let meddled = judge.meddles.load(Ordering::Relaxed);
    if !meddled.is_null() {
        let conn = std::mem::ManuallyDrop::new(Conn(meddled));
        let outcomes =
            [conn.handshake(), conn.write(b"a").1, conn.read(&mut [0; 1]).1, conn.feed(b"a").1, conn.shutdown()];
        judge.refused.lock().unwrap().extend(outcomes.map(Result::unwrap_err));
        assert_eq!((conn.pending(), conn.want(), conn.identity()), (0, "QTLS_OK", None));
        // Not freed under the feet of the call that it comes from.
        unsafe { qtls_conn_free(meddled) };
    }
    judge.answer
}

/// Where a key log goes.
#[derive(Default)]
pub struct Lines(pub Mutex<Vec<String>>);

unsafe extern "C" fn write_down(user: *mut c_void, line: *const c_char, length: usize) {
    let lines = unsafe { &*user.cast::<Lines>() };
    let line = unsafe { std::slice::from_raw_parts(line.cast(), length) };
    lines.0.lock().unwrap().push(String::from_utf8(line.to_vec()).unwrap());
}

/// What was negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub group: String,
    pub post_quantum: bool,
    pub scheme: Option<String>,
    pub suite: String,
    pub resumed: bool,
    pub retried: bool,
    pub alpn: Option<String>,
    pub server_name: Option<String>,
    pub peer_chain: usize,
}

/// Carries what each has to send to the other, in portions, until nothing moves any more. Everything is taken: nobody
/// has plaintext to be read that doesn't fit.
///
/// # Errors
/// Of the side that took something, first of the client's; what it had to say has been carried by then.
pub fn carry(client: &Conn, server: &Conn, portion: usize) -> Result<(), Failed> {
    let mut outcome = Ok(());
    loop {
        let mut moved = false;
        for (from, to) in [(client, server), (server, client)] {
            let bytes = from.drain();
            for part in bytes.chunks(portion) {
                moved = true;
                let (consumed, fed) = to.feed(part);
                if let Err(failed) = fed {
                    outcome = outcome.and(Err(failed));
                    break;
                }
                assert_eq!(consumed, part.len());
            }
        }
        if !moved {
            return outcome;
        }
    }
}

/// Both sides of a connection to a.example, with the handshake done.
pub fn connected(client: &Config, server: &Config) -> (Conn, Conn) {
    let (client, server) = (Conn::client(client, "a.example"), Conn::server(server));
    carry(&client, &server, usize::MAX).unwrap();
    assert_eq!((client.handshake(), server.handshake()), (Ok(0), Ok(0)));
    (client, server)
}
