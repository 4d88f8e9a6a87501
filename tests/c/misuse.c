/*
 * What the header promises to survive: NULL for everything that is a pointer, in every function. A test of the sources
 * checks that no function is missing here.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check.h"

#include <limits.h>
#include <stdint.h>

#include <qtls/crypto.h>

/* Objects that are in order, so that it is the other argument that is refused. */
static qtls_config *building, *frozen;
static qtls_conn *conn;
static qtls_ml_kem_key *kem;
static qtls_ml_dsa_key *dsa;
static char bytes[8192];
static size_t count;
static const uint8_t *der;
static qtls_info info = {.size = sizeof(qtls_info)};

/* Functions that return a status. `X` makes a function of each call. */
#define FALLIBLES \
    X(a1, qtls_config_freeze(NULL, error)) \
    X(a2, qtls_config_add_key_pair_pem(NULL, bytes, 1, bytes, 1, NULL, 0, error)) \
    X(a3, qtls_config_add_key_pair_pem(building, NULL, 1, bytes, 1, NULL, 0, error)) \
    X(a4, qtls_config_add_key_pair_pem(building, bytes, 1, NULL, 1, NULL, 0, error)) \
    X(a5, qtls_config_add_key_pair_files(NULL, "a", 1, "b", 1, NULL, 0, error)) \
    X(a6, qtls_config_add_key_pair_files(building, NULL, 1, "b", 1, NULL, 0, error)) \
    X(a7, qtls_config_add_key_pair_files(building, "a", 1, NULL, QTLS_NTS, NULL, 0, error)) \
    X(a8, qtls_config_add_alpn(NULL, "h2", 2, error)) \
    X(a9, qtls_config_add_alpn(building, NULL, 2, error)) \
    X(b1, qtls_config_set_profile(NULL, "default", QTLS_NTS, error)) \
    X(b2, qtls_config_set_profile(building, NULL, QTLS_NTS, error)) \
    X(b3, qtls_config_set_groups(NULL, "x25519", QTLS_NTS, error)) \
    X(b4, qtls_config_set_groups(building, NULL, 0, error)) \
    X(b5, qtls_config_set_signatures(NULL, "ml-dsa-65", QTLS_NTS, error)) \
    X(b6, qtls_config_set_signatures(building, NULL, 5, error)) \
    X(b7, qtls_config_set_chain_signatures(NULL, "ml-dsa-65", QTLS_NTS, error)) \
    X(b8, qtls_config_set_chain_signatures(building, NULL, QTLS_NTS, error)) \
    X(b9, qtls_config_set_suites(NULL, "aes-256-gcm", QTLS_NTS, error)) \
    X(c1, qtls_config_set_suites(building, NULL, QTLS_NTS, error)) \
    X(c2, qtls_config_set_hybrid_mode(NULL, 1, error)) \
    X(c3, qtls_config_set_pqc_only(NULL, 1, error)) \
    X(c4, qtls_config_set_group_preference(NULL, QTLS_PREFER_STRICT, error)) \
    X(c5, qtls_config_add_ca_pem(NULL, bytes, 1, error)) \
    X(c6, qtls_config_add_ca_pem(building, NULL, 1, error)) \
    X(c7, qtls_config_add_ca_file(NULL, "a", 1, error)) \
    X(c8, qtls_config_add_ca_file(building, NULL, QTLS_NTS, error)) \
    X(c9, qtls_config_use_system_roots(NULL, error)) \
    X(d1, qtls_config_set_client_auth(NULL, QTLS_CLIENT_AUTH_NONE, error)) \
    X(d2, qtls_config_set_verify_depth(NULL, 1, error)) \
    X(d3, qtls_config_add_crl_pem(NULL, bytes, 1, error)) \
    X(d4, qtls_config_add_crl_pem(building, NULL, 1, error)) \
    X(d5, qtls_config_add_crl_file(NULL, "a", 1, error)) \
    X(d6, qtls_config_add_crl_file(building, NULL, 1, error)) \
    X(d7, qtls_config_set_crl_mode(NULL, QTLS_CRL_HARD, error)) \
    X(d8, qtls_config_add_pin(NULL, "a", 1, error)) \
    X(d9, qtls_config_add_pin(building, NULL, 1, error)) \
    X(e1, qtls_config_add_allowed(NULL, "san_dns", QTLS_NTS, "a", 1, error)) \
    X(e2, qtls_config_add_allowed(building, NULL, QTLS_NTS, "a", 1, error)) \
    X(e3, qtls_config_add_allowed(building, "san_dns", QTLS_NTS, NULL, 1, error)) \
    X(e4, qtls_config_set_server_name_indication(NULL, 1, error)) \
    X(e5, qtls_config_set_session_cache(NULL, 1, error)) \
    X(e6, qtls_config_set_session_timeout(NULL, 1, error)) \
    X(e7, qtls_config_set_ticket_keys(NULL, "a", 1, error)) \
    X(e8, qtls_config_set_ticket_keys(building, NULL, QTLS_NTS, error)) \
    X(e9, qtls_config_set_verify_callback(NULL, NULL, NULL, error)) \
    X(f1, qtls_config_danger_set_trust_callback(NULL, NULL, NULL, error)) \
    X(f2, qtls_config_danger_set_key_log_callback(NULL, NULL, NULL, error)) \
    X(f3, qtls_conn_set_user(NULL, bytes, error)) \
    X(f4, qtls_conn_set_fd(NULL, 0, error)) \
    X(f5, qtls_conn_feed(NULL, bytes, 1, &count, error)) \
    X(f6, qtls_conn_feed(conn, NULL, 1, &count, error)) \
    X(f7, qtls_conn_feed(conn, bytes, 1, NULL, error)) \
    X(f8, qtls_conn_feed_eof(NULL, error)) \
    X(f9, qtls_conn_drain(NULL, bytes, 1, &count, error)) \
    X(g1, qtls_conn_drain(conn, NULL, 1, &count, error)) \
    X(g2, qtls_conn_drain(conn, bytes, 1, NULL, error)) \
    X(g3, qtls_conn_handshake(NULL, error)) \
    X(g4, qtls_conn_read(NULL, bytes, 1, &count, error)) \
    X(g5, qtls_conn_read(conn, NULL, 1, &count, error)) \
    X(g6, qtls_conn_read(conn, bytes, 1, NULL, error)) \
    X(g7, qtls_conn_write(NULL, bytes, 1, &count, error)) \
    X(g8, qtls_conn_write(conn, NULL, 1, &count, error)) \
    X(g9, qtls_conn_write(conn, bytes, 1, NULL, error)) \
    X(h1, qtls_conn_flush(NULL, error)) \
    X(h2, qtls_conn_shutdown(NULL, error)) \
    X(h3, qtls_conn_info(NULL, &info, error)) \
    X(h4, qtls_conn_info(conn, NULL, error)) \
    X(h5, qtls_conn_peer_certificate(NULL, 0, &der, &count, error)) \
    X(h6, qtls_conn_peer_certificate(conn, 0, NULL, &count, error)) \
    X(h7, qtls_conn_peer_certificate(conn, 0, &der, NULL, error)) \
    X(h8, qtls_conn_export(NULL, "a", 1, NULL, 0, bytes, 32, error)) \
    X(h9, qtls_conn_export(conn, NULL, 1, NULL, 0, bytes, 32, error)) \
    X(i1, qtls_conn_export(conn, "a", 1, NULL, 1, bytes, 32, error)) \
    X(i2, qtls_conn_export(conn, "a", 1, NULL, 0, NULL, 32, error)) \
    X(i3, qtls_ml_kem_key_export(NULL, bytes, 2400, error)) \
    X(i4, qtls_ml_kem_key_export(kem, NULL, 2400, error)) \
    X(i5, qtls_ml_kem_encapsulation_key(NULL, bytes, 1184, error)) \
    X(i6, qtls_ml_kem_encapsulation_key(kem, NULL, 1184, error)) \
    X(i7, qtls_ml_kem_encapsulate(QTLS_ML_KEM_768, NULL, 1184, bytes, 1088, bytes, 32, error)) \
    X(i8, qtls_ml_kem_encapsulate(QTLS_ML_KEM_768, bytes, 1184, NULL, 1088, bytes, 32, error)) \
    X(i9, qtls_ml_kem_encapsulate(QTLS_ML_KEM_768, bytes, 1184, bytes, 1088, NULL, 32, error)) \
    X(j1, qtls_ml_kem_decapsulate(NULL, bytes, 1088, bytes, 32, error)) \
    X(j2, qtls_ml_kem_decapsulate(kem, NULL, 1088, bytes, 32, error)) \
    X(j3, qtls_ml_kem_decapsulate(kem, bytes, 1088, NULL, 32, error)) \
    X(j4, qtls_ml_dsa_public_key(NULL, bytes, 1312, error)) \
    X(j5, qtls_ml_dsa_public_key(dsa, NULL, 1312, error)) \
    X(j6, qtls_ml_dsa_spki(NULL, bytes, 5000, &count, error)) \
    X(j7, qtls_ml_dsa_spki(dsa, NULL, 5000, &count, error)) \
    X(j8, qtls_ml_dsa_spki(dsa, bytes, 5000, NULL, error)) \
    X(j9, qtls_ml_dsa_pkcs8(NULL, bytes, 5000, &count, error)) \
    X(k1, qtls_ml_dsa_pkcs8(dsa, NULL, 5000, &count, error)) \
    X(k2, qtls_ml_dsa_pkcs8(dsa, bytes, 5000, NULL, error)) \
    X(k3, qtls_ml_dsa_sign(NULL, bytes, 1, bytes, 2420, error)) \
    X(k4, qtls_ml_dsa_sign(dsa, NULL, 1, bytes, 2420, error)) \
    X(k5, qtls_ml_dsa_sign(dsa, bytes, 1, NULL, 2420, error)) \
    X(k6, qtls_ml_dsa_verify(QTLS_ML_DSA_44, NULL, 1312, bytes, 1, bytes, 2420, error)) \
    X(k7, qtls_ml_dsa_verify(QTLS_ML_DSA_44, bytes, 1312, NULL, 1, bytes, 2420, error)) \
    X(k8, qtls_ml_dsa_verify(QTLS_ML_DSA_44, bytes, 1312, bytes, 1, NULL, 2420, error)) \
    /* Lengths that no memory has. */ \
    X(k9, qtls_conn_feed(conn, bytes, SIZE_MAX, &count, error)) \
    X(l1, qtls_conn_read(conn, bytes, SIZE_MAX / 2 + 1, &count, error)) \
    X(l2, qtls_config_add_ca_pem(building, bytes, SIZE_MAX, error)) \
    X(l3, qtls_ml_dsa_sign(dsa, bytes, SIZE_MAX, bytes, 2420, error))

