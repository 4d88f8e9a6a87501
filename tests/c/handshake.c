/*
 * Handshakes in memory: both sides agree on every fact, for every group and every kind of certificate.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check.h"

static void check_facts(struct pair *pair, const char *group, const char *scheme, int retried)
{
    qtls_info client = info_of(pair->client), server = info_of(pair->server);
    const qtls_info *both[2] = {&client, &server};
    int i;

    for (i = 0; i < 2; i++) {
        CHECK_INT(0x0304, both[i]->version);
        CHECK_TEXT("TLSv1.3", both[i]->version_name);
        CHECK_TEXT(group, both[i]->group_name);
        CHECK_INT(qtls_group_code(group, QTLS_NTS), both[i]->group);
        CHECK_INT(strstr(group, "MLKEM") != NULL, both[i]->group_post_quantum);
        CHECK_INT(qtls_group_is_post_quantum(both[i]->group), both[i]->group_post_quantum);
        CHECK_TEXT(scheme, both[i]->scheme_name);
        CHECK_TEXT(qtls_scheme_name(both[i]->scheme), both[i]->scheme_name);
        CHECK_TEXT("TLS_AES_256_GCM_SHA384", both[i]->suite_name);
        CHECK_INT(0x1302, both[i]->suite);
        CHECK_INT(0, both[i]->resumed);
        CHECK_INT(retried, both[i]->hello_retry_request);
        CHECK_INT(0, both[i]->reserved);
        CHECK(both[i]->alpn == NULL && both[i]->alpn_len == 0);
        CHECK_TEXT("localhost", both[i]->server_name);
    }
    CHECK_INT(2, client.peer_chain_length);
    CHECK_INT(0, server.peer_chain_length);
}

static void every_group(void)
{
    static const char *const groups[] = {"X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024",
                                         "x25519",         "secp256r1",         "secp384r1"};
    qtls_error *error = NULL;
    qtls_config *server = new_server_config();
    size_t i;

    freeze(server);
    for (i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        qtls_config *client = new_client_config();
        struct pair *pair;
        CHECK_OK(qtls_config_set_groups(client, groups[i], QTLS_NTS, &error));
        CHECK_OK(qtls_config_set_hybrid_mode(client, strstr(groups[i], "MLKEM") != NULL, &error));
        freeze(client);
        pair = connect_pair(client, server);
        check_facts(pair, groups[i], "ecdsa_secp384r1_sha384", 0);
        send_text(pair, 1, "a question");
        send_text(pair, 0, "an answer");
        free_pair(pair);
        qtls_config_free(client);
    }
    qtls_config_free(server);
}

static void pure_ml_kem_where_it_is_asked_for(void)
{
    qtls_error *error = NULL;
    qtls_config *configs[2] = {new_client_config(), new_server_config()};
    struct pair *pair;
    int i;

    for (i = 0; i < 2; i++) {
        CHECK_OK(qtls_config_set_groups(configs[i], "ml-kem-1024", QTLS_NTS, &error));
        CHECK_OK(qtls_config_set_hybrid_mode(configs[i], 0, &error));
        CHECK_OK(qtls_config_set_pqc_only(configs[i], 1, &error));
        freeze(configs[i]);
    }
    pair = connect_pair(configs[0], configs[1]);
    check_facts(pair, "MLKEM1024", "ecdsa_secp384r1_sha384", 0);
    free_pair(pair);
    qtls_config_free(configs[0]);
    qtls_config_free(configs[1]);
}

static void a_group_without_a_share_costs_a_retry(void)
{
    qtls_error *error = NULL;
    qtls_config *client = new_client_config(), *server = new_server_config();
    struct pair *pair;

    CHECK_OK(qtls_config_set_groups(client, "X25519MLKEM768, SecP384r1MLKEM1024", QTLS_NTS, &error));
    CHECK_OK(qtls_config_set_groups(server, "SecP384r1MLKEM1024", QTLS_NTS, &error));
    freeze(client);
    freeze(server);
    pair = connect_pair(client, server);
    check_facts(pair, "SecP384r1MLKEM1024", "ecdsa_secp384r1_sha384", 1);
    free_pair(pair);
    qtls_config_free(client);
    qtls_config_free(server);
}

/* A server with three certificates gives each client the first that it can verify. */
static void every_kind_of_certificate(void)
{
    static const char *const kinds[][2] = {{"ml-dsa-65", "mldsa65"},
                                           {"ecdsa-p384", "ecdsa_secp384r1_sha384"},
                                           {"rsa-4096", "rsa_pss_rsae_sha512"}};
    qtls_error *error = NULL;
    qtls_config *server = CHECK_MADE(qtls_config_new(QTLS_SERVER, &error));
    size_t i;

    for (i = 0; i < 3; i++) {
        char cert[64], key[64];
        snprintf(cert, sizeof cert, "server-cert-%s.pem", kinds[i][0]);
        snprintf(key, sizeof key, "server-key-%s.pem", kinds[i][0]);
        CHECK_OK(qtls_config_add_key_pair_files(server, pki(cert), QTLS_NTS, pki(key), QTLS_NTS, NULL, 0, &error));
    }
    freeze(server);
    for (i = 0; i < 3; i++) {
        qtls_config *client = new_client_config();
        struct pair *pair;
        CHECK_OK(qtls_config_set_signatures(client, kinds[i][0], QTLS_NTS, &error));
        freeze(client);
        pair = connect_pair(client, server);
        check_facts(pair, "X25519MLKEM768", kinds[i][1], 0);
        free_pair(pair);
        qtls_config_free(client);
    }
    qtls_config_free(server);
}

