/*
 * Mutual TLS: who gets in, who doesn't, and what each side is told about it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check.h"

static qtls_config *server_that_asks(int mode)
{
    qtls_error *error = NULL;
    qtls_config *config = new_server_config();

    CHECK_OK(qtls_config_add_ca_file(config, pki("ca-bundle.pem"), QTLS_NTS, &error));
    CHECK_OK(qtls_config_set_client_auth(config, mode, &error));
    return config;
}

static qtls_config *client_with(const char *cert, const char *key)
{
    qtls_error *error = NULL;
    qtls_config *config = new_client_config();

    CHECK_OK(qtls_config_add_key_pair_files(config, cert, QTLS_NTS, key, QTLS_NTS, NULL, 0, &error));
    return config;
}

/* A side that the other one has told why. */
static struct expected told(int alert)
{
    struct expected expected = {QTLS_E_ALERT, QTLS_FAULT_PEER, -1, alert};
    return expected;
}

static void who_has_a_certificate_gets_in(void)
{
    static const char *const kinds[] = {"ecdsa-p384", "ml-dsa-65", "rsa-4096"};
    qtls_config *server = server_that_asks(QTLS_CLIENT_AUTH_REQUIRED);
    size_t i;

    freeze(server);
    for (i = 0; i < 3; i++) {
        char cert[64], key[64];
        qtls_config *client;
        struct pair *pair;
        int turn;
        snprintf(cert, sizeof cert, "client-cert-%s.pem", kinds[i]);
        snprintf(key, sizeof key, "client-key-%s.pem", kinds[i]);
        client = client_with(pki(cert), pki(key));
        freeze(client);
        /* The second time, a session is resumed: the server knows who it is all the same. */
        for (turn = 0; turn < 2; turn++) {
            pair = connect_pair(client, server);
            send_text(pair, 0, "welcome");
            CHECK_INT(2, info_of(pair->server).peer_chain_length);
            CHECK_INT(turn, info_of(pair->server).resumed);
            CHECK_TEXT("CN=qtls-client,O=Q-TLS quickstart, DNS qtls-client", qtls_conn_peer_identity(pair->server));
            free_pair(pair);
        }
        qtls_config_free(client);
    }
    qtls_config_free(server);
}

static void who_has_none_or_a_strangers_does_not(void)
{
    qtls_config *server = server_that_asks(QTLS_CLIENT_AUTH_REQUIRED), *client = new_client_config();
    qtls_error *error = NULL;
    struct pair *pair;
    char text[16];
    size_t count;

    freeze(server);
    freeze(client);
    CHECK_HANDSHAKE_FAILS(client, server, told(116), /* certificate_required */
                          ((struct expected){QTLS_E_PEER_NO_CERTIFICATE, QTLS_FAULT_VERIFICATION, 116, -1}));
    /* In TLS 1.3 the client's handshake is complete before the server has seen its certificate: it hears of it later. */
    pair = new_pair(client, server);
    CHECK_STATUS(QTLS_WANT_READ | QTLS_WANT_WRITE, qtls_conn_handshake(pair->client, &error));
    carry_both(pair);
    CHECK_OK(qtls_conn_read(pair->client, NULL, 0, &count, &error));
    CHECK_STATUS(QTLS_WANT_WRITE, qtls_conn_handshake(pair->client, &error));
    CHECK_TEXT("X25519MLKEM768", info_of(pair->client).group_name);
    carry_both(pair);
    CHECK_INT(QTLS_E_ALERT, qtls_conn_read(pair->client, text, sizeof text, &count, &error));
    CHECK_INT(QTLS_FAULT_PEER, qtls_error_fault(error));
    CHECK_INT(116, qtls_error_alert_received(error));
    CHECK_INT(-1, qtls_error_alert_sent(error));
    CHECK(qtls_error_hint(error) != NULL);
    qtls_error_free(error);
    free_pair(pair);
    qtls_config_free(client);

    client = client_with(strangers("client-cert.pem"), strangers("client-key.pem"));
    freeze(client);
    CHECK_HANDSHAKE_FAILS(client, server, told(48), /* unknown_ca */
                          ((struct expected){QTLS_E_PEER_UNKNOWN_ISSUER, QTLS_FAULT_VERIFICATION, 48, -1}));
    qtls_config_free(client);
    /* A server's certificate is none for a client. */
    client = client_with(pki("server-cert.pem"), pki("server-key.pem"));
    freeze(client);
    CHECK_HANDSHAKE_FAILS(client, server, told(43), /* unsupported_certificate */
                          ((struct expected){QTLS_E_PEER_WRONG_PURPOSE, QTLS_FAULT_VERIFICATION, 43, -1}));
    qtls_config_free(client);
    qtls_config_free(server);
}

