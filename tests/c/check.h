/*
 * What the tests in C have in common: checks that count also where NDEBUG is set, certificates, and two connections whose
 * bytes are carried from one to the other.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef QTLS_TESTS_CHECK_H
#define QTLS_TESTS_CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <qtls/qtls.h>

#if defined(__GNUC__)
#define MAYBE_UNUSED __attribute__((unused))
#else
#define MAYBE_UNUSED
#endif

/* CMake's SKIP_RETURN_CODE. */
#define SKIPPED 77

#define CHECK(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, NULL))
#define CHECK_INT(expected, actual) check_int(__FILE__, __LINE__, #actual, (long long)(expected), (long long)(actual))
#define CHECK_TEXT(expected, actual) check_text(__FILE__, __LINE__, #actual, (expected), (actual))
/* A call whose last argument is `&error`. */
#define CHECK_STATUS(expected, call) check_status(__FILE__, __LINE__, #call, (expected), (call), &error)
#define CHECK_OK(call) CHECK_STATUS(QTLS_OK, call)
/* A call that makes something, whose last argument is `&error`. */
#define CHECK_MADE(call) check_made(__FILE__, __LINE__, #call, (call), &error)
/* A call that makes something, and must not. */
#define CHECK_NOT_MADE(expected, call) \
    check_status(__FILE__, __LINE__, #call, (expected), (call) == NULL ? qtls_error_code(error) : QTLS_OK, &error)

static MAYBE_UNUSED void check_failed(const char *file, int line, const char *what, const qtls_error *error)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    if (error != NULL)
        fprintf(stderr, "  the error is %s: %s\n", qtls_status_name(qtls_error_code(error)), qtls_error_message(error));
    exit(1);
}

static MAYBE_UNUSED void check_int(const char *file, int line, const char *what, long long expected, long long actual)
{
    char text[512];

    if (expected == actual)
        return;
    snprintf(text, sizeof text, "%s is %lld, not %lld", what, actual, expected);
    check_failed(file, line, text, NULL);
}

static MAYBE_UNUSED void check_text(const char *file, int line, const char *what, const char *expected,
                                    const char *actual)
{
    char text[1024];

    if (expected == actual || (expected != NULL && actual != NULL && strcmp(expected, actual) == 0))
        return;
    snprintf(text, sizeof text, "%s is\n  \"%s\", not\n  \"%s\"", what, actual != NULL ? actual : "NULL",
             expected != NULL ? expected : "NULL");
    check_failed(file, line, text, NULL);
}

/* Fails unless the call came to `expected`, with an error object that has the same number if that is an error. */
static MAYBE_UNUSED void check_status(const char *file, int line, const char *what, int expected, int status,
                                      qtls_error **error)
{
    char text[512];

    if (status != expected) {
        snprintf(text, sizeof text, "%s came to %s, not %s", what, qtls_status_name(status), qtls_status_name(expected));
        check_failed(file, line, text, *error);
    }
    if ((*error != NULL) != (expected < 0) || (expected < 0 && qtls_error_code(*error) != expected)) {
        snprintf(text, sizeof text, "%s came to %s, with another error object", what, qtls_status_name(status));
        check_failed(file, line, text, *error);
    }
    if (*error != NULL && (qtls_error_message(*error) == NULL || *qtls_error_message(*error) == '\0'))
        check_failed(file, line, "an error has no message", *error);
    qtls_error_free(*error);
    *error = NULL;
}

static MAYBE_UNUSED void *check_made(const char *file, int line, const char *what, void *made, qtls_error **error)
{
    if (made == NULL || *error != NULL)
        check_failed(file, line, what, *error);
    return made;
}

/* Where less has to do: under valgrind, everything takes fifty times as long. */
static MAYBE_UNUSED int is_slow(void)
{
    return getenv("QTLS_TEST_SLOW") != NULL;
}

/* Runs a program, and waits for its end. */
static MAYBE_UNUSED int run(const char *const *arguments)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        if (freopen("/dev/null", "w", stdout) != NULL)
            execv(arguments[0], (char *const *)(size_t)arguments);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

/* The program `qtls`: QTLS_TOOL, or where CMake builds it. Without it, the test is skipped. */
static MAYBE_UNUSED const char *tool(void)
{
    static char path[4096];
    ssize_t length;
    char *slash;

    if (getenv("QTLS_TOOL") != NULL)
        return getenv("QTLS_TOOL");
    length = readlink("/proc/self/exe", path, sizeof path - 32);
    path[length > 0 ? length : 0] = '\0';
    slash = strrchr(path, '/');
    strcpy(slash != NULL ? slash : path, "/../bin/qtls");
    if (access(path, X_OK) != 0) {
        fprintf(stderr, "skipped: there is no program qtls; QTLS_TOOL may say where it is\n");
        exit(SKIPPED);
    }
    return path;
}

