/*
 * Connections with a descriptor: one that blocks, one that doesn't, one that gives a byte at a time, and those that are
 * none.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

static qtls_config *client_config, *server_config;

static void socket_pair(int fds[2], int blocking)
{
    CHECK_INT(0, socketpair(AF_UNIX, SOCK_STREAM | (blocking ? 0 : SOCK_NONBLOCK), 0, fds));
}

static qtls_conn *client_on(int fd)
{
    qtls_error *error = NULL;
    qtls_conn *conn = CHECK_MADE(qtls_conn_new_client(client_config, "localhost", QTLS_NTS, &error));

    CHECK_OK(qtls_conn_set_fd(conn, fd, &error));
    return conn;
}

static qtls_conn *server_on(int fd)
{
    qtls_error *error = NULL;
    qtls_conn *conn = CHECK_MADE(qtls_conn_new_server(server_config, &error));

    CHECK_OK(qtls_conn_set_fd(conn, fd, &error));
    return conn;
}

/* Sends back what it receives, then says goodbye. */
static void *echo(void *argument)
{
    qtls_error *error = NULL;
    qtls_conn *conn = server_on(*(int *)argument);
    static char bytes[30000];
    size_t count, written;
    int status;

    CHECK_OK(qtls_conn_handshake(conn, &error));
    while ((status = qtls_conn_read(conn, bytes, sizeof bytes, &count, &error)) == QTLS_OK) {
        CHECK_OK(qtls_conn_write(conn, bytes, count, &written, &error));
        /* With a descriptor that blocks, all of it is sent. */
        CHECK_INT(count, written);
    }
    CHECK_STATUS(QTLS_EOF, status);
    CHECK_OK(qtls_conn_shutdown(conn, &error));
    qtls_conn_free(conn);
    return NULL;
}

static void blocking(void)
{
    qtls_error *error = NULL;
    static unsigned char sent[100000], received[sizeof sent];
    unsigned long long state = 3;
    int fds[2];
    size_t count, total = 0;
    pthread_t thread;
    qtls_conn *conn;

    socket_pair(fds, 1);
    CHECK_INT(0, pthread_create(&thread, NULL, echo, &fds[1]));
    conn = client_on(fds[0]);
    /* The first write does the handshake. */
    fill(sent, sizeof sent, &state);
    CHECK_OK(qtls_conn_write(conn, sent, sizeof sent, &count, &error));
    CHECK_INT(sizeof sent, count);
    CHECK_TEXT("X25519MLKEM768", info_of(conn).group_name);
    while (total < sizeof sent) {
        CHECK_OK(qtls_conn_read(conn, received + total, sizeof received - total, &count, &error));
        CHECK(count > 0);
        total += count;
    }
    CHECK(memcmp(sent, received, sizeof sent) == 0);
    CHECK_OK(qtls_conn_shutdown(conn, &error));
    CHECK_STATUS(QTLS_EOF, qtls_conn_read(conn, received, sizeof received, &count, &error));
    CHECK_INT(0, pthread_join(thread, NULL));
    qtls_conn_free(conn);
    /* The descriptors are still ours. */
    CHECK_INT(0, close(fds[0]));
    CHECK_INT(0, close(fds[1]));
}

struct end {
    qtls_conn *conn;
    int fd;
    unsigned long long state, sent_sum, received_sum;
    size_t sent, received, begin, end;
    int closed;
    unsigned char bytes[40000];
};

/* Moves one end on as far as it goes. Returns whether it did anything. */
static int advance(struct end *end, size_t total)
{
    static unsigned char room[30000];
    qtls_error *error = NULL;
    size_t count = 0;
    int status, moved = 0;

    if (end->begin == end->end && end->sent < total) {
        end->begin = 0;
        end->end = total - end->sent < sizeof end->bytes ? total - end->sent : sizeof end->bytes;
        fill(end->bytes, end->end, &end->state);
        end->sent_sum = checksum(end->sent_sum, end->bytes, end->end);
        end->sent += end->end;
    }
    if (end->begin < end->end) {
        status = qtls_conn_write(end->conn, end->bytes + end->begin, end->end - end->begin, &count, &error);
        if (status < 0)
            check_failed(__FILE__, __LINE__, "write", error);
        CHECK((status == QTLS_OK) == (count > 0));
        end->begin += count;
        moved = count > 0;
    } else if (qtls_conn_want(end->conn) & QTLS_WANT_WRITE) {
        status = qtls_conn_flush(end->conn, &error);
        CHECK(status == QTLS_OK || status == QTLS_WANT_WRITE);
        moved = status == QTLS_OK;
    }
    while (end->received < total) {
        status = qtls_conn_read(end->conn, room, sizeof room, &count, &error);
        if (status < 0)
            check_failed(__FILE__, __LINE__, "read", error);
        if (status != QTLS_OK) {
            CHECK(status != QTLS_EOF);
            break;
        }
        end->received_sum = checksum(end->received_sum, room, count);
        end->received += count;
        moved = 1;
    }
    return moved;
}

/* One byte in each direction, where there is one. Returns how many. */
static int relay(int one, int other)
{
    unsigned char byte;
    int moved = 0;

    if (recv(one, &byte, 1, 0) == 1) {
        CHECK_INT(1, send(other, &byte, 1, MSG_NOSIGNAL));
        moved++;
    }
    if (recv(other, &byte, 1, 0) == 1) {
        CHECK_INT(1, send(one, &byte, 1, MSG_NOSIGNAL));
        moved++;
    }
    return moved;
}