#define MAKERS \
    X(qtls_config_new(0, error)) \
    X(qtls_config_new(INT_MIN, error)) \
    X(qtls_conn_new_client(NULL, "localhost", QTLS_NTS, error)) \
    X(qtls_conn_new_client(frozen, NULL, QTLS_NTS, error)) \
    X(qtls_conn_new_server(NULL, error)) \
    X(qtls_ml_kem_key_generate(INT_MAX, error)) \
    X(qtls_ml_kem_key_import(QTLS_ML_KEM_768, NULL, 2400, error)) \
    X(qtls_ml_dsa_key_generate(INT_MIN, error)) \
    X(qtls_ml_dsa_key_from_seed(QTLS_ML_DSA_44, NULL, 32, error)) \
    X(qtls_ml_dsa_key_read(NULL, 10, NULL, 0, error)) \
    X(qtls_ml_dsa_key_read(NULL, 0, NULL, 0, error))

/* Functions that return a value: 0 or NULL. */
#define ANSWERS \
    X(qtls_config_ref(NULL) == NULL) \
    X(qtls_config_note_count(NULL) == 0) \
    X(qtls_config_note(NULL, 0) == NULL) \
    X(qtls_config_note(building, SIZE_MAX) == NULL) \
    X(qtls_conn_user(NULL) == NULL) \
    X(qtls_conn_want(NULL) == 0) \
    X(qtls_conn_pending(NULL) == 0) \
    X(qtls_conn_peer_identity(NULL) == NULL) \
    X(qtls_error_code(NULL) == QTLS_OK) \
    X(qtls_error_fault(NULL) == QTLS_FAULT_NONE) \
    X(qtls_error_alert_sent(NULL) == -1) \
    X(qtls_error_alert_received(NULL) == -1) \
    X(qtls_error_message(NULL) == NULL) \
    X(qtls_error_hint(NULL) == NULL) \
    X(qtls_version() != NULL) \
    X(qtls_version_number() != 0) \
    X(qtls_crypto_module() != NULL) \
    X(qtls_fips() == 0 || qtls_fips() == 1) \
    X(qtls_has_feature(NULL, QTLS_NTS) == 0) \
    X(qtls_has_feature(NULL, 5) == 0) \
    X(qtls_group_count() > 0) \
    X(qtls_group_at(SIZE_MAX) == 0) \
    X(qtls_group_name(0) == NULL) \
    X(qtls_group_code(NULL, QTLS_NTS) == 0) \
    X(qtls_group_code(NULL, 0) == 0) \
    X(qtls_group_is_post_quantum(0) == 0) \
    X(qtls_scheme_name(0) == NULL) \
    X(qtls_suite_name(0) == NULL) \
    X(strcmp(qtls_status_name(INT_MIN), "unknown") == 0) \
    X(qtls_ml_kem_encapsulation_key_size(INT_MIN) == 0) \
    X(qtls_ml_kem_decapsulation_key_size(INT_MAX) == 0) \
    X(qtls_ml_kem_ciphertext_size(-1) == 0) \
    X(qtls_ml_kem_secret_size(0) == 0) \
    X(qtls_ml_kem_key_set(NULL) == 0) \
    X(qtls_ml_dsa_public_key_size(INT_MIN) == 0) \
    X(qtls_ml_dsa_signature_size(INT_MAX) == 0) \
    X(qtls_ml_dsa_seed_size(0) == 0) \
    X(qtls_ml_dsa_key_set(NULL) == 0)