static void suites_and_alpn(void)
{
    static const char *const suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"};
    qtls_error *error = NULL;
    qtls_config *server = new_server_config();
    size_t i;

    CHECK_OK(qtls_config_add_alpn(server, "h2", 2, &error));
    CHECK_OK(qtls_config_add_alpn(server, "http/1.1", 8, &error));
    CHECK_STATUS(QTLS_E_CONFIGURATION, qtls_config_add_alpn(server, "h2", 2, &error));
    CHECK_STATUS(QTLS_E_CONFIGURATION, qtls_config_add_alpn(server, "", 0, &error));
    freeze(server);
    for (i = 0; i < 2; i++) {
        qtls_config *client = new_client_config();
        qtls_info info;
        struct pair *pair;
        CHECK_OK(qtls_config_set_suites(client, suites[i], QTLS_NTS, &error));
        /* No text: any bytes may be in it. */
        CHECK_OK(qtls_config_add_alpn(client, "\0\xff", 2, &error));
        CHECK_OK(qtls_config_add_alpn(client, "http/1.1", 8, &error));
        freeze(client);
        pair = connect_pair(client, server);
        info = info_of(pair->client);
        CHECK_TEXT(suites[i], info.suite_name);
        CHECK_TEXT(suites[i], qtls_suite_name(info.suite));
        CHECK(info.alpn_len == 8 && memcmp(info.alpn, "http/1.1", 8) == 0);
        info = info_of(pair->server);
        CHECK_TEXT(suites[i], info.suite_name);
        CHECK(info.alpn_len == 8 && memcmp(info.alpn, "http/1.1", 8) == 0);
        free_pair(pair);
        qtls_config_free(client);
    }
    qtls_config_free(server);
}

