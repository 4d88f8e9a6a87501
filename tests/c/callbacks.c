/*
 * Functions of the program that the library calls: what they are told, what they may decide, and what they must not do.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check.h"

static qtls_config *plain_client, *server_config;

/* What a callback saw and does. */
struct judge {
    int answer;
    int calls, verdict, server_name_is_null;
    size_t count;
    void *conn_user;
    /* A connection to misuse in the middle of its handshake. */
    qtls_conn *conn;
};

static int judge(void *user, const qtls_chain *chain)
{
    struct judge *judge = user;
    size_t i;

    CHECK_INT(sizeof *chain, chain->size);
    judge->calls++;
    judge->verdict = chain->verdict;
    judge->count = chain->count;
    judge->conn_user = chain->conn_user;
    judge->server_name_is_null = chain->server_name == NULL;
    if (chain->server_name != NULL)
        CHECK_TEXT("localhost", chain->server_name);
    CHECK_INT(chain->verdict == QTLS_OK, chain->verdict_message == NULL);
    for (i = 0; i < chain->count; i++) {
        CHECK(chain->lengths[i] > 100);
        CHECK_INT(0x30, chain->certificates[i][0]);
        CHECK_INT(chain->lengths[i], ((size_t)chain->certificates[i][2] << 8 | chain->certificates[i][3]) + 4);
    }
    if (judge->conn != NULL) {
        qtls_error *error = NULL;
        qtls_info info = {.size = sizeof info};
        char byte = 0;
        size_t count;
        CHECK_STATUS(QTLS_E_BUSY, qtls_conn_handshake(judge->conn, &error));
        CHECK_STATUS(QTLS_E_BUSY, qtls_conn_read(judge->conn, &byte, 1, &count, &error));
        CHECK_STATUS(QTLS_E_BUSY, qtls_conn_write(judge->conn, &byte, 1, &count, &error));
        CHECK_STATUS(QTLS_E_BUSY, qtls_conn_feed(judge->conn, &byte, 1, &count, &error));
        CHECK_STATUS(QTLS_E_BUSY, qtls_conn_drain(judge->conn, &byte, 1, &count, &error));
        CHECK_STATUS(QTLS_E_BUSY, qtls_conn_info(judge->conn, &info, &error));
        CHECK_STATUS(QTLS_E_BUSY, qtls_conn_shutdown(judge->conn, &error));
        CHECK_INT(0, qtls_conn_want(judge->conn));
        CHECK_INT(0, qtls_conn_pending(judge->conn));
        CHECK(qtls_conn_peer_identity(judge->conn) == NULL);
        /* Does nothing, in the middle of a call. */
        qtls_conn_free(judge->conn);
    }
    return judge->answer;
}

static qtls_config *client_with(struct judge *with)
{
    qtls_error *error = NULL;
    qtls_config *config = new_client_config();

    CHECK_OK(qtls_config_set_verify_callback(config, judge, with, &error));
    freeze(config);
    return config;
}

static void it_is_told_everything_and_can_let_through(void)
{
    struct judge with = {.answer = QTLS_VERIFY_ACCEPT};
    qtls_config *client = client_with(&with);
    qtls_error *error = NULL;
    struct pair *pair = new_pair(client, server_config);
    int mine;

    CHECK_OK(qtls_conn_set_user(pair->client, &mine, &error));
    CHECK(qtls_conn_user(pair->client) == &mine);
    CHECK(qtls_conn_user(pair->server) == NULL);
    handshake(pair);
    CHECK_INT(1, with.calls);
    CHECK_INT(QTLS_OK, with.verdict);
    CHECK_INT(2, with.count);
    CHECK(with.conn_user == &mine);
    send_text(pair, 0, "tickets");
    free_pair(pair);
    /* A client's resumed sessions are not asked about again. */
    pair = connect_pair(client, server_config);
    CHECK_INT(1, info_of(pair->client).resumed);
    CHECK_INT(1, with.calls);
    free_pair(pair);
    qtls_config_free(client);
}

