/* storage/backend_private.h - what the backends share: the form of stored bytes, and care of files.
 *
 * A stored value, in every bucket of every backend:
 *   0    value
 *   n    8  checksum, le: hash64_pair(key, value)
 * The mark, stored under MARK_KEY beside the buckets:
 *   0    8  index, le
 *   8    8  term, le
 *   16      conf_state to the end
 * The header, under HEADER_KEY, written once by the transaction that makes the store:
 *   0    8  "cleat st"
 *   8    4  version of the format, le: 1
 *   12   8  life id, le
 * A key too long for LMDB (LONG_KEY_BYTES_MIN and up) is stored as its first LONG_KEY_HEAD_BYTES
 * bytes and the XXH3-128 of the whole, and its value as:
 *   0    4  length of the key, le
 *   4       key, then the value
 * Shorter keys are stored as they are, so a stored key's length tells the two forms apart. */
#ifndef STORAGE_BACKEND_PRIVATE_H
#define STORAGE_BACKEND_PRIVATE_H
#include "storage/backend.h"

#define CHECKSUM_BYTES 8U
#define MARK_BYTES_MIN 16U
#define HEADER_BYTES 20U
#define MARK_KEY SLICE("mark")
#define HEADER_KEY SLICE("header")
#define PRIVATE_BUCKET_NAME "cleat"
#define STORE_FORMAT_VERSION 1U
#define REPORT_LINES_MAX 100U /* faults named in one report; the rest are counted */

#define LONG_KEY_HEAD_BYTES 484U
#define LONG_KEY_BYTES_MIN 500U /* head and hash: what every longer key is stored as */

/* ---- values ---- */
void value_seal(struct slice key, struct slice value, uint8_t *out); /* len + CHECKSUM_BYTES */
CHECKED enum status value_unseal(struct slice key, struct slice stored,
                                 struct slice *out); /* ST_CORRUPT; *out lies in stored */

/* ---- long keys ---- */
static inline bool key_is_long(size_t len)
{
    return len >= LONG_KEY_BYTES_MIN;
}
void long_key_encode(struct slice key, uint8_t out[LONG_KEY_BYTES_MIN]);
/* A stored value of a long key, checksum already taken off and checked by the caller: gives key and
 * value. Errors: ST_CORRUPT, also when the key is not the one stored_key stands for. */
CHECKED enum status long_value_decode(struct slice stored_key, struct slice payload,
                                      struct slice *key_out, struct slice *value_out);

/* ---- mark and header: payloads before sealing ---- */
CHECKED enum status mark_encode(const struct store_mark *mark, struct buf *out);
CHECKED enum status mark_decode(struct slice payload, struct store_mark *out); /* ST_CORRUPT */
void header_encode(uint64_t life_id, uint8_t out[HEADER_BYTES]);
/* Errors: ST_CORRUPT (not ours), ST_UNSUPPORTED (a later version), ST_INVALID (another life). */
CHECKED enum status header_check(struct slice payload, uint64_t life_id);
/* The same by the options, which may take any life. */
CHECKED enum status header_recognise(struct slice payload, const struct backend_options *options);

/* ---- keys, files, words ---- */
bool op_is_legal(const struct backend_op *op);
CHECKED enum status sync_parent(const char *path); /* the directory that holds path; ST_IO */
CHECKED enum status remove_file(const char *path); /* absent is fine; ST_IO */
CHECKED enum status status_from_errno(int error);
/* Appends to options->why when there is one; gives st back, so that it can be returned. */
enum status open_fails(const struct backend_options *options, enum status st, const char *format,
                       ...) __attribute__((format(printf, 3, 4)));

/* The sentence for what header_check() gave, or for a header that was not found; maps the latter to
 * ST_CORRUPT. */
enum status header_verdict(const struct backend_options *options, enum status st);

/* One fault found by a check: counted, and named while there is room. */
struct fault_report {
    struct buf *out; /* borrowed */
    uint64_t faults_count;
    const struct backend_watch *watch; /* NULL: nobody */
    uint64_t done_bytes, total_bytes;  /* of the whole check */
};
static inline void fault_report_went_on(struct fault_report *report, uint64_t bytes)
{
    report->done_bytes += bytes;
    backend_watch_tell(report->watch, report->done_bytes, report->total_bytes);
}
void fault_add(struct fault_report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
enum status fault_result(struct fault_report *report); /* ST_OK, or ST_CORRUPT with faults */
#endif
