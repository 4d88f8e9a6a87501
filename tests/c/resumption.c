/*
 * Sessions: resumed within one configuration, or between servers with the same ticket keys, and nowhere else.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check.h"

/* One connection, used so far that the client has its tickets. Returns whether it was resumed, as both sides see it. */
static int connected(qtls_config *client, qtls_config *server)
{
    struct pair *pair = connect_pair(client, server);
    qtls_info at_client, at_server;

    send_text(pair, 0, "with what comes after the handshake");
    at_client = info_of(pair->client);
    at_server = info_of(pair->server);
    CHECK_INT(at_client.resumed, at_server.resumed);
    CHECK_INT(at_client.group, at_server.group);
    CHECK_TEXT("X25519MLKEM768", at_client.group_name);
    /* Nothing is signed where a session is resumed; the chain is the one of the first time. */
    CHECK_TEXT(at_client.resumed ? NULL : "ecdsa_secp384r1_sha384", at_client.scheme_name);
    CHECK_INT(at_client.resumed, at_client.scheme == 0);
    CHECK_INT(at_client.scheme, at_server.scheme);
    CHECK_INT(2, at_client.peer_chain_length);
    CHECK_TEXT("CN=localhost,O=Q-TLS quickstart, DNS localhost, IP 127.0.0.1", qtls_conn_peer_identity(pair->client));
    free_pair(pair);
    return at_client.resumed;
}

static void within_one_configuration(void)
{
    qtls_config *client = new_client_config(), *other = new_client_config();
    qtls_config *server = new_server_config(), *other_server = new_server_config();

    freeze(client);
    freeze(other);
    freeze(server);
    freeze(other_server);
    CHECK_INT(0, connected(client, server));
    CHECK_INT(1, connected(client, server));
    CHECK_INT(1, connected(client, server));
    CHECK_INT(0, connected(other, server));
    CHECK_INT(0, connected(client, other_server));
    qtls_config_free(client);
    qtls_config_free(other);
    qtls_config_free(server);
    qtls_config_free(other_server);
}

static void not_where_it_is_turned_off(void)
{
    qtls_error *error = NULL;
    int which;

    for (which = 0; which < 3; which++) {
        qtls_config *client = new_client_config(), *server = new_server_config();
        if (which == 0)
            CHECK_OK(qtls_config_set_session_cache(client, 0, &error));
        if (which == 1)
            CHECK_OK(qtls_config_set_session_cache(server, 0, &error));
        if (which == 2)
            CHECK_OK(qtls_config_set_session_timeout(server, 0, &error));
        freeze(client);
        freeze(server);
        CHECK_INT(0, connected(client, server));
        CHECK_INT(0, connected(client, server));
        qtls_config_free(client);
        qtls_config_free(server);
    }
}

static void between_servers_with_the_same_ticket_keys(void)
{
    static const char first[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";
    static const char both[] = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100\n"
                               "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";
    static const char other[] = "0102030405060708090a0b0c0d0e0f100102030405060708090a0b0c0d0e0f10\n";
    static const char *const keys[] = {first, both, other};
    qtls_error *error = NULL;
    qtls_config *client = new_client_config(), *servers[3];
    int i;

    freeze(client);
    for (i = 0; i < 3; i++) {
        servers[i] = new_server_config();
        CHECK_OK(qtls_config_set_ticket_keys(servers[i], keys[i], QTLS_NTS, &error));
        freeze(servers[i]);
    }
    CHECK_INT(0, connected(client, servers[0]));
    CHECK_INT(1, connected(client, servers[0]));
    /* The second has another key first, and opens with both. */
    CHECK_INT(1, connected(client, servers[1]));
    CHECK_INT(0, connected(client, servers[2]));
    for (i = 0; i < 3; i++)
        qtls_config_free(servers[i]);
    qtls_config_free(client);
}

static void bad_ticket_keys_are_refused_without_showing_them(void)
{
    static const char damaged[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\nsecret-not-hex\n";
    qtls_error *error = NULL;
    qtls_config *server = new_server_config(), *client = new_client_config();

    CHECK_INT(QTLS_E_CONFIGURATION, qtls_config_set_ticket_keys(server, damaged, QTLS_NTS, &error));
    CHECK(strstr(qtls_error_message(error), "2") != NULL);
    CHECK(strstr(qtls_error_message(error), "secret-not") == NULL);
    CHECK(strstr(qtls_error_message(error), "0011") == NULL);
    qtls_error_free(error);
    error = NULL;
    CHECK_STATUS(QTLS_E_CONFIGURATION, qtls_config_set_ticket_keys(server, "\n", QTLS_NTS, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_config_set_ticket_keys(client, damaged, QTLS_NTS, &error));
    CHECK_STATUS(QTLS_E_CONFIGURATION, qtls_config_set_session_timeout(server, 604801, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_config_set_session_timeout(client, 60, &error));
    qtls_config_free(server);
    qtls_config_free(client);
}

int main(void)
{
    within_one_configuration();
    not_where_it_is_turned_off();
    between_servers_with_the_same_ticket_keys();
    bad_ticket_keys_are_refused_without_showing_them();
    return 0;
}
