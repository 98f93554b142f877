/* tools/ctl/kv.h - put, get and del read from words: the commands' own and the lines of txn. */
#ifndef TOOLS_CTL_KV_H
#define TOOLS_CTL_KV_H
#include "proto/rpc.pb-c.h"
#include "tools/ctl/ctl.h"

/* Fill *out, already initialised, from the words and flags of line, made by the command of that
 * name; what they point to lives as long as line. Return an exit code, errors told. */
int kv_read_get(struct cli *line, Etcdserverpb__RangeRequest *out);
int kv_read_del(struct cli *line, Etcdserverpb__DeleteRangeRequest *out);
/* With may_read_stdin a missing value is read from there; else it is an error. */
int kv_read_put(struct cli *line, bool may_read_stdin, Etcdserverpb__PutRequest *out);

extern const struct ctl_view kv_get_view; /* of a RangeResponse */

/* The writers of one answer, for txn's as well. */
void kv_simple_get(struct ctl *ctl, const Etcdserverpb__RangeResponse *response);
void kv_simple_put(struct ctl *ctl, const Etcdserverpb__PutResponse *response);
void kv_simple_del(struct ctl *ctl, const Etcdserverpb__DeleteRangeResponse *response);
void kv_fields_get(struct ctl *ctl, const Etcdserverpb__RangeResponse *response);
void kv_fields_put(struct ctl *ctl, const Etcdserverpb__PutResponse *response);
void kv_fields_del(struct ctl *ctl, const Etcdserverpb__DeleteRangeResponse *response);
#endif
