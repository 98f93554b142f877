/* storage/dbfile/backend_dbfile.h - etcd's db file, or a snapshot file, as a backend that is only
 * read: the store, the key space and the state machine open over it as over a store of ours.
 *
 * backend_options.disk reads the file, read_only must be set, life_id means nothing here. The mark
 * comes from bucket meta (consistent_index, term, confState), and those records do not show in the
 * bucket, as in our own stores. bbolt has no checksums: what is given is well formed, not surely
 * what was written; check() walks the whole file by reader.h. Nobody may write the file meanwhile.
 * Errors of open: ST_NOT_FOUND, ST_CORRUPT (foreign or damaged), ST_UNSUPPORTED, ST_TOO_BIG, ST_IO.
 */
#ifndef STORAGE_DBFILE_BACKEND_DBFILE_H
#define STORAGE_DBFILE_BACKEND_DBFILE_H
#include "storage/backend.h"

const struct backend_ops *backend_dbfile(void);
#endif
