#include "server/peers/link.h"

#include "base/minmax.h"

#include <poll.h>

#include <time.h>
#include <unistd.h>

#define LOOK_UP_MS 100U /* how often a waiting call looks whether it is to stop */

uint64_t link_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static bool is_stopping(const struct link *link)
{
    return link->is_stopping != NULL &&
           atomic_load_explicit(link->is_stopping, memory_order_relaxed);
}

/* Waits until the socket is ready, or until_ns. */
static enum status wait_ready(const struct link *link, int fd, short events, uint64_t until_ns)
{
    until_ns = min_u64(until_ns, link->deadline_ns);
    for (;;) {
        uint64_t now = link_now_ns();
        if (is_stopping(link))
            return ST_CANCELED;
        if (now >= until_ns)
            return ST_BUSY;
        struct pollfd ready = {.fd = fd, .events = events};
        uint64_t left_ms = (until_ns - now) / NS_PER_MS + 1;
        if (poll(&ready, 1, (int)min_u64(left_ms, LOOK_UP_MS)) > 0)
            return ST_OK;
    }
}

static enum status connect_to(struct link *link, const struct peer_addresses *addresses,
                              uint32_t which, int *fd_out)
{
    int fd;
    enum status st = dial_start(addresses, which, &fd);
    if (st != ST_OK)
        return st;
    st = wait_ready(link, fd, POLLOUT, link_now_ns() + link->silence_ns);
    if (st == ST_OK)
        st = dial_finish(fd);
    if (st == ST_OK)
        *fd_out = fd;
    else
        close(fd);
    return st;
}

enum status link_connect(struct link *link, const struct peer_url *url,
                         const struct byte_stream_factory *streams)
{
    struct peer_addresses addresses;
    enum status st = peer_url_resolve(url, /* numeric= */ false, &addresses);
    if (st != ST_OK)
        return st;
    int fd = -1;
    st = ST_BUSY;
    for (uint32_t i = 0; i < addresses.count && fd < 0 && st != ST_CANCELED; i++)
        st = connect_to(link, &addresses, i, &fd);
    if (fd < 0)
        return st == ST_CANCELED ? st : ST_BUSY;
    return streams->open(streams->context, fd, url->host, &link->stream);
}

void link_close(struct link *link)
{
    byte_stream_close(link->stream);
    link->stream = NULL;
    window_deinit(&link->in);
}

enum status link_write(struct link *link, struct out *out)
{
    while (out->bytes > 0) {
        size_t written;
        if (is_stopping(link)) /* also on a way that is never full */
            return ST_CANCELED;
        enum status st = out_write(out, link->stream, &written);
        if (st == ST_BUSY)
            st = wait_ready(link, link->stream->fd, POLLOUT, link_now_ns() + link->silence_ns);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

enum status link_read(struct link *link)
{
    enum status st = is_stopping(link) ? ST_CANCELED : window_reserve(&link->in, READ_BYTES);
    while (st == ST_OK) {
        size_t size = 0;
        st = byte_stream_read(link->stream, link->in.data + link->in.end, READ_BYTES, &size);
        link->in.end += size;
        if (st != ST_BUSY)
            return st;
        st = wait_ready(link, link->stream->fd, POLLIN, link_now_ns() + link->silence_ns);
    }
    return st;
}

enum status link_read_answer(struct link *link, struct http1_head *out)
{
    for (;;) {
        enum status st = http1_parse_answer(window_slice(&link->in), out);
        if (st == ST_OK && out->status < 200) { /* 1xx goes before the answer */
            window_consume(&link->in, out->size);
            continue;
        }
        if (st != ST_TRUNCATED)
            return st;
        st = link_read(link);
        if (st != ST_OK)
            return st;
    }
}
