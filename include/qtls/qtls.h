/*
 * Q-TLS: TLS 1.3 with post-quantum key exchange and signatures.
 *
 * Generated from crates/qtls-ffi by `cargo run -p xtask -- generate`: change it there.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

/**
 * @file
 * The rules that hold for every function:
 *
 * - **Status.** A function that can fail returns an int, one of qtls_status: QTLS_OK (0), a positive value that says what
 *   to wait for or that the end was reached, or a negative error. Its last parameter takes an error object: it may be NULL;
 *   where it isn't, `*error` is set if the call fails, and left alone if it doesn't. Free the object with
 *   qtls_error_free(), before the variable is passed again. Functions that make something return NULL where they fail.
 * - **NULL.** A NULL where an object, a buffer or an output is needed is QTLS_E_MISUSE; functions that return a value return
 *   0 or NULL. To free NULL does nothing. Any pointer that is neither NULL nor valid is undefined behaviour.
 * - **Texts.** Names and paths are UTF-8 with a length in bytes; QTLS_NTS as the length says that a NUL byte ends them. A
 *   NUL byte before that length, or what isn't UTF-8, is QTLS_E_TEXT (paths may be any bytes but NUL). Texts that the
 *   library returns are UTF-8 and end with a NUL byte.
 * - **Data.** Everything else comes with a length in bytes, and may have any content. With length 0 the pointer may be
 *   NULL.
 * - **Borrowed pointers.** What a function returns or fills in belongs to the object that it was asked of, and is valid
 *   until the next call on that object, unless its documentation says that it is valid for longer.
 * - **Threads.** Different objects may be used by different threads at once. A configuration is used by one thread while
 *   it is built, and by any number once it is frozen. A connection and an error are used by one thread at a time. The
 *   library has no global state, starts no threads, and has nothing to be initialised.
 * - **Bugs.** No function ends the program or unwinds into it: a bug of the library is QTLS_E_INTERNAL, and the connection
 *   it happened in can't be used any more.
 */

#ifndef QTLS_H
#define QTLS_H

#include <stddef.h>
#include <stdint.h>

/** The version of this header. */
#define QTLS_VERSION "1.0.0"
/** The version of this header as a number: major, minor and patch version, a byte each. */
#define QTLS_VERSION_NUMBER 0x010000u
/** As the length of a text: a NUL byte ends it. */
#define QTLS_NTS ((size_t)-1)

/**
 * What a call came to.
 *
 * Zero and positive values are no errors: QTLS_OK, or a combination of QTLS_WANT_READ and QTLS_WANT_WRITE, or QTLS_EOF.
 * Negative values are errors. Their numbers stay as they are from version to version, and the number of an error that no
 * longer occurs is not used again. New numbers may come: treat those that you don't know by their sign.
 */
typedef enum qtls_status {
    /** Done. */
    QTLS_OK = 0,
    /**
     * Bytes from the peer are needed first: wait until the descriptor is readable, or feed. May be combined with
     * QTLS_WANT_WRITE.
     */
    QTLS_WANT_READ = 1,
    /** Bytes for the peer have to leave first: wait until the descriptor is writable, or drain. */
    QTLS_WANT_WRITE = 2,
    /**
     * The peer said that it sends no more (close_notify). The end of the transport without that is
     * QTLS_E_TRUNCATED.
     */
    QTLS_EOF = 4,
    /** A bug of the library, or the operating system refused something. The connection can't be used any more. */
    QTLS_E_INTERNAL = -1,
    /**
     * The function was called in a way that its documentation excludes: a NULL where an object is needed, a wrong
     * role, a number out of range, or too early.
     */
    QTLS_E_MISUSE = -2,
    /** The configuration is frozen: it can't be changed, and not be frozen again. */
    QTLS_E_FROZEN = -3,
    /** A connection needs a frozen configuration. */
    QTLS_E_NOT_FROZEN = -4,
    /** A name or a path has a NUL byte in it, or is not UTF-8, or is empty. */
    QTLS_E_TEXT = -5,
    /** The object is in use: by another thread, or by the callback that this call comes from. */
    QTLS_E_BUSY = -6,
    /** Nothing can be written after qtls_conn_shutdown(). */
    QTLS_E_SHUT_DOWN = -7,
    /** The handshake isn't complete, and what was asked for is known only then. */
    QTLS_E_NOT_YET = -8,
    /** This build has no support for it: its message says for what. */
    QTLS_E_UNSUPPORTED = -9,
    /** A value that the configuration can't have: an unknown name, a contradiction, something that is missing. */
    QTLS_E_CONFIGURATION = -20,
    /**
     * One of this side's own certificates or keys can't be used: damaged, not belonging together, wrong passphrase,
     * or not allowed by the policy.
     */
    QTLS_E_CERTIFICATE = -21,
    /** A file doesn't exist, or can't be read. */
    QTLS_E_FILE = -22,
    /** Reading from or writing to the descriptor failed. */
    QTLS_E_NETWORK = -40,
    /** The transport ended without a close_notify: what was received may be incomplete. */
    QTLS_E_TRUNCATED = -41,
    /** The peer's certificate chain was refused, for a reason without a number of its own. */
    QTLS_E_PEER_CERTIFICATE = -60,
    /** A certificate of the peer's chain has expired. */
    QTLS_E_PEER_EXPIRED = -61,
    /** A certificate of the peer's chain is not valid yet. */
    QTLS_E_PEER_NOT_YET_VALID = -62,
    /** The peer's chain leads to none of the trust anchors. */
    QTLS_E_PEER_UNKNOWN_ISSUER = -63,
    /** The server's certificate is for other names. */
    QTLS_E_PEER_WRONG_NAME = -64,
    /** The peer's certificate is not made for its side of TLS. */
    QTLS_E_PEER_WRONG_PURPOSE = -65,
    /** A certificate of the peer's chain is revoked. */
    QTLS_E_PEER_REVOKED = -66,
    /** No CRL says whether a certificate of the peer's chain is revoked. */
    QTLS_E_PEER_REVOCATION_UNKNOWN = -67,
    /** The CRL for a certificate of the peer's chain is out of date. */
    QTLS_E_PEER_REVOCATION_STALE = -68,
    /** The client showed no certificate, and one is required. */
    QTLS_E_PEER_NO_CERTIFICATE = -69,
    /** The client's certificate is valid, and no rule of qtls_config_add_allowed() names its holder. */
    QTLS_E_PEER_NOT_ALLOWED = -70,
    /** The verify callback refused the peer. */
    QTLS_E_PEER_REFUSED = -71,
    /** The verify callback returned something else than one of its two answers. */
    QTLS_E_CALLBACK = -72,
    /** The peer ended the handshake or the connection with an alert: see qtls_error_alert_received(). */
    QTLS_E_ALERT = -80,
    /** The peer broke the protocol. */
    QTLS_E_PROTOCOL = -81,
    /** What the peer sent is not TLS. */
    QTLS_E_NOT_TLS = -82,
    /** A record from the peer can't be decrypted: it was changed on the way. */
    QTLS_E_DECRYPT = -83,
    /** The peer and the policy have something else not in common than what follows. */
    QTLS_E_INCOMPATIBLE = -100,
    /** The peer and the policy have no key exchange group in common. */
    QTLS_E_NO_COMMON_GROUP = -101,
    /** The peer and the policy have no signature scheme in common that a certificate can sign with. */
    QTLS_E_NO_COMMON_SCHEME = -102,
    /** The peer and the policy have no cipher suite in common. */
    QTLS_E_NO_COMMON_SUITE = -103,
    /** The peer doesn't speak TLS 1.3. */
    QTLS_E_NO_COMMON_VERSION = -104,
    /** The peer offers no protocol by ALPN that is spoken here. */
    QTLS_E_NO_COMMON_ALPN = -105,
    /** A signature is not one of this message by this key. Only from qtls/crypto.h. */
    QTLS_E_SIGNATURE = -120,
    /** Somebody's public key or encapsulation key is damaged. Only from qtls/crypto.h. */
    QTLS_E_PUBLIC_KEY = -121,
} qtls_status;

