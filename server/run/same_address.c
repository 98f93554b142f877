#include "server/run/same_address.h"

#include "server/state/limits.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ADDRESS_BYTES_MAX 128U

/* "http://10.0.0.1:2380" */
struct address {
    char text[ADDRESS_BYTES_MAX];
};

/* "scheme://host:port" taken apart. */
struct parts {
    char text[512];
    const char *scheme, *host, *port;
};

/* False when it is no such text, or too long. */
static bool split(struct slice url, struct parts *out)
{
    if (url.len >= sizeof(out->text))
        return false;
    memcpy(out->text, url.data, url.len);
    out->text[url.len] = '\0';
    char *host = strstr(out->text, "://"), *port = strrchr(out->text, ':');
    if (host == NULL || port == NULL || port <= host)
        return false;
    *host = *port = '\0';
    host += strlen("://");
    if (*host == '[' && port[-1] == ']') {
        host++;
        port[-1] = '\0';
    }
    out->scheme = out->text;
    out->host = host;
    out->port = port + 1;
    return true;
}

static bool resolve(struct slice url, struct address *out, char *why, size_t why_bytes)
{
    char numeric[64];
    struct parts parts;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;
    if (!split(url, &parts))
        return false;
    int failure = getaddrinfo(parts.host, parts.port, &hints, &found);
    if (failure == 0)
        failure = getnameinfo(found->ai_addr, found->ai_addrlen, numeric, sizeof(numeric), NULL, 0,
                              NI_NUMERICHOST);
    if (failure != 0) {
        snprintf(why, why_bytes, "failed to resolve url %.*s (%s)", (int)url.len,
                 (const char *)url.data, gai_strerror(failure));
        return false;
    }
    freeaddrinfo(found);
    int len =
        snprintf(out->text, sizeof(out->text), "%s://%s:%s", parts.scheme, numeric, parts.port);
    return len > 0 && (size_t)len < sizeof(out->text);
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct address *)a)->text, ((const struct address *)b)->text);
}

static bool resolve_all(const struct slice *urls, uint32_t count, struct address *out, char *why,
                        size_t why_bytes)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!resolve(urls[i], &out[i], why, why_bytes))
            return false;
    }
    qsort(out, count, sizeof(out[0]), compare);
    return true;
}

bool same_addresses(void *context, const struct slice *a, const struct slice *b, uint32_t count,
                    char *why, size_t why_bytes)
{
    (void)context;
    struct address of_a[MEMBER_URLS_MAX], of_b[MEMBER_URLS_MAX];
    if (count > MEMBER_URLS_MAX || !resolve_all(a, count, of_a, why, why_bytes) ||
        !resolve_all(b, count, of_b, why, why_bytes))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(of_a[i].text, of_b[i].text) == 0)
            continue;
        snprintf(why, why_bytes, "resolved urls: \"%s\" != \"%s\"", of_a[i].text, of_b[i].text);
        return false;
    }
    return true;
}
