/*
 * Bytes in and bytes out: in portions of any size, in any state, and what becomes of those that are missing or changed.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check.h"

static qtls_config *client_config, *server_config;

static void in_portions_of_one_byte(void)
{
    struct pair *pair = new_pair(client_config, server_config);

    pair->portion = 1;
    handshake(pair);
    send_text(pair, 1, "a question, byte by byte");
    send_text(pair, 0, "an answer, byte by byte");
    free_pair(pair);
}

/* A record that is fed without its last byte gives nothing, and all of it with that. */
static void half_records(void)
{
    qtls_error *error = NULL;
    struct pair *pair = connect_pair(client_config, server_config);
    unsigned char record[256];
    char text[64];
    size_t length, count, taken;

    CHECK_OK(qtls_conn_write(pair->client, "whole", 5, &count, &error));
    CHECK_OK(qtls_conn_drain(pair->client, record, sizeof record, &length, &error));
    CHECK(length > 5 && length < sizeof record);
    CHECK_OK(qtls_conn_feed(pair->server, record, length - 1, &taken, &error));
    CHECK_INT(length - 1, taken);
    CHECK_INT(0, qtls_conn_pending(pair->server));
    CHECK_STATUS(QTLS_WANT_READ, qtls_conn_read(pair->server, text, sizeof text, &count, &error));
    CHECK_INT(0, count);
    CHECK_OK(qtls_conn_feed(pair->server, NULL, 0, &taken, &error));
    CHECK_OK(qtls_conn_feed(pair->server, record + length - 1, 1, &taken, &error));
    CHECK_INT(1, taken);
    CHECK_INT(5, qtls_conn_pending(pair->server));
    /* Plaintext has to be read first. */
    CHECK_INT(0, qtls_conn_want(pair->server));
    CHECK_OK(qtls_conn_read(pair->server, text, 2, &count, &error));
    CHECK_INT(2, count);
    CHECK_OK(qtls_conn_read(pair->server, text + 2, sizeof text - 2, &count, &error));
    CHECK_INT(3, count);
    CHECK(memcmp(text, "whole", 5) == 0);
    free_pair(pair);
}

static void nothing_is_lost_where_nobody_reads(void)
{
    qtls_error *error = NULL;
    struct pair *pair = connect_pair(client_config, server_config);
    static unsigned char sent[400000], received[sizeof sent];
    unsigned long long state = 1;
    size_t written = 0, read = 0, count = 0;
    int status;

    fill(sent, sizeof sent, &state);
    while (read < sizeof sent) {
        size_t moved;
        /* As much as there is room for, before the other side reads at all. */
        do {
            status = qtls_conn_write(pair->client, sent + written, sizeof sent - written, &count, &error);
            CHECK(status == QTLS_OK || (status == QTLS_WANT_WRITE && count == 0));
            written += count;
            moved = carry(pair->client, &pair->to_server, pair->server, pair->portion);
        } while (moved > 0 || (status == QTLS_OK && written < sizeof sent));
        CHECK(qtls_conn_pending(pair->server) > 0);
        while ((status = qtls_conn_read(pair->server, received + read, 1000, &count, &error)) == QTLS_OK) {
            CHECK(count > 0 && count <= 1000);
            read += count;
        }
        CHECK_INT(QTLS_WANT_READ, status & QTLS_WANT_READ);
    }
    CHECK_INT(sizeof sent, written);
    CHECK_INT(sizeof sent, read);
    CHECK(memcmp(sent, received, sizeof sent) == 0);
    free_pair(pair);
}

/* Both sides send at once, in portions of all sizes. */
static void large_transfers_both_ways(void)
{
    size_t total = is_slow() ? (size_t)256 << 10 : (size_t)64 << 20;
    struct pair *pair = connect_pair(client_config, server_config);
    struct end {
        qtls_conn *conn;
        unsigned long long state, sent_sum, received_sum;
        size_t sent, received;
        unsigned char bytes[50000];
        size_t begin, end;
    } *ends = calloc(2, sizeof *ends);
    qtls_error *error = NULL;
    static unsigned char room[20000];
    size_t count = 0;
    int i, status;

    CHECK(ends != NULL);
    ends[0].conn = pair->client;
    ends[1].conn = pair->server;
    ends[1].state = 77;
    ends[0].sent_sum = ends[1].sent_sum = ends[0].received_sum = ends[1].received_sum = CHECKSUM_START;
    while (ends[0].received < total || ends[1].received < total) {
        for (i = 0; i < 2; i++) {
            struct end *end = &ends[i];
            if (end->begin == end->end && end->sent < total) {
                end->begin = 0;
                end->end = total - end->sent < sizeof end->bytes ? total - end->sent : sizeof end->bytes;
                fill(end->bytes, end->end, &end->state);
                end->sent_sum = checksum(end->sent_sum, end->bytes, end->end);
                end->sent += end->end;
            }
            if (end->begin < end->end) {
                status = qtls_conn_write(end->conn, end->bytes + end->begin, end->end - end->begin, &count, &error);
                CHECK(status >= 0 && status != QTLS_EOF);
                end->begin += count;
            }
        }
        carry_both(pair);
        for (i = 0; i < 2; i++)
            while ((status = qtls_conn_read(ends[i].conn, room, sizeof room, &count, &error)) == QTLS_OK) {
                ends[i].received_sum = checksum(ends[i].received_sum, room, count);
                ends[i].received += count;
            }
        CHECK(status > 0 && status != QTLS_EOF);
    }
    CHECK_INT(total, ends[0].received);
    CHECK_INT(total, ends[1].received);
    CHECK(ends[0].sent_sum == ends[1].received_sum);
    CHECK(ends[1].sent_sum == ends[0].received_sum);
    CHECK(ends[0].sent_sum != ends[1].sent_sum);
    free(ends);
    free_pair(pair);
}

