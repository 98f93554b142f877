#include "server/peers/dial.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

static bool copy_part(char *out, size_t size, const char *begin, size_t len)
{
    if (len == 0 || len >= size)
        return false;
    memcpy(out, begin, len);
    out[len] = '\0';
    return true;
}

enum status peer_url_parse(const char *text, struct peer_url *out)
{
    *out = (struct peer_url){.is_secure = strncmp(text, "https://", 8) == 0};
    if (!out->is_secure && strncmp(text, "http://", 7) != 0)
        return ST_INVALID;
    const char *host = text + (out->is_secure ? 8 : 7);
    const char *host_end = host + strcspn(host, ":/");
    const char *rest = host_end;
    if (*host == '[') {
        host++;
        host_end = strchr(host, ']');
        if (host_end == NULL)
            return ST_INVALID;
        out->is_ipv6 = true;
        rest = host_end + 1;
    }
    if (!copy_part(out->host, sizeof(out->host), host, (size_t)(host_end - host)))
        return ST_INVALID;
    const char *port = out->is_secure ? "443" : "80";
    size_t port_size = strlen(port);
    if (*rest == ':') {
        port = rest + 1;
        port_size = strspn(port, "0123456789");
        rest = port + port_size;
    }
    if (!copy_part(out->port, sizeof(out->port), port, port_size))
        return ST_INVALID;
    return *rest == '\0' || strcmp(rest, "/") == 0 ? ST_OK : ST_INVALID;
}

enum status peer_url_resolve(const struct peer_url *url, bool numeric, struct peer_addresses *out)
{
    out->count = 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV | (numeric ? AI_NUMERICHOST : 0)};
    struct addrinfo *found = NULL;
    if (getaddrinfo(url->host, url->port, &hints, &found) != 0)
        return ST_NOT_FOUND;
    for (struct addrinfo *a = found; a != NULL && out->count < ADDRESSES_MAX; a = a->ai_next) {
        if (a->ai_addrlen > sizeof(out->items[0]))
            continue;
        memcpy(&out->items[out->count], a->ai_addr, a->ai_addrlen);
        out->sizes[out->count++] = a->ai_addrlen;
    }
    freeaddrinfo(found);
    return out->count > 0 ? ST_OK : ST_NOT_FOUND;
}

void dial_tune(int fd)
{
    int on = 1, idle_s = 30; /* Go's */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle_s, sizeof(idle_s));
}

enum status dial_start(const struct peer_addresses *addresses, uint32_t which, int *fd_out)
{
    const struct sockaddr_storage *to = &addresses->items[which % addresses->count];
    int fd = socket(to->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *fd_out = fd;
    if (fd < 0)
        return ST_IO;
    dial_tune(fd);
    if (connect(fd, (const struct sockaddr *)to, addresses->sizes[which % addresses->count]) == 0 ||
        errno == EINPROGRESS)
        return ST_OK;
    int error = errno;
    close(fd);
    errno = error;
    *fd_out = -1;
    return ST_IO;
}

enum status dial_finish(int fd)
{
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0)
        return ST_OK;
    errno = error;
    return ST_IO;
}
