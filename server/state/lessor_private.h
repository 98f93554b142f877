/* server/state/lessor_private.h - the lessor's inside: lessor.c has the tables, countdown.c the
 * time. */
#ifndef SERVER_STATE_LESSOR_PRIVATE_H
#define SERVER_STATE_LESSOR_PRIVATE_H
#include "base/heap.h"
#include "server/state/lessor.h"

struct entry { /* heads what is in a table */
    struct entry *next;
    uint64_t hash;
};

struct table {
    struct entry **buckets; /* a power of two of them; NULL while it was never used */
    uint64_t buckets_count, entries_count;
};

struct lease_entry {
    struct entry entry;
    struct lease lease;
    struct list_node attachments;
    uint64_t end_ns;             /* UINT64_MAX: for ever */
    struct heap_node end;        /* by end_ns; once it was taken by when it is told of again */
    struct heap_node checkpoint; /* by when it is due */
    bool is_told;                /* others are about to be told what it has left, or know */
    struct list_node renewals;   /* struct lease_renewal: it is about to be revoked */
};

struct lessor {
    struct table leases, attachments;
    bool is_primary;
    struct heap ends, checkpoints;
    uint64_t checkpoint_ns; /* 0: none are made */
};

struct lease_entry *lessor_entry(const struct lessor *lessor, lease_id id); /* or NULL */
/* It is about to be gone: takes it out of the heaps and ends what waits for it. */
void countdown_leave(struct lessor *lessor, struct lease_entry *lease, struct list_node *ended);
#endif