/* Who has said that it sends no more can still be sent to. */
static void half_closed(void)
{
    qtls_error *error = NULL;
    struct pair *pair = connect_pair(client_config, server_config);
    char text[64];
    size_t count;

    /* In the I/O-free mode, the close_notify leaves with qtls_conn_drain(). */
    CHECK_STATUS(QTLS_WANT_WRITE, qtls_conn_shutdown(pair->client, &error));
    carry_both(pair);
    CHECK_OK(qtls_conn_shutdown(pair->client, &error));
    CHECK_STATUS(QTLS_E_SHUT_DOWN, qtls_conn_write(pair->client, "x", 1, &count, &error));
    CHECK_INT(0, count);
    CHECK_STATUS(QTLS_EOF, qtls_conn_read(pair->server, text, sizeof text, &count, &error));
    CHECK_STATUS(QTLS_EOF, qtls_conn_read(pair->server, text, sizeof text, &count, &error));
    send_text(pair, 0, "still there");
    CHECK_STATUS(QTLS_WANT_WRITE, qtls_conn_shutdown(pair->server, &error));
    carry_both(pair);
    CHECK_STATUS(QTLS_EOF, qtls_conn_read(pair->client, text, sizeof text, &count, &error));
    CHECK_INT(0, qtls_conn_want(pair->client));
    CHECK_INT(0, qtls_conn_want(pair->server));
    CHECK_OK(qtls_conn_feed_eof(pair->server, &error));
    CHECK_STATUS(QTLS_EOF, qtls_conn_read(pair->server, text, sizeof text, &count, &error));
    /* Facts stay. */
    CHECK_TEXT("X25519MLKEM768", info_of(pair->server).group_name);
    free_pair(pair);
}

static void the_end_without_a_close_notify_is_an_error(void)
{
    qtls_error *error = NULL;
    struct pair *pair = connect_pair(client_config, server_config);
    char text[64];
    size_t count;

    CHECK_OK(qtls_conn_write(pair->client, "before", 6, &count, &error));
    carry_both(pair);
    CHECK_STATUS(QTLS_E_TRUNCATED, qtls_conn_feed_eof(pair->server, &error));
    /* What came before can still be read. */
    CHECK_OK(qtls_conn_read(pair->server, text, sizeof text, &count, &error));
    CHECK_INT(6, count);
    CHECK_STATUS(QTLS_E_TRUNCATED, qtls_conn_read(pair->server, text, sizeof text, &count, &error));
    CHECK_INT(0, count);
    CHECK_STATUS(QTLS_E_TRUNCATED, qtls_conn_write(pair->server, "x", 1, &count, &error));
    free_pair(pair);

    pair = new_pair(client_config, server_config);
    CHECK_STATUS(QTLS_E_TRUNCATED, qtls_conn_feed_eof(pair->server, &error));
    CHECK_INT(QTLS_E_TRUNCATED, qtls_conn_handshake(pair->server, &error));
    CHECK_INT(QTLS_FAULT_NETWORK, qtls_error_fault(error));
    CHECK_INT(-1, qtls_error_alert_sent(error));
    qtls_error_free(error);
    free_pair(pair);
}

