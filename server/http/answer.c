#include "server/http/answer.h"

#include "server/metrics/metrics.h"

/* Answers are short but for the metrics, which grow with methods and peers. */
#define BODY_BYTES_MAX (16U << 20)
#define TEXT_PLAIN "text/plain; charset=utf-8"

static const char *const check_names[CHECKS_COUNT] = {
    [CHECK_DATA_CORRUPTION] = "data_corruption",
    [CHECK_SERIALIZABLE_READ] = "serializable_read",
    [CHECK_LINEARIZABLE_READ] = "linearizable_read",
};

static bool is_check_wanted(const struct http_checks *checks, uint32_t check)
{
    return (checks->wanted & (1U << check)) != 0;
}

void http_query_add(struct http_query *query, const char *key, const char *value)
{
    if (value == NULL)
        value = "";
    if (strcmp(key, "serializable") == 0)
        query->serializable = strcmp(value, "true") == 0;
    else if (strcmp(key, "verbose") == 0)
        query->verbose = true;
    if (strcmp(key, "exclude") != 0)
        return;
    if (strcmp(value, "NOSPACE") == 0)
        query->alarms_excluded |= HTTP_ALARM_NOSPACE;
    if (strcmp(value, "CORRUPT") == 0)
        query->alarms_excluded |= HTTP_ALARM_CORRUPT;
    for (uint32_t i = 0; i < CHECKS_COUNT; i++) {
        if (strcmp(value, check_names[i]) == 0)
            query->checks_excluded |= 1U << i;
    }
}

static void begin(struct http_answer *out, unsigned code, const char *content_type)
{
    *out = (struct http_answer){.code = code, .content_type = content_type};
    buf_init(&out->body, BODY_BYTES_MAX);
}

enum status http_answer_plain(unsigned code, const char *text, struct http_answer *out)
{
    begin(out, code, TEXT_PLAIN);
    out->nosniff = true;
    return buf_printf(&out->body, "%s\n", text);
}

static const char *health_reason(const struct http_handlers *handlers,
                                 const struct http_query *query)
{
    uint32_t alarms = handlers->alarms(handlers->context) & ~query->alarms_excluded;
    if ((alarms & HTTP_ALARM_NOSPACE) != 0)
        return "ALARM NOSPACE";
    if ((alarms & HTTP_ALARM_CORRUPT) != 0)
        return "ALARM CORRUPT";
    if (alarms != 0)
        return "ALARM UNKNOWN";
    if (handlers->is_quarantined(handlers->context))
        return "QUARANTINED";
    if (!query->serializable && !handlers->has_leader(handlers->context))
        return "RAFT NO LEADER";
    return NULL;
}

void http_health_look(const struct http_handlers *handlers, const struct http_query *query,
                      struct http_health *out)
{
    *out = (struct http_health){.reason = health_reason(handlers, query)};
    if (out->reason == NULL)
        out->read_error = handlers->serializable_read(handlers->context);
}

enum status http_answer_health(const struct http_health *health, struct http_answer *out)
{
    bool is_healthy = health->reason == NULL && health->read_error == NULL;
    metrics_add(is_healthy ? METRIC_HEALTH_SUCCESSES : METRIC_HEALTH_FAILURES, 1);
    if (is_healthy) {
        begin(out, 200, TEXT_PLAIN);
        return buf_append(&out->body, SLICE("{\"health\":\"true\",\"reason\":\"\"}"));
    }
    char text[512];
    snprintf(text, sizeof(text), "{\"health\":\"false\",\"reason\":\"%s%s\"}",
             health->reason != NULL ? health->reason : "RANGE ERROR:",
             health->reason != NULL ? "" : health->read_error);
    return http_answer_plain(503, text, out);
}

enum status http_answer_version(const struct http_options *options, struct http_answer *out)
{
    char cluster[32];
    const struct http_handlers *handlers = &options->handlers;
    bool is_decided = handlers->cluster_version(handlers->context, cluster, sizeof(cluster));
    begin(out, 200, "application/json");
    return buf_printf(&out->body, "{\"etcdserver\":\"%s\",\"etcdcluster\":\"%s\"}",
                      options->api_version, is_decided ? cluster : "not_decided");
}

enum status http_answer_metrics(struct http_answer *out)
{
    begin(out, 200, "text/plain; version=0.0.4; charset=utf-8");
    return metrics_render(&out->body);
}

enum status http_answer_vars(const struct http_handlers *handlers, struct http_answer *out)
{
    begin(out, 200, "application/json; charset=utf-8");
    return handlers->vars(handlers->context, &out->body);
}

enum status http_checks_parse(const char *path, const struct http_query *query,
                              struct http_checks *out)
{
    *out = (struct http_checks){.is_readyz = strncmp(path, "/readyz", 7) == 0,
                                .verbose = query->verbose};
    const char *rest = path + strlen(out->is_readyz ? "/readyz" : "/livez");
    uint32_t offered = out->is_readyz ? (1U << CHECKS_COUNT) - 1 : 1U << CHECK_SERIALIZABLE_READ;
    if (rest[0] == '\0') {
        out->wanted = offered & ~query->checks_excluded;
        return ST_OK;
    }
    for (uint32_t i = 0; i < CHECKS_COUNT; i++) {
        if (rest[0] == '/' && strcmp(rest + 1, check_names[i]) == 0)
            out->wanted = offered & (1U << i);
    }
    return out->wanted == 0 ? ST_NOT_FOUND : ST_OK;
}

void http_checks_run(const struct http_handlers *handlers, struct http_checks *checks)
{
    if (is_check_wanted(checks, CHECK_DATA_CORRUPTION) &&
        (handlers->alarms(handlers->context) & HTTP_ALARM_CORRUPT) != 0)
        checks->errors[CHECK_DATA_CORRUPTION] = "alarm activated: CORRUPT";
    if (is_check_wanted(checks, CHECK_SERIALIZABLE_READ))
        checks->errors[CHECK_SERIALIZABLE_READ] = handlers->serializable_read(handlers->context);
}

static void count_check(const struct http_checks *checks, uint32_t check)
{
    const char *type = checks->is_readyz ? "readyz" : "livez";
    const char *name = check_names[check];
    bool is_ok = checks->errors[check] == NULL;
    metrics_child_set(
        metrics_child(METRIC_HEALTHCHECK, (const char *const[]){"name", name, "type", type, NULL}),
        is_ok);
    metrics_child_add(
        metrics_child(METRIC_HEALTHCHECKS,
                      (const char *const[]){"name", name, "status", is_ok ? "success" : "error",
                                            "type", type, NULL}),
        1);
}

enum status http_checks_answer(const struct http_checks *checks, struct http_answer *out)
{
    begin(out, 200, TEXT_PLAIN);
    out->nosniff = true;
    enum status st = ST_OK;
    for (uint32_t i = 0; i < CHECKS_COUNT; i++) {
        if (is_check_wanted(checks, i) && checks->errors[i] != NULL)
            out->code = 503;
    }
    bool show_each = checks->verbose || out->code != 200;
    for (uint32_t i = 0; st == ST_OK && i < CHECKS_COUNT; i++) {
        if (!is_check_wanted(checks, i))
            continue;
        count_check(checks, i);
        if (show_each && checks->errors[i] == NULL)
            st = buf_printf(&out->body, "[+]%s ok\n", check_names[i]);
        else if (show_each)
            st = buf_printf(&out->body, "[-]%s failed: %s\n", check_names[i], checks->errors[i]);
    }
    if (st != ST_OK)
        return st;
    return buf_append(&out->body, out->code == 200 ? SLICE("ok\n") : SLICE("\n"));
}
