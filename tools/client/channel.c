#include "tools/client/client_private.h"

#include "base/minmax.h"

/* grpc-go pings no more often either, and etcd's servers count on that. */
#define KEEPALIVE_TIME_MS_MIN 10000U

/* Longest first, as one is the beginning of the other. */
static const struct {
    const char *text, *gives; /* what heads the target instead */
    enum endpoint_security security;
} schemes[] = {
    {"https://", "", ENDPOINT_TLS},      {"http://", "", ENDPOINT_PLAIN},
    {"unixs://", "unix:", ENDPOINT_TLS}, {"unix://", "unix:", ENDPOINT_EITHER},
    {"unixs:", "unix:", ENDPOINT_TLS},   {"unix:", "unix:", ENDPOINT_EITHER},
};

enum status client_next_endpoint(const char **list, struct client_endpoint *out)
{
    const char *start = *list, *gives = "";
    size_t len = strcspn(start, ",");
    *list = start[len] == ',' ? start + len + 1 : start + len;
    out->security = ENDPOINT_EITHER;
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t scheme_len = strlen(schemes[i].text);
        if (len < scheme_len || memcmp(start, schemes[i].text, scheme_len) != 0)
            continue;
        out->security = schemes[i].security;
        gives = schemes[i].gives;
        start += scheme_len;
        len -= scheme_len;
        break;
    }
    bool is_path = *gives != '\0';
    while (!is_path && len > 0 && start[len - 1] == '/')
        len--;
    if (len == 0 || len > 255 || (!is_path && memchr(start, ':', len) == NULL))
        return ST_INVALID;
    snprintf(out->target, sizeof(out->target), "%s%.*s", gives, (int)len, start);
    return ST_OK;
}

/* With verification gRPC's plain credentials will do, and take the system's roots by themselves. */
static grpc_channel_credentials *verifying_credentials(const struct client_tls *tls)
{
    grpc_ssl_pem_key_cert_pair pair = {.private_key = tls->key_pem, .cert_chain = tls->cert_pem};
    return grpc_ssl_credentials_create(tls->ca_pem, tls->cert_pem != NULL ? &pair : NULL, NULL,
                                       NULL);
}

static grpc_channel_credentials *trusting_credentials(const struct client_tls *tls)
{
    grpc_tls_credentials_options *options = grpc_tls_credentials_options_create();
    if (tls->cert_pem != NULL) {
        grpc_tls_identity_pairs *pairs = grpc_tls_identity_pairs_create();
        grpc_tls_identity_pairs_add_pair(pairs, tls->key_pem, tls->cert_pem);
        grpc_tls_certificate_provider *provider =
            grpc_tls_certificate_provider_static_data_create(NULL, pairs);
        grpc_tls_credentials_options_set_certificate_provider(options, provider);
        grpc_tls_credentials_options_watch_identity_key_cert_pairs(options);
        grpc_tls_certificate_provider_release(provider);
    }
    grpc_tls_certificate_verifier *verifier = grpc_tls_certificate_verifier_no_op_create();
    grpc_tls_credentials_options_set_certificate_verifier(options, verifier);
    grpc_tls_certificate_verifier_release(verifier);
    grpc_tls_credentials_options_set_verify_server_cert(options, 0);
    grpc_tls_credentials_options_set_check_call_host(options, 0);
    return grpc_tls_credentials_create(options);
}

static grpc_channel_credentials *credentials_new(const struct client_tls *tls,
                                                 const struct client_endpoint *endpoint)
{
    static const struct client_tls system_roots = {.ca_pem = NULL};
    if (endpoint->security == ENDPOINT_PLAIN ||
        (endpoint->security == ENDPOINT_EITHER && tls == NULL))
        return grpc_insecure_credentials_create();
    if (tls == NULL)
        tls = &system_roots;
    return tls->skip_verify ? trusting_credentials(tls) : verifying_credentials(tls);
}

/* A connection of its own for each channel: by default channels with one target share one. Retries
 * and the environment's proxy would make what is measured or tested something else. */
grpc_channel *client_channel_new(const struct client_options *options,
                                 const struct client_endpoint *endpoint)
{
    static char retries[] = GRPC_ARG_ENABLE_RETRIES, proxy[] = GRPC_ARG_ENABLE_HTTP_PROXY;
    static char resolution[] = GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION;
    static char pool[] = GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL;
    static char receive[] = GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH;
    static char backoff_first[] = GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS;
    static char backoff_min[] = GRPC_ARG_MIN_RECONNECT_BACKOFF_MS;
    static char backoff_max[] = GRPC_ARG_MAX_RECONNECT_BACKOFF_MS;
    static char keepalive[] = GRPC_ARG_KEEPALIVE_TIME_MS;
    static char keepalive_timeout[] = GRPC_ARG_KEEPALIVE_TIMEOUT_MS;
    static char pings[] = GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA;
    static char server_name[] = GRPC_SSL_TARGET_NAME_OVERRIDE_ARG;
    bool has_name = options->tls != NULL && options->tls->server_name != NULL;
    grpc_arg list[] = {
        /* The first only with a name. */
        {.type = GRPC_ARG_STRING,
         .key = server_name,
         .value.string = has_name ? (char *)(uintptr_t)options->tls->server_name : NULL},
        {.type = GRPC_ARG_INTEGER, .key = retries, .value.integer = 0},
        {.type = GRPC_ARG_INTEGER, .key = proxy, .value.integer = 0},
        {.type = GRPC_ARG_INTEGER, .key = resolution, .value.integer = 1},
        {.type = GRPC_ARG_INTEGER, .key = pool, .value.integer = 1},
        {.type = GRPC_ARG_INTEGER, .key = receive, .value.integer = -1 /* no limit */},
        {.type = GRPC_ARG_INTEGER, .key = backoff_first, .value.integer = 50},
        {.type = GRPC_ARG_INTEGER, .key = backoff_min, .value.integer = 1000},
        {.type = GRPC_ARG_INTEGER, .key = backoff_max, .value.integer = 1000},
        /* The rest only with keepalive. A silent watch is no reason to stop asking. */
        {.type = GRPC_ARG_INTEGER, .key = pings, .value.integer = 0},
        {.type = GRPC_ARG_INTEGER,
         .key = keepalive,
         .value.integer = (int)max_u32(options->keepalive_time_ms, KEEPALIVE_TIME_MS_MIN)},
        {.type = GRPC_ARG_INTEGER,
         .key = keepalive_timeout,
         .value.integer = (int)options->keepalive_timeout_ms},
    };
    size_t skipped = has_name ? 0 : 1;
    size_t count = sizeof(list) / sizeof(list[0]) - skipped;
    grpc_channel_args args = {.num_args = options->keepalive_time_ms != 0 ? count : count - 3,
                              .args = list + skipped};
    grpc_channel_credentials *credentials = credentials_new(options->tls, endpoint);
    if (credentials == NULL)
        return NULL;
    grpc_channel *channel = grpc_channel_create(endpoint->target, credentials, &args);
    grpc_channel_credentials_release(credentials);
    return channel;
}
