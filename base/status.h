/* base/status.h - the one status type: every fallible function of the project returns it. */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H
#include <stdbool.h>

#define STATUS_MAP(X)                                                                      \
    X(ST_OK, "ok")                                                                         \
    X(ST_NOT_FOUND, "not found")                                                           \
    X(ST_EXISTS, "exists already")                                                         \
    X(ST_INVALID, "invalid argument or input")                                             \
    X(ST_COMPACTED, "revision has been compacted")                                         \
    X(ST_FUTURE, "revision lies in the future")                                            \
    X(ST_TOO_BIG, "over a configured limit")                                               \
    X(ST_TRUNCATED, "record ends early")                                                   \
    X(ST_UNSUPPORTED, "not supported here")                                                \
    X(ST_BUSY, "busy, retry")                                                              \
    X(ST_DROPPED, "proposal dropped")                                                      \
    X(ST_CANCELED, "canceled")                                                             \
    X(ST_NO_MEMORY, "out of memory")                                                       \
    X(ST_NO_SPACE, "no space left")                                                        \
    /* Fatal from here on: the object that returned it accepts only its close function. */ \
    X(ST_IO, "i/o error")                                                                  \
    X(ST_CORRUPT, "stored data is corrupt")

#define STATUS_ENUM(code, text) code,
enum status { STATUS_MAP(STATUS_ENUM) };
#undef STATUS_ENUM

#define CHECKED __attribute__((warn_unused_result))

const char *status_str(enum status st); /* static string, never freed */

static inline bool status_is_fatal(enum status st)
{
    return st >= ST_IO;
}
#endif