/* A file of what `qtls quickstart` made: in the directory that `variable` names, or beside the tests, for a day. */
static MAYBE_UNUSED const char *certificate_file(const char *variable, const char *kind, const char *name)
{
    static char paths[8][4096];
    static unsigned next;
    char directory[2048], made[2100];
    const char *given = getenv(variable);
    struct stat found;

    if (given != NULL) {
        snprintf(directory, sizeof directory, "%s", given);
    } else {
        ssize_t length = readlink("/proc/self/exe", directory, sizeof directory - 64);
        directory[length > 0 ? length : 0] = '\0';
        snprintf(strrchr(directory, '/'), 64, "/pki-%s-%ld", kind, (long)(time(NULL) / 86400));
    }
    if (given == NULL && stat(directory, &found) != 0) {
        const char *arguments[] = {tool(), "quickstart", "--dir", made, "--name", "localhost", "--name", "127.0.0.1", NULL};
        snprintf(made, sizeof made, "%s.%ld", directory, (long)getpid());
        CHECK_INT(0, run(arguments));
        /* Another test may have been faster: then its certificates are as good. */
        if (rename(made, directory) != 0) {
            const char *away[] = {"/bin/rm", "-rf", made, NULL};
            CHECK_INT(0, run(away));
        }
    }
    snprintf(paths[next %= 8], sizeof paths[0], "%s/%s", directory, name);
    return paths[next++];
}

/* Certificates for localhost and 127.0.0.1, as `qtls quickstart` names the files. */
static MAYBE_UNUSED const char *pki(const char *name)
{
    return certificate_file("QTLS_TEST_PKI", "ours", name);
}

/* The same of somebody else. */
static MAYBE_UNUSED const char *strangers(const char *name)
{
    return certificate_file("QTLS_TEST_STRANGERS", "strangers", name);
}

static MAYBE_UNUSED void freeze(qtls_config *config)
{
    qtls_error *error = NULL;
    CHECK_OK(qtls_config_freeze(config, &error));
}

/* A client that trusts our CAs; not frozen. */
static MAYBE_UNUSED qtls_config *new_client_config(void)
{
    qtls_error *error = NULL;
    qtls_config *config = CHECK_MADE(qtls_config_new(QTLS_CLIENT, &error));

    CHECK_OK(qtls_config_add_ca_file(config, pki("ca-bundle.pem"), QTLS_NTS, &error));
    return config;
}

/* A server with our certificate for localhost of ECDSA P-384; not frozen. */
static MAYBE_UNUSED qtls_config *new_server_config(void)
{
    qtls_error *error = NULL;
    qtls_config *config = CHECK_MADE(qtls_config_new(QTLS_SERVER, &error));

    CHECK_OK(qtls_config_add_key_pair_files(config, pki("server-cert.pem"), QTLS_NTS, pki("server-key.pem"), QTLS_NTS,
                                            NULL, 0, &error));
    return config;
}

/* What one side has sent and the other has not taken yet. */
struct wire {
    unsigned char bytes[65536];
    size_t begin, end;
};

/* Both ends of a connection, and what is on its way. */
struct pair {
    qtls_conn *client, *server;
    struct wire to_server, to_client;
    /* How many bytes are carried at once. */
    size_t portion;
};

static MAYBE_UNUSED struct pair *new_pair(qtls_config *client, qtls_config *server)
{
    qtls_error *error = NULL;
    struct pair *pair = calloc(1, sizeof *pair);

    CHECK(pair != NULL);
    pair->portion = sizeof pair->to_server.bytes;
    pair->client = CHECK_MADE(qtls_conn_new_client(client, "localhost", QTLS_NTS, &error));
    pair->server = CHECK_MADE(qtls_conn_new_server(server, &error));
    return pair;
}

static MAYBE_UNUSED void free_pair(struct pair *pair)
{
    qtls_conn_free(pair->client);
    qtls_conn_free(pair->server);
    free(pair);
}

/* Carries what one side has to say to the other, as far as it takes it. Returns how many bytes the other has taken. What
 * it has against them, it says again when it is asked: that is not for here. */
static MAYBE_UNUSED size_t carry(qtls_conn *from, struct wire *wire, qtls_conn *to, size_t portion)
{
    qtls_error *error = NULL;
    size_t moved = 0, count, taken;

    for (;;) {
        if (wire->begin == wire->end) {
            wire->begin = 0;
            CHECK_OK(qtls_conn_drain(from, wire->bytes, portion, &wire->end, &error));
            if (wire->end == 0)
                return moved;
        }
        count = wire->end - wire->begin < portion ? wire->end - wire->begin : portion;
        if (qtls_conn_feed(to, wire->bytes + wire->begin, count, &taken, &error) != QTLS_OK) {
            CHECK(error != NULL);
            qtls_error_free(error);
            error = NULL;
            /* Nobody listens any more. */
            wire->begin = wire->end;
            return moved + taken;
        }
        CHECK(taken <= count);
        wire->begin += taken;
        moved += taken;
        if (taken == 0)
            return moved;
    }
}

/* Carries in both directions, once. */
static MAYBE_UNUSED size_t carry_both(struct pair *pair)
{
    return carry(pair->client, &pair->to_server, pair->server, pair->portion) +
           carry(pair->server, &pair->to_client, pair->client, pair->portion);
}

