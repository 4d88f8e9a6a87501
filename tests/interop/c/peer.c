/*
 * One side of a TLS connection with whatever is asked for, which prints what was negotiated as a line of JSON.
 *
 *   peer client port=N ca=FILE [name=localhost]
 *   peer server cert=FILE key=FILE [ca=FILE] [connections=N]
 *
 * both with [groups=…] [signatures=…] [suites=…] [hybrid=0|1] [cert=… key=…] [nonblocking=1]. A client asks for / and prints
 * the answer; a server listens on a free port of 127.0.0.1, prints it, and answers each request with "hello\n".
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <qtls/qtls.h>

static char **options;

static const char *option(const char *name, const char *otherwise)
{
    size_t length = strlen(name);
    char **each;

    for (each = options; *each != NULL; each++)
        if (strncmp(*each, name, length) == 0 && (*each)[length] == '=')
            return *each + length + 1;
    return otherwise;
}

/* Prints what failed as JSON, and ends. */
static void fail(qtls_error *error)
{
    printf("{\"error\":\"%s\",\"fault\":%d,\"alert_sent\":%d,\"alert_received\":%d}\n",
           qtls_status_name(qtls_error_code(error)), qtls_error_fault(error), qtls_error_alert_sent(error),
           qtls_error_alert_received(error));
    fprintf(stderr, "%s\n", qtls_error_message(error));
    qtls_error_free(error);
}

static qtls_config *configure(int role)
{
    qtls_error *error = NULL;
    qtls_config *config = qtls_config_new(role, &error);
    const char *cert = option("cert", NULL), *ca = option("ca", NULL), *groups = option("groups", NULL);
    const char *signatures = option("signatures", NULL), *suites = option("suites", NULL);
    const char *hybrid = option("hybrid", NULL);

    if (config == NULL ||
        (cert != NULL && qtls_config_add_key_pair_files(config, cert, QTLS_NTS, option("key", ""), QTLS_NTS, NULL, 0,
                                                        &error) != QTLS_OK) ||
        (ca != NULL && qtls_config_add_ca_file(config, ca, QTLS_NTS, &error) != QTLS_OK) ||
        (ca != NULL && role == QTLS_SERVER &&
         qtls_config_set_client_auth(config, QTLS_CLIENT_AUTH_REQUIRED, &error) != QTLS_OK) ||
        (groups != NULL && qtls_config_set_groups(config, groups, QTLS_NTS, &error) != QTLS_OK) ||
        (signatures != NULL && qtls_config_set_signatures(config, signatures, QTLS_NTS, &error) != QTLS_OK) ||
        (suites != NULL && qtls_config_set_suites(config, suites, QTLS_NTS, &error) != QTLS_OK) ||
        (hybrid != NULL && qtls_config_set_hybrid_mode(config, atoi(hybrid), &error) != QTLS_OK) ||
        qtls_config_freeze(config, &error) != QTLS_OK) {
        fail(error);
        exit(2);
    }
    return config;
}

static void say(const qtls_conn *conn)
{
    qtls_info info = {.size = sizeof info};
    const char *identity = qtls_conn_peer_identity(conn);

    if (qtls_conn_info(conn, &info, NULL) != QTLS_OK)
        return;
    printf("{\"version\":\"%s\",\"group\":\"%s\",\"post_quantum\":%s,\"scheme\":\"%s\",\"suite\":\"%s\",\"resumed\":%s,"
           "\"hello_retry_request\":%s,\"server_name\":\"%s\",\"peer_chain_length\":%zu,\"peer\":\"%s\"}\n",
           info.version_name, info.group_name, info.group_post_quantum ? "true" : "false",
           info.scheme_name != NULL ? info.scheme_name : "", info.suite_name, info.resumed ? "true" : "false",
           info.hello_retry_request ? "true" : "false", info.server_name != NULL ? info.server_name : "",
           info.peer_chain_length, identity != NULL ? identity : "");
    fflush(stdout);
}

/* Waits for what a connection waits for, where the descriptor doesn't block. */
static void wait_for(int fd, int want)
{
    struct pollfd waiting = {.fd = fd};

    waiting.events = (short)((want & QTLS_WANT_READ ? POLLIN : 0) | (want & QTLS_WANT_WRITE ? POLLOUT : 0));
    poll(&waiting, 1, -1);
}

/* One request and its answer, from either side. 0, or 1 after an error, which is told. */
static int talk(qtls_conn *conn, int fd, int is_client)
{
    static const char request[] = "GET / HTTP/1.0\r\n\r\n";
    static const char answer[] = "HTTP/1.0 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";
    const char *to_send = is_client ? request : answer;
    size_t left = is_client ? sizeof request - 1 : sizeof answer - 1, have = 0, count;
    char received[65536];
    qtls_error *error = NULL;
    int status, said = 0, turn = is_client;

    if (option("nonblocking", NULL) != NULL)
        fcntl(fd, F_SETFL, O_NONBLOCK);
    if (qtls_conn_set_fd(conn, fd, &error) != QTLS_OK) {
        fail(error);
        return 1;
    }
    while ((status = qtls_conn_handshake(conn, &error)) > 0)
        wait_for(fd, status);
    while (status >= 0) {
        if (!said)
            say(conn);
        said = 1;
        if (turn && left > 0) {
            status = qtls_conn_write(conn, to_send, left, &count, &error);
            to_send += count;
            left -= count;
        } else if (turn && !is_client) {
            status = qtls_conn_shutdown(conn, &error);
            if (status == QTLS_OK)
                return 0;
        } else {
            status = qtls_conn_read(conn, received + have, sizeof received - 1 - have, &count, &error);
            have += count;
            received[have] = '\0';
            turn = !is_client && strstr(received, "\n\r\n") != NULL;
            if (status == QTLS_EOF) {
                if (is_client)
                    fwrite(received, 1, have, stdout);
                return !is_client;
            }
        }
        if (status > 0)
            wait_for(fd, status);
    }
    fail(error);
    return 1;
}

int main(int argc, char **argv)
{
    int is_client = argc > 1 && strcmp(argv[1], "client") == 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0), failed = 0, connections;
    qtls_error *error = NULL;
    qtls_config *config;

    options = argv + 2;
    config = configure(is_client ? QTLS_CLIENT : QTLS_SERVER);
    address.sin_port = htons((unsigned short)atoi(option("port", "0")));
    if (is_client) {
        qtls_conn *conn = qtls_conn_new_client(config, option("name", "localhost"), QTLS_NTS, &error);
        if (conn == NULL || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
            return 3;
        failed = talk(conn, fd, 1);
        qtls_conn_free(conn);
    } else {
        if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 16) != 0 ||
            getsockname(fd, (struct sockaddr *)&address, &size) != 0)
            return 3;
        printf("port %u\n", ntohs(address.sin_port));
        fflush(stdout);
        for (connections = atoi(option("connections", "1")); connections > 0; connections--) {
            qtls_conn *conn = qtls_conn_new_server(config, &error);
            int accepted = accept(fd, NULL, NULL);
            char rest[256];
            if (conn == NULL || accepted < 0)
                return 3;
            failed |= talk(conn, accepted, 0);
            qtls_conn_free(conn);
            shutdown(accepted, SHUT_WR);
            /* Until the client has heard everything. */
            fcntl(accepted, F_SETFL, 0);
            while (read(accepted, rest, sizeof rest) > 0)
                ;
            close(accepted);
        }
    }
    close(fd);
    qtls_config_free(config);
    fflush(stdout);
    return failed;
}
