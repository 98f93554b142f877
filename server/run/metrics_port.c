#include "server/run/metrics_port.h"

#include "server/config/config.h"
#include "server/http/http.h"
#include "server/rpc/acceptor.h"
#include "server/run/pages.h"

#include <stdlib.h>
#include <unistd.h>

struct metrics_port {
    struct pages pages;
    struct http_server *http;
    struct acceptor *acceptor;
};

static void on_http1(void *context, int fd, const char *peer, const struct sockaddr *address,
                     socklen_t address_size)
{
    (void)peer;
    struct metrics_port *port = context;
    http_server_add_connection(port->http, fd, address, address_size);
}

static enum status listen_on(struct acceptor *acceptor, const int *sockets, uint32_t count)
{
    enum status st = ST_OK;
    for (uint32_t i = 0; i < count; i++) {
        if (st == ST_OK)
            st = acceptor_add(acceptor, sockets[i], ACCEPT_HTTP1);
        else
            close(sockets[i]);
    }
    return st;
}

static enum status open_servers(struct metrics_port *port)
{
    struct http_options http = {.api_version = CONFIG_API_VERSION, .only_metrics = true};
    struct acceptor_options acceptor = {.context = port, .on_http1 = on_http1};
    pages_fill(&port->pages, &http.handlers);
    enum status st = http_server_start(&http, &port->http);
    return st == ST_OK ? acceptor_start(&acceptor, &port->acceptor) : st;
}

enum status metrics_port_open(struct member *member, const int *sockets, uint32_t count,
                              uint64_t request_timeout_ns, struct metrics_port **out)
{
    *out = NULL;
    struct metrics_port *port = calloc(1, sizeof(*port));
    enum status st = ST_NO_MEMORY;
    if (port != NULL) {
        port->pages = (struct pages){member, member_metrics_slot(member), request_timeout_ns};
        st = open_servers(port);
    }
    if (st == ST_OK) {
        st = listen_on(port->acceptor, sockets, count);
    } else {
        for (uint32_t i = 0; i < count; i++)
            close(sockets[i]);
    }
    if (st != ST_OK) {
        metrics_port_close(port);
        return st;
    }
    *out = port;
    return ST_OK;
}

void metrics_port_close(struct metrics_port *port)
{
    if (port == NULL)
        return;
    acceptor_stop(port->acceptor);
    /* No gateway, hence no call that could be open. */
    (void)!http_server_stop(port->http, /* grace_ms= */ 0, /* cancel_ms= */ 0);
    http_server_free(port->http);
    free(port);
}
