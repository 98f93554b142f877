/* storage/dbfile/conf_json.h - a configuration (raftpb.ConfState) as etcd keeps it in bucket meta:
 * Go's JSON of it, {"voters":[1,2],"auto_leave":false}, lists that are empty left out. */
#ifndef STORAGE_DBFILE_CONF_JSON_H
#define STORAGE_DBFILE_CONF_JSON_H
#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

/* Appends the JSON of the encoded message. Empty is a configuration without members. Errors:
 * ST_CORRUPT, ST_TOO_BIG, ST_NO_MEMORY. */
CHECKED enum status dbfile_conf_to_json(struct slice message, struct buf *out);
/* Appends the encoded message. Errors: ST_CORRUPT, ST_TOO_BIG, ST_NO_MEMORY. */
CHECKED enum status dbfile_conf_from_json(struct slice json, struct buf *out);
#endif
