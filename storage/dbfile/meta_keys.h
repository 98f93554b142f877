/* storage/dbfile/meta_keys.h - the records of bucket meta that stand for our mark. */
#ifndef STORAGE_DBFILE_META_KEYS_H
#define STORAGE_DBFILE_META_KEYS_H
#include "base/slice.h"

#define META_CONF_STATE SLICE("confState")          /* JSON */
#define META_INDEX SLICE("consistent_index")        /* 8 bytes, be */
#define META_TERM SLICE("term")                     /* 8 bytes, be; absent before etcd 3.5 */
#define META_SCHEDULED SLICE("scheduledCompactRev") /* a revision key */
#define META_FINISHED SLICE("finishedCompactRev")   /* likewise */
#endif
