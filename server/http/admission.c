#include "server/http/http_private.h"

#include <stdlib.h>

/* Whether text is in the comma-separated list, or everything is. */
static bool is_listed(const char *list, const char *text, size_t text_len)
{
    if (list == NULL || list[0] == '\0')
        return true;
    while (true) {
        const char *comma = strchr(list, ',');
        size_t len = comma == NULL ? strlen(list) : (size_t)(comma - list);
        if ((len == 1 && list[0] == '*') || (len == text_len && memcmp(list, text, len) == 0))
            return true;
        if (comma == NULL)
            return false;
        list = comma + 1;
    }
}

static const char *header_of(struct MHD_Connection *connection, const char *name)
{
    const char *value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
    return value == NULL ? "" : value;
}

void add_cors_headers(const struct http_server *server, struct MHD_Connection *connection,
                      struct MHD_Response *response)
{
    const char *origins = server->options.origins;
    const char *origin = "*";
    if (server->options.only_metrics)
        return;
    if (!is_listed(origins, "*", 1)) {
        origin = header_of(connection, "Origin");
        if (!is_listed(origins, origin, strlen(origin)))
            return;
    }
    MHD_add_response_header(response, "Access-Control-Allow-Headers",
                            "accept, content-type, authorization");
    MHD_add_response_header(response, "Access-Control-Allow-Methods",
                            "POST, GET, OPTIONS, PUT, DELETE");
    MHD_add_response_header(response, "Access-Control-Allow-Origin", origin);
}

/* The name without the port: "[::1]:2379" is "::1". */
static const char *host_name(struct MHD_Connection *connection, size_t *len_out)
{
    const char *host = header_of(connection, "Host");
    const char *bracket = host[0] == '[' ? strchr(host, ']') : NULL;
    if (bracket != NULL) {
        *len_out = (size_t)(bracket - host) - 1;
        return host + 1;
    }
    const char *colon = strrchr(host, ':');
    *len_out = colon == NULL ? strlen(host) : (size_t)(colon - host);
    return host;
}

bool is_known_host(const struct http_server *server, struct MHD_Connection *connection)
{
    size_t len;
    const char *host = host_name(connection, &len);
    return server->options.only_metrics || is_listed(server->options.hosts, host, len);
}

/* The name comes from a stranger: what could end a line or a quote is left out. */
static void copy_printable(const char *from, size_t len, char *to, size_t size)
{
    size_t at = 0;
    for (size_t i = 0; i < len && at + 1 < size; i++) {
        if (from[i] > ' ' && from[i] < 0x7f && from[i] != '"' && from[i] != '\\')
            to[at++] = from[i];
    }
    to[at] = '\0';
}

enum MHD_Result refuse_host(struct http_server *server, struct MHD_Connection *connection)
{
    size_t len;
    const char *name = host_name(connection, &len);
    char host[256], text[1024];
    copy_printable(name, len, host, sizeof(host));
    snprintf(text, sizeof(text),
             "\netcd received your request, but the Host header was unrecognized.\n\n"
             "To fix this, choose one of the following options:\n"
             "- Enable TLS, then any HTTPS request will be allowed.\n"
             "- Add the hostname you want to use to the whitelist in settings.\n"
             "  - e.g. etcd --host-whitelist \"%s\"\n\n"
             "This requirement has been added to help prevent \"DNS Rebinding\" attacks "
             "(CVE-2018-5702).\n",
             host);
    if (server->options.on_foreign_host != NULL)
        server->options.on_foreign_host(server->options.context, host);
    struct http_answer answer = {0};
    enum status st = http_answer_plain(421, text, &answer);
    return send_answer(server, connection, st, &answer);
}
