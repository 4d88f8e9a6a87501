/*
 * A TLS server that sends back whatever it receives: many connections, one thread, one epoll loop (Linux).
 *
 *   nonblocking_epoll CERT KEY [PORT]
 *
 * CERT is a chain in PEM, KEY its private key; PORT is 8443 unless given, 0 for any that is free. SIGTERM and SIGINT end it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <qtls/qtls.h>

/* One client. What was read from it and not yet written back stands in `buffer`, from `begin` to `end`. */
struct client {
    qtls_conn *conn;
    int fd;
    size_t begin, end;
    int at_end;
    char buffer[16384];
    struct client *next, *previous;
};

static struct client *clients;
static volatile sig_atomic_t ending;

static void end(int signal_number)
{
    (void)signal_number;
    ending = 1;
}

static void complain(const char *what, qtls_error *error)
{
    fprintf(stderr, "%s: %s (%s)\n", what, qtls_error_message(error), qtls_status_name(qtls_error_code(error)));
    qtls_error_free(error);
}

static void drop(struct client *client)
{
    if (client->previous != NULL)
        client->previous->next = client->next;
    else
        clients = client->next;
    if (client->next != NULL)
        client->next->previous = client->previous;
    qtls_conn_free(client->conn);
    close(client->fd);
    free(client);
}

/* Moves a client on as far as it goes without waiting. Returns what has to be waited for, or 0 where it is done with. */
static int advance(struct client *client)
{
    qtls_error *error = NULL;
    size_t count;
    int status;

    for (;;) {
        if (client->begin < client->end) {
            status = qtls_conn_write(client->conn, client->buffer + client->begin, client->end - client->begin, &count,
                                     &error);
            client->begin += count;
        } else if (client->at_end) {
            status = qtls_conn_shutdown(client->conn, &error);
            if (status == QTLS_OK)
                return 0;
        } else {
            /* The first reads do the handshake. */
            status = qtls_conn_read(client->conn, client->buffer, sizeof client->buffer, &count, &error);
            client->begin = 0;
            client->end = status == QTLS_OK ? count : 0;
            client->at_end = status == QTLS_EOF;
            if (status == QTLS_EOF)
                continue;
        }
        if (status < 0) {
            complain("a client", error);
            return 0;
        }
        if (status != QTLS_OK)
            return status;
    }
}

/* Has epoll wait for what a client waits for. */
static void wait_for(int epoll, int operation, struct client *client, int want)
{
    struct epoll_event event = {.data.ptr = client};

    event.events = (want & QTLS_WANT_READ ? EPOLLIN : 0u) | (want & QTLS_WANT_WRITE ? EPOLLOUT : 0u);
    if (epoll_ctl(epoll, operation, client->fd, &event) != 0) {
        perror("epoll_ctl");
        drop(client);
    }
}

static void accept_all(int epoll, int listener, qtls_config *config)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        qtls_error *error = NULL;
        struct client *client = calloc(1, sizeof *client);
        if (client == NULL) {
            close(fd);
            continue;
        }
        client->fd = fd;
        client->next = clients;
        if (clients != NULL)
            clients->previous = client;
        clients = client;
        client->conn = qtls_conn_new_server(config, &error);
        if (client->conn == NULL || qtls_conn_set_fd(client->conn, fd, &error) != QTLS_OK) {
            complain("a new client", error);
            drop(client);
            continue;
        }
        wait_for(epoll, EPOLL_CTL_ADD, client, QTLS_WANT_READ);
    }
}

static int listen_on(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    socklen_t size = sizeof address;
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    address.sin_port = htons((unsigned short)strtoul(port, NULL, 10));
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 128) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        perror("cannot listen");
        exit(2);
    }
    printf("listening on port %u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = end};
    struct epoll_event event = {.events = EPOLLIN}, events[64];
    sigset_t signals, before;
    qtls_error *error = NULL;
    qtls_config *config;
    int listener, epoll;

    if (argc != 3 && argc != 4) {
        fputs("usage: nonblocking_epoll CERT KEY [PORT]\n", stderr);
        return 2;
    }
    config = qtls_config_new(QTLS_SERVER, &error);
    if (config == NULL ||
        qtls_config_add_key_pair_files(config, argv[1], QTLS_NTS, argv[2], QTLS_NTS, NULL, 0, &error) != QTLS_OK ||
        qtls_config_freeze(config, &error) != QTLS_OK) {
        complain("nonblocking_epoll", error);
        qtls_config_free(config);
        return 2;
    }

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, &before);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    listener = listen_on(argc == 4 ? argv[3] : "8443");
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0) {
        perror("epoll");
        return 1;
    }
    while (!ending) {
        int i, ready = epoll_pwait(epoll, events, sizeof events / sizeof events[0], -1, &before);
        for (i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            int want;
            if (client == NULL) {
                accept_all(epoll, listener, config);
                continue;
            }
            want = advance(client);
            if (want == 0)
                drop(client);
            else
                wait_for(epoll, EPOLL_CTL_MOD, client, want);
        }
    }
    while (clients != NULL)
        drop(clients);
    close(epoll);
    close(listener);
    qtls_config_free(config);
    return 0;
}
