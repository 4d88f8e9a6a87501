/*
 * Everything that can be wrong: each has its number, says who is at fault, and leaves the object usable where the header
 * says so.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check.h"

#include <sys/syscall.h>

/* How far this program's clock is ahead, in seconds. */
static time_t ahead;

/* In the place of the C library's, also for libqtls. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    int status = (int)syscall(SYS_clock_gettime, clock, now);

    if (clock == CLOCK_REALTIME)
        now->tv_sec += ahead;
    return status;
}

static void files_and_passphrases(void)
{
    qtls_error *error = NULL;
    qtls_config *config = CHECK_MADE(qtls_config_new(QTLS_SERVER, &error));
    const char *cert = pki("server-cert.pem"), *key = pki("server-key.pem");
    /* The six X are where mkdtemp(3) puts characters of its own. */
    char directory[] = "/tmp/qtls-test-XXXXXX";
    char path[4096], request[4096], encrypted_cert[4096], encrypted_key[4096];

    CHECK_INT(QTLS_E_FILE, qtls_config_add_key_pair_files(config, "/no/such/cert.pem", QTLS_NTS, key, QTLS_NTS, NULL, 0,
                                                          &error));
    CHECK_INT(QTLS_FAULT_CONFIGURATION, qtls_error_fault(error));
    CHECK(strstr(qtls_error_message(error), "/no/such/cert.pem") != NULL);
    qtls_error_free(error);
    error = NULL;
    CHECK_STATUS(QTLS_E_FILE, qtls_config_add_ca_file(config, "/no/such/ca.pem", QTLS_NTS, &error));
    CHECK_STATUS(QTLS_E_FILE, qtls_config_add_crl_file(config, "/no/such/crl.pem", QTLS_NTS, &error));
    /* The two interchanged, and two that don't belong together. */
    CHECK_INT(QTLS_E_CERTIFICATE, qtls_config_add_key_pair_files(config, key, QTLS_NTS, cert, QTLS_NTS, NULL, 0, &error));
    CHECK_INT(QTLS_FAULT_CERTIFICATE, qtls_error_fault(error));
    CHECK(strstr(qtls_error_hint(error), "interchanged") != NULL);
    qtls_error_free(error);
    error = NULL;
    CHECK_STATUS(QTLS_E_CERTIFICATE, qtls_config_add_key_pair_files(config, cert, QTLS_NTS, pki("client-key.pem"),
                                                                    QTLS_NTS, NULL, 0, &error));
    CHECK_STATUS(QTLS_E_CERTIFICATE, qtls_config_add_key_pair_pem(config, "x", 1, "y", 1, NULL, 0, &error));
    CHECK_STATUS(QTLS_E_CERTIFICATE, qtls_config_add_key_pair_pem(config, NULL, 0, NULL, 0, NULL, 0, &error));
    CHECK_STATUS(QTLS_E_CERTIFICATE, qtls_config_add_ca_pem(config, "nothing", 7, &error));
    CHECK_STATUS(QTLS_E_CERTIFICATE, qtls_config_add_crl_pem(config, "nothing", 7, &error));
    CHECK_INT(QTLS_E_UNSUPPORTED, qtls_config_add_key_pair_files(config, cert, QTLS_NTS, "pkcs11:object=key", QTLS_NTS,
                                                                 NULL, 0, &error));
    CHECK(strstr(qtls_error_message(error), "no HSM support") != NULL);
    qtls_error_free(error);
    error = NULL;

    /* A key that is encrypted, and a certificate for it. */
    CHECK(mkdtemp(directory) != NULL);
    CHECK_INT(0, setenv("QTLS_TEST_PASSPHRASE", "correct horse", 1));
    snprintf(path, sizeof path, "%s/ca", directory);
    snprintf(request, sizeof request, "%s/request.pem", directory);
    snprintf(encrypted_cert, sizeof encrypted_cert, "%s/server-cert.pem", directory);
    snprintf(encrypted_key, sizeof encrypted_key, "%s/key.pem", directory);
    {
        const char *init[] = {tool(), "ca", "init", "--dir", path, NULL};
        const char *keygen[] = {tool(), "keygen", "--alg", "ecdsa-p384", "--out", encrypted_key,
                                "--passphrase-env", "QTLS_TEST_PASSPHRASE", NULL};
        const char *csr[] = {tool(), "csr", "--key", encrypted_key, "--name", "localhost", "--out", request,
                             "--passphrase-env", "QTLS_TEST_PASSPHRASE", NULL};
        const char *issue[] = {tool(), "ca", "issue", "server", "--dir", path, "--csr", request, "--name", "localhost",
                               "--out", directory, "--as", "server", NULL};
        CHECK_INT(0, run(init));
        CHECK_INT(0, run(keygen));
        CHECK_INT(0, run(csr));
        CHECK_INT(0, run(issue));
    }
    /* To derive a key from a passphrase takes long on purpose. */
    if (!is_slow()) {
        CHECK_INT(QTLS_E_CERTIFICATE, qtls_config_add_key_pair_files(config, encrypted_cert, QTLS_NTS, encrypted_key,
                                                                     QTLS_NTS, "wrong horse", QTLS_NTS, &error));
        CHECK(strstr(qtls_error_message(error), "passphrase") != NULL);
        CHECK(strstr(qtls_error_message(error), "wrong horse") == NULL);
        CHECK(qtls_error_hint(error) == NULL || strstr(qtls_error_hint(error), "wrong horse") == NULL);
        qtls_error_free(error);
        error = NULL;
    }
    CHECK_INT(QTLS_E_CERTIFICATE, qtls_config_add_key_pair_files(config, encrypted_cert, QTLS_NTS, encrypted_key,
                                                                 QTLS_NTS, NULL, 0, &error));
    CHECK(strstr(qtls_error_message(error), "encrypted") != NULL);
    qtls_error_free(error);
    error = NULL;
    CHECK_OK(qtls_config_add_key_pair_files(config, encrypted_cert, QTLS_NTS, encrypted_key, QTLS_NTS,
                                            "correct horse, and more", 13, &error));
    freeze(config);
    qtls_config_free(config);
    {
        const char *away[] = {"/bin/rm", "-rf", directory, NULL};
        CHECK_INT(0, run(away));
    }
}