/* Both ends send at once, without waiting for each other; where `byte_by_byte`, with a relay that moves single bytes. */
static void non_blocking(size_t total, int byte_by_byte)
{
    int fds[2], far[2];
    struct end *ends = calloc(2, sizeof *ends);
    int i;

    CHECK(ends != NULL);
    socket_pair(fds, 0);
    if (byte_by_byte)
        socket_pair(far, 0);
    ends[0].fd = fds[0];
    ends[1].fd = byte_by_byte ? far[0] : fds[1];
    ends[0].conn = client_on(ends[0].fd);
    ends[1].conn = server_on(ends[1].fd);
    for (i = 0; i < 2; i++) {
        ends[i].state = 10 + (unsigned long long)i;
        ends[i].sent_sum = ends[i].received_sum = CHECKSUM_START;
    }
    while (ends[0].received < total || ends[1].received < total) {
        int moved = advance(&ends[0], total) + advance(&ends[1], total);
        if (byte_by_byte)
            moved += relay(fds[1], far[1]);
        if (moved == 0) {
            struct pollfd waiting[2];
            for (i = 0; i < 2; i++) {
                int want = qtls_conn_want(ends[i].conn);
                waiting[i].fd = ends[i].fd;
                waiting[i].events = (short)((want & QTLS_WANT_READ ? POLLIN : 0) | (want & QTLS_WANT_WRITE ? POLLOUT : 0));
            }
            /* What it says that it waits for is what brings it on. */
            if (!byte_by_byte)
                CHECK(poll(waiting, 2, 10000) > 0);
        }
    }
    CHECK(ends[0].sent_sum == ends[1].received_sum);
    CHECK(ends[1].sent_sum == ends[0].received_sum);
    for (i = 0; i < 2; i++) {
        CHECK_TEXT("X25519MLKEM768", info_of(ends[i].conn).group_name);
        qtls_conn_free(ends[i].conn);
        CHECK_INT(0, close(ends[i].fd));
    }
    if (byte_by_byte) {
        close(fds[1]);
        close(far[1]);
    }
    free(ends);
}

/* The peer's end is an error without a close_notify, and no signal ends the program. */
static void the_peer_is_gone(void)
{
    qtls_error *error = NULL;
    static char bytes[100000];
    int fds[2], status;
    size_t count;
    qtls_conn *conn;

    signal(SIGPIPE, SIG_DFL);
    socket_pair(fds, 0);
    conn = client_on(fds[0]);
    CHECK_STATUS(QTLS_WANT_READ, qtls_conn_handshake(conn, &error));
    CHECK_INT(QTLS_WANT_READ, qtls_conn_want(conn));
    CHECK_INT(0, close(fds[1]));
    status = qtls_conn_handshake(conn, &error);
    CHECK(status == QTLS_E_TRUNCATED || status == QTLS_E_NETWORK);
    CHECK_INT(QTLS_FAULT_NETWORK, qtls_error_fault(error));
    qtls_error_free(error);
    error = NULL;
    status = qtls_conn_write(conn, bytes, sizeof bytes, &count, &error);
    CHECK(status == QTLS_E_TRUNCATED || status == QTLS_E_NETWORK);
    qtls_error_free(error);
    qtls_conn_free(conn);
    close(fds[0]);
}

static void what_is_no_stream_socket_is_refused(void)
{
    qtls_error *error = NULL;
    qtls_conn *conn = CHECK_MADE(qtls_conn_new_client(client_config, "localhost", QTLS_NTS, &error));
    int fds[2], pipes[2];
    unsigned char byte = 0;
    size_t count;
    int datagrams = socket(AF_UNIX, SOCK_DGRAM, 0);

    CHECK(datagrams >= 0 && pipe(pipes) == 0);
    CHECK_STATUS(QTLS_E_MISUSE, qtls_conn_set_fd(conn, -1, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_conn_set_fd(conn, 1000000, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_conn_set_fd(conn, pipes[0], &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_conn_set_fd(conn, datagrams, &error));
    socket_pair(fds, 0);
    CHECK_OK(qtls_conn_set_fd(conn, fds[0], &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_conn_set_fd(conn, fds[0], &error));
    /* And then it is no connection without a descriptor any more. */
    CHECK_STATUS(QTLS_E_MISUSE, qtls_conn_feed(conn, &byte, 1, &count, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_conn_feed_eof(conn, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_conn_drain(conn, &byte, 1, &count, &error));
    qtls_conn_free(conn);

    conn = CHECK_MADE(qtls_conn_new_client(client_config, "localhost", QTLS_NTS, &error));
    CHECK_OK(qtls_conn_drain(conn, &byte, 1, &count, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_conn_set_fd(conn, fds[0], &error));
    qtls_conn_free(conn);
    close(fds[0]);
    close(fds[1]);
    close(pipes[0]);
    close(pipes[1]);
    close(datagrams);
}

int main(void)
{
    client_config = new_client_config();
    server_config = new_server_config();
    freeze(client_config);
    freeze(server_config);
    blocking();
    non_blocking(is_slow() ? (size_t)256 << 10 : (size_t)64 << 20, 0);
    non_blocking(2000, 1);
    the_peer_is_gone();
    what_is_no_stream_socket_is_refused();
    qtls_config_free(client_config);
    qtls_config_free(server_config);
    return 0;
}