/** Who is at fault. */
typedef enum qtls_fault {
    /** Nobody: there was no error. */
    QTLS_FAULT_NONE = 0,
    /** The library, or the operating system. */
    QTLS_FAULT_INTERNAL = 1,
    /** The calling program: it used the library in a way that the documentation excludes. */
    QTLS_FAULT_MISUSE = 2,
    /** The configuration: what the program was told by its user. */
    QTLS_FAULT_CONFIGURATION = 3,
    /** One of this side's own certificates or keys. */
    QTLS_FAULT_CERTIFICATE = 4,
    /** The network. */
    QTLS_FAULT_NETWORK = 5,
    /** The peer's certificate chain or name. */
    QTLS_FAULT_VERIFICATION = 6,
    /** The peer, or whoever changes its messages on the way. */
    QTLS_FAULT_PEER = 7,
    /** The policies of the two sides, which have nothing in common. */
    QTLS_FAULT_POLICY = 8,
} qtls_fault;

/** The side of a handshake that a configuration is for. */
typedef enum qtls_role {
    /** Clients. */
    QTLS_CLIENT = 1,
    /** Servers. */
    QTLS_SERVER = 2,
} qtls_role;

/** Whose order decides on the group; for qtls_config_set_group_preference(). */
typedef enum qtls_group_preference {
    /** Post-quantum groups first, without a round trip more than needed. The default. */
    QTLS_PREFER_POST_QUANTUM = 0,
    /** The server's order, even where it costs a round trip. */
    QTLS_PREFER_STRICT = 1,
    /** The client's order. */
    QTLS_PREFER_CLIENT = 2,
} qtls_group_preference;

/** Whether clients have to show a certificate; for qtls_config_set_client_auth(). */
typedef enum qtls_client_auth {
    /** Clients are not asked for one. The default. */
    QTLS_CLIENT_AUTH_NONE = 0,
    /** Clients are asked for one, and may do without; one that is shown has to be valid. */
    QTLS_CLIENT_AUTH_OPTIONAL = 1,
    /** Only clients with a valid certificate get in. */
    QTLS_CLIENT_AUTH_REQUIRED = 2,
} qtls_client_auth;

/** What happens where CRLs say nothing about a certificate; for qtls_config_set_crl_mode(). */
typedef enum qtls_crl_mode {
    /** It is refused. The default. */
    QTLS_CRL_HARD = 0,
    /** It is let through. */
    QTLS_CRL_SOFT = 1,
} qtls_crl_mode;

/** The answers of a verify callback. */
typedef enum qtls_verify_answer {
    /** The peer is refused; it is sent the alert access_denied. */
    QTLS_VERIFY_REFUSE = 0,
    /** The callback has nothing against the peer. */
    QTLS_VERIFY_ACCEPT = 1,
} qtls_verify_answer;

/**
 * What all connections of one side have in common: algorithms, certificates, whom to trust. It is built, then frozen
 * with qtls_config_freeze(), then used by any number of connections on any threads.
 *
 * While it is built, one thread at a time may use it. Once frozen it never changes, and all threads may use it. It lives
 * as long as anybody has a reference to it, connections included.
 */
typedef struct qtls_config qtls_config;

/**
 * One TLS connection. One thread at a time may use it; a call while another one is under way is refused with
 * QTLS_E_BUSY.
 *
 * Either the program carries the bytes (qtls_conn_feed() and qtls_conn_drain()), or the connection has a descriptor
 * (qtls_conn_set_fd()) and does it itself.
 *
 * After an error the connection is of no more use: what was received before can still be read, and the alert for the peer
 * be drained; then every call ends with the same error again.
 */
typedef struct qtls_conn qtls_conn;

/**
 * What failed, who is at fault, and what to try. Made by the function that fails, freed by its caller with
 * qtls_error_free().
 */
typedef struct qtls_error qtls_error;

/**
 * What a verify callback is told. Everything in it is valid during the call only. Later versions may have more fields
 * behind these.
 */
typedef struct qtls_chain {
    /** The size of this structure as the library has it. */
    size_t size;
    /** The peer's certificates in DER, the leaf first. */
    const uint8_t *const *certificates;
    /** Their lengths in bytes. */
    const size_t *lengths;
    /** How many there are; at least one. */
    size_t count;
    /** The name that the server should have; NULL on servers. */
    const char *server_name;
    /** What the library itself thinks of the chain: QTLS_OK, or the error that the handshake would end with. */
    int verdict;
    /** That error in words; NULL where there is none. */
    const char *verdict_message;
    /** What was given to qtls_conn_set_user() for this connection; NULL without that. */
    void *conn_user;
} qtls_chain;

/**
 * A function that is asked about a peer's certificates. It is called in the middle of a handshake, on the thread that
 * drives it: it should answer fast, and it must not use the connection that it is asked about: calls that do are refused
 * with QTLS_E_BUSY.
 *
 * It returns one of qtls_verify_answer. Any other value is a failure: the handshake ends with QTLS_E_CALLBACK, and the
 * peer is sent the alert certificate_unknown. No exception and no longjmp() may leave it.
 */
typedef int (*qtls_verify_callback)(void *user, const qtls_chain *chain);

/**
 * A function that is given the secrets of connections: a line in the NSS key log format, without an end of line, which is
 * valid during the call only. It may be called by several threads at once.
 */
typedef void (*qtls_key_log_callback)(void *user, const char *line, size_t line_len);

