/* --discovery-srv: which members there are, from the SRV records of a domain (RFC 2782). */
#include "tools/ctl/ctl.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_BYTES_MAX 65536U /* of one DNS message */
#define ENDPOINTS_MAX 256U
#define SRV_FIXED_BYTES 6 /* priority, weight, port; then the name */

struct record {
    uint16_t priority, place; /* place: as it came, since equal priorities are equally good */
    const char *endpoint;
};

struct found {
    struct record items[ENDPOINTS_MAX];
    uint16_t count;
};

/* One record of the answer. What is no SRV record, or makes no sense, is passed over. */
static void add_record(struct cli *cli, const ns_msg *message, const ns_rr *rr, const char *scheme,
                       struct found *out)
{
    if (ns_rr_type(*rr) != ns_t_srv || ns_rr_rdlen(*rr) <= SRV_FIXED_BYTES ||
        out->count == ENDPOINTS_MAX)
        return;
    const uint8_t *data = ns_rr_rdata(*rr);
    char host[NS_MAXDNAME];
    if (dn_expand(ns_msg_base(*message), ns_msg_end(*message), data + SRV_FIXED_BYTES, host,
                  sizeof(host)) <= 0)
        return;
    out->items[out->count] = (struct record){
        .priority = (uint16_t)ns_get16(data),
        .place = out->count,
        .endpoint = cli_format(cli, "%s://%s:%u", scheme, host, ns_get16(data + 4)),
    };
    out->count++;
}

/* Asks for one name; NULL, or why there is no answer, in Go's words. */
static const char *ask(struct cli *cli, struct __res_state *resolver, const char *name,
                       const char *scheme, struct found *out)
{
    uint8_t *answer = arena_alloc_raw(&cli->arena, ANSWER_BYTES_MAX);
    if (answer == NULL)
        return "out of memory";
    int size = res_nquery(resolver, name, ns_c_in, ns_t_srv, answer, ANSWER_BYTES_MAX);
    ns_msg message;
    if (size < 0 || ns_initparse(answer, size, &message) != 0) {
        bool none = size < 0 &&
                    (resolver->res_h_errno == HOST_NOT_FOUND || resolver->res_h_errno == NO_DATA);
        char server[INET_ADDRSTRLEN] = "?";
        inet_ntop(AF_INET, &resolver->nsaddr_list[0].sin_addr, server, sizeof(server));
        return cli_format(cli, "lookup %s on %s:%u: %s", name, server,
                          ntohs(resolver->nsaddr_list[0].sin_port),
                          none ? "no such host" : "server misbehaving");
    }
    for (int i = 0; i < ns_msg_count(message, ns_s_an); i++) {
        ns_rr rr;
        if (ns_parserr(&message, ns_s_an, i, &rr) == 0)
            add_record(cli, &message, &rr, scheme, out);
    }
    return NULL;
}

static int compare_records(const void *a, const void *b)
{
    const struct record *first = a, *second = b;
    if (first->priority != second->priority)
        return first->priority < second->priority ? -1 : 1;
    return first->place < second->place ? -1 : first->place > second->place;
}

/* Looks up the domain's members with TLS and those without, in this order. NULL or an error. */
static const char *look_up(struct cli *cli, struct __res_state *resolver, struct found *secure,
                           struct found *plain)
{
    const char *domain = cli_string(cli, "discovery-srv"),
               *service = cli_string(cli, "discovery-srv-name");
    const char *dash = *service == '\0' ? "" : "-";
    const char *secure_error =
        ask(cli, resolver, cli_format(cli, "_etcd-client-ssl%s%s._tcp.%s", dash, service, domain),
            "https", secure);
    const char *plain_error =
        ask(cli, resolver, cli_format(cli, "_etcd-client%s%s._tcp.%s", dash, service, domain),
            "http", plain);
    qsort(secure->items, secure->count, sizeof(secure->items[0]), compare_records);
    qsort(plain->items, plain->count, sizeof(plain->items[0]), compare_records);
    if (secure_error == NULL || plain_error == NULL)
        return NULL;
    return cli_format(cli, "dns lookup errors: %s and %s", secure_error, plain_error);
}

int ctl_discover(struct cli *cli, char *const **out, uint32_t *count_out)
{
    struct __res_state resolver = {0};
    struct found *found = ARENA_ARRAY(&cli->arena, struct found, 2);
    char **endpoints = ARENA_ARRAY(&cli->arena, char *, ENDPOINTS_MAX * 2);
    if (found == NULL || endpoints == NULL)
        return cli_fail(cli, CLI_EXIT_ERROR, "out of memory");
    if (res_ninit(&resolver) != 0)
        return cli_fail(cli, CLI_EXIT_ERROR, "cannot read /etc/resolv.conf");
    const char *error = look_up(cli, &resolver, &found[0], &found[1]);
    res_nclose(&resolver);
    if (error != NULL)
        return cli_fail(cli, CLI_EXIT_ERROR, "%s", error);
    uint32_t count = 0;
    for (uint16_t i = 0; i < found[0].count; i++)
        endpoints[count++] = (char *)(uintptr_t)found[0].items[i].endpoint;
    for (uint16_t i = 0; i < found[1].count; i++) {
        if (cli_bool(cli, "insecure-discovery"))
            endpoints[count++] = (char *)(uintptr_t)found[1].items[i].endpoint;
        else
            fprintf(cli->err, "ignoring discovered insecure endpoint \"%s\"\n",
                    found[1].items[i].endpoint);
    }
    *out = endpoints;
    *count_out = count;
    return CLI_EXIT_OK;
}
