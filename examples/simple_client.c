/*
 * A TLS client: asks a server for its page, and says what was negotiated.
 *
 *   simple_client [HOST PORT]
 *
 * Without arguments, the environment variables QTLS_SERVER_HOST and QTLS_SERVER_PORT name the server. Trusts the CA
 * certificates in the file or directory QTLS_CA; without that, those in /etc/qtls/certs/ca-bundle.pem or
 * /etc/qtls/certs/ca-bundle; without either, those that the system trusts. QTLS_HYBRID_MODE is "true" or "false".
 *
 * The answer goes to standard output, everything else to standard error. Exit codes: 0 success, 1 an internal error, 2 wrong
 * use or configuration, 3 the network, 4 the server's certificate or name, 5 the handshake, 6 no algorithm in common.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <qtls/qtls.h>

static int configure(qtls_config *config, qtls_error **error);
static void say_what_was_negotiated(const qtls_conn *conn);

/* A post-quantum TLS connection in thirty lines: over `fd`, to the server `host`. */
static int ask(int fd, const char *host, qtls_error **error)
{
    char text[4096];
    size_t count = 0;
    int status;
    qtls_conn *conn = NULL;
    qtls_config *config = qtls_config_new(QTLS_CLIENT, error);

    status = config == NULL ? qtls_error_code(*error) : configure(config, error);
    if (status == QTLS_OK)
        status = qtls_config_freeze(config, error);
    if (status == QTLS_OK && (conn = qtls_conn_new_client(config, host, QTLS_NTS, error)) == NULL)
        status = qtls_error_code(*error);
    if (status == QTLS_OK)
        status = qtls_conn_set_fd(conn, fd, error);
    if (status == QTLS_OK)
        status = qtls_conn_handshake(conn, error);
    if (status == QTLS_OK) {
        say_what_was_negotiated(conn);
        snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host);
        status = qtls_conn_write(conn, text, strlen(text), &count, error);
    }
    while (status == QTLS_OK && (status = qtls_conn_read(conn, text, sizeof text, &count, error)) == QTLS_OK)
        fwrite(text, 1, count, stdout);
    if (status == QTLS_EOF)
        status = qtls_conn_shutdown(conn, error);
    qtls_conn_free(conn);
    qtls_config_free(config);
    return status;
}

/* Whom to trust, and what to offer. */
static int configure(qtls_config *config, qtls_error **error)
{
    static const char *const bundles[] = {"/etc/qtls/certs/ca-bundle.pem", "/etc/qtls/certs/ca-bundle"};
    const char *hybrid = getenv("QTLS_HYBRID_MODE");
    const char *ca = getenv("QTLS_CA");
    size_t i;

    if (hybrid != NULL) {
        int status;
        if (strcmp(hybrid, "true") != 0 && strcmp(hybrid, "false") != 0) {
            fprintf(stderr, "simple_client: QTLS_HYBRID_MODE is \"%s\": it may be \"true\" or \"false\"\n", hybrid);
            exit(2);
        }
        status = qtls_config_set_hybrid_mode(config, strcmp(hybrid, "true") == 0, error);
        if (status != QTLS_OK)
            return status;
    }
    for (i = 0; ca == NULL && i < sizeof bundles / sizeof bundles[0]; i++)
        if (access(bundles[i], F_OK) == 0)
            ca = bundles[i];
    if (ca != NULL)
        return qtls_config_add_ca_file(config, ca, QTLS_NTS, error);
    return qtls_config_use_system_roots(config, error);
}

static void say_what_was_negotiated(const qtls_conn *conn)
{
    qtls_info info = {.size = sizeof info};

    if (qtls_conn_info(conn, &info, NULL) != QTLS_OK)
        return;
    fprintf(stderr, "group:  %s%s\nscheme: %s\nsuite:  %s\nserver: %s\n", info.group_name,
            info.group_post_quantum ? " (post-quantum)" : " (NOT post-quantum)",
            info.scheme_name != NULL ? info.scheme_name : "none", info.suite_name, qtls_conn_peer_identity(conn));
}

/* A connected socket, or -1. */
static int connect_to(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *addresses, *address;
    int fd = -1;
    int failed = getaddrinfo(host, port, &hints, &addresses);

    if (failed != 0) {
        fprintf(stderr, "simple_client: cannot find %s port %s: %s\n", host, port, gai_strerror(failed));
        return -1;
    }
    for (address = addresses; address != NULL && fd < 0; address = address->ai_next) {
        fd = socket(address->ai_family, address->ai_socktype, address->ai_protocol);
        if (fd >= 0 && connect(fd, address->ai_addr, address->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    if (fd < 0)
        perror("simple_client: cannot connect");
    freeaddrinfo(addresses);
    return fd;
}

static int exit_code(int fault)
{
    switch (fault) {
    case QTLS_FAULT_MISUSE:
    case QTLS_FAULT_CONFIGURATION:
    case QTLS_FAULT_CERTIFICATE:
        return 2;
    case QTLS_FAULT_NETWORK:
        return 3;
    case QTLS_FAULT_VERIFICATION:
        return 4;
    case QTLS_FAULT_PEER:
        return 5;
    case QTLS_FAULT_POLICY:
        return 6;
    default:
        return 1;
    }
}

int main(int argc, char **argv)
{
    const char *host = argc == 3 ? argv[1] : getenv("QTLS_SERVER_HOST");
    const char *port = argc == 3 ? argv[2] : getenv("QTLS_SERVER_PORT");
    qtls_error *error = NULL;
    int code = 0;
    int fd;

    if ((argc != 1 && argc != 3) || host == NULL || port == NULL) {
        fputs("usage: simple_client HOST PORT\n", stderr);
        return 2;
    }
    fd = connect_to(host, port);
    if (fd < 0)
        return 3;
    if (ask(fd, host, &error) != QTLS_OK) {
        const char *hint = qtls_error_hint(error);
        fprintf(stderr, "simple_client: %s (%s)\n", qtls_error_message(error), qtls_status_name(qtls_error_code(error)));
        if (hint != NULL)
            fprintf(stderr, "  hint: %s\n", hint);
        code = exit_code(qtls_error_fault(error));
        qtls_error_free(error);
    }
    close(fd);
    return fflush(stdout) == 0 ? code : 1;
}
