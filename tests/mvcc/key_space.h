/* tests/mvcc/key_space.h - a key space over a store under test, driven as apply would. Every
 * failure ends the test. */
#ifndef TESTS_MVCC_KEY_SPACE_H
#define TESTS_MVCC_KEY_SPACE_H
#include "storage/mvcc.h"

#define KEY_SPACE_LIFE_ID 77
#define KEY_SPACE_CONF_STATE SLICE("\x08\x01\x28\x00") /* voter 1, no auto_leave */

struct key_space {
    const struct backend_ops *ops;
    char path[256];
    char checkpoint_path[256]; /* empty: none */
    bool threaded;
    uint32_t readers_count;
    struct lock *lock;
    struct clock clock;
    _Atomic uint64_t now_ns;
    struct store *store;
    struct mvcc *mvcc;
    uint64_t index; /* of the last entry */
};

/* Defaults: one reader, not threaded, no checkpoint. */
void key_space_init(struct key_space *ks, const struct backend_ops *ops, const char *path);
void key_space_open(struct key_space *ks);
/* The store and the index only. */
CHECKED enum status key_space_try_open(struct key_space *ks);
void key_space_close(struct key_space *ks);  /* what is not committed is lost */
void key_space_deinit(struct key_space *ks); /* and removes the files */

/* Ends an entry that the log has durably. */
void key_space_end_entry(struct key_space *ks);
/* Seals and steps the writer until nothing is left to do. */
void key_space_commit(struct key_space *ks);
/* Compaction steps and commits until nothing is left to do, finishedCompactRev included. */
void key_space_trim(struct key_space *ks);

/* Whole transactions; return the current revision after them. */
int64_t key_space_put(struct key_space *ks, const char *key, const char *value);
int64_t key_space_delete(struct key_space *ks, const char *key, const char *end);

/* A read as text: "key=value(create,mod,version) ..." in room, then count in *count_out. */
CHECKED enum status key_space_read(struct key_space *ks, const char *key, struct slice end,
                                   int64_t revision, int64_t limit, char *room, size_t size,
                                   struct mvcc_result *result);
uint32_t key_space_hash(struct key_space *ks, int64_t revision);
void key_space_check(struct key_space *ks);
#endif