#define X(name, expression) static int call_##name(qtls_error **error) { return expression; }
FALLIBLES
#undef X

static const struct {
    const char *what;
    int (*call)(qtls_error **error);
} fallibles[] = {
#define X(name, expression) {#expression, call_##name},
    FALLIBLES
#undef X
};

static void every_fallible_function(void)
{
    size_t i;

    for (i = 0; i < sizeof fallibles / sizeof fallibles[0]; i++) {
        qtls_error *error = NULL;
        int status = fallibles[i].call(&error);
        if (status != QTLS_E_MISUSE || qtls_error_code(error) != QTLS_E_MISUSE ||
            qtls_error_fault(error) != QTLS_FAULT_MISUSE || qtls_error_message(error) == NULL) {
            fprintf(stderr, "%s came to %s\n", fallibles[i].what, qtls_status_name(status));
            check_failed(__FILE__, __LINE__, "a NULL is not refused as misuse", error);
        }
        qtls_error_free(error);
        /* And nobody has to want to know. */
        if (fallibles[i].call(NULL) != QTLS_E_MISUSE)
            check_failed(__FILE__, __LINE__, fallibles[i].what, NULL);
    }
}

static void every_function_that_makes_something(void)
{
    qtls_error *object = NULL;

#define X(call) \
    { \
        qtls_error **error = &object; \
        CHECK((call) == NULL); \
        CHECK_INT(QTLS_E_MISUSE, qtls_error_code(object)); \
        qtls_error_free(object); \
        object = NULL; \
        error = NULL; \
        CHECK((call) == NULL); \
    }
    MAKERS
#undef X
}