static void it_can_refuse(void)
{
    static const struct expected told = {QTLS_E_ALERT, QTLS_FAULT_PEER, -1, 49}; /* access_denied */
    struct judge with = {.answer = QTLS_VERIFY_REFUSE};
    qtls_config *client = client_with(&with);
    int failures[] = {-1, 2, 1000};
    size_t i;

    CHECK_HANDSHAKE_FAILS(client, server_config,
                          ((struct expected){QTLS_E_PEER_REFUSED, QTLS_FAULT_VERIFICATION, 49, -1}), told);
    CHECK_INT(1, with.calls);
    /* Anything else than an answer is a failure of the callback. */
    for (i = 0; i < 3; i++) {
        with.answer = failures[i];
        CHECK_HANDSHAKE_FAILS(client, server_config,
                              ((struct expected){QTLS_E_CALLBACK, QTLS_FAULT_MISUSE, 46, -1}),
                              ((struct expected){QTLS_E_ALERT, QTLS_FAULT_PEER, -1, 46})); /* certificate_unknown */
    }
    qtls_config_free(client);
}

static void it_cannot_let_through_what_the_library_refuses(void)
{
    struct judge with = {.answer = QTLS_VERIFY_ACCEPT};
    qtls_error *error = NULL;
    qtls_config *client = CHECK_MADE(qtls_config_new(QTLS_CLIENT, &error));

    CHECK_OK(qtls_config_add_ca_file(client, strangers("ca-bundle.pem"), QTLS_NTS, &error));
    CHECK_OK(qtls_config_set_verify_callback(client, judge, &with, &error));
    freeze(client);
    CHECK_HANDSHAKE_FAILS(client, server_config,
                          ((struct expected){QTLS_E_PEER_UNKNOWN_ISSUER, QTLS_FAULT_VERIFICATION, 48, -1}),
                          ((struct expected){QTLS_E_ALERT, QTLS_FAULT_PEER, -1, 48}));
    CHECK_INT(1, with.calls);
    CHECK_INT(QTLS_E_PEER_UNKNOWN_ISSUER, with.verdict);
    qtls_config_free(client);
}

static void it_cannot_use_the_connection(void)
{
    struct judge with = {.answer = QTLS_VERIFY_ACCEPT};
    qtls_config *client = client_with(&with);
    struct pair *pair = new_pair(client, server_config);

    with.conn = pair->client;
    handshake(pair);
    CHECK_INT(1, with.calls);
    send_text(pair, 1, "none the worse");
    free_pair(pair);
    qtls_config_free(client);
}

static void a_servers_is_asked_about_clients(void)
{
    struct judge with = {.answer = QTLS_VERIFY_ACCEPT};
    qtls_error *error = NULL;
    qtls_config *server = new_server_config(), *client = new_client_config();
    struct pair *pair;

    CHECK_OK(qtls_config_add_ca_file(server, pki("ca-bundle.pem"), QTLS_NTS, &error));
    CHECK_OK(qtls_config_set_client_auth(server, QTLS_CLIENT_AUTH_REQUIRED, &error));
    CHECK_OK(qtls_config_set_verify_callback(server, judge, &with, &error));
    freeze(server);
    CHECK_OK(qtls_config_add_key_pair_files(client, pki("client-cert.pem"), QTLS_NTS, pki("client-key.pem"), QTLS_NTS,
                                            NULL, 0, &error));
    freeze(client);
    pair = connect_pair(client, server);
    CHECK_INT(1, with.calls);
    CHECK_INT(1, with.server_name_is_null);
    CHECK_INT(2, with.count);
    send_text(pair, 0, "tickets");
    free_pair(pair);
    /* A server's resumed sessions are asked about again. */
    pair = connect_pair(client, server);
    CHECK_INT(1, info_of(pair->server).resumed);
    CHECK_INT(2, with.calls);
    free_pair(pair);
    with.answer = QTLS_VERIFY_REFUSE;
    pair = new_pair(client, server);
    {
        struct outcome outcome = try_handshake(pair);
        CHECK_INT(QTLS_E_PEER_REFUSED, outcome.server);
        CHECK(outcome.client < 0 || outcome.client == QTLS_OK);
        free_outcome(&outcome);
    }
    CHECK_INT(3, with.calls);
    free_pair(pair);
    qtls_config_free(client);
    qtls_config_free(server);
}

