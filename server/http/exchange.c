#include "server/http/http_private.h"

#include <stdlib.h>
#include <time.h>

uint64_t http_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

struct exchange *exchange_new(struct http_server *server)
{
    struct exchange *exchange = calloc(1, sizeof(*exchange));
    if (exchange == NULL)
        return NULL;
    exchange->server = server;
    exchange->fd = -1;
    exchange->deadline_ns = UINT64_MAX;
    atomic_init(&exchange->refs, 1);
    pthread_mutex_init(&exchange->mutex, NULL);
    pthread_mutex_lock(&server->mutex);
    list_push_back(&server->exchanges, &exchange->node);
    pthread_mutex_unlock(&server->mutex);
    return exchange;
}

void exchange_ref(struct exchange *exchange)
{
    atomic_fetch_add(&exchange->refs, 1);
}

void exchange_unref(struct exchange *exchange)
{
    if (atomic_fetch_sub(&exchange->refs, 1) != 1)
        return;
    pthread_mutex_destroy(&exchange->mutex);
    free(exchange);
}

/* Under the server's mutex, too: once it stops no connection may be suspended any more. */
bool exchange_wait(struct exchange *exchange, struct MHD_Connection *connection)
{
    struct http_server *server = exchange->server;
    pthread_mutex_lock(&server->mutex);
    pthread_mutex_lock(&exchange->mutex);
    bool waits = !exchange->was_woken && !server->stopping;
    exchange->was_woken = false;
    if (waits) {
        exchange->connection = connection;
        MHD_suspend_connection(connection);
    }
    pthread_mutex_unlock(&exchange->mutex);
    pthread_mutex_unlock(&server->mutex);
    return waits;
}

/* exchange->mutex is held. */
static void wake_locked(struct exchange *exchange)
{
    if (exchange->connection != NULL)
        MHD_resume_connection(exchange->connection);
    else
        exchange->was_woken = true;
    exchange->connection = NULL;
}

void exchange_wake(struct exchange *exchange)
{
    pthread_mutex_lock(&exchange->mutex);
    wake_locked(exchange);
    pthread_mutex_unlock(&exchange->mutex);
}

void exchange_end(struct exchange *exchange)
{
    struct http_server *server = exchange->server;
    pthread_mutex_lock(&server->mutex);
    keeper_remove(exchange);
    list_remove(&exchange->node);
    if (exchange->call != NULL && exchange->is_unary) {
        server->unary_count--;
        pthread_cond_broadcast(&server->changed);
    }
    pthread_mutex_unlock(&server->mutex);
    gateway_call_close(exchange->call);
    exchange_unref(exchange);
}

bool exchange_is_over(struct exchange *exchange)
{
    pthread_mutex_lock(&exchange->server->mutex);
    bool is_over = exchange->server->stopping;
    pthread_mutex_unlock(&exchange->server->mutex);
    pthread_mutex_lock(&exchange->mutex);
    is_over |= exchange->is_gone;
    pthread_mutex_unlock(&exchange->mutex);
    return is_over;
}

bool exchange_has_expired(struct exchange *exchange)
{
    pthread_mutex_lock(&exchange->mutex);
    bool has_expired = exchange->has_expired;
    exchange->has_expired = false;
    pthread_mutex_unlock(&exchange->mutex);
    return has_expired;
}