/** What was negotiated. Texts and pointers are valid until the connection is freed. */
typedef struct qtls_info {
    /**
     * To be set to `sizeof(qtls_info)` by the caller: a program that was compiled with an older header has a smaller one,
     * and gets the fields that it knows. The library sets it to how much it has filled.
     */
    size_t size;
    /** The protocol version on the wire: 0x0304, TLS 1.3. */
    uint16_t version;
    /** The code point of the key exchange group. */
    uint16_t group;
    /**
     * The code point of the signature scheme of the server's CertificateVerify; 0 where a session was resumed, since then
     * there is none.
     */
    uint16_t scheme;
    /** The code point of the cipher suite. */
    uint16_t suite;
    /** 1 where the key exchange withstands a quantum computer that reads a recording of the connection, else 0. */
    uint8_t group_post_quantum;
    /** 1 where a session was resumed, else 0. */
    uint8_t resumed;
    /** 1 where a HelloRetryRequest was needed, else 0. */
    uint8_t hello_retry_request;
    /** 0. For later. */
    uint8_t reserved;
    /** The version as people write it: "TLSv1.3". */
    const char *version_name;
    /** The name of the group in the IANA registry. */
    const char *group_name;
    /** The name of the scheme in the IANA registry; NULL where there is none. */
    const char *scheme_name;
    /** The name of the suite in the IANA registry. */
    const char *suite_name;
    /** The protocol that ALPN agreed on; NULL where it agreed on none. Not NUL-terminated. */
    const uint8_t *alpn;
    /** Its length in bytes. */
    size_t alpn_len;
    /** The server name that the client sent; NULL where it sent none. */
    const char *server_name;
    /** How many certificates the peer showed, or had shown when the session was made; 0 for clients without. */
    size_t peer_chain_length;
} qtls_info;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * @name The library
 * @{
 */

/**
 * The version of the library that is running, such as "1.0.0". QTLS_VERSION is the one that the program was compiled
 * with.
 *
 * @return A text that is valid for ever.
 */
const char *qtls_version(void);

/**
 * The version of the library that is running as a number that can be compared: major, minor and patch version, a byte
 * each; 0x010203 is 1.2.3. QTLS_VERSION_NUMBER is the one that the program was compiled with.
 *
 * @return The number.
 */
uint32_t qtls_version_number(void);

/**
 * The cryptographic module that does all cryptography, such as "aws-lc".
 *
 * @return A text that is valid for ever.
 */
const char *qtls_crypto_module(void);

/**
 * Whether the cryptographic module is one that is validated by FIPS 140-3.
 *
 * @return 1 or 0.
 */
int qtls_fips(void);

/**
 * Whether this build has a part that not every build has: "hsm" (keys in PKCS#11 modules) or "fips" (a validated
 * cryptographic module).
 *
 * @param name      The name of the part.
 * @param name_len  Its length in bytes, or QTLS_NTS.
 * @return 1 where it has; 0 where it hasn't, and for names that it doesn't know.
 */
int qtls_has_feature(const char *name, size_t name_len);

/**
 * How many key exchange groups the library knows. With qtls_group_at(), for listing them.
 *
 * @return Their number.
 */
size_t qtls_group_count(void);

/**
 * One of the key exchange groups that the library knows, the most preferred first.
 *
 * @param index  Which one, from 0.
 * @return Its code point in the IANA registry "TLS Supported Groups"; 0 where the index is too large.
 */
uint16_t qtls_group_at(size_t index);

/**
 * The name of a key exchange group in the IANA registry, such as "X25519MLKEM768".
 *
 * @param group  Its code point.
 * @return A text that is valid for ever; NULL where the library doesn't know the group.
 */
const char *qtls_group_name(uint16_t group);

/**
 * The code point of a key exchange group, by any of the names that qtls_config_set_groups() takes.
 *
 * @param name      The name; upper and lower case are the same.
 * @param name_len  Its length in bytes, or QTLS_NTS.
 * @return Its code point in the IANA registry; 0 where there is no such group.
 */
uint16_t qtls_group_code(const char *name, size_t name_len);

/**
 * Whether what is agreed with a key exchange group withstands a quantum computer that reads a recording of it: whether
 * there is ML-KEM in it.
 *
 * @param group  Its code point.
 * @return 1 or 0; 0 where the library doesn't know the group.
 */
int qtls_group_is_post_quantum(uint16_t group);

/**
 * The name of a signature scheme in the IANA registry, such as "mldsa65" or "ecdsa_secp256r1_sha256".
 *
 * @param scheme  Its code point.
 * @return A text that is valid for ever; NULL where the library doesn't know the scheme.
 */
const char *qtls_scheme_name(uint16_t scheme);

/**
 * The name of a cipher suite in the IANA registry, such as "TLS_AES_256_GCM_SHA384".
 *
 * @param suite  Its code point.
 * @return A text that is valid for ever; NULL where the library doesn't know the suite.
 */
const char *qtls_suite_name(uint16_t suite);

/** @} */

/**
 * @name Errors
 * @{
 */

/**
 * The number of an error: what the function that failed has returned.
 *
 * @param error  The error, or NULL.
 * @return One of the negative values of qtls_status; QTLS_OK for NULL.
 */
int qtls_error_code(const qtls_error *error);

/**
 * Who is at fault.
 *
 * @param error  The error, or NULL.
 * @return One of qtls_fault; QTLS_FAULT_NONE for NULL.
 */
int qtls_error_fault(const qtls_error *error);

/**
 * The alert that this side sends to the peer because of the error. In the I/O-free mode it is sent once it is drained.
 *
 * @param error  The error, or NULL.
 * @return The number of the alert (RFC 9846, section 6); -1 where none is sent, or where the library can't tell.
 */
int qtls_error_alert_sent(const qtls_error *error);

/**
 * The alert by which the peer ended the connection.
 *
 * @param error  The error, or NULL.
 * @return The number of the alert (RFC 9846, section 6); -1 where the error is another one.
 */
int qtls_error_alert_received(const qtls_error *error);

/**
 * What failed and where, in English, on one line, without a full stop. For people: the wording may change.
 *
 * @param error  The error, or NULL.
 * @return A text that is valid until the error is freed; NULL for NULL.
 */
const char *qtls_error_message(const qtls_error *error);

/**
 * The way out, in English, where one is known.
 *
 * @param error  The error, or NULL.
 * @return A text that is valid until the error is freed; NULL where no way out is known, and for NULL.
 */
const char *qtls_error_hint(const qtls_error *error);

/**
 * Frees an error.
 *
 * @param error  The error; NULL is let through.
 */
void qtls_error_free(qtls_error *error);

/**
 * The name of a status as the header has it, such as "QTLS_E_PEER_EXPIRED". A combination of QTLS_WANT_READ and
 * QTLS_WANT_WRITE has a name, too.
 *
 * @param status  What a function returned.
 * @return A text that is valid for ever; "unknown" for a number that is none.
 */
const char *qtls_status_name(int status);

/** @} */

/**
 * @name Configurations
 * @{
 */

/**
 * Makes a configuration with the library's defaults: TLS 1.3, hybrid groups first (X25519MLKEM768 leads) and classical
 * ones behind them, nobody trusted, no certificate.
 *
 * @param role        QTLS_CLIENT or QTLS_SERVER.
 * @param[out] error  What failed; may be NULL.
 * @return The configuration, with one reference that belongs to the caller; NULL where `role` is neither (the error's
 *     code is QTLS_E_MISUSE).
 */
qtls_config *qtls_config_new(int role, qtls_error **error);

/**
 * Takes one more reference to a configuration.
 *
 * @param config  The configuration, or NULL.
 * @return The same configuration; each reference has to be given back with qtls_config_free().
 */
qtls_config *qtls_config_ref(qtls_config *config);

/**
 * Gives a reference back. With the last one, the configuration is freed, and its keys are wiped. Connections have
 * references of their own: they go on.
 *
 * @param config  The configuration; NULL is let through.
 */
void qtls_config_free(qtls_config *config);

/**
 * Joins everything that was set into something that connections can use, and checks that it fits together. Where it
 * fails, the configuration can be changed and frozen again.
 *
 * @param config      The configuration.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN         It is frozen already.
 * @retval QTLS_E_CONFIGURATION  Something is missing (a server's certificate, trust anchors) or contradicts itself.
 * @retval QTLS_E_CERTIFICATE    The policy doesn't allow one of this side's own certificates.
 */
int qtls_config_freeze(qtls_config *config, qtls_error **error);

/**
 * How many notes there are: what whoever runs the program should hear, such as a certificate that soon expires, a name
 * from before the standard, or a setting that has no effect. Most of them are known after qtls_config_freeze().
 *
 * @param config  The configuration, or NULL.
 * @return Their number; 0 for NULL.
 */
size_t qtls_config_note_count(const qtls_config *config);

/**
 * One of the notes, in English, on one line.
 *
 * @param config  The configuration, or NULL.
 * @param index   Which one, from 0.
 * @return A text that is valid until the configuration is changed, frozen or freed; NULL where the index is too large,
 *     and for NULL.
 */
const char *qtls_config_note(const qtls_config *config, size_t index);

/**
 * Adds one of this side's own certificates with its key, from memory. A server may have several of different kinds: each
 * client gets the first, in the order of qtls_config_set_signatures(), that it can verify. A client has one at most.
 *
 * @param config          The configuration.
 * @param cert            The chain, the leaf first, in PEM; or one certificate in DER.
 * @param cert_len        Its length in bytes.
 * @param key             The private key, in PEM or DER: PKCS#8 (may be encrypted), PKCS#1 or SEC1.
 * @param key_len         Its length in bytes.
 * @param passphrase      What the key is encrypted with; NULL where it isn't.
 * @param passphrase_len  Its length in bytes, or QTLS_NTS.
 * @param[out] error      What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN       The configuration is frozen.
 * @retval QTLS_E_MISUSE       A client's configuration has one already.
 * @retval QTLS_E_CERTIFICATE  Either can't be used, the two don't belong together, or the passphrase is missing or
 *     wrong.
 */
int qtls_config_add_key_pair_pem(qtls_config *config,
                                 const void *cert,
                                 size_t cert_len,
                                 const void *key,
                                 size_t key_len,
                                 const char *passphrase,
                                 size_t passphrase_len,
                                 qtls_error **error);

/**
 * Adds one of this side's own certificates with its key, from files: as qtls_config_add_key_pair_pem() does.
 *
 * @param config          The configuration.
 * @param cert_path       The file with the chain.
 * @param cert_path_len   The length of the path in bytes, or QTLS_NTS.
 * @param key_path        The file with the private key.
 * @param key_path_len    The length of the path in bytes, or QTLS_NTS.
 * @param passphrase      What the key is encrypted with; NULL where it isn't.
 * @param passphrase_len  Its length in bytes, or QTLS_NTS.
 * @param[out] error      What failed, with the path; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN         The configuration is frozen.
 * @retval QTLS_E_MISUSE         A client's configuration has one already.
 * @retval QTLS_E_TEXT           A path is empty or has a NUL byte in it.
 * @retval QTLS_E_FILE           A file doesn't exist, or can't be read.
 * @retval QTLS_E_CERTIFICATE    Either can't be used, the two don't belong together, or the passphrase is missing or
 *     wrong.
 * @retval QTLS_E_UNSUPPORTED    A path is a `pkcs11:` URI, and this build has no HSM support.
 */
int qtls_config_add_key_pair_files(qtls_config *config,
                                   const char *cert_path,
                                   size_t cert_path_len,
                                   const char *key_path,
                                   size_t key_path_len,
                                   const char *passphrase,
                                   size_t passphrase_len,
                                   qtls_error **error);

/**
 * Adds a protocol to those that are negotiated by ALPN (RFC 7301), the most preferred first. Without any, none is
 * negotiated. A server refuses clients that offer some, but none of these.
 *
 * @param config        The configuration.
 * @param protocol      The identifier of the protocol, such as "h2"; any bytes.
 * @param protocol_len  Its length in bytes: 1 to 255.
 * @param[out] error    What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN         The configuration is frozen.
 * @retval QTLS_E_CONFIGURATION  The length is not from 1 to 255, or the protocol has been added before.
 */
int qtls_config_add_alpn(qtls_config *config,
                         const void *protocol,
                         size_t protocol_len,
                         qtls_error **error);

/** @} */

/**
 * @name Configurations: algorithms
 * @{
 */

/**
 * Chooses the set of algorithms that everything else chooses from.
 *
 * - "default": all; without lists, hybrids and then classical groups,
 * - "cnsa2": CNSA 2.0: ML-KEM-1024 (alone and with P-384), ML-DSA-87, AES-256,
 * - "fips": what FIPS 140-3 approves of,
 * - "compatible": all, also ML-KEM alone.
 *
 * @param config      The configuration.
 * @param name        The name of the profile.
 * @param name_len    Its length in bytes, or QTLS_NTS.
 * @param[out] error  What failed, with the nearest name that exists; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN         The configuration is frozen.
 * @retval QTLS_E_TEXT           The name is empty, has a NUL byte in it, or is not UTF-8.
 * @retval QTLS_E_CONFIGURATION  There is no such profile.
 */
int qtls_config_set_profile(qtls_config *config, const char *name, size_t name_len, qtls_error **error);

/**
 * Chooses the key exchange groups, the most preferred first: "X25519MLKEM768, SecP384r1MLKEM1024, x25519". Takes also the
 * names of `algorithms.kem` in server.json, where a KEM and a classical group make a hybrid: "ml-kem-1024, ecdhe-p384".
 * What becomes of the list depends on qtls_config_set_hybrid_mode() and qtls_config_set_pqc_only(), and is checked by
 * qtls_config_freeze().
 *
 * @param config      The configuration.
 * @param names       Names, with commas or colons between them.
 * @param names_len   Their length in bytes, or QTLS_NTS.
 * @param[out] error  What failed, with the nearest name that exists; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN         The configuration is frozen.
 * @retval QTLS_E_TEXT           The list is empty, has a NUL byte in it, or is not UTF-8.
 * @retval QTLS_E_CONFIGURATION  A name is unknown, or missing between two commas.
 */
int qtls_config_set_groups(qtls_config *config,
                           const char *names,
                           size_t names_len,
                           qtls_error **error);

/**
 * Chooses the kinds of key that may sign handshakes, this side's and the peer's, the most preferred first: "ml-dsa-65,
 * ecdsa-p256, rsa-3072". The number of RSA is the smallest size. Of a server's certificates, clients get the first in
 * this order that they can verify.
 *
 * @param config      The configuration.
 * @param names       Names, with commas or colons between them.
 * @param names_len   Their length in bytes, or QTLS_NTS.
 * @param[out] error  What failed, with the nearest name that exists; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN         The configuration is frozen.
 * @retval QTLS_E_TEXT           The list is empty, has a NUL byte in it, or is not UTF-8.
 * @retval QTLS_E_CONFIGURATION  A name is unknown, or missing between two commas.
 */
int qtls_config_set_signatures(qtls_config *config,
                               const char *names,
                               size_t names_len,
                               qtls_error **error);

/**
 * Chooses the kinds of key whose signatures are accepted in the peer's certificate chain. Names as for
 * qtls_config_set_signatures().
 *
 * @param config      The configuration.
 * @param names       Names, with commas or colons between them.
 * @param names_len   Their length in bytes, or QTLS_NTS.
 * @param[out] error  What failed, with the nearest name that exists; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN         The configuration is frozen.
 * @retval QTLS_E_TEXT           The list is empty, has a NUL byte in it, or is not UTF-8.
 * @retval QTLS_E_CONFIGURATION  A name is unknown, or missing between two commas.
 */
int qtls_config_set_chain_signatures(qtls_config *config,
                                     const char *names,
                                     size_t names_len,
                                     qtls_error **error);

/**
 * Chooses the cipher suites, the most preferred first: "TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256", or by the
 * names of server.json: "aes-256-gcm".
 *
 * @param config      The configuration.
 * @param names       Names, with commas or colons between them.
 * @param names_len   Their length in bytes, or QTLS_NTS.
 * @param[out] error  What failed, with the nearest name that exists; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN         The configuration is frozen.
 * @retval QTLS_E_TEXT           The list is empty, has a NUL byte in it, or is not UTF-8.
 * @retval QTLS_E_CONFIGURATION  A name is unknown, or missing between two commas.
 */
int qtls_config_set_suites(qtls_config *config,
                           const char *names,
                           size_t names_len,
                           qtls_error **error);

/**
 * Whether ML-KEM is combined with a classical group (`tls.hybrid_mode` in server.json). Without this call: as the profile
 * has it; yes, in the default profile.
 *
 * @param config      The configuration.
 * @param enabled     1 or 0.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN  The configuration is frozen.
 * @retval QTLS_E_MISUSE  The value is neither 1 nor 0.
 */
int qtls_config_set_hybrid_mode(qtls_config *config,
                                int enabled,
                                qtls_error **error);

/**
 * Whether peers without a post-quantum key exchange are refused (`tls.pqc_only` in server.json). Without this call: as
 * the profile has it; no, in the default profile.
 *
 * @param config      The configuration.
 * @param enabled     1 or 0.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN  The configuration is frozen.
 * @retval QTLS_E_MISUSE  The value is neither 1 nor 0.
 */
int qtls_config_set_pqc_only(qtls_config *config, int enabled, qtls_error **error);

/**
 * Whose order decides on the group. For servers only.
 *
 * @param config      The configuration.
 * @param preference  One of qtls_group_preference.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN  The configuration is frozen.
 * @retval QTLS_E_MISUSE  The configuration is a client's, or the value is none of them.
 */
int qtls_config_set_group_preference(qtls_config *config, int preference, qtls_error **error);

/** @} */

/**
 * @name Configurations: trust
 * @{
 */

/**
 * Trusts the CA certificates in a text. May be called several times. Clients need trust anchors, from here or from
 * qtls_config_add_ca_file() or qtls_config_use_system_roots(); servers that ask for certificates do, too.
 *
 * @param config      The configuration.
 * @param pem         One or more certificates in PEM, or one in DER.
 * @param pem_len     Its length in bytes.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN       The configuration is frozen.
 * @retval QTLS_E_CERTIFICATE  There is no certificate in it, or one that can't be a trust anchor.
 */
int qtls_config_add_ca_pem(qtls_config *config, const void *pem, size_t pem_len, qtls_error **error);

/**
 * Trusts the CA certificates in a file, or in the files of a directory.
 *
 * @param config      The configuration.
 * @param path        The file or directory.
 * @param path_len    The length of the path in bytes, or QTLS_NTS.
 * @param[out] error  What failed, with the path; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN         The configuration is frozen.
 * @retval QTLS_E_TEXT           The path is empty or has a NUL byte in it.
 * @retval QTLS_E_FILE           The file doesn't exist, or can't be read.
 * @retval QTLS_E_CERTIFICATE    There is no certificate in it, or one that can't be a trust anchor.
 */
int qtls_config_add_ca_file(qtls_config *config, const char *path, size_t path_len, qtls_error **error);

/**
 * Trusts the CA certificates that the operating system trusts.
 *
 * @param config      The configuration.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN         The configuration is frozen.
 * @retval QTLS_E_CONFIGURATION  The system has none, or they can't be read.
 */
int qtls_config_use_system_roots(qtls_config *config, qtls_error **error);

/**
 * Whether clients have to show a certificate. For servers only.
 *
 * @param config      The configuration.
 * @param mode        One of qtls_client_auth.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN  The configuration is frozen.
 * @retval QTLS_E_MISUSE  The configuration is a client's, or the value is none of them.
 */
int qtls_config_set_client_auth(qtls_config *config, int mode, qtls_error **error);

/**
 * How many intermediate certificates may stand between the peer's certificate and a trust anchor. Without this call, a
 * server accepts 3, and a client as many as a path is built with.
 *
 * @param config      The configuration.
 * @param depth       How many.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN  The configuration is frozen.
 */
int qtls_config_set_verify_depth(qtls_config *config, size_t depth, qtls_error **error);

/**
 * Checks the peer's chain against the certificate revocation lists in a text. May be called several times. All of a chain
 * is checked, but not the trust anchor.
 *
 * @param config      The configuration.
 * @param pem         One or more CRLs in PEM, or one in DER.
 * @param pem_len     Its length in bytes.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN       The configuration is frozen.
 * @retval QTLS_E_CERTIFICATE  There is no CRL in it, or one that can't be used.
 */
int qtls_config_add_crl_pem(qtls_config *config,
                            const void *pem,
                            size_t pem_len,
                            qtls_error **error);

/**
 * Checks the peer's chain against the certificate revocation lists in a file, or in the files of a directory.
 *
 * @param config      The configuration.
 * @param path        The file or directory.
 * @param path_len    The length of the path in bytes, or QTLS_NTS.
 * @param[out] error  What failed, with the path; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN         The configuration is frozen.
 * @retval QTLS_E_TEXT           The path is empty or has a NUL byte in it.
 * @retval QTLS_E_FILE           The file doesn't exist, or can't be read.
 * @retval QTLS_E_CERTIFICATE    There is no CRL in it, or one that can't be used.
 */
int qtls_config_add_crl_file(qtls_config *config, const char *path, size_t path_len, qtls_error **error);

/**
 * What happens where the CRLs say nothing about a certificate. Has no effect without CRLs.
 *
 * @param config      The configuration.
 * @param mode        One of qtls_crl_mode.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN  The configuration is frozen.
 * @retval QTLS_E_MISUSE  The value is none of them.
 */
int qtls_config_set_crl_mode(qtls_config *config, int mode, qtls_error **error);

/**
 * Accepts only chains in which the leaf, an intermediate or the trust anchor has a certain public key, or one of those of
 * several calls. The chain has to be valid besides.
 *
 * @param config      The configuration.
 * @param sha256      The SHA-256 of the key's SubjectPublicKeyInfo: 64 hexadecimal digits, or 44 characters of base64,
 *     with or without "sha256//" before them.
 * @param sha256_len  Its length in bytes, or QTLS_NTS.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN         The configuration is frozen.
 * @retval QTLS_E_TEXT           The text is empty, has a NUL byte in it, or is not UTF-8.
 * @retval QTLS_E_CONFIGURATION  It is not such a hash.
 */
int qtls_config_add_pin(qtls_config *config,
                        const char *sha256,
                        size_t sha256_len,
                        qtls_error **error);

/**
 * Lets in only clients whose certificate has a certain name, or one of those of several calls. The certificate has to be
 * valid besides. For servers that ask for certificates.
 *
 * @param config      The configuration.
 * @param field       What is compared, as in `certificates.allow` of server.json: "san_dns", "san_ip", "san_uri",
 *     "san_email", "subject", "spki_sha256".
 * @param field_len   Its length in bytes, or QTLS_NTS.
 * @param value       What it has to be.
 * @param value_len   Its length in bytes, or QTLS_NTS.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN         The configuration is frozen.
 * @retval QTLS_E_MISUSE         The configuration is a client's.
 * @retval QTLS_E_TEXT           A text is empty, has a NUL byte in it, or is not UTF-8.
 * @retval QTLS_E_CONFIGURATION  There is no such field, or the value doesn't fit it.
 */
int qtls_config_add_allowed(qtls_config *config,
                            const char *field,
                            size_t field_len,
                            const char *value,
                            size_t value_len,
                            qtls_error **error);

/**
 * Whether a client sends the name of the server that it wants (SNI). Without this call, it does, unless the name is an
 * address. For clients only.
 *
 * @param config      The configuration.
 * @param enabled     1 or 0.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN  The configuration is frozen.
 * @retval QTLS_E_MISUSE  The configuration is a server's, or the value is neither 1 nor 0.
 */
int qtls_config_set_server_name_indication(qtls_config *config, int enabled, qtls_error **error);

/** @} */

/**
 * @name Configurations: resumption
 * @{
 */

/**
 * How many sessions are kept for resumption. Without this call, 256 for a client and 10000 for a server. Sessions are
 * resumed only by connections of the same configuration, or, with ticket keys, of servers with the same ones.
 *
 * @param config      The configuration.
 * @param sessions    How many; 0 turns resumption off (a server with ticket keys needs no place for sessions, and goes on
 *     resuming).
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN  The configuration is frozen.
 */
int qtls_config_set_session_cache(qtls_config *config,
                                  size_t sessions,
                                  qtls_error **error);

/**
 * For how long a session can be resumed. Without this call, an hour. For servers only: clients are told.
 *
 * @param config      The configuration.
 * @param seconds     How long; at most 604800, seven days (RFC 9846, section 4.6.1). 0 turns resumption off.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN         The configuration is frozen.
 * @retval QTLS_E_MISUSE         The configuration is a client's.
 * @retval QTLS_E_CONFIGURATION  More than seven days.
 */
int qtls_config_set_session_timeout(qtls_config *config, uint32_t seconds, qtls_error **error);

/**
 * Keeps no sessions, but gives them to the clients as tickets, sealed with these keys; every server with the same keys
 * and the same policy resumes them. For servers only; has no effect where clients are asked for certificates.
 *
 * Whoever has the keys can read what was sent in resumed connections that made no new key exchange; rotate them. To
 * change keys, make a new configuration: sessions go on as long as it has the old key, too.
 *
 * @param config      The configuration.
 * @param text        The content of a file of ticket keys, as `qtls ticket-keys generate` writes it: a key in 64
 *     hexadecimal digits on each line; the first seals, all of them open.
 * @param text_len    Its length in bytes, or QTLS_NTS.
 * @param[out] error  What failed, with the line, and nothing of the keys; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN         The configuration is frozen.
 * @retval QTLS_E_MISUSE         The configuration is a client's.
 * @retval QTLS_E_CONFIGURATION  Something in it is no key, or there is none.
 */
int qtls_config_set_ticket_keys(qtls_config *config,
                                const char *text,
                                size_t text_len,
                                qtls_error **error);

/** @} */

/**
 * @name Configurations: callbacks
 * @{
 */

/**
 * Has a function of the program asked about each peer, after the library's own verification. It can refuse what the
 * library accepts; it can't accept what the library refuses: then it is called, too, and its answer changes nothing.
 *
 * A client's resumed sessions are not asked about again: they were when they were made, with this very configuration. A
 * server's are.
 *
 * @param config      The configuration.
 * @param callback    The function; NULL takes it away again.
 * @param user        What it is given as its first argument. It has to live as long as the configuration, and may be used
 *     by several threads at once.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN  The configuration is frozen.
 */
int qtls_config_set_verify_callback(qtls_config *config,
                                    qtls_verify_callback callback,
                                    void *user,
                                    qtls_error **error);

/**
 * DANGER: has a function of the program decide alone whom to trust. The library still checks that the peer holds the key
 * of the certificate that it shows. What the library thinks of the chain is in `verdict`; without trust anchors, which
 * are not needed then, that is always QTLS_E_PEER_UNKNOWN_ISSUER. A function that always accepts makes a connection to
 * anyone.
 *
 * Takes the place of qtls_config_set_verify_callback(). The configuration gets a note.
 *
 * @param config      The configuration.
 * @param callback    The function; NULL takes it away again.
 * @param user        What it is given as its first argument. It has to live as long as the configuration, and may be used
 *     by several threads at once.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN  The configuration is frozen.
 */
int qtls_config_danger_set_trust_callback(qtls_config *config,
                                          qtls_verify_callback callback,
                                          void *user,
                                          qtls_error **error);

/**
 * DANGER: has the secrets of all connections given to a function of the program. Whoever gets to see them can decrypt
 * recordings of these connections; Wireshark does. The configuration gets a note.
 *
 * @param config      The configuration.
 * @param callback    The function; NULL takes it away again.
 * @param user        What it is given as its first argument. It has to live as long as the configuration, and may be used
 *     by several threads at once.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_FROZEN  The configuration is frozen.
 */
int qtls_config_danger_set_key_log_callback(qtls_config *config,
                                            qtls_key_log_callback callback,
                                            void *user,
                                            qtls_error **error);

/** @} */

/**
 * @name Connections
 * @{
 */

/**
 * Makes the client's side of a connection.
 *
 * @param config           A frozen configuration of role QTLS_CLIENT. The connection takes a reference of its own.
 * @param server_name      The name that the server's certificate has to be valid for: a DNS name, or an IP address.
 * @param server_name_len  Its length in bytes, or QTLS_NTS.
 * @param[out] error       What failed; may be NULL.
 * @return The connection; NULL where it can't be made.
 * @retval QTLS_E_NOT_FROZEN     The configuration is not frozen.
 * @retval QTLS_E_MISUSE         The configuration is a server's.
 * @retval QTLS_E_TEXT           The name is empty, has a NUL byte in it, or is not UTF-8.
 * @retval QTLS_E_CONFIGURATION  It is neither a DNS name nor an address.
 */
qtls_conn *qtls_conn_new_client(qtls_config *config,
                                       const char *server_name,
                                       size_t server_name_len,
                                       qtls_error **error);

/**
 * Makes the server's side of a connection.
 *
 * @param config      A frozen configuration of role QTLS_SERVER. The connection takes a reference of its own.
 * @param[out] error  What failed; may be NULL.
 * @return The connection; NULL where it can't be made.
 * @retval QTLS_E_NOT_FROZEN  The configuration is not frozen.
 * @retval QTLS_E_MISUSE      The configuration is a client's.
 */
qtls_conn *qtls_conn_new_server(qtls_config *config, qtls_error **error);

/**
 * Frees a connection. Nothing is sent, and the descriptor stays open: call qtls_conn_shutdown() before, and close the
 * descriptor after. In a callback that the connection is calling, this does nothing.
 *
 * @param conn  The connection; NULL is let through.
 */
void qtls_conn_free(qtls_conn *conn);

/**
 * Keeps a pointer of the program's with a connection.
 *
 * @param conn        The connection.
 * @param user        The pointer. The library doesn't look behind it.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 */
int qtls_conn_set_user(qtls_conn *conn, void *user, qtls_error **error);

/**
 * The pointer that was given to qtls_conn_set_user().
 *
 * @param conn  The connection, or NULL.
 * @return The pointer; NULL where none was given, and for NULL.
 */
void *qtls_conn_user(const qtls_conn *conn);

/**
 * Gives a connection the descriptor of a connected stream socket. From then on, qtls_conn_handshake(), qtls_conn_read(),
 * qtls_conn_write(), qtls_conn_flush() and qtls_conn_shutdown() read from it and write to it themselves. Where the
 * descriptor is non-blocking, they return QTLS_WANT_READ and QTLS_WANT_WRITE instead of waiting. No call raises SIGPIPE,
 * and interrupted system calls are made again.
 *
 * The descriptor stays the program's: the library doesn't close it, and doesn't change it.
 *
 * @param conn        The connection, to which nothing has been fed yet.
 * @param fd          The descriptor.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_MISUSE  `fd` is no stream socket, or the connection has a descriptor, or was fed already.
 */
int qtls_conn_set_fd(qtls_conn *conn,
                     int fd,
                     qtls_error **error);

/**
 * What the connection waits for: which events of its descriptor to poll for, or whether to feed or drain.
 *
 * @param conn  The connection, or NULL.
 * @return QTLS_WANT_READ and QTLS_WANT_WRITE, combined; 0 where nothing can come any more and nothing has to leave, and
 *     for NULL. QTLS_WANT_READ is missing while there is plaintext that has to be read first.
 */
int qtls_conn_want(const qtls_conn *conn);

/**
 * How many bytes qtls_conn_read() gives without any from the peer. Look here before polling the descriptor: what was
 * decrypted already makes it not readable.
 *
 * @param conn  The connection, or NULL.
 * @return The number of bytes; 0 for NULL.
 */
size_t qtls_conn_pending(const qtls_conn *conn);

/** @} */

/**
 * @name Connections: bytes in, bytes out
 * @{
 */

/**
 * Takes bytes that came from the peer. For connections without a descriptor.
 *
 * Takes less than all of them only where plaintext has to be read first (at most 16 KiB and a record are kept); nothing
 * is lost: feed the rest again after qtls_conn_read(). What comes after the peer's close_notify is taken and ignored.
 *
 * @param conn           The connection.
 * @param data           The bytes; any portion of the stream, down to single bytes. May be NULL where `len` is 0.
 * @param len            How many.
 * @param[out] consumed  How many were taken, also where the call fails.
 * @param[out] error     What failed; may be NULL. There may be an alert to drain.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_MISUSE  The connection has a descriptor.
 */
int qtls_conn_feed(qtls_conn *conn, const void *data, size_t len, size_t *consumed, qtls_error **error);

/**
 * Says that the transport has ended: no more will be fed. For connections without a descriptor.
 *
 * @param conn        The connection.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK where the peer had sent its close_notify, or an error.
 * @retval QTLS_E_TRUNCATED  It hadn't. What was received before can still be read.
 * @retval QTLS_E_MISUSE     The connection has a descriptor.
 */
int qtls_conn_feed_eof(qtls_conn *conn, qtls_error **error);

/**
 * Gives bytes that have to be sent to the peer. For connections without a descriptor. Works also after an error: then it
 * gives the alert.
 *
 * @param conn           The connection.
 * @param[out] buffer    Where they go. May be NULL where `capacity` is 0.
 * @param capacity       How many fit.
 * @param[out] produced  How many were given; 0 where there are none.
 * @param[out] error     What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_MISUSE  The connection has a descriptor.
 */
int qtls_conn_drain(qtls_conn *conn,
                    void *buffer,
                    size_t capacity,
                    size_t *produced,
                    qtls_error **error);

/**
 * Does the handshake, as far as it gets. To be called again until it returns QTLS_OK; qtls_conn_read() and
 * qtls_conn_write() do it, too.
 *
 * @param conn        The connection.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK where the handshake is complete and everything that belongs to it has left; QTLS_WANT_READ and
 *     QTLS_WANT_WRITE where it isn't; or an error.
 * @retval QTLS_E_PEER_...     The peer's certificate was refused (QTLS_E_PEER_WRONG_NAME and its like).
 * @retval QTLS_E_ALERT        The peer refused.
 * @retval QTLS_E_NO_COMMON_...  The two sides have no algorithm in common (QTLS_E_NO_COMMON_GROUP and its like).
 * @retval QTLS_E_SHUT_DOWN    qtls_conn_shutdown() was called before.
 * @retval QTLS_E_TRUNCATED    The transport ended in the middle of it.
 */
int qtls_conn_handshake(qtls_conn *conn, qtls_error **error);

/**
 * Gives plaintext from the peer.
 *
 * @param conn         The connection.
 * @param[out] buffer  Where it goes. May be NULL where `capacity` is 0; then the call does nothing.
 * @param capacity     How many bytes fit.
 * @param[out] count   How many bytes were given; more than 0 with QTLS_OK, unless `capacity` is 0.
 * @param[out] error   What failed; may be NULL.
 * @return QTLS_OK; QTLS_EOF where the peer has said that it sends no more; QTLS_WANT_READ and QTLS_WANT_WRITE where there
 *     is nothing yet; or an error.
 * @retval QTLS_E_TRUNCATED  The transport ended, and the peer hadn't said so: what was received may be incomplete.
 * @retval QTLS_E_ALERT      The peer ended the connection with an alert.
 * @retval QTLS_E_DECRYPT    Something was changed on the way.
 * @retval QTLS_E_NETWORK    Reading from the descriptor failed.
 */
int qtls_conn_read(qtls_conn *conn,
                   void *buffer,
                   size_t capacity,
                   size_t *count,
                   qtls_error **error);

/**
 * Takes plaintext for the peer.
 *
 * With a descriptor that blocks, all of it is sent. With one that doesn't, and in the I/O-free mode, it takes what fits
 * (at least 64 KiB can wait to be sent); what it has taken need not have left yet: qtls_conn_want() has QTLS_WANT_WRITE
 * until qtls_conn_flush() or qtls_conn_drain() have seen to that. Don't pass again what was taken.
 *
 * @param conn        The connection.
 * @param data        The bytes. May be NULL where `len` is 0; then the call does nothing.
 * @param len         How many.
 * @param[out] count  How many bytes were taken; more than 0 with QTLS_OK, unless `len` is 0.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK; QTLS_WANT_READ and QTLS_WANT_WRITE where nothing could be taken; or an error.
 * @retval QTLS_E_SHUT_DOWN  qtls_conn_shutdown() was called before.
 * @retval QTLS_E_ALERT      The peer ended the connection with an alert.
 * @retval QTLS_E_NETWORK    Writing to the descriptor failed.
 */
int qtls_conn_write(qtls_conn *conn, const void *data, size_t len, size_t *count, qtls_error **error);

/**
 * Sends what waits to be sent. With a descriptor only; in the I/O-free mode it says whether something waits.
 *
 * @param conn        The connection.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK where nothing waits any more; QTLS_WANT_WRITE where something does; or an error.
 * @retval QTLS_E_NETWORK  Writing to the descriptor failed.
 */
int qtls_conn_flush(qtls_conn *conn, qtls_error **error);

/**
 * Says to the peer that this side sends no more (close_notify). What the peer sends can be read until QTLS_EOF. May be
 * called again, to go on where it returned QTLS_WANT_WRITE. Doesn't wait for the peer's own close_notify.
 *
 * @param conn        The connection.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK where it has left; QTLS_WANT_WRITE where it hasn't yet; or an error.
 * @retval QTLS_E_NETWORK  Writing to the descriptor failed.
 */
int qtls_conn_shutdown(qtls_conn *conn, qtls_error **error);

/** @} */

/**
 * @name Connections: facts
 * @{
 */

/**
 * What was negotiated.
 *
 * @param conn           The connection, after its handshake.
 * @param[in,out] info   Where it goes; its field `size` has to be set.
 * @param[out] error     What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_NOT_YET  The handshake isn't complete.
 * @retval QTLS_E_MISUSE   `info` is NULL, or its `size` is smaller than that field itself.
 */
int qtls_conn_info(const qtls_conn *conn, qtls_info *info, qtls_error **error);

/**
 * One of the certificates that the peer showed, or had shown when the session was made.
 *
 * @param conn        The connection, after its handshake.
 * @param index       Which one, from 0, the leaf.
 * @param[out] der    The certificate in DER; valid until the connection is freed.
 * @param[out] len    Its length in bytes.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_NOT_YET  The handshake isn't complete.
 * @retval QTLS_E_MISUSE   There is no certificate with this index.
 */
int qtls_conn_peer_certificate(const qtls_conn *conn,
                               size_t index,
                               const uint8_t **der,
                               size_t *len,
                               qtls_error **error);

/**
 * Who the peer is by its certificate, on one line for logs: "CN=worker, DNS worker.example". What comes from the
 * certificate can't break the line. For decisions, take the certificate itself.
 *
 * @param conn       The connection, or NULL.
 * @return A text that is valid until the connection is freed; NULL before the handshake is complete, where the peer
 *     showed no certificate, and for NULL.
 */
const char *qtls_conn_peer_identity(const qtls_conn *conn);

/**
 * Derives a secret that only the two sides of this connection know (RFC 9846, section 7.5): both get the same for the
 * same label and context.
 *
 * @param conn         The connection, after its handshake.
 * @param label        What the secret is for, such as "EXPORTER-Channel-Binding".
 * @param label_len    Its length in bytes, or QTLS_NTS.
 * @param context      What else it is bound to; may be NULL where `context_len` is 0.
 * @param context_len  Its length in bytes.
 * @param[out] out     Where the secret goes.
 * @param out_len      How many bytes are wanted; at least 1, at most 8160.
 * @param[out] error   What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_NOT_YET  The handshake isn't complete.
 * @retval QTLS_E_TEXT     The label is empty, has a NUL byte in it, or is not UTF-8.
 * @retval QTLS_E_MISUSE   The length is 0, or too much.
 */
int qtls_conn_export(const qtls_conn *conn,
                     const char *label,
                     size_t label_len,
                     const void *context,
                     size_t context_len,
                     void *out,
                     size_t out_len,
                     qtls_error **error);

/** @} */

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* QTLS_H */