static void a_configuration_is_frozen_once(void)
{
    qtls_error *error = NULL;
    qtls_config *client = new_client_config(), *server = new_server_config();

    CHECK_NOT_MADE(QTLS_E_NOT_FROZEN, qtls_conn_new_client(client, "localhost", QTLS_NTS, &error));
    CHECK_NOT_MADE(QTLS_E_NOT_FROZEN, qtls_conn_new_server(server, &error));
    freeze(client);
    freeze(server);
    CHECK_STATUS(QTLS_E_FROZEN, qtls_config_freeze(client, &error));
    CHECK_STATUS(QTLS_E_FROZEN, qtls_config_set_groups(client, "x25519", QTLS_NTS, &error));
    CHECK_STATUS(QTLS_E_FROZEN, qtls_config_set_hybrid_mode(client, 1, &error));
    CHECK_STATUS(QTLS_E_FROZEN, qtls_config_add_ca_file(client, pki("ca-bundle.pem"), QTLS_NTS, &error));
    CHECK_STATUS(QTLS_E_FROZEN, qtls_config_add_alpn(client, "h2", 2, &error));
    CHECK_STATUS(QTLS_E_FROZEN, qtls_config_set_verify_callback(client, NULL, NULL, &error));
    CHECK_STATUS(QTLS_E_FROZEN, qtls_config_set_client_auth(server, QTLS_CLIENT_AUTH_NONE, &error));
    CHECK_NOT_MADE(QTLS_E_MISUSE, qtls_conn_new_server(client, &error));
    CHECK_NOT_MADE(QTLS_E_MISUSE, qtls_conn_new_client(server, "localhost", QTLS_NTS, &error));
    qtls_config_free(client);
    qtls_config_free(server);
    CHECK_NOT_MADE(QTLS_E_MISUSE, qtls_config_new(0, &error));
    CHECK_NOT_MADE(QTLS_E_MISUSE, qtls_config_new(3, &error));

    /* What is missing is told when it is frozen; then it can be mended. */
    client = CHECK_MADE(qtls_config_new(QTLS_CLIENT, &error));
    CHECK_STATUS(QTLS_E_CONFIGURATION, qtls_config_freeze(client, &error));
    CHECK_OK(qtls_config_add_ca_file(client, pki("ca-bundle.pem"), QTLS_NTS, &error));
    freeze(client);
    qtls_config_free(client);
    server = CHECK_MADE(qtls_config_new(QTLS_SERVER, &error));
    CHECK_STATUS(QTLS_E_CONFIGURATION, qtls_config_freeze(server, &error));
    qtls_config_free(server);
}

/* A reference keeps it alive; a connection has one of its own. */
static void a_configuration_lives_as_long_as_it_is_needed(void)
{
    qtls_config *client = new_client_config(), *server = new_server_config();
    struct pair *pair;

    freeze(client);
    freeze(server);
    CHECK(qtls_config_ref(client) == client);
    qtls_config_free(client);
    pair = new_pair(client, server);
    qtls_config_free(client);
    qtls_config_free(server);
    handshake(pair);
    send_text(pair, 1, "alive");
    free_pair(pair);
}