static void what_was_changed_on_the_way_is_found(void)
{
    qtls_error *error = NULL;
    struct pair *pair = connect_pair(client_config, server_config);
    unsigned char record[256];
    char text[64];
    size_t length, count, taken;

    CHECK_OK(qtls_conn_write(pair->client, "untouched", 9, &count, &error));
    carry_both(pair);
    CHECK_OK(qtls_conn_write(pair->client, "touched", 7, &count, &error));
    CHECK_OK(qtls_conn_drain(pair->client, record, sizeof record, &length, &error));
    record[length - 1] ^= 1;
    CHECK_INT(QTLS_E_DECRYPT, qtls_conn_feed(pair->server, record, length, &taken, &error));
    CHECK_INT(QTLS_FAULT_PEER, qtls_error_fault(error));
    CHECK_INT(20, qtls_error_alert_sent(error)); /* bad_record_mac */
    qtls_error_free(error);
    error = NULL;
    CHECK_OK(qtls_conn_read(pair->server, text, sizeof text, &count, &error));
    CHECK_INT(9, count);
    CHECK_STATUS(QTLS_E_DECRYPT, qtls_conn_read(pair->server, text, sizeof text, &count, &error));
    CHECK_INT(QTLS_WANT_WRITE, qtls_conn_want(pair->server));
    carry_both(pair);
    CHECK_INT(QTLS_E_ALERT, qtls_conn_read(pair->client, text, sizeof text, &count, &error));
    CHECK_INT(20, qtls_error_alert_received(error));
    CHECK_INT(-1, qtls_error_alert_sent(error));
    qtls_error_free(error);
    free_pair(pair);
}

static void what_is_no_tls_is_refused_with_an_alert(void)
{
    static const char request[] = "GET / HTTP/1.1\r\n\r\n";
    qtls_error *error = NULL;
    struct pair *pair = new_pair(client_config, server_config);
    unsigned char alert[64];
    size_t count;

    CHECK_INT(QTLS_E_NOT_TLS, qtls_conn_feed(pair->server, request, sizeof request - 1, &count, &error));
    CHECK_INT(QTLS_FAULT_PEER, qtls_error_fault(error));
    CHECK(qtls_error_alert_sent(error) > 0);
    qtls_error_free(error);
    error = NULL;
    CHECK_OK(qtls_conn_drain(pair->server, alert, sizeof alert, &count, &error));
    CHECK_INT(7, count);
    CHECK_INT(21, alert[0]);
    CHECK_INT(2, alert[5]);
    free_pair(pair);
}

/* A server that is asked too early, or too late. */
static void out_of_turn(void)
{
    qtls_error *error = NULL;
    struct pair *pair = new_pair(client_config, server_config);
    char text[64];
    size_t count = 99;

    CHECK_STATUS(QTLS_WANT_READ, qtls_conn_read(pair->server, text, sizeof text, &count, &error));
    CHECK_INT(0, count);
    CHECK_STATUS(QTLS_WANT_READ, qtls_conn_write(pair->server, "x", 1, &count, &error));
    CHECK_INT(0, count);
    CHECK_STATUS(QTLS_WANT_READ | QTLS_WANT_WRITE, qtls_conn_read(pair->client, text, sizeof text, &count, &error));
    /* Buffers of length 0 do nothing, in any state. */
    CHECK_OK(qtls_conn_read(pair->client, NULL, 0, &count, &error));
    CHECK_OK(qtls_conn_write(pair->client, NULL, 0, &count, &error));
    CHECK_OK(qtls_conn_drain(pair->client, NULL, 0, &count, &error));
    CHECK_INT(0, count);
    CHECK_STATUS(QTLS_WANT_WRITE, qtls_conn_flush(pair->client, &error));
    handshake(pair);
    CHECK_OK(qtls_conn_read(pair->client, NULL, 0, &count, &error));
    CHECK_OK(qtls_conn_write(pair->client, NULL, 0, &count, &error));
    CHECK_OK(qtls_conn_flush(pair->client, &error));
    CHECK_OK(qtls_conn_handshake(pair->client, &error));
    free_pair(pair);

    /* Who shuts down before the handshake does none. */
    pair = new_pair(client_config, server_config);
    CHECK(qtls_conn_shutdown(pair->client, &error) >= 0);
    CHECK_STATUS(QTLS_E_SHUT_DOWN, qtls_conn_handshake(pair->client, &error));
    CHECK_STATUS(QTLS_E_SHUT_DOWN, qtls_conn_write(pair->client, "x", 1, &count, &error));
    free_pair(pair);
}

int main(void)
{
    client_config = new_client_config();
    server_config = new_server_config();
    freeze(client_config);
    freeze(server_config);
    in_portions_of_one_byte();
    half_records();
    nothing_is_lost_where_nobody_reads();
    half_closed();
    the_end_without_a_close_notify_is_an_error();
    what_was_changed_on_the_way_is_found();
    what_is_no_tls_is_refused_with_an_alert();
    out_of_turn();
    large_transfers_both_ways();
    qtls_config_free(client_config);
    qtls_config_free(server_config);
    return 0;
}