static void every_function_that_answers(void)
{
#define X(expression) CHECK(expression);
    ANSWERS
#undef X
}

static void to_free_nothing_does_nothing(void)
{
    qtls_error_free(NULL);
    qtls_config_free(NULL);
    qtls_conn_free(NULL);
    qtls_ml_kem_key_free(NULL);
    qtls_ml_dsa_key_free(NULL);
}

/* After all that, everything still works. */
static void nothing_is_broken(void)
{
    qtls_config *server = new_server_config();
    struct pair *pair;

    freeze(server);
    pair = connect_pair(frozen, server);
    send_text(pair, 1, "none the worse");
    free_pair(pair);
    qtls_config_free(server);
    CHECK_INT(QTLS_E_FROZEN, qtls_config_freeze(frozen, NULL));
}

int main(void)
{
    qtls_error *error = NULL;

    building = CHECK_MADE(qtls_config_new(QTLS_SERVER, &error));
    frozen = new_client_config();
    freeze(frozen);
    conn = CHECK_MADE(qtls_conn_new_client(frozen, "localhost", QTLS_NTS, &error));
    kem = CHECK_MADE(qtls_ml_kem_key_generate(QTLS_ML_KEM_768, &error));
    dsa = CHECK_MADE(qtls_ml_dsa_key_generate(QTLS_ML_DSA_44, &error));
    every_fallible_function();
    every_function_that_makes_something();
    every_function_that_answers();
    to_free_nothing_does_nothing();
    nothing_is_broken();
    qtls_config_free(building);
    qtls_config_free(frozen);
    qtls_conn_free(conn);
    qtls_ml_kem_key_free(kem);
    qtls_ml_dsa_key_free(dsa);
    return 0;
}
