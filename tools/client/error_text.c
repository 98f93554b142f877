#include "tools/client/caller_private.h"

#include <ctype.h>

/* Texts of etcd's server that its client does not know as errors of their own. */
static const char *const foreign[] = {
    "etcdserver: permission not given",
    "etcdserver: watch canceled",
    "etcdserver: request timed out, waiting for the applied index took too long",
    "etcdserver: request timed out, leader transfer took too long",
    "etcdserver: request canceled",
    "etcdserver: context deadline exceeded",
    "etcdserver: invalid sort option",
    "etcdserver: unknown method",
    "etcdserver: invalid version",
};

static bool is_etcd_error(struct slice text)
{
    if (!slice_has_prefix(text, SLICE("etcdserver: ")))
        return false;
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        if (slice_eq(text, slice_from_str(foreign[i])))
            return false;
    }
    return true;
}

/* "prefix" and text, NUL-terminated, in arena. */
static const char *join(struct arena *arena, const char *prefix, struct slice text)
{
    size_t prefix_len = strlen(prefix);
    char *out = arena_alloc(arena, prefix_len + text.len + 1);
    if (out == NULL)
        return "out of memory";
    memcpy(out, prefix, prefix_len);
    if (text.len > 0)
        memcpy(out + prefix_len, text.data, text.len);
    return out;
}

const char *caller_rpc_error_text(const struct client_reply *reply, struct arena *arena)
{
    char prefix[64];
    snprintf(prefix, sizeof(prefix), "rpc error: code = %s desc = ", client_code_name(reply->code));
    return join(arena, prefix, reply->text);
}

const char *caller_error_text(const struct client_reply *reply, struct arena *arena)
{
    if (is_etcd_error(reply->text))
        return join(arena, "", reply->text);
    if (reply->code == CLIENT_DEADLINE_EXCEEDED)
        return "context deadline exceeded";
    if (reply->code == CLIENT_CANCELED && slice_eq(reply->text, SLICE("context canceled")))
        return "context canceled";
    return caller_rpc_error_text(reply, arena);
}

const char *caller_target(const char *endpoint)
{
    static const char *const schemes[] = {"unix:", "unixs:"};
    const char *behind = strstr(endpoint, "://");
    if (behind != NULL && behind < endpoint + strcspn(endpoint, ","))
        return behind + 3;
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (strncmp(endpoint, schemes[i], strlen(schemes[i])) == 0)
            return endpoint + strlen(schemes[i]);
    }
    return endpoint;
}

/* ---- why a connection failed ---- */

static struct slice after(struct slice text, const char *mark)
{
    void *found = memmem(text.data, text.len, mark, strlen(mark));
    if (found == NULL)
        return SLICE_EMPTY;
    const uint8_t *start = (const uint8_t *)found + strlen(mark);
    return slice_make(start, (size_t)(text.data + text.len - start));
}

/* What stands behind the last ": ". */
static struct slice last_part(struct slice text)
{
    for (struct slice rest = after(text, ": "); rest.len > 0; rest = after(rest, ": "))
        text = rest;
    return text;
}

/* gRPC writes "...: ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused" and,
 * for IPv6, the brackets as %5B and %5D. Both into address, as Go would. */
static bool find_address(struct slice text, char *address, size_t size)
{
    static const char *const families[] = {"ipv4:", "ipv6:", "unix:"};
    struct slice rest = SLICE_EMPTY;
    for (size_t i = 0; i < 3 && rest.len == 0; i++)
        rest = after(text, families[i]);
    if (rest.len == 0)
        return false;
    size_t len = 0;
    for (size_t i = 0; i < rest.len && len + 1 < size; i++) {
        if (i + 1 < rest.len && rest.data[i] == ':' && rest.data[i + 1] == ' ')
            break;
        if (i + 2 < rest.len && rest.data[i] == '%' && rest.data[i + 1] == '5') {
            address[len++] = rest.data[i + 2] == 'B' ? '[' : ']';
            i += 2;
        } else {
            address[len++] = (char)rest.data[i];
        }
    }
    address[len] = '\0';
    return true;
}

static bool has(struct slice text, const char *mark)
{
    return memmem(text.data, text.len, mark, strlen(mark)) != NULL;
}

/* Into out: what went wrong, from the first step that did not succeed. */
static void explain(struct slice text, const char *endpoint, char *out, size_t size)
{
    char address[300];
    struct slice reason = last_part(text);
    int len = (int)(reason.len < 200 ? reason.len : 200);
    if (has(text, "DNS resolution failed")) {
        snprintf(out, size, "transport: Error while dialing: dial tcp: lookup %.*s: no such host",
                 (int)strcspn(endpoint, ":"), endpoint);
    } else if (has(text, "Failed to connect to remote host") || has(text, " unix:")) {
        if (!find_address(text, address, sizeof(address)))
            snprintf(address, sizeof(address), "%s", endpoint);
        snprintf(out, size, "transport: Error while dialing: dial %s %s: connect: %c%.*s",
                 has(text, " unix:") ? "unix" : "tcp", address,
                 len > 0 ? tolower(reason.data[0]) : '?', len > 0 ? len - 1 : 0,
                 (const char *)reason.data + (len > 0));
    } else if (has(text, "certificate verify failed")) {
        /* OpenSSL has more than this reason, but does not pass it on. */
        snprintf(out, size,
                 "transport: authentication handshake failed: tls: failed to verify certificate: "
                 "x509: certificate signed by unknown authority, or out of date");
    } else if (has(text, "andshake")) {
        snprintf(out, size, "transport: authentication handshake failed: %.*s", len,
                 (const char *)reason.data);
    } else if (has(text, "Socket closed")) {
        snprintf(out, size, "error reading server preface: EOF");
    } else {
        snprintf(out, size, "error reading server preface: %.*s", len, (const char *)reason.data);
    }
}

const char *caller_connect_error_text(struct slice text, const char *endpoint, struct arena *arena)
{
    char cause[700];
    explain(text, endpoint, cause, sizeof(cause));
    char *out = arena_alloc(arena, sizeof(cause) + 128);
    if (out == NULL)
        return "out of memory";
    snprintf(out, sizeof(cause) + 128,
             "latest balancer error: last connection error: connection error: desc = \"%s\"",
             cause);
    return out;
}
