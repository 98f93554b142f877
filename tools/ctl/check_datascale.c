/* check datascale: how much memory do so many keys cost the server? */
#include "tools/ctl/load.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define KEY_BYTES 512U
#define VALUE_BYTES 512U
#define METRICS_BYTES_MAX (16U << 20)
#define METRICS_TIMEOUT_S 30
#define MEGABYTE (1024.0 * 1024.0)

static const struct {
    uint32_t puts, clients;
} models[] = {{10000, 50}, {100000, 200}, {1000000, 500}, {3000000, 1000}};

/* ---- the server's memory, from its metrics ---- */

/* A connection to "host:port". -1: errno, or EHOSTUNREACH for a name that is none. */
static int dial(char *address)
{
    char *colon = strrchr(address, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    if (colon == NULL) {
        errno = EDESTADDRREQ;
        return -1;
    }
    *colon = '\0';
    char *host = address[0] == '[' ? address + 1 : address;
    host[strcspn(host, "]")] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &list) != 0) {
        errno = EHOSTUNREACH;
        return -1;
    }
    int fd = -1;
    for (struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd;
}

/* Asks and reads to the end; NUL-terminated, in the cli's arena. NULL: errno. */
static char *fetch(struct cli *cli, const char *address)
{
    char *copy = (char *)(uintptr_t)cli_format(cli, "%s", address);
    int fd = dial(copy);
    if (fd < 0)
        return NULL;
    struct timeval patience = {.tv_sec = METRICS_TIMEOUT_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    const char *request = cli_format(cli, "GET /metrics HTTP/1.0\r\nHost: %s\r\n\r\n", address);
    char *text = arena_alloc_raw(&cli->arena, METRICS_BYTES_MAX + 1);
    size_t len = 0;
    ssize_t got = send(fd, request, strlen(request), MSG_NOSIGNAL);
    while (text != NULL && got > 0 && len < METRICS_BYTES_MAX) {
        got = recv(fd, text + len, METRICS_BYTES_MAX - len, 0);
        len += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    if (text == NULL || got < 0)
        return NULL;
    text[len] = '\0';
    return text;
}

/* 0: there is none to be had, and it has been told why. */
static double memory_bytes(struct ctl *ctl)
{
    static const char key[] = "\nprocess_resident_memory_bytes";
    struct cli *cli = ctl->cli;
    const char *endpoint = ctl->options.endpoints[0], *address = endpoint;
    if (strncmp(endpoint, "https://", 8) == 0) {
        fputs("fetch error: the metrics of an endpoint with TLS cannot be read from here\n",
              cli->out);
        return 0;
    }
    if (strncmp(endpoint, "http://", 7) == 0)
        address += 7;
    const char *text = fetch(cli, address);
    if (text == NULL) {
        const char *reason = strerror(errno);
        fprintf(cli->out, "fetch error: Get \"http://%s/metrics\": dial tcp %s: connect: %c%s\n",
                address, address, tolower(reason[0]), reason + 1);
        return 0;
    }
    const char *found = strstr(text, key);
    if (found == NULL) {
        fprintf(cli->out, "could not find: %s\n", key + 1);
        return 0;
    }
    return strtod(found + sizeof(key) - 1, NULL);
}

/* ---- the command ---- */

static int tell_no_memory(struct ctl *ctl, const char *when)
{
    fprintf(ctl->cli->out,
            "FAIL: Could not read process_resident_memory_bytes %s the put operations.\n", when);
    return CLI_EXIT_ERROR;
}

static int clean_up(struct ctl *ctl, const char *prefix)
{
    int64_t revision = 0;
    const char *error = load_delete(ctl, prefix, /* timeout_ms= */ 0, &revision);
    if (error != NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "%s", error);
    return load_tidy(ctl, revision);
}

static int measure(struct ctl *ctl, const struct load_options *options)
{
    struct cli *cli = ctl->cli;
    double before = memory_bytes(ctl);
    if (before == 0)
        return tell_no_memory(ctl, "before");
    fprintf(cli->out,
            "Start data scale check for work load [%u key-value pairs, %u bytes per key-value, %u "
            "concurrent clients].\n",
            (unsigned)options->puts, KEY_BYTES + VALUE_BYTES, options->clients);
    struct load_result result;
    int code = load_run(ctl, options, &result);
    if (code != CLI_EXIT_OK)
        return code;
    double after = memory_bytes(ctl);
    if (after == 0)
        return tell_no_memory(ctl, "after");
    code = clean_up(ctl, options->prefix);
    if (code != CLI_EXIT_OK)
        return code;
    if (result.errors_count > 0) {
        load_print_errors(ctl, &result);
        return CLI_EXIT_ERROR;
    }
    fprintf(cli->out, "PASS: Approximate system memory used : %.2f MB.\n",
            (after - before) / MEGABYTE);
    return CLI_EXIT_OK;
}

static int run_datascale(struct cli *cli)
{
    int model = load_model(cli_string(cli, "load"));
    if (model < 0)
        return cli_fail(cli, CLI_EXIT_BAD_FEATURE, "unknown load option %s",
                        cli_string(cli, "load"));
    struct load_options options = {.prefix = cli_string(cli, "prefix"),
                                   .clients = models[model].clients,
                                   .key_bytes = KEY_BYTES,
                                   .value_bytes = VALUE_BYTES,
                                   .puts = models[model].puts};
    const char *hint = cli_format(cli, "etcdctl del --prefix %s", options.prefix);
    struct ctl ctl;
    int code = ctl_read_flags(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = load_prepare(&ctl, &options, hint);
    if (code == CLI_EXIT_OK)
        code = measure(&ctl, &options);
    ctl_close(&ctl);
    return code;
}

static const struct cli_flag flags[] = {
    {.name = "load",
     .kind = CLI_STRING,
     .initial = "s",
     .help = "how much: s(mall), m(edium), l(arge) or xl(xLarge)"},
    {.name = "prefix",
     .kind = CLI_STRING,
     .initial = "/etcdctl-check-datascale/",
     .help = "what the keys begin with that are written"},
    LOAD_TIDY_FLAGS,
    {0},
};

const struct cli_command ctl_check_datascale_command = {
    .name = "datascale",
    .usage = "[options]",
    .brief = "Tells how much memory many keys cost the server",
    .text = "The first endpoint is asked for its memory before and after.",
    .flags = flags,
    .run = run_datascale,
};
