/*
 * A hundred threads with one configuration of each role, each with connections of its own; and one connection that two
 * threads use at once, which is refused.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check.h"

#include <pthread.h>

#define THREADS 100

static qtls_config *client_config, *server_config;
static int rounds;
static int resumed[THREADS];

static void *many_connections(void *argument)
{
    int number = *(int *)argument, i;
    char text[64];

    for (i = 0; i < rounds; i++) {
        struct pair *pair = connect_pair(client_config, server_config);
        snprintf(text, sizeof text, "thread %d, connection %d", number, i);
        send_text(pair, 1, text);
        send_text(pair, 0, text);
        CHECK_TEXT("X25519MLKEM768", info_of(pair->client).group_name);
        CHECK_INT(info_of(pair->client).resumed, info_of(pair->server).resumed);
        resumed[number] += info_of(pair->client).resumed;
        free_pair(pair);
    }
    /* Each thread has a reference of its own, and gives it back. */
    qtls_config_free(client_config);
    qtls_config_free(server_config);
    return NULL;
}

static void one_configuration_for_all(void)
{
    pthread_t threads[THREADS];
    int numbers[THREADS], i, all_resumed = 0;
    int count = is_slow() ? 10 : THREADS;

    rounds = is_slow() ? 2 : 10;
    client_config = new_client_config();
    server_config = new_server_config();
    freeze(client_config);
    freeze(server_config);
    for (i = 0; i < count; i++) {
        numbers[i] = i;
        qtls_config_ref(client_config);
        qtls_config_ref(server_config);
        CHECK_INT(0, pthread_create(&threads[i], NULL, many_connections, &numbers[i]));
    }
    for (i = 0; i < count; i++) {
        CHECK_INT(0, pthread_join(threads[i], NULL));
        all_resumed += resumed[i];
    }
    /* Sessions that one thread got, another may resume: not all connections are new. */
    CHECK(all_resumed > 0 && all_resumed < count * rounds);
}

static void *meddle(void *argument)
{
    qtls_error *error = NULL;
    qtls_info info = {.size = sizeof info};
    char byte = 0;
    size_t count;

    CHECK_STATUS(QTLS_E_BUSY, qtls_conn_write(argument, &byte, 1, &count, &error));
    CHECK_STATUS(QTLS_E_BUSY, qtls_conn_read(argument, &byte, 1, &count, &error));
    CHECK_STATUS(QTLS_E_BUSY, qtls_conn_info(argument, &info, &error));
    return NULL;
}

/* Called in the middle of a handshake: has another thread use the same connection. */
static int have_somebody_meddle(void *user, const qtls_chain *chain)
{
    pthread_t other;

    CHECK_INT(0, pthread_create(&other, NULL, meddle, chain->conn_user));
    CHECK_INT(0, pthread_join(other, NULL));
    ++*(int *)user;
    return QTLS_VERIFY_ACCEPT;
}

static void one_connection_is_for_one_thread_at_a_time(void)
{
    qtls_error *error = NULL;
    qtls_config *client = new_client_config();
    struct pair *pair;
    int times = 0;

    CHECK_OK(qtls_config_set_verify_callback(client, have_somebody_meddle, &times, &error));
    freeze(client);
    pair = new_pair(client, server_config);
    CHECK_OK(qtls_conn_set_user(pair->client, pair->client, &error));
    handshake(pair);
    CHECK_INT(1, times);
    send_text(pair, 1, "none the worse");
    free_pair(pair);
    qtls_config_free(client);
}

int main(void)
{
    one_configuration_for_all();
    one_connection_is_for_one_thread_at_a_time();
    qtls_config_free(client_config);
    qtls_config_free(server_config);
    return 0;
}
