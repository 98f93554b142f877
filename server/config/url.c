#include "server/config/url.h"

#include "server/config/text.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* One URL while it is taken apart. */
struct parts {
    const char *scheme;
    const char *address; /* "host:port" */
    const char *path;
};

static const char *trim(struct arena *arena, const char *text, size_t len)
{
    while (len > 0 && isspace((unsigned char)*text))
        text++, len--;
    while (len > 0 && isspace((unsigned char)text[len - 1]))
        len--;
    return text_copy(arena, text, len);
}

/* Go's url.Parse as far as these flags can tell. NULL, or why not. */
static const char *split_url(struct arena *arena, const char *url, struct parts *out)
{
    *out = (struct parts){.scheme = "", .address = "", .path = ""};
    size_t scheme_len = isalpha((unsigned char)*url) ? strspn(url, "abcdefghijklmnopqrstuvwxyz"
                                                                   "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                                   "0123456789+-.")
                                                     : 0;
    bool has_scheme = scheme_len > 0 && url[scheme_len] == ':';
    if (!has_scheme && url[strcspn(url, ":/")] == ':')
        return text_format(arena, "parse %s: first path segment in URL cannot contain colon",
                           text_quote(arena, url));
    char *scheme = arena_alloc(arena, scheme_len + 1);
    if (scheme == NULL)
        return text_too_long;
    for (size_t i = 0; has_scheme && i < scheme_len; i++)
        scheme[i] = (char)tolower((unsigned char)url[i]);
    const char *rest = has_scheme ? url + scheme_len + 1 : url;
    bool has_address = strncmp(rest, "//", 2) == 0;
    const char *address = has_address ? rest + 2 : "";
    size_t address_len = strcspn(address, "/?#");
    *out = (struct parts){.scheme = scheme,
                          .address = text_copy(arena, address, address_len),
                          .path = has_address ? address + address_len : rest};
    return out->address == text_too_long ? text_too_long : NULL;
}

/* Go's net.SplitHostPort. */
static bool split_host_port(struct arena *arena, const char *address, const char **host_out,
                            const char **port_out)
{
    const char *colon = strrchr(address, ':');
    if (colon == NULL)
        return false;
    const char *host = address;
    size_t host_len = (size_t)(colon - address);
    if (*address == '[') {
        if (host_len < 2 || address[host_len - 1] != ']')
            return false;
        host++;
        host_len -= 2;
    } else if (memchr(host, ':', host_len) != NULL) {
        return false; /* an IPv6 address without brackets */
    }
    *host_out = text_copy(arena, host, host_len);
    *port_out = colon + 1;
    return *host_out != text_too_long;
}

static bool parse_port(const char *text, uint16_t *out)
{
    unsigned long port = 0;
    for (; *text >= '0' && *text <= '9' && port <= UINT16_MAX; text++)
        port = port * 10 + (unsigned long)(*text - '0');
    *out = (uint16_t)port;
    return *text == '\0' && port <= UINT16_MAX;
}

/* NULL, or why not. */
static const char *parse_url(struct arena *arena, const char *url, struct config_url *out)
{
    struct parts parts;
    const char *why = split_url(arena, url, &parts);
    if (why != NULL)
        return why;
    *out = (struct config_url){.scheme = parts.scheme};
    if (strcmp(parts.scheme, "unix") == 0 || strcmp(parts.scheme, "unixs") == 0) {
        out->host = text_format(arena, "%s%s", parts.address, parts.path);
        return out->host == text_too_long ? text_too_long : NULL;
    }
    if (strcmp(parts.scheme, "http") != 0 && strcmp(parts.scheme, "https") != 0)
        return text_format(arena, "URL scheme must be http, https, unix, or unixs: %s", url);
    const char *port;
    if (!split_host_port(arena, parts.address, &out->host, &port))
        return text_format(arena, "URL address does not have the form \"host:port\": %s", url);
    if (!parse_port(port, &out->port))
        return text_format(arena, "parse %s: invalid port %s after host", text_quote(arena, url),
                           text_quote(arena, port - 1));
    if (*parts.path != '\0')
        return text_format(arena, "URL must not contain a path: %s", url);
    return NULL;
}

struct entry {
    const char *text;
    struct config_url url;
};

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->text, ((const struct entry *)b)->text);
}

/* Gives the sorted entries their final form. */
static enum status keep(struct arena *arena, const struct entry *entries, uint32_t count,
                        struct config_urls *out)
{
    const char **texts = ARENA_ARRAY(arena, const char *, count);
    struct config_url *items = ARENA_ARRAY(arena, struct config_url, count);
    if (texts == NULL || items == NULL)
        return ST_TOO_BIG;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (kept > 0 && strcmp(texts[kept - 1], entries[i].text) == 0)
            continue;
        texts[kept] = entries[i].text;
        items[kept++] = entries[i].url;
    }
    *out = (struct config_urls){.texts = texts, .items = items, .count = kept};
    return ST_OK;
}

enum status config_urls_parse(struct arena *arena, const char *text, struct config_urls *out,
                              const char **why_out)
{
    struct entry entries[CONFIG_URLS_MAX];
    uint32_t count = 0;
    *out = (struct config_urls){0};
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, ",");
        *why_out = "too many URLs";
        if (count == CONFIG_URLS_MAX)
            return ST_TOO_BIG;
        struct entry *entry = &entries[count++];
        entry->text = trim(arena, p, len);
        if (entry->text == text_too_long)
            return ST_TOO_BIG;
        *why_out = parse_url(arena, entry->text, &entry->url);
        if (*why_out != NULL)
            return ST_INVALID;
        p += len;
        if (*p == '\0')
            break;
    }
    qsort(entries, count, sizeof(entries[0]), compare_entries);
    *why_out = "too long";
    return keep(arena, entries, count, out);
}

bool config_urls_eq(const struct config_urls *a, const struct config_urls *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++) {
        if (strcmp(a->texts[i], b->texts[i]) != 0)
            return false;
    }
    return true;
}

const char *config_urls_join(struct arena *arena, const struct config_urls *urls)
{
    const char *joined = "";
    for (uint32_t i = 0; i < urls->count; i++)
        joined = text_format(arena, "%s%s%s", joined, i == 0 ? "" : ",", urls->texts[i]);
    return joined;
}

static bool is_ip(const char *host)
{
    struct in6_addr address;
    return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

static bool is_unix(const struct config_url *url)
{
    return strncmp(url->scheme, "unix", 4) == 0;
}

const char *config_urls_check_bind(struct arena *arena, const struct config_urls *urls)
{
    for (uint32_t i = 0; i < urls->count; i++) {
        const struct config_url *url = &urls->items[i];
        if (!is_unix(url) && strcmp(url->host, "localhost") != 0 && !is_ip(url->host))
            return text_format(arena, "expected IP in URL for binding (%s)", urls->texts[i]);
    }
    return NULL;
}

const char *config_urls_check_host(struct arena *arena, const struct config_urls *urls)
{
    for (uint32_t i = 0; i < urls->count; i++) {
        if (!is_unix(&urls->items[i]) && *urls->items[i].host == '\0')
            return text_format(arena, "unexpected empty host (%s)", urls->texts[i]);
    }
    return NULL;
}