/* Does the handshake of both sides, as far as it goes, and says what it came to. The errors are NULL or to be freed. */
struct outcome {
    int client, server;
    qtls_error *client_error, *server_error;
};

static MAYBE_UNUSED struct outcome try_handshake(struct pair *pair)
{
    struct outcome outcome;

    memset(&outcome, 0, sizeof outcome);
    for (;;) {
        if (outcome.client >= 0)
            outcome.client = qtls_conn_handshake(pair->client, &outcome.client_error);
        if (outcome.server >= 0)
            outcome.server = qtls_conn_handshake(pair->server, &outcome.server_error);
        if (carry_both(pair) == 0)
            return outcome;
    }
}

static MAYBE_UNUSED void free_outcome(struct outcome *outcome)
{
    qtls_error_free(outcome->client_error);
    qtls_error_free(outcome->server_error);
    outcome->client_error = outcome->server_error = NULL;
}

/* A handshake that has to succeed. */
static MAYBE_UNUSED void handshake(struct pair *pair)
{
    struct outcome outcome = try_handshake(pair);

    if (outcome.client != QTLS_OK)
        check_failed(__FILE__, __LINE__, "the client's handshake fails", outcome.client_error);
    if (outcome.server != QTLS_OK)
        check_failed(__FILE__, __LINE__, "the server's handshake fails", outcome.server_error);
}

/* A new pair that has done its handshake. */
static MAYBE_UNUSED struct pair *connect_pair(qtls_config *client, qtls_config *server)
{
    struct pair *pair = new_pair(client, server);
    handshake(pair);
    return pair;
}

static MAYBE_UNUSED qtls_info info_of(const qtls_conn *conn)
{
    qtls_error *error = NULL;
    qtls_info info = {.size = sizeof info};

    CHECK_OK(qtls_conn_info(conn, &info, &error));
    CHECK_INT(sizeof info, info.size);
    return info;
}

/* Sends a text from one side, and has the other read just that. */
static MAYBE_UNUSED void send_text(struct pair *pair, int from_client, const char *text)
{
    qtls_error *error = NULL;
    qtls_conn *from = from_client ? pair->client : pair->server, *to = from_client ? pair->server : pair->client;
    char received[256];
    size_t count;

    CHECK_OK(qtls_conn_write(from, text, strlen(text), &count, &error));
    CHECK_INT(strlen(text), count);
    while (carry_both(pair) > 0)
        ;
    CHECK_INT(strlen(text), qtls_conn_pending(to));
    CHECK_OK(qtls_conn_read(to, received, sizeof received, &count, &error));
    CHECK_INT(strlen(text), count);
    CHECK(memcmp(received, text, count) == 0);
}

/* One side of a failed handshake. */
struct expected {
    int status, fault, alert_sent, alert_received;
};

static MAYBE_UNUSED void check_side(const char *file, int line, const char *what, int status, const qtls_error *error,
                                    struct expected expected)
{
    char text[512];
    struct expected actual = {status, qtls_error_fault(error), qtls_error_alert_sent(error),
                              qtls_error_alert_received(error)};

    if (memcmp(&actual, &expected, sizeof actual) == 0)
        return;
    snprintf(text, sizeof text, "%s came to %s, fault %d, alerts %d and %d; not %s, fault %d, alerts %d and %d", what,
             qtls_status_name(status), actual.fault, actual.alert_sent, actual.alert_received,
             qtls_status_name(expected.status), expected.fault, expected.alert_sent, expected.alert_received);
    check_failed(file, line, text, error);
}

/* A handshake that has to fail just so. The configurations have to be frozen. */
#define CHECK_HANDSHAKE_FAILS(client, server, at_client, at_server) \
    check_handshake_fails(__FILE__, __LINE__, new_pair(client, server), at_client, at_server)

static MAYBE_UNUSED void check_handshake_fails(const char *file, int line, struct pair *pair, struct expected at_client,
                                               struct expected at_server)
{
    struct outcome outcome = try_handshake(pair);

    check_side(file, line, "the client", outcome.client, outcome.client_error, at_client);
    check_side(file, line, "the server", outcome.server, outcome.server_error, at_server);
    free_outcome(&outcome);
    /* And again: an error stays one. */
    if (at_client.status < 0)
        CHECK_INT(at_client.status, qtls_conn_handshake(pair->client, NULL));
    if (at_server.status < 0)
        CHECK_INT(at_server.status, qtls_conn_handshake(pair->server, NULL));
    free_pair(pair);
}

/* A number that both sides of a transfer compute from the bytes (FNV-1a, 64 bits). */
static MAYBE_UNUSED unsigned long long checksum(unsigned long long sum, const unsigned char *bytes, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++)
        sum = (sum ^ bytes[i]) * 0x100000001b3ull;
    return sum;
}

#define CHECKSUM_START 0xcbf29ce484222325ull

/* Bytes that differ from place to place. */
static MAYBE_UNUSED void fill(unsigned char *bytes, size_t count, unsigned long long *state)
{
    size_t i;

    for (i = 0; i < count; i++) {
        *state = *state * 6364136223846793005ull + 1442695040888963407ull;
        bytes[i] = (unsigned char)(*state >> 56);
    }
}

#endif