static void one_that_decides_alone(void)
{
    struct judge with = {.answer = QTLS_VERIFY_ACCEPT};
    qtls_error *error = NULL;
    qtls_config *client = CHECK_MADE(qtls_config_new(QTLS_CLIENT, &error));
    struct pair *pair;
    size_t i;
    int noted = 0;

    CHECK_OK(qtls_config_danger_set_trust_callback(client, judge, &with, &error));
    freeze(client);
    for (i = 0; i < qtls_config_note_count(client); i++)
        noted |= strstr(qtls_config_note(client, i), "callback") != NULL;
    CHECK(noted);
    CHECK(qtls_config_note(client, qtls_config_note_count(client)) == NULL);
    pair = connect_pair(client, server_config);
    CHECK_INT(QTLS_E_PEER_UNKNOWN_ISSUER, with.verdict);
    free_pair(pair);
    with.answer = QTLS_VERIFY_REFUSE;
    qtls_config_free(client);

    client = CHECK_MADE(qtls_config_new(QTLS_CLIENT, &error));
    CHECK_OK(qtls_config_danger_set_trust_callback(client, judge, &with, &error));
    freeze(client);
    CHECK_HANDSHAKE_FAILS(client, server_config,
                          ((struct expected){QTLS_E_PEER_REFUSED, QTLS_FAULT_VERIFICATION, 49, -1}),
                          ((struct expected){QTLS_E_ALERT, QTLS_FAULT_PEER, -1, 49}));
    qtls_config_free(client);

    /* Taken away again, nobody is trusted. */
    client = CHECK_MADE(qtls_config_new(QTLS_CLIENT, &error));
    CHECK_OK(qtls_config_danger_set_trust_callback(client, judge, &with, &error));
    CHECK_OK(qtls_config_danger_set_trust_callback(client, NULL, NULL, &error));
    CHECK_STATUS(QTLS_E_CONFIGURATION, qtls_config_freeze(client, &error));
    qtls_config_free(client);
}

/* Lines in the NSS key log format: a label, 32 bytes and a secret in hexadecimal digits. */
struct log {
    int lines, traffic;
    char text[8][512];
};

static void log_line(void *user, const char *line, size_t line_len)
{
    struct log *log = user;

    CHECK(line_len < sizeof log->text[0] && line_len > 80);
    CHECK(memchr(line, '\n', line_len) == NULL);
    if (log->lines < 8)
        snprintf(log->text[log->lines], sizeof log->text[0], "%.*s", (int)line_len, line);
    log->lines++;
    log->traffic += line_len > 24 && memcmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0;
}

static void secrets_are_logged_where_that_is_asked_for(void)
{
    struct log logs[2];
    qtls_error *error = NULL;
    qtls_config *client = new_client_config(), *server = new_server_config();
    int i, j, same = 0;

    memset(logs, 0, sizeof logs);
    CHECK_OK(qtls_config_danger_set_key_log_callback(client, log_line, &logs[0], &error));
    CHECK_OK(qtls_config_danger_set_key_log_callback(server, log_line, &logs[1], &error));
    freeze(client);
    freeze(server);
    CHECK(qtls_config_note_count(client) > 0);
    free_pair(connect_pair(client, server));
    CHECK(logs[0].lines >= 4 && logs[0].lines <= 8);
    CHECK_INT(logs[0].lines, logs[1].lines);
    CHECK_INT(1, logs[0].traffic);
    CHECK_INT(1, logs[1].traffic);
    /* Both sides have the same secrets. */
    for (i = 0; i < logs[0].lines; i++)
        for (j = 0; j < logs[1].lines; j++)
            same += strcmp(logs[0].text[i], logs[1].text[j]) == 0;
    CHECK_INT(logs[0].lines, same);
    qtls_config_free(client);
    qtls_config_free(server);
}

int main(void)
{
    plain_client = new_client_config();
    freeze(plain_client);
    server_config = new_server_config();
    freeze(server_config);
    it_is_told_everything_and_can_let_through();
    it_can_refuse();
    it_cannot_let_through_what_the_library_refuses();
    it_cannot_use_the_connection();
    a_servers_is_asked_about_clients();
    one_that_decides_alone();
    secrets_are_logged_where_that_is_asked_for();
    qtls_config_free(plain_client);
    qtls_config_free(server_config);
    return 0;
}
