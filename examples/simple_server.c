/*
 * A TLS server: answers every HTTP request with what was negotiated. A thread for each connection.
 *
 *   simple_server [DIRECTORY]
 *
 * DIRECTORY, /etc/qtls/certs by default, has the chain in server-cert.pem and the key in server-key.pem, or both without
 * ".pem", as the keys of a Kubernetes Secret are called. Where there is a ca-bundle.pem or ca-bundle, clients may show a
 * certificate, which has to lead to one of these CAs.
 *
 * Environment: QTLS_SERVER_PORT (8443; 0 for any that is free), QTLS_SERVER_HOST (the address to listen on; all),
 * QTLS_HYBRID_MODE ("true" or "false"), QTLS_LOG_LEVEL ("error", "warn", "info" or "debug"; "info"). Other variables are
 * ignored.
 *
 * SIGTERM and SIGINT end it: nobody is accepted any more, and who is being served has 5 seconds. Exit codes: 0 after a
 * signal, 1 an internal error, 2 wrong use, configuration or certificate.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <qtls/qtls.h>

/* How many are served at once; more have to wait. */
#define MAX_CONNECTIONS 256
/* For how long a client may be silent, in seconds. */
#define PATIENCE 10
/* How long those who are being served when the server ends may take, in seconds. */
#define GRACE 5

enum level { LEVEL_ERROR, LEVEL_WARN, LEVEL_INFO, LEVEL_DEBUG };
static const char *const LEVELS[] = {"error", "warn", "info", "debug"};
static enum level level = LEVEL_INFO;

static volatile sig_atomic_t ending;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t somebody_left = PTHREAD_COND_INITIALIZER;
static unsigned connections;

struct client {
    qtls_config *config;
    int fd;
    char address[NI_MAXHOST];
};

static void end(int signal_number)
{
    (void)signal_number;
    ending = 1;
}

static void say(enum level of, const char *format, ...)
{
    char line[1024];
    va_list arguments;

    if (of > level)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    /* One call, so that lines of two threads aren't mixed. */
    fprintf(stderr, "%s: %s\n", LEVELS[of], line);
}

static void say_error(enum level of, const char *what, const qtls_error *error)
{
    const char *hint = qtls_error_hint(error);

    say(of, "%s: %s (%s)%s%s", what, qtls_error_message(error), qtls_status_name(qtls_error_code(error)),
        hint != NULL ? "; hint: " : "", hint != NULL ? hint : "");
}

/* Reads the head of a request: 1 where it is a GET, 0 where it is something else, -1 where there is none. */
static int read_request(qtls_conn *conn, const char *address)
{
    char head[8192];
    size_t have = 0, count = 0;
    qtls_error *error = NULL;

    for (;;) {
        int status = qtls_conn_read(conn, head + have, sizeof head - 1 - have, &count, &error);
        if (status != QTLS_OK) {
            if (status < 0)
                say_error(LEVEL_INFO, address, error);
            else if (status != QTLS_EOF)
                say(LEVEL_INFO, "%s: sends no request", address);
            qtls_error_free(error);
            return -1;
        }
        have += count;
        head[have] = '\0';
        if (strstr(head, "\r\n\r\n") != NULL)
            return strncmp(head, "GET ", 4) == 0;
        if (have == sizeof head - 1)
            return 0;
    }
}

static void answer(qtls_conn *conn, const char *address, int is_get)
{
    char body[1024], text[2048];
    qtls_info info = {.size = sizeof info};
    qtls_error *error = NULL;
    size_t count = 0;
    const char *who = qtls_conn_peer_identity(conn);
    int status = qtls_conn_info(conn, &info, &error);

    if (status == QTLS_OK) {
        snprintf(body, sizeof body,
                 "Q-TLS %s\nversion: %s\ngroup: %s\npost-quantum: %s\nscheme: %s\nsuite: %s\nresumed: %s\nclient: %.512s\n",
                 qtls_version(), info.version_name, info.group_name, info.group_post_quantum ? "yes" : "no",
                 info.scheme_name != NULL ? info.scheme_name : "none", info.suite_name, info.resumed ? "yes" : "no",
                 who != NULL ? who : "without a certificate");
        snprintf(text, sizeof text,
                 "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
                 "Connection: close\r\n\r\n%s",
                 is_get ? "200 OK" : "405 Method Not Allowed", strlen(body), body);
        status = qtls_conn_write(conn, text, strlen(text), &count, &error);
    }
    if (status == QTLS_OK)
        status = qtls_conn_shutdown(conn, &error);
    if (status < 0)
        say_error(LEVEL_INFO, address, error);
    qtls_error_free(error);
}