static void exported_secrets_are_the_same_on_both_sides(void)
{
    qtls_error *error = NULL;
    qtls_config *client = new_client_config(), *server = new_server_config();
    unsigned char one[64], other[64], third[64];
    struct pair *pair;

    freeze(client);
    freeze(server);
    pair = new_pair(client, server);
    CHECK_STATUS(QTLS_E_NOT_YET, qtls_conn_export(pair->client, "EXPERIMENTAL a", QTLS_NTS, "", 0, one, 64, &error));
    handshake(pair);
    CHECK_OK(qtls_conn_export(pair->client, "EXPERIMENTAL a", QTLS_NTS, "context", 7, one, 64, &error));
    CHECK_OK(qtls_conn_export(pair->server, "EXPERIMENTAL a", 14, "context", 7, other, 64, &error));
    CHECK(memcmp(one, other, 64) == 0);
    CHECK_OK(qtls_conn_export(pair->server, "EXPERIMENTAL a", 14, "contexts", 8, third, 64, &error));
    CHECK(memcmp(one, third, 64) != 0);
    CHECK_OK(qtls_conn_export(pair->server, "EXPERIMENTAL b", 14, "context", 7, third, 64, &error));
    CHECK(memcmp(one, third, 64) != 0);
    CHECK_STATUS(QTLS_E_MISUSE, qtls_conn_export(pair->server, "a", 1, NULL, 0, third, 0, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_conn_export(pair->server, "a", 1, NULL, 5, third, 64, &error));
    CHECK_STATUS(QTLS_E_TEXT, qtls_conn_export(pair->server, "a\0b", 3, NULL, 0, third, 64, &error));
    free_pair(pair);
    qtls_config_free(client);
    qtls_config_free(server);
}

static void facts_come_with_the_handshake(void)
{
    qtls_error *error = NULL;
    qtls_config *client = new_client_config(), *server = new_server_config();
    qtls_info info = {.size = sizeof info};
    const uint8_t *der;
    size_t len;
    struct pair *pair;

    freeze(client);
    freeze(server);
    pair = new_pair(client, server);
    CHECK_STATUS(QTLS_E_NOT_YET, qtls_conn_info(pair->client, &info, &error));
    CHECK_STATUS(QTLS_E_NOT_YET, qtls_conn_peer_certificate(pair->client, 0, &der, &len, &error));
    CHECK(qtls_conn_peer_identity(pair->client) == NULL);
    CHECK_INT(QTLS_WANT_READ | QTLS_WANT_WRITE, qtls_conn_want(pair->client));
    CHECK_INT(QTLS_WANT_READ, qtls_conn_want(pair->server));
    handshake(pair);
    CHECK_OK(qtls_conn_peer_certificate(pair->client, 0, &der, &len, &error));
    CHECK(len > 100 && der[0] == 0x30 && der[1] == 0x82);
    CHECK_INT(len, ((size_t)der[2] << 8 | der[3]) + 4);
    CHECK_STATUS(QTLS_E_MISUSE, qtls_conn_peer_certificate(pair->client, 2, &der, &len, &error));
    CHECK_TEXT("CN=localhost,O=Q-TLS quickstart, DNS localhost, IP 127.0.0.1", qtls_conn_peer_identity(pair->client));
    CHECK(qtls_conn_peer_identity(pair->server) == NULL);
    free_pair(pair);
    qtls_config_free(client);
    qtls_config_free(server);
}

/* A program that was compiled with an older header has a smaller structure: nothing behind it is touched. */
static void an_older_header_goes_on_working(void)
{
    qtls_error *error = NULL;
    qtls_config *client = new_client_config(), *server = new_server_config();
    struct {
        qtls_info info;
        unsigned char behind[8];
    } larger;
    struct pair *pair;
    size_t size;

    freeze(client);
    freeze(server);
    pair = connect_pair(client, server);
    for (size = sizeof(size_t); size < sizeof(qtls_info); size++) {
        unsigned char *bytes = (unsigned char *)&larger;
        size_t i;
        memset(&larger, 0xa5, sizeof larger);
        larger.info.size = size;
        CHECK_OK(qtls_conn_info(pair->client, &larger.info, &error));
        CHECK_INT(size, larger.info.size);
        for (i = size; i < sizeof larger; i++)
            CHECK_INT(0xa5, bytes[i]);
    }
    memset(&larger, 0xa5, sizeof larger);
    larger.info.size = sizeof larger;
    CHECK_OK(qtls_conn_info(pair->client, &larger.info, &error));
    CHECK_INT(sizeof(qtls_info), larger.info.size);
    CHECK_INT(0xa5, larger.behind[0]);
    larger.info.size = sizeof(size_t) - 1;
    CHECK_STATUS(QTLS_E_MISUSE, qtls_conn_info(pair->client, &larger.info, &error));
    free_pair(pair);
    qtls_config_free(client);
    qtls_config_free(server);
}

static void addresses_are_names_too(void)
{
    qtls_error *error = NULL;
    qtls_config *client = new_client_config(), *server = new_server_config();
    struct pair *pair;

    freeze(client);
    freeze(server);
    pair = new_pair(client, server);
    qtls_conn_free(pair->client);
    pair->client = CHECK_MADE(qtls_conn_new_client(client, "127.0.0.1", QTLS_NTS, &error));
    handshake(pair);
    CHECK_TEXT(NULL, info_of(pair->server).server_name);
    free_pair(pair);
    qtls_config_free(client);
    qtls_config_free(server);
}

static void the_library_says_what_it_is(void)
{
    size_t i;

    CHECK_TEXT(QTLS_VERSION, qtls_version());
    CHECK_INT(QTLS_VERSION_NUMBER, qtls_version_number());
    CHECK_TEXT("aws-lc", qtls_crypto_module());
    CHECK_INT(qtls_has_feature("fips", QTLS_NTS), qtls_fips());
    CHECK_INT(0, qtls_has_feature("hsm", 3));
    CHECK_INT(0, qtls_has_feature("no such feature", QTLS_NTS));
    CHECK_INT(8, qtls_group_count());
    CHECK_TEXT("X25519MLKEM768", qtls_group_name(qtls_group_at(0)));
    for (i = 0; i < qtls_group_count(); i++)
        CHECK_INT(qtls_group_at(i), qtls_group_code(qtls_group_name(qtls_group_at(i)), QTLS_NTS));
    CHECK_INT(0, qtls_group_at(qtls_group_count()));
    CHECK_TEXT(NULL, qtls_group_name(1));
    CHECK_TEXT(NULL, qtls_scheme_name(1));
    CHECK_TEXT(NULL, qtls_suite_name(1));
    CHECK_TEXT("QTLS_E_PEER_EXPIRED", qtls_status_name(QTLS_E_PEER_EXPIRED));
    CHECK_TEXT("QTLS_WANT_READ|QTLS_WANT_WRITE", qtls_status_name(QTLS_WANT_READ | QTLS_WANT_WRITE));
    CHECK_TEXT("unknown", qtls_status_name(-12345));
}

int main(void)
{
    the_library_says_what_it_is();
    every_group();
    pure_ml_kem_where_it_is_asked_for();
    a_group_without_a_share_costs_a_retry();
    every_kind_of_certificate();
    suites_and_alpn();
    exported_secrets_are_the_same_on_both_sides();
    facts_come_with_the_handshake();
    an_older_header_goes_on_working();
    addresses_are_names_too();
    return 0;
}