static void names_and_texts(void)
{
    qtls_error *error = NULL;
    qtls_config *config = new_client_config();

    CHECK_INT(QTLS_E_CONFIGURATION, qtls_config_set_groups(config, "X25519MLKEM769", QTLS_NTS, &error));
    CHECK(strstr(qtls_error_message(error), "X25519MLKEM769") != NULL);
    CHECK(strstr(qtls_error_hint(error), "x25519mlkem768") != NULL);
    qtls_error_free(error);
    error = NULL;
    CHECK_STATUS(QTLS_E_CONFIGURATION, qtls_config_set_groups(config, "x25519,,secp256r1", QTLS_NTS, &error));
    CHECK_STATUS(QTLS_E_CONFIGURATION, qtls_config_set_suites(config, "TLS_NONE", QTLS_NTS, &error));
    CHECK_STATUS(QTLS_E_CONFIGURATION, qtls_config_set_signatures(config, "md5", QTLS_NTS, &error));
    CHECK_STATUS(QTLS_E_CONFIGURATION, qtls_config_set_chain_signatures(config, "md5", QTLS_NTS, &error));
    CHECK_STATUS(QTLS_E_CONFIGURATION, qtls_config_set_profile(config, "strong", QTLS_NTS, &error));
    CHECK_STATUS(QTLS_E_TEXT, qtls_config_set_profile(config, "", QTLS_NTS, &error));
    CHECK_STATUS(QTLS_E_TEXT, qtls_config_set_profile(config, "cnsa2\0", 6, &error));
    CHECK_STATUS(QTLS_E_TEXT, qtls_config_set_groups(config, "x25519\xff", QTLS_NTS, &error));
    CHECK_STATUS(QTLS_E_TEXT, qtls_config_add_ca_file(config, "a\0b", 3, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_config_set_hybrid_mode(config, 2, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_config_set_pqc_only(config, -1, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_config_set_crl_mode(config, 7, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_config_set_client_auth(config, QTLS_CLIENT_AUTH_NONE, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_config_set_group_preference(config, QTLS_PREFER_CLIENT, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_config_set_server_name_indication(config, 5, &error));
    /* Paths may be any bytes. */
    CHECK_STATUS(QTLS_E_FILE, qtls_config_add_ca_file(config, "/no/such/\xff", QTLS_NTS, &error));
    freeze(config);
    CHECK_NOT_MADE(QTLS_E_TEXT, qtls_conn_new_client(config, "local\0host", 10, &error));
    CHECK_NOT_MADE(QTLS_E_TEXT, qtls_conn_new_client(config, "local\xffhost", QTLS_NTS, &error));
    CHECK_NOT_MADE(QTLS_E_TEXT, qtls_conn_new_client(config, "", QTLS_NTS, &error));
    CHECK_NOT_MADE(QTLS_E_CONFIGURATION, qtls_conn_new_client(config, "no name", QTLS_NTS, &error));
    CHECK_NOT_MADE(QTLS_E_CONFIGURATION, qtls_conn_new_client(config, "localhost:443", QTLS_NTS, &error));
    qtls_config_free(config);
}

/* Whom a client refuses, and how the server hears of it. */
static void certificates_that_are_refused(void)
{
    static const struct expected told_unknown_ca = {QTLS_E_ALERT, QTLS_FAULT_PEER, -1, 48};
    static const struct expected told_bad_certificate = {QTLS_E_ALERT, QTLS_FAULT_PEER, -1, 42};
    static const struct expected told_expired = {QTLS_E_ALERT, QTLS_FAULT_PEER, -1, 45};
    qtls_error *error = NULL;
    qtls_config *server = new_server_config(), *client;
    struct pair *pair;

    freeze(server);
    client = CHECK_MADE(qtls_config_new(QTLS_CLIENT, &error));
    CHECK_OK(qtls_config_add_ca_file(client, strangers("ca-bundle.pem"), QTLS_NTS, &error));
    freeze(client);
    CHECK_HANDSHAKE_FAILS(client, server,
                          ((struct expected){QTLS_E_PEER_UNKNOWN_ISSUER, QTLS_FAULT_VERIFICATION, 48, -1}),
                          told_unknown_ca);
    qtls_config_free(client);

    client = new_client_config();
    freeze(client);
    pair = new_pair(client, server);
    qtls_conn_free(pair->client);
    pair->client = CHECK_MADE(qtls_conn_new_client(client, "elsewhere.example", QTLS_NTS, &error));
    check_handshake_fails(__FILE__, __LINE__, pair,
                          (struct expected){QTLS_E_PEER_WRONG_NAME, QTLS_FAULT_VERIFICATION, 42, -1},
                          told_bad_certificate);
    ahead = 2L * 366 * 86400;
    CHECK_HANDSHAKE_FAILS(client, server, ((struct expected){QTLS_E_PEER_EXPIRED, QTLS_FAULT_VERIFICATION, 45, -1}),
                          told_expired);
    ahead = -2L * 366 * 86400;
    /* The alert certificate_expired stands for "not currently valid", too (RFC 9846, section 6.2). */
    CHECK_HANDSHAKE_FAILS(client, server,
                          ((struct expected){QTLS_E_PEER_NOT_YET_VALID, QTLS_FAULT_VERIFICATION, 45, -1}),
                          told_expired);
    ahead = 0;
    free_pair(connect_pair(client, server));
    qtls_config_free(client);
    qtls_config_free(server);

    /* A client's certificate is none for a server. */
    server = CHECK_MADE(qtls_config_new(QTLS_SERVER, &error));
    client = new_client_config();
    if (qtls_config_add_key_pair_files(server, pki("client-cert.pem"), QTLS_NTS, pki("client-key.pem"), QTLS_NTS, NULL, 0,
                                       NULL) == QTLS_OK &&
        qtls_config_freeze(server, NULL) == QTLS_OK) {
        freeze(client);
        pair = new_pair(client, server);
        qtls_conn_free(pair->client);
        pair->client = CHECK_MADE(qtls_conn_new_client(client, "qtls-client", QTLS_NTS, &error));
        check_handshake_fails(__FILE__, __LINE__, pair,
                              (struct expected){QTLS_E_PEER_WRONG_PURPOSE, QTLS_FAULT_VERIFICATION, 43, -1},
                              (struct expected){QTLS_E_ALERT, QTLS_FAULT_PEER, -1, 43});
    }
    qtls_config_free(client);
    qtls_config_free(server);
}

static void nothing_in_common(void)
{
    qtls_error *error = NULL;
    qtls_config *server = new_server_config(), *client = new_client_config();

    CHECK_OK(qtls_config_set_pqc_only(server, 1, &error));
    CHECK_OK(qtls_config_add_alpn(server, "h2", 2, &error));
    CHECK_OK(qtls_config_set_suites(server, "aes-256-gcm", QTLS_NTS, &error));
    freeze(server);
    CHECK_OK(qtls_config_set_hybrid_mode(client, 0, &error));
    CHECK_OK(qtls_config_set_groups(client, "x25519", QTLS_NTS, &error));
    freeze(client);
    CHECK_HANDSHAKE_FAILS(client, server, ((struct expected){QTLS_E_ALERT, QTLS_FAULT_PEER, -1, 40}),
                          ((struct expected){QTLS_E_NO_COMMON_GROUP, QTLS_FAULT_POLICY, 40, -1}));
    qtls_config_free(client);

    client = new_client_config();
    CHECK_OK(qtls_config_set_suites(client, "TLS_CHACHA20_POLY1305_SHA256", QTLS_NTS, &error));
    freeze(client);
    CHECK_HANDSHAKE_FAILS(client, server, ((struct expected){QTLS_E_ALERT, QTLS_FAULT_PEER, -1, 40}),
                          ((struct expected){QTLS_E_NO_COMMON_SUITE, QTLS_FAULT_POLICY, 40, -1}));
    qtls_config_free(client);

    client = new_client_config();
    CHECK_OK(qtls_config_set_signatures(client, "ml-dsa-87", QTLS_NTS, &error));
    freeze(client);
    CHECK_HANDSHAKE_FAILS(client, server, ((struct expected){QTLS_E_ALERT, QTLS_FAULT_PEER, -1, 40}),
                          ((struct expected){QTLS_E_NO_COMMON_SCHEME, QTLS_FAULT_POLICY, 40, -1}));
    qtls_config_free(client);

    client = new_client_config();
    CHECK_OK(qtls_config_add_alpn(client, "http/1.1", 8, &error));
    freeze(client);
    CHECK_HANDSHAKE_FAILS(client, server, ((struct expected){QTLS_E_ALERT, QTLS_FAULT_PEER, -1, 120}),
                          ((struct expected){QTLS_E_NO_COMMON_ALPN, QTLS_FAULT_POLICY, 120, -1}));
    qtls_config_free(client);
    qtls_config_free(server);
}

int main(void)
{
    files_and_passphrases();
    a_configuration_is_frozen_once();
    a_configuration_lives_as_long_as_it_is_needed();
    names_and_texts();
    certificates_that_are_refused();
    nothing_in_common();
    return 0;
}
