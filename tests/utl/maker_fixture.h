/* tests/utl/maker_fixture.h - a db file to make members of, and a look at what was made as a start
 * of the server would. Usable in a child process: a failure says what and ends the process with 1.
 */
#ifndef TESTS_UTL_MAKER_FIXTURE_H
#define TESTS_UTL_MAKER_FIXTURE_H
#include "tools/utl/maker.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHECK(x)                                                    \
    do {                                                            \
        if (!(x)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            _exit(1);                                               \
        }                                                           \
    } while (0)

#define FIXTURE_PATH_BYTES 256U
#define FIXTURE_CLUSTER_ID 0xcdf818194e3a8c32U
#define FIXTURE_MEMBER_ID 0x8e9e05c52164694dU
#define FIXTURE_OTHER_ID 0x9e9e05c52164694dU
#define FIXTURE_REVISION 42 /* the newest in the file */
#define FIXTURE_COMPACT 20

const struct clock *fixture_clock(void);

/* The records of fixture_write_db(); borrows records. */
struct dbfile_source fixture_source(uint32_t *records);
/* Writes an etcd db file: 40 revisions of a few keys, a lease, a user, another cluster's members
 * and mark. records: that many more leases, to make it large. */
void fixture_write_db(const char *path, uint32_t records);
/* Opens it with a disk of its own, which ends with fixture_close_db(). */
struct disk_file *fixture_open_db(const char *path);
void fixture_close_db(struct disk_file *file);

/* What every test makes: two members, one of them this one. */
struct maker_options fixture_options(const char *data_dir, const char *wal_dir,
                                     const char *backend);
/* tail: terms of the empty entries that the log holds behind the store, from entry 3 on. */
enum status fixture_make_tail(const struct maker_options *options, struct disk_file *db,
                              uint64_t raise, const raft_term *tail, uint32_t tail_count,
                              struct buf *why);
enum status fixture_make(const struct maker_options *options, struct disk_file *db, uint64_t raise,
                         struct buf *why);

/* Opens data_dir as a start does and checks everything that was put there; gives the log's last
 * entry. */
uint64_t fixture_expect_member(const struct maker_options *options, uint64_t raise);
#endif