static void serve(const struct client *client)
{
    qtls_error *error = NULL;
    qtls_info info = {.size = sizeof info};
    qtls_conn *conn = qtls_conn_new_server(client->config, &error);
    int status = conn == NULL ? qtls_error_code(error) : qtls_conn_set_fd(conn, client->fd, &error);

    if (status == QTLS_OK)
        status = qtls_conn_handshake(conn, &error);
    if (status == QTLS_OK && qtls_conn_info(conn, &info, NULL) == QTLS_OK) {
        int is_get;
        say(LEVEL_INFO, "%s: %s %s%s", client->address, info.group_name, info.suite_name,
            info.resumed ? ", resumed" : "");
        is_get = read_request(conn, client->address);
        if (is_get >= 0)
            answer(conn, client->address, is_get);
    } else if (status > 0) {
        say(LEVEL_INFO, "%s: doesn't finish its handshake", client->address);
    } else {
        /* Who only looks whether the port is open is no news. */
        say_error(status == QTLS_E_TRUNCATED ? LEVEL_DEBUG : LEVEL_INFO, client->address, error);
    }
    qtls_error_free(error);
    qtls_conn_free(conn);
}

static void *serve_and_close(void *argument)
{
    struct client *client = argument;
    char rest[512];
    int i;

    serve(client);
    /* What the client still sends would make the kernel reset the connection, and the answer be lost with it. */
    shutdown(client->fd, SHUT_WR);
    for (i = 0; i < 64 && read(client->fd, rest, sizeof rest) > 0; i++)
        ;
    close(client->fd);
    free(client);
    pthread_mutex_lock(&lock);
    connections--;
    pthread_cond_signal(&somebody_left);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void accept_one(int listener, qtls_config *config)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    struct timeval patience = {.tv_sec = PATIENCE};
    struct client *client;
    pthread_t thread;
    int fd = accept4(listener, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC);

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            say(LEVEL_ERROR, "cannot accept: %s", strerror(errno));
            poll(NULL, 0, 100);
        }
        return;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    client = calloc(1, sizeof *client);
    if (client == NULL) {
        close(fd);
        return;
    }
    client->config = config;
    client->fd = fd;
    getnameinfo((struct sockaddr *)&peer, size, client->address, sizeof client->address, NULL, 0, NI_NUMERICHOST);
    pthread_mutex_lock(&lock);
    while (connections == MAX_CONNECTIONS)
        pthread_cond_wait(&somebody_left, &lock);
    connections++;
    pthread_mutex_unlock(&lock);
    if (pthread_create(&thread, NULL, serve_and_close, client) == 0) {
        pthread_detach(thread);
        return;
    }
    say(LEVEL_ERROR, "cannot start a thread");
    close(fd);
    free(client);
    pthread_mutex_lock(&lock);
    connections--;
    pthread_mutex_unlock(&lock);
}

/* Waits for those who are being served; 1 where all have left. */
static int wait_for_all(void)
{
    struct timespec deadline;
    int left;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += GRACE;
    pthread_mutex_lock(&lock);
    while (connections > 0 && pthread_cond_timedwait(&somebody_left, &lock, &deadline) == 0)
        ;
    left = connections == 0;
    pthread_mutex_unlock(&lock);
    return left;
}

/* A listening socket, or -1. */
static int listen_on(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE, .ai_family = AF_INET6};
    struct addrinfo *address;
    int fd, on = 1, off = 0;

    /* "::" with IPv4 as well; without IPv6, IPv4 alone. */
    if (host == NULL && getaddrinfo("::", port, &hints, &address) == 0) {
        fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0) {
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
            if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, 128) == 0) {
                freeaddrinfo(address);
                return fd;
            }
            close(fd);
        }
        freeaddrinfo(address);
    }
    hints.ai_family = host == NULL ? AF_INET : AF_UNSPEC;
    if (getaddrinfo(host, port, &hints, &address) != 0) {
        say(LEVEL_ERROR, "there is no address %s, port %s", host != NULL ? host : "0.0.0.0", port);
        return -1;
    }
    fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, 128) != 0) {
        say(LEVEL_ERROR, "cannot listen on port %s: %s", port, strerror(errno));
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(address);
    return fd;
}

static unsigned port_of(int fd)
{
    struct sockaddr_storage own;
    socklen_t size = sizeof own;

    if (getsockname(fd, (struct sockaddr *)&own, &size) != 0)
        return 0;
    return ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&own)->sin6_port
                                           : ((struct sockaddr_in *)&own)->sin_port);
}

