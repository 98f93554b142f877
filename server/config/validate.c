#include "base/duration.h"
#include "server/config/load.h"
#include "server/config/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ELECTION_MS_MAX 50000U
#define REQUEST_BYTES_RECOMMENDED (10U << 20)
#define HOUR_NS 3600000000000LL
#define RETENTION_NS_MAX (10 * 365 * 24 * HOUR_NS)

/* A check is NULL if all is well, else the sentence for the operator. */

static const char *check_logging(struct config *config)
{
    if (strcmp(config->logger, "capnslog") == 0)
        return "--logger=capnslog is removed in v3.5";
    if (strcmp(config->logger, "zap") != 0)
        return text_format(&config->arena, "unknown logger option %s",
                           text_quote(&config->arena, config->logger));
    const char **outputs = ARENA_ARRAY(&config->arena, const char *, LOG_OUTPUTS_MAX);
    uint32_t count = 0;
    bool has_default = false;
    for (const char *p = config->log_outputs_text;; p++) {
        size_t len = strcspn(p, ",");
        const char *output = text_copy(&config->arena, p, len);
        if (outputs == NULL || output == text_too_long || count == LOG_OUTPUTS_MAX)
            return "too many outputs in --log-outputs";
        if (strcmp(output, "systemd/journal") == 0)
            return "--log-outputs=systemd/journal is not supported by this version yet";
        has_default = has_default || strcmp(output, "default") == 0;
        outputs[count++] = output;
        p += len;
        if (*p == '\0')
            break;
    }
    config->log_outputs = (struct config_texts){.items = outputs, .count = count};
    return has_default && count > 1 ? "multi logoutput for \"default\" is not supported yet" : NULL;
}

static const char *check_scheme(struct config *config, const char *name,
                                const struct config_urls *urls)
{
    for (uint32_t i = 0; i < urls->count; i++) {
        if (strcmp(urls->items[i].scheme, "http") != 0)
            return text_format(&config->arena,
                               "--%s: only http:// is supported by this version yet (%s)", name,
                               urls->texts[i]);
    }
    return NULL;
}

static const char *check_advertised(struct config *config, const char *name,
                                    const struct config_urls *urls)
{
    const char *why = config_urls_check_host(&config->arena, urls);
    if (why == NULL)
        return NULL;
    return text_format(&config->arena, "--%s %s must be \"host:port\" (%s)", name,
                       text_quote(&config->arena, config_urls_join(&config->arena, urls)), why);
}

static const char *check_urls(struct config *config)
{
    const char *why = config_urls_check_bind(&config->arena, &config->listen_peer_urls);
    if (why == NULL)
        why = config_urls_check_bind(&config->arena, &config->listen_client_urls);
    if (why == NULL)
        why = config_urls_check_bind(&config->arena, &config->listen_client_http_urls);
    if (why == NULL)
        why = config_urls_check_bind(&config->arena, &config->listen_metrics_urls);
    if (why == NULL)
        why = check_advertised(config, "initial-advertise-peer-urls", &config->advertise_peer_urls);
    if (why == NULL)
        why = check_advertised(config, "advertise-client-urls", &config->advertise_client_urls);
    if (why == NULL)
        why = check_scheme(config, "listen-client-urls", &config->listen_client_urls);
    if (why == NULL)
        why = check_scheme(config, "listen-client-http-urls", &config->listen_client_http_urls);
    if (why == NULL)
        why = check_scheme(config, "listen-metrics-urls", &config->listen_metrics_urls);
    if (why == NULL)
        why = check_scheme(config, "listen-peer-urls", &config->listen_peer_urls);
    return why;
}

static const char *check_times(struct config *config)
{
    struct arena *arena = &config->arena;
    uint64_t heartbeat = config->heartbeat_ms;
    uint64_t election = config->election_ms;
    if (heartbeat == 0)
        return "--heartbeat-interval must be >0 (set to 0ms)";
    if (election == 0)
        return "--election-timeout must be >0 (set to 0ms)";
    if (heartbeat > election / 5)
        return text_format(arena,
                           "--election-timeout[%" PRIu64 "ms] should be at least as 5 times as "
                           "--heartbeat-interval[%" PRIu64 "ms]",
                           election, heartbeat);
    if (election > ELECTION_MS_MAX)
        return text_format(arena,
                           "--election-timeout[%" PRIu64 "ms] is too long, and should be set less "
                           "than %ums",
                           election, ELECTION_MS_MAX);
    return NULL;
}

static bool is_tls_version(const char *text)
{
    return *text == '\0' || strcmp(text, "TLS1.2") == 0 || strcmp(text, "TLS1.3") == 0;
}

/* etcd's reading: a bare number is hours or revisions, everything else a duration. */
static const char *check_retention(struct config *config)
{
    const char *text = config->auto_compaction_retention_text;
    bool by_revision = strcmp(config->auto_compaction_mode, "revision") == 0;
    bool is_number = text[strspn(text, "0123456789")] == '\0';
    int64_t retention = 0;
    if (is_number && strlen(text) < 10)
        retention = (int64_t)strtoull(text, NULL, 10) * (by_revision ? 1 : HOUR_NS);
    else if (is_number || duration_parse(text, &retention) != ST_OK)
        return text_format(&config->arena,
                           "error parsing CompactionRetention: time: invalid "
                           "duration %s",
                           text_quote(&config->arena, text));
    if (retention < 0 || retention > RETENTION_NS_MAX)
        return text_format(&config->arena, "--auto-compaction-retention %s is out of range", text);
    config->auto_compaction_retention = (uint64_t)retention;
    return NULL;
}