static void where_it_is_optional_only_a_valid_one_counts(void)
{
    qtls_config *server = server_that_asks(QTLS_CLIENT_AUTH_OPTIONAL), *client = new_client_config();
    struct pair *pair;

    freeze(server);
    freeze(client);
    pair = connect_pair(client, server);
    CHECK_INT(0, info_of(pair->server).peer_chain_length);
    CHECK_TEXT(NULL, qtls_conn_peer_identity(pair->server));
    free_pair(pair);
    qtls_config_free(client);
    client = client_with(strangers("client-cert.pem"), strangers("client-key.pem"));
    freeze(client);
    CHECK_HANDSHAKE_FAILS(client, server, told(48),
                          ((struct expected){QTLS_E_PEER_UNKNOWN_ISSUER, QTLS_FAULT_VERIFICATION, 48, -1}));
    qtls_config_free(client);
    qtls_config_free(server);
}

static void rules_name_who_gets_in(void)
{
    static const struct {
        const char *field, *value;
        int allowed;
    } rules[] = {{"san_dns", "qtls-client", 1}, {"san_dns", "somebody-else", 0}};
    qtls_error *error = NULL;
    qtls_config *client = client_with(pki("client-cert.pem"), pki("client-key.pem"));
    size_t i;

    freeze(client);
    for (i = 0; i < 2; i++) {
        qtls_config *server = server_that_asks(QTLS_CLIENT_AUTH_REQUIRED);
        CHECK_OK(qtls_config_add_allowed(server, rules[i].field, QTLS_NTS, rules[i].value, QTLS_NTS, &error));
        freeze(server);
        if (rules[i].allowed)
            free_pair(connect_pair(client, server));
        else
            CHECK_HANDSHAKE_FAILS(client, server, told(49), /* access_denied */
                                  ((struct expected){QTLS_E_PEER_NOT_ALLOWED, QTLS_FAULT_VERIFICATION, 49, -1}));
        qtls_config_free(server);
    }
    qtls_config_free(client);
}

static void depth_and_pins(void)
{
    /* SHA-256 of nothing that anybody has. */
    static const char pin[] = "0000000000000000000000000000000000000000000000000000000000000000";
    qtls_error *error = NULL;
    qtls_config *server = new_server_config(), *client = new_client_config();

    freeze(server);
    CHECK_OK(qtls_config_set_verify_depth(client, 1, &error));
    freeze(client);
    free_pair(connect_pair(client, server));
    qtls_config_free(client);
    client = new_client_config();
    CHECK_OK(qtls_config_set_verify_depth(client, 0, &error));
    freeze(client);
    {
        struct pair *pair = new_pair(client, server);
        struct outcome outcome = try_handshake(pair);
        CHECK(outcome.client <= QTLS_E_PEER_CERTIFICATE && outcome.client > QTLS_E_ALERT);
        CHECK_INT(QTLS_FAULT_VERIFICATION, qtls_error_fault(outcome.client_error));
        CHECK_INT(QTLS_E_ALERT, outcome.server);
        free_outcome(&outcome);
        free_pair(pair);
    }
    qtls_config_free(client);
    client = new_client_config();
    CHECK_OK(qtls_config_add_pin(client, pin, QTLS_NTS, &error));
    CHECK_STATUS(QTLS_E_CONFIGURATION, qtls_config_add_pin(client, "no hash", QTLS_NTS, &error));
    freeze(client);
    {
        struct pair *pair = new_pair(client, server);
        struct outcome outcome = try_handshake(pair);
        CHECK_INT(QTLS_FAULT_VERIFICATION, qtls_error_fault(outcome.client_error));
        CHECK_INT(outcome.client, qtls_error_code(outcome.client_error));
        CHECK_INT(QTLS_E_ALERT, outcome.server);
        CHECK_INT(qtls_error_alert_sent(outcome.client_error), qtls_error_alert_received(outcome.server_error));
        free_outcome(&outcome);
        free_pair(pair);
    }
    qtls_config_free(client);
    qtls_config_free(server);
}

int main(void)
{
    who_has_a_certificate_gets_in();
    who_has_none_or_a_strangers_does_not();
    where_it_is_optional_only_a_valid_one_counts();
    rules_name_who_gets_in();
    depth_and_pins();
    return 0;
}