/* A configuration, ready for use, or NULL. */
static qtls_config *configure(const char *directory, const char *hybrid)
{
    static const char *const bundles[] = {"ca-bundle.pem", "ca-bundle"};
    char cert[4096], key[4096], ca[4096];
    qtls_error *error = NULL;
    qtls_config *config = qtls_config_new(QTLS_SERVER, &error);
    int status = config == NULL ? qtls_error_code(error) : QTLS_OK;
    size_t i;

    /* Where there is no such file, the library tries the name without ".pem". */
    snprintf(cert, sizeof cert, "%s/server-cert.pem", directory);
    snprintf(key, sizeof key, "%s/server-key.pem", directory);
    if (status == QTLS_OK)
        status = qtls_config_add_key_pair_files(config, cert, QTLS_NTS, key, QTLS_NTS, NULL, 0, &error);
    for (i = 0; status == QTLS_OK && i < sizeof bundles / sizeof bundles[0]; i++) {
        snprintf(ca, sizeof ca, "%s/%s", directory, bundles[i]);
        if (access(ca, F_OK) != 0)
            continue;
        status = qtls_config_add_ca_file(config, ca, QTLS_NTS, &error);
        if (status == QTLS_OK)
            status = qtls_config_set_client_auth(config, QTLS_CLIENT_AUTH_OPTIONAL, &error);
        break;
    }
    if (status == QTLS_OK && hybrid != NULL)
        status = qtls_config_set_hybrid_mode(config, strcmp(hybrid, "true") == 0, &error);
    if (status == QTLS_OK)
        status = qtls_config_add_alpn(config, "http/1.1", 8, &error);
    if (status == QTLS_OK)
        status = qtls_config_freeze(config, &error);
    for (i = 0; i < qtls_config_note_count(config); i++)
        say(LEVEL_WARN, "%s", qtls_config_note(config, i));
    if (status == QTLS_OK)
        return config;
    say_error(LEVEL_ERROR, "cannot start", error);
    qtls_error_free(error);
    qtls_config_free(config);
    return NULL;
}

/* The port that the environment names; NULL where it names none. */
static const char *port_from_environment(void)
{
    const char *port = getenv("QTLS_SERVER_PORT");
    char *rest;
    unsigned long number;

    if (port == NULL || *port == '\0')
        return "8443";
    if (strncmp(port, "tcp://", 6) == 0) {
        say(LEVEL_WARN,
            "QTLS_SERVER_PORT is \"%s\", which Kubernetes sets for a Service named qtls-server: ignored, and 8443 is "
            "used; set enableServiceLinks: false",
            port);
        return "8443";
    }
    number = strtoul(port, &rest, 10);
    if (*port < '0' || *port > '9' || *rest != '\0' || number > 65535) {
        say(LEVEL_ERROR, "QTLS_SERVER_PORT is \"%s\": it has to be a port, from 0 to 65535", port);
        return NULL;
    }
    return port;
}

int main(int argc, char **argv)
{
    const char *wanted = getenv("QTLS_LOG_LEVEL");
    const char *hybrid = getenv("QTLS_HYBRID_MODE");
    const char *host = getenv("QTLS_SERVER_HOST");
    const char *port;
    struct sigaction action = {.sa_handler = end};
    sigset_t signals, before;
    qtls_config *config;
    int listener;
    size_t i;

    if (argc > 2) {
        fputs("usage: simple_server [DIRECTORY]\n", stderr);
        return 2;
    }
    if (wanted != NULL) {
        for (i = 0; i < sizeof LEVELS / sizeof LEVELS[0] && strcmp(LEVELS[i], wanted) != 0; i++)
            ;
        if (i == sizeof LEVELS / sizeof LEVELS[0]) {
            say(LEVEL_ERROR, "QTLS_LOG_LEVEL is \"%s\": it may be \"error\", \"warn\", \"info\" or \"debug\"", wanted);
            return 2;
        }
        level = (enum level)i;
    }
    if (hybrid != NULL && strcmp(hybrid, "true") != 0 && strcmp(hybrid, "false") != 0) {
        say(LEVEL_ERROR, "QTLS_HYBRID_MODE is \"%s\": it may be \"true\" or \"false\"", hybrid);
        return 2;
    }
    port = port_from_environment();
    config = port == NULL ? NULL : configure(argc == 2 ? argv[1] : "/etc/qtls/certs", hybrid);
    if (config == NULL)
        return 2;
    listener = listen_on(host != NULL && *host != '\0' ? host : NULL, port);
    if (listener < 0) {
        qtls_config_free(config);
        return 2;
    }

    /* The signals come while nobody is being accepted, and at no other time: none is missed. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, &before);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    say(LEVEL_INFO, "listening on port %u", port_of(listener));
    while (!ending) {
        struct pollfd waiting = {.fd = listener, .events = POLLIN};
        if (ppoll(&waiting, 1, NULL, &before) > 0)
            accept_one(listener, config);
    }
    close(listener);
    if (!wait_for_all()) {
        /* The threads that are left use the configuration: the end of the process frees it. */
        say(LEVEL_WARN, "ended before everybody was served");
        return 0;
    }
    qtls_config_free(config);
    say(LEVEL_INFO, "ended");
    return 0;
}
