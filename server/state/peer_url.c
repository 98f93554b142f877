#include "server/state/peer_url.h"

#include "server/state/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define PORT_MAX 65535U

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && is_space(s.data[0]))
        s = slice_make(s.data + 1, s.len - 1);
    while (s.len > 0 && is_space(s.data[s.len - 1]))
        s.len--;
    return s;
}

/* "http" of "http://a:1"; 0: there is none. */
static size_t scheme_size(struct slice url)
{
    static const char *const schemes[] = {"http", "https", "unix", "unixs"};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t size = strlen(schemes[i]);
        if (url.len > size + 3 && strncasecmp((const char *)url.data, schemes[i], size) == 0 &&
            memcmp(url.data + size, "://", 3) == 0)
            return size;
    }
    return 0;
}

static bool is_port(struct slice text)
{
    uint32_t port = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || port > PORT_MAX)
            return false;
        port = port * 10 + (text.data[i] - '0');
    }
    return text.len > 0 && port <= PORT_MAX;
}

/* host:port, where a host with colons stands in brackets. */
static bool is_address(struct slice s)
{
    size_t colon = s.len;
    while (colon > 0 && s.data[colon - 1] != ':')
        colon--;
    if (colon == 0 || !is_port(slice_make(s.data + colon, s.len - colon)))
        return false;
    struct slice host = slice_make(s.data, colon - 1);
    bool in_brackets = host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']';
    return in_brackets || host.len == 0 || memchr(host.data, ':', host.len) == NULL;
}

/* Control characters, space, and what would put more than an address into the text. */
static const char *what_is_wrong(struct slice url)
{
    size_t scheme = scheme_size(url);
    if (scheme == 0)
        return "URL scheme must be http, https, unix, or unixs";
    struct slice rest = slice_make(url.data + scheme + 3, url.len - scheme - 3);
    for (size_t i = 0; i < rest.len; i++) {
        if (rest.data[i] <= ' ' || rest.data[i] >= 0x7f || strchr("\"\\<>,@?#%", rest.data[i]))
            return "URL must not contain a user, a query or special characters";
    }
    if ((url.data[0] | 0x20) == 'u')
        return NULL;
    if (memchr(rest.data, '/', rest.len) != NULL)
        return "URL must not contain a path";
    return is_address(rest) ? NULL : "URL address does not have the form \"host:port\"";
}

static const char *sentence(struct arena *arena, const char *what, struct slice url)
{
    size_t size = strlen(what) + url.len + 3;
    char *text = arena_alloc(arena, size);
    if (text == NULL)
        return what;
    snprintf(text, size, "%s: %.*s", what, (int)url.len, (const char *)url.data);
    return text;
}

static enum status read_one(struct slice text, struct arena *arena, struct slice *out,
                            const char **why_out)
{
    struct slice url = trim(text);
    if (url.len > MEMBER_TEXT_MAX)
        return ST_TOO_BIG;
    const char *wrong = what_is_wrong(url);
    if (wrong != NULL) {
        *why_out = sentence(arena, wrong, url);
        return ST_INVALID;
    }
    uint8_t *copy = arena_alloc_raw(arena, url.len);
    if (copy == NULL)
        return ST_TOO_BIG;
    memcpy(copy, url.data, url.len);
    size_t scheme = scheme_size(url);
    for (size_t i = 0; i < scheme; i++)
        copy[i] |= 0x20;
    *out = slice_make(copy, url.len);
    return ST_OK;
}

static int compare(const void *a, const void *b)
{
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

enum status peer_urls_read(const struct slice *texts, uint32_t count, struct arena *arena,
                           const struct slice **out, const char **why_out)
{
    *why_out = "no valid URLs given";
    if (count == 0)
        return ST_INVALID;
    if (count > MEMBER_URLS_MAX)
        return ST_TOO_BIG;
    struct slice *urls = ARENA_ARRAY(arena, struct slice, count);
    if (urls == NULL)
        return ST_TOO_BIG;
    for (uint32_t i = 0; i < count; i++) {
        enum status st = read_one(texts[i], arena, &urls[i], why_out);
        if (st != ST_OK)
            return st;
    }
    qsort(urls, count, sizeof(urls[0]), compare);
    *out = urls;
    return ST_OK;
}
