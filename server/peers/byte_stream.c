#include "server/peers/byte_stream.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static enum status plain_read(struct byte_stream *stream, void *buffer, size_t size,
                              size_t *size_out)
{
    ssize_t got;
    do {
        got = recv(stream->fd, buffer, size, 0);
    } while (got < 0 && errno == EINTR);
    if (got > 0) {
        *size_out = (size_t)got;
        return ST_OK;
    }
    if (got == 0)
        return ST_TRUNCATED;
    return errno == EAGAIN || errno == EWOULDBLOCK ? ST_BUSY : ST_IO;
}

static enum status plain_writev(struct byte_stream *stream, const struct iovec *pieces, int count,
                                size_t *size_out)
{
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)pieces,
                             .msg_iovlen = (size_t)count};
    ssize_t put;
    do {
        put = sendmsg(stream->fd, &message, MSG_NOSIGNAL);
    } while (put < 0 && errno == EINTR);
    if (put >= 0) {
        *size_out = (size_t)put;
        return ST_OK;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? ST_BUSY : ST_IO;
}

static void plain_close(struct byte_stream *stream)
{
    close(stream->fd);
    free(stream);
}

static const struct byte_stream_ops plain_ops = {
    .read = plain_read,
    .writev = plain_writev,
    .close = plain_close,
};

static enum status plain_open(void *context, int fd, const char *host, struct byte_stream **out)
{
    (void)context;
    (void)host;
    struct byte_stream *stream = malloc(sizeof(*stream));
    *out = stream;
    if (stream == NULL) {
        close(fd);
        return ST_NO_MEMORY;
    }
    *stream = (struct byte_stream){.ops = &plain_ops, .fd = fd};
    return ST_OK;
}

const struct byte_stream_factory byte_stream_plain = {.open = plain_open};
