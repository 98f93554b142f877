/* server/http/http_private.h - what the HTTP server's files share. */
#ifndef SERVER_HTTP_HTTP_PRIVATE_H
#define SERVER_HTTP_HTTP_PRIVATE_H
#include "base/list.h"
#include "server/gateway/gateway.h"
#include "server/http/answer.h"
#include "server/http/http.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#define CONNECTIONS_MAX 1024U /* as many calls the gateway may have open */
#define PEER_BYTES 72U

struct http_server {
    struct http_options options;
    struct MHD_Daemon *daemon;
    bool stopping; /* set once, under the mutex */

    pthread_mutex_t mutex; /* guards what follows; taken before an exchange's */
    pthread_cond_t changed;
    struct list_node exchanges;
    uint32_t calls_count;   /* of the gateway, that have not ended */
    uint32_t unary_count;   /* of those, on this side */
    uint64_t next_alarm_ns; /* when the keeper looks by itself; UINT64_MAX: never */

    /* keeper.c */
    pthread_t keeper;
    bool keeper_runs;
    int epoll_fd, wake_fd;
    bool keeper_stopping;
    struct list_node orphans; /* exchanges without a connection whose call is to go on */
};

/* One request, from its head to its end. Counted: one reference is the connection's, one that of
 * whatever the request waits for: a check, or a call of the gateway. */
struct exchange {
    struct list_node node; /* in server->exchanges while it has a connection, or ->orphans */
    struct http_server *server;
    atomic_uint refs;

    /* The HTTP thread's. */
    struct http_checks checks;
    struct http_health health;
    struct http_check *check; /* the linearizable read of either */
    struct gateway_call *call;
    struct MHD_Connection *stream_connection; /* of a stream that is being read */
    bool has_started, is_unary;

    /* Under server->mutex. */
    int fd; /* watched by the keeper; -1: not */
    uint64_t deadline_ns;

    pthread_mutex_t mutex;             /* guards what follows */
    struct MHD_Connection *connection; /* NULL: not suspended */
    bool was_woken;
    bool is_gone, has_expired; /* told by the keeper */
};

/* exchange.c */
struct exchange *exchange_new(struct http_server *server);
void exchange_ref(struct exchange *exchange);
void exchange_unref(struct exchange *exchange);
/* Suspends the connection until the next wake. False: there was one already, or the server stops:
 * look again now. On the HTTP thread. */
bool exchange_wait(struct exchange *exchange, struct MHD_Connection *connection);
void exchange_wake(struct exchange *exchange); /* any thread */
void exchange_end(struct exchange *exchange);  /* the connection has done with it */
/* The client went away, or the server stops. */
bool exchange_is_over(struct exchange *exchange);
bool exchange_has_expired(struct exchange *exchange);
uint64_t http_now_ns(void);

/* keeper.c: one thread that learns of clients that go away while their call is under way, which a
 * suspended connection does not, and of calls whose time is up. Errors: ST_NO_MEMORY, ST_IO. */
CHECKED enum status keeper_start(struct http_server *server);
void keeper_stop(struct http_server *server);
void keeper_add(struct exchange *exchange, int fd, uint64_t deadline_ns);
void keeper_remove(struct exchange *exchange); /* server->mutex is held */
/* The exchange's call is to be adopted; any thread. */
void keeper_adopt(struct exchange *exchange);

/* admission.c: headers for web pages, and whether this server goes by the name it was called. */
void add_cors_headers(const struct http_server *server, struct MHD_Connection *connection,
                      struct MHD_Response *response);
bool is_known_host(const struct http_server *server, struct MHD_Connection *connection);
/* Takes the answer's body. MHD_NO makes MHD close the connection. */
enum MHD_Result refuse_host(struct http_server *server, struct MHD_Connection *connection);

/* http.c */
enum MHD_Result send_answer(struct http_server *server, struct MHD_Connection *connection,
                            enum status st, struct http_answer *answer);

/* rest.c: the gateway's requests. */
bool is_gateway_path(const struct http_server *server, const char *url);
/* The head of a request to a path of the gateway. */
void rest_begin(struct exchange *exchange, struct MHD_Connection *connection, const char *url,
                const char *method);
enum MHD_Result rest_answer(struct exchange *exchange, struct MHD_Connection *connection,
                            const char *url, const char *method);
#endif
