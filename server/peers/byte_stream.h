/* server/peers/byte_stream.h - seam: a connection as a stream of bytes, whatever carries it. Plain
 * TCP is byte_stream.c; TLS is to be another. */
#ifndef SERVER_PEERS_BYTE_STREAM_H
#define SERVER_PEERS_BYTE_STREAM_H
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct byte_stream;

struct byte_stream_ops {
    /* At most size bytes. ST_BUSY: none now, ask again when the socket is ready; ST_TRUNCATED: the
     * other side ended; ST_IO: broken. */
    enum status (*read)(struct byte_stream *stream, void *buffer, size_t size, size_t *size_out);
    /* Writes a part or all. ST_BUSY and ST_IO as above. */
    enum status (*writev)(struct byte_stream *stream, const struct iovec *pieces, int count,
                          size_t *size_out);
    void (*close)(struct byte_stream *stream); /* takes it, closes the socket */
};

struct byte_stream {
    const struct byte_stream_ops *ops;
    int fd; /* owned; for epoll, deadlines and shutdown(2) only */
};

/* Makes streams of connected sockets. */
struct byte_stream_factory {
    /* Takes fd, also on an error. host is the name that was dialled; NULL: the other side dialled.
     * A handshake happens within the first reads and writes. */
    enum status (*open)(void *context, int fd, const char *host, struct byte_stream **out);
    void *context;
};

extern const struct byte_stream_factory byte_stream_plain;

static inline enum status byte_stream_read(struct byte_stream *stream, void *buffer, size_t size,
                                           size_t *size_out)
{
    return stream->ops->read(stream, buffer, size, size_out);
}

static inline enum status byte_stream_writev(struct byte_stream *stream, const struct iovec *pieces,
                                             int count, size_t *size_out)
{
    return stream->ops->writev(stream, pieces, count, size_out);
}

/* NULL is fine. */
static inline void byte_stream_close(struct byte_stream *stream)
{
    if (stream != NULL)
        stream->ops->close(stream);
}
#endif
