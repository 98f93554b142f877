#include "storage/dbfile/format.h"

#include "base/assert.h"
#include "base/bytes.h"

#define META_MAGIC 0xED0CDAEDU
#define META_VERSION 2U
#define META_CHECKSUM_AT 72U

static uint64_t fnv1a(const uint8_t *p, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325U;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * 0x100000001b3U;
    return hash;
}

static uint64_t meta_checksum(const uint8_t *meta)
{
    return fnv1a(meta + DBFILE_PAGE_HEAD_BYTES, META_CHECKSUM_AT - DBFILE_PAGE_HEAD_BYTES);
}

void dbfile_page_head_encode(const struct dbfile_page_head *head,
                             uint8_t out[DBFILE_PAGE_HEAD_BYTES])
{
    put_le64(out, head->id);
    put_le16(out + 8, head->flags);
    put_le16(out + 10, head->count);
    put_le32(out + 12, head->overflow);
}

void dbfile_page_head_decode(const uint8_t in[DBFILE_PAGE_HEAD_BYTES], struct dbfile_page_head *out)
{
    *out = (struct dbfile_page_head){.id = get_le64(in),
                                     .flags = get_le16(in + 8),
                                     .count = get_le16(in + 10),
                                     .overflow = get_le32(in + 12)};
}

void dbfile_meta_encode(const struct dbfile_meta *meta, uint64_t id, uint8_t out[DBFILE_META_BYTES])
{
    ASSERT(id < DBFILE_METAS_COUNT);
    struct dbfile_page_head head = {.id = id, .flags = DBFILE_META};
    dbfile_page_head_encode(&head, out);
    put_le32(out + 16, META_MAGIC);
    put_le32(out + 20, META_VERSION);
    put_le32(out + 24, meta->page_bytes);
    put_le32(out + 28, /* flags */ 0);
    put_le64(out + 32, meta->root);
    put_le64(out + 40, /* sequence */ 0);
    put_le64(out + 48, meta->free_list);
    put_le64(out + 56, meta->pages_count);
    put_le64(out + 64, meta->transaction);
    put_le64(out + META_CHECKSUM_AT, meta_checksum(out));
}

enum status dbfile_meta_decode(const uint8_t in[DBFILE_META_BYTES], struct dbfile_meta *out)
{
    if (get_le32(in + 16) != META_MAGIC || get_le64(in + META_CHECKSUM_AT) != meta_checksum(in))
        return ST_CORRUPT;
    if (get_le32(in + 20) != META_VERSION)
        return ST_UNSUPPORTED;
    out->page_bytes = get_le32(in + 24);
    out->root = get_le64(in + 32);
    out->free_list = get_le64(in + 48);
    out->pages_count = get_le64(in + 56);
    out->transaction = get_le64(in + 64);
    return dbfile_page_bytes_are_legal(out->page_bytes) ? ST_OK : ST_CORRUPT;
}

void dbfile_branch_element_encode(const struct dbfile_element *element,
                                  uint8_t out[DBFILE_ELEMENT_BYTES])
{
    put_le32(out, element->position);
    put_le32(out + 4, element->key_bytes);
    put_le64(out + 8, element->child);
}

void dbfile_branch_element_decode(const uint8_t in[DBFILE_ELEMENT_BYTES],
                                  struct dbfile_element *out)
{
    *out = (struct dbfile_element){
        .position = get_le32(in), .key_bytes = get_le32(in + 4), .child = get_le64(in + 8)};
}

void dbfile_leaf_element_encode(const struct dbfile_element *element,
                                uint8_t out[DBFILE_ELEMENT_BYTES])
{
    put_le32(out, element->flags);
    put_le32(out + 4, element->position);
    put_le32(out + 8, element->key_bytes);
    put_le32(out + 12, element->value_bytes);
}

void dbfile_leaf_element_decode(const uint8_t in[DBFILE_ELEMENT_BYTES], struct dbfile_element *out)
{
    *out = (struct dbfile_element){.flags = get_le32(in),
                                   .position = get_le32(in + 4),
                                   .key_bytes = get_le32(in + 8),
                                   .value_bytes = get_le32(in + 12)};
}
