/*
 * Mutual TLS without sockets: a client and a server in one process, both with a certificate, each with what the other one
 * has to say carried to it by hand. So TLS goes over anything that carries bytes.
 *
 *   mutual_tls DIRECTORY
 *
 * DIRECTORY is one that `qtls quickstart --name localhost --dir DIRECTORY` has made.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qtls/qtls.h>

/* The program has nothing better to do than to end. */
static void fail(const char *what, const qtls_error *error)
{
    fprintf(stderr, "mutual_tls: %s: %s (%s)\n", what, qtls_error_message(error),
            qtls_status_name(qtls_error_code(error)));
    exit(1);
}

/* Called in the middle of each handshake, after the library's own verification, which it can only make stricter. */
static int look_at_peer(void *user, const qtls_chain *chain)
{
    printf("%s looks at a chain of %zu certificates: %s\n", (const char *)user, chain->count,
           chain->verdict == QTLS_OK ? "valid" : chain->verdict_message);
    return chain->count <= 3 ? QTLS_VERIFY_ACCEPT : QTLS_VERIFY_REFUSE;
}

static qtls_config *configure(int role, const char *directory, const char *name)
{
    char cert[1024], key[1024], ca[1024];
    qtls_error *error = NULL;
    qtls_config *config = qtls_config_new(role, &error);

    snprintf(cert, sizeof cert, "%s/%s-cert.pem", directory, name);
    snprintf(key, sizeof key, "%s/%s-key.pem", directory, name);
    snprintf(ca, sizeof ca, "%s/ca-bundle.pem", directory);
    if (config == NULL || qtls_config_add_key_pair_files(config, cert, QTLS_NTS, key, QTLS_NTS, NULL, 0, &error) < 0 ||
        qtls_config_add_ca_file(config, ca, QTLS_NTS, &error) < 0 ||
        (role == QTLS_SERVER && qtls_config_set_client_auth(config, QTLS_CLIENT_AUTH_REQUIRED, &error) < 0) ||
        qtls_config_set_verify_callback(config, look_at_peer, (void *)(size_t)name, &error) < 0 ||
        qtls_config_freeze(config, &error) < 0)
        fail(name, error);
    return config;
}

/* Carries what one side has to send to the other; a network would be in between. Returns how much it was. */
static size_t carry(qtls_conn *from, qtls_conn *to)
{
    unsigned char bytes[4096];
    size_t total = 0, count, taken;
    qtls_error *error = NULL;

    for (;;) {
        if (qtls_conn_drain(from, bytes, sizeof bytes, &count, &error) < 0)
            fail("drain", error);
        if (count == 0)
            return total;
        total += count;
        /* It takes less than all of it only where there is plaintext to be read first: never here. */
        if (qtls_conn_feed(to, bytes, count, &taken, &error) < 0 || taken != count)
            fail("feed", error);
    }
}

static void say(const char *name, const qtls_conn *conn)
{
    qtls_info info = {.size = sizeof info};
    qtls_error *error = NULL;

    if (qtls_conn_info(conn, &info, &error) < 0)
        fail(name, error);
    printf("%s: %s, %s, %s, with %s\n", name, info.group_name, info.scheme_name, info.suite_name,
           qtls_conn_peer_identity(conn));
}

int main(int argc, char **argv)
{
    static const char message[] = "to the one who has the certificate";
    char received[sizeof message];
    qtls_config *server_config, *client_config;
    qtls_conn *server, *client;
    qtls_error *error = NULL;
    size_t count = 0;
    int at_client, at_server;

    if (argc != 2) {
        fputs("usage: mutual_tls DIRECTORY\n", stderr);
        return 2;
    }
    server_config = configure(QTLS_SERVER, argv[1], "server");
    client_config = configure(QTLS_CLIENT, argv[1], "client");
    server = qtls_conn_new_server(server_config, &error);
    client = qtls_conn_new_client(client_config, "localhost", QTLS_NTS, &error);
    if (server == NULL || client == NULL)
        fail("connection", error);

    do {
        at_client = qtls_conn_handshake(client, &error);
        at_server = at_client < 0 ? QTLS_OK : qtls_conn_handshake(server, &error);
        if (at_client < 0 || at_server < 0)
            fail(at_client < 0 ? "client" : "server", error);
    } while (carry(client, server) + carry(server, client) > 0);
    say("client", client);
    say("server", server);

    if (qtls_conn_write(client, message, sizeof message, &count, &error) < 0)
        fail("write", error);
    carry(client, server);
    if (qtls_conn_read(server, received, sizeof received, &count, &error) < 0)
        fail("read", error);
    printf("the server received %zu bytes: %s\n", count, received);

    qtls_conn_free(client);
    qtls_conn_free(server);
    qtls_config_free(client_config);
    qtls_config_free(server_config);
    return memcmp(received, message, sizeof message) == 0 ? 0 : 1;
}