static const char *check_quota(struct config *config)
{
    if (config->quota_warning_percent > 100)
        return "--quota-warning-percent must be at most 100";
    if (config->quota_alarm_clear_percent >= 100)
        return "--quota-alarm-clear-percent must be below 100";
    return NULL;
}

static const char *check_rest(struct config *config)
{
    struct arena *arena = &config->arena;
    char took[DURATION_TEXT_MAX];
    if (strcmp(config->auto_compaction_mode, "periodic") != 0 &&
        strcmp(config->auto_compaction_mode, "revision") != 0)
        return text_format(arena, "unknown auto-compaction-mode %s",
                           text_quote(arena, config->auto_compaction_mode));
    const char *why = check_retention(config);
    if (why == NULL)
        why = check_quota(config);
    if (why != NULL)
        return why;
    if (config->lease_checkpoint_persist && !config->lease_checkpoint)
        return "setting experimental-enable-lease-checkpoint-persist requires "
               "experimental-enable-lease-checkpoint";
    if (config->compact_hash_check_time_ns <= 0)
        return text_format(arena, "--experimental-compact-hash-check-time must be >0 (set to %s)",
                           duration_format(config->compact_hash_check_time_ns, took));
    const char *const versions[2] = {config->tls_min_version, config->tls_max_version};
    for (size_t i = 0; i < 2; i++) {
        if (!is_tls_version(versions[i]))
            return text_format(arena, "unexpected TLS version %s (must be one of: TLS1.2, TLS1.3)",
                               text_quote(arena, versions[i]));
    }
    return NULL;
}

/* etcd's default for --initial-cluster: this member at its peer URLs, but with the default name at
 * the default URL, whatever its own are. */
static const char *default_cluster(struct config *config)
{
    if (*config->name == '\0' || strcmp(config->name, "default") == 0)
        return "default=http://localhost:2380";
    const struct config_urls *urls = &config->advertise_peer_urls;
    const char *cluster = "";
    for (uint32_t i = 0; i < urls->count; i++)
        cluster = text_format(&config->arena, "%s%s%s=%s", cluster, i == 0 ? "" : ",", config->name,
                              urls->texts[i]);
    return cluster;
}

/* What is not given follows from what is. */
static const char *fill_in(struct config *config, const struct flag_marks *marks)
{
    if (*config->data_dir == '\0')
        config->data_dir = text_format(&config->arena, "%s.etcd", config->name);
    if (*config->initial_cluster == '\0')
        config->initial_cluster = default_cluster(config);
    if (config->data_dir == text_too_long || config->initial_cluster == text_too_long)
        return "the command line is too long";
    if (flag_is_set(marks, "listen-client-urls") && !flag_is_set(marks, "advertise-client-urls"))
        return "--advertise-client-urls is required when --listen-client-urls is set explicitly";
    return NULL;
}

static void note_no_effect(struct config *config, const struct flag_marks *marks)
{
    size_t count;
    const struct flag *flags = flag_table(&count);
    const char *names = "";
    for (size_t i = 0; i < count; i++) {
        if (flags[i].state == FLAG_NO_EFFECT && flags[i].type != FLAG_GONE &&
            (marks->by_flag[i] || marks->by_env[i]))
            names = text_format(&config->arena, "%s%s--%s", names, *names == '\0' ? "" : ",",
                                flags[i].name);
    }
    if (*names != '\0')
        config_note_add(config, LOG_LEVEL_INFO, "flags are accepted and have no effect here",
                        (const char *const[4]){"flags", names});
}

static void note_large_requests(struct config *config)
{
    if (config->max_request_bytes <= REQUEST_BYTES_RECOMMENDED)
        return;
    const char *given = text_format(&config->arena, "%" PRIu64, config->max_request_bytes);
    const char *most = text_format(&config->arena, "%u", REQUEST_BYTES_RECOMMENDED);
    config_note_add(
        config, LOG_LEVEL_WARN, "exceeded recommended request limit",
        (const char *const[4]){"max-request-bytes", given, "recommended-request-bytes", most});
}

enum status config_validate(struct config *config, const struct flag_marks *marks)
{
    if (log_level_parse(config->log_level_text, &config->log_level) != ST_OK) {
        config->exit_code = 2; /* etcd panics here */
        return buf_printf(&config->err, "unrecognized level: %s\n",
                          text_quote(&config->arena, config->log_level_text)) == ST_OK
                   ? ST_CANCELED
                   : ST_NO_MEMORY;
    }
    /* In etcd's order: of several mistakes the same one is named. */
    const char *why = check_logging(config);
    if (why == NULL)
        why = check_urls(config);
    if (why == NULL)
        why = check_times(config);
    if (why == NULL)
        why = fill_in(config, marks);
    if (why == NULL)
        why = check_rest(config);
    if (why != NULL)
        return config_refuse(config, why);
    note_no_effect(config, marks);
    note_large_requests(config);
    return ST_OK;
}
