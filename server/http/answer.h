/* server/http/answer.h - the answers of the client port, apart from how they are sent. */
#ifndef SERVER_HTTP_ANSWER_H
#define SERVER_HTTP_ANSWER_H
#include "base/buf.h"
#include "server/http/http.h"

/* Checks of /livez and /readyz, in the order in which they are shown. */
enum check { CHECK_DATA_CORRUPTION, CHECK_SERIALIZABLE_READ, CHECK_LINEARIZABLE_READ };
#define CHECKS_COUNT 3U

/* What the query asks for. */
struct http_query {
    bool serializable, verbose;
    uint32_t alarms_excluded; /* HTTP_ALARM_* */
    uint32_t checks_excluded; /* bits of enum check */
};

struct http_answer {
    unsigned code;
    const char *content_type;
    bool nosniff, allow_get; /* the headers X-Content-Type-Options and Allow */
    struct buf body;         /* owned */
};

/* Reads one argument of the query; what is unknown changes nothing. value may be NULL. */
void http_query_add(struct http_query *query, const char *key, const char *value);

/* What /health finds: the first reason against the member, NULL if there is none. */
struct http_health {
    const char *reason;
    const char *read_error; /* of the reads, that come last; NULL is success */
};
/* Looks at all that need not wait. */
void http_health_look(const struct http_handlers *handlers, const struct http_query *query,
                      struct http_health *out);

/* Each fills an empty answer. Errors: buf_append()'s. */
CHECKED enum status http_answer_health(const struct http_health *health, struct http_answer *out);
CHECKED enum status http_answer_version(const struct http_options *options,
                                        struct http_answer *out);
CHECKED enum status http_answer_metrics(struct http_answer *out);
CHECKED enum status http_answer_vars(const struct http_handlers *handlers, struct http_answer *out);
CHECKED enum status http_answer_plain(unsigned code, const char *text, struct http_answer *out);

/* A set of checks, asked for by a path under /livez or /readyz. */
struct http_checks {
    bool is_readyz;
    uint32_t wanted; /* bits of enum check */
    bool verbose;
    const char *errors[CHECKS_COUNT]; /* results; NULL is success */
};
/* Errors: ST_NOT_FOUND (no such check). */
CHECKED enum status http_checks_parse(const char *path, const struct http_query *query,
                                      struct http_checks *out);
/* Runs all that need not wait. */
void http_checks_run(const struct http_handlers *handlers, struct http_checks *checks);
CHECKED enum status http_checks_answer(const struct http_checks *checks, struct http_answer *out);
#endif
