/* The reader against damage: it ends in a status, says what and where, and what it calls sound is
 * what was written, as far as a format without checksums lets it. */
#include "base/bytes.h"
#include "base/digest.h"
#include "storage/dbfile/format.h"
#include "tests/dbfile/db_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define PAGE 512U
#define FILE_BYTES_MAX (1ULL << 30)

/* A file of small pages with every kind of them: branches of two levels, overflow, empty roots. */
static void make_file(struct buf *out)
{
    struct db_model model = {0};
    db_model_fill(&model, BUCKET_KEY, 900, 17, 10);
    db_model_fill(&model, BUCKET_LEASE, 3, 8, 2000);
    db_model_fill(&model, BUCKET_META, 3, 8, 8);
    struct dbfile_source source = db_model_source(&model);
    buf_init(out, FILE_BYTES_MAX);
    db_write(&source, PAGE, out);
    db_model_deinit(&model);
}

static uint64_t count_items(struct slice file)
{
    struct db_open open;
    uint64_t items;
    db_open(&open, file);
    assert_int_equal(db_read(&open, &items), ST_OK);
    db_open_deinit(&open);
    return items;
}

static void expect_damage(struct slice file, const char *word)
{
    struct db_open open;
    uint64_t items;
    db_open(&open, file);
    enum status st = db_read(&open, &items);
    assert_int_equal(buf_append(&open.why, SLICE("\0")), ST_OK);
    if (st != ST_CORRUPT || strstr((const char *)open.why.data, word) == NULL)
        fail_msg("status '%s', '%s' says nothing of '%s'", status_str(st),
                 (const char *)open.why.data, word);
    db_open_deinit(&open);
}

static void test_reader_finds_every_page_that_is_gone(void **state)
{
    (void)state;
    struct buf file;
    make_file(&file);
    uint64_t items = count_items(buf_slice(&file));
    uint8_t kept[PAGE], other[PAGE];
    struct rng rng;
    rng_seed(&rng, 1);
    for (size_t page = 0; page < file.len / PAGE; page++) {
        uint8_t *at = file.data + page * PAGE;
        memcpy(kept, at, PAGE);
        struct dbfile_page_head head;
        dbfile_page_head_decode(at, &head);
        bool is_head = head.id == page && head.flags != 0; /* else it goes on from another */
        for (size_t i = 0; i < 3; i++) {
            /* Zeroed, noise, or another page of the file in its place. */
            for (size_t b = 0; b < PAGE; b++)
                other[b] = i == 0 ? 0 : (uint8_t)rng_next(&rng);
            memcpy(at, i == 2 ? file.data + (page == 5 ? 6 : 5) * PAGE : other, PAGE);
            if (page < DBFILE_METAS_COUNT)
                assert_int_equal(count_items(buf_slice(&file)), items); /* by the other meta */
            else if (is_head)
                expect_damage(buf_slice(&file), "page ");
            memcpy(at, kept, PAGE);
        }
    }
    memset(file.data, 0, PAGE * DBFILE_METAS_COUNT);
    expect_damage(buf_slice(&file), "no valid meta page");
    buf_deinit(&file);
}

static void test_reader_finds_every_cut(void **state)
{
    (void)state;
    struct buf file;
    make_file(&file);
    for (size_t len = 0; len < file.len; len += len < 4 * PAGE ? 1 : 97)
        expect_damage(slice_make(file.data, len),
                      len < DBFILE_META_BYTES ? "no valid meta page" : "cut off");
    buf_deinit(&file);
}

/* Keys and values have no checksum, so a flipped bit in them may pass. Records are only missing
 * where a bucket's root was changed, and then its pages are not reached. */
static void test_reader_survives_every_flipped_bit(void **state)
{
    (void)state;
    struct buf file;
    make_file(&file);
    uint64_t items = count_items(buf_slice(&file));
    uint64_t passed = 0, tried = 0;
    for (size_t bit = 0; bit < file.len * 8; bit += 23, tried++) {
        file.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
        struct db_open open;
        uint64_t got;
        db_open(&open, buf_slice(&file));
        enum status st = db_read(&open, &got);
        if (st == ST_OK) {
            assert_true(got == items || open.visited_pages_count < file.len / PAGE);
            passed++;
        } else {
            assert_int_equal(st, ST_CORRUPT);
            assert_true(open.why.len > 0);
        }
        db_open_deinit(&open);
        file.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    assert_true(passed < tried);
    buf_deinit(&file);
}

/* ---- one wrong thing at a time ---- */

/* The first page of the file that the given flags describe and that has at least two elements. */
static uint8_t *find_page(struct buf *file, unsigned flags)
{
    for (size_t at = DBFILE_METAS_COUNT * PAGE; at < file->len; at += PAGE) {
        struct dbfile_page_head head;
        dbfile_page_head_decode(file->data + at, &head);
        if (head.id == at / PAGE && head.flags == flags && head.count >= 2 && head.overflow == 0)
            return file->data + at;
    }
    fail_msg("no such page");
    return NULL;
}

static uint8_t *root_leaf(struct buf *file)
{
    return file->data + file->len - PAGE; /* written last */
}

static uint8_t *element(uint8_t *page, size_t i)
{
    return page + DBFILE_PAGE_HEAD_BYTES + i * DBFILE_ELEMENT_BYTES;
}

static uint8_t *key_of_leaf(uint8_t *page, size_t i)
{
    return element(page, i) + get_le32(element(page, i) + 4);
}

static void spoil_page_of_branch(struct buf *file, uint64_t page)
{
    put_le64(element(find_page(file, DBFILE_BRANCH), 1) + 8, page);
}

static void spoil_same_child_twice(struct buf *file)
{
    uint8_t *branch = find_page(file, DBFILE_BRANCH);
    spoil_page_of_branch(file, get_le64(element(branch, 0) + 8));
}
static void spoil_child_past_the_end(struct buf *file)
{
    spoil_page_of_branch(file, file->len / PAGE);
}
static void spoil_child_is_a_meta(struct buf *file)
{
    spoil_page_of_branch(file, 1);
}
static void spoil_branch_leads_to_itself(struct buf *file)
{
    spoil_page_of_branch(file, get_le64(find_page(file, DBFILE_BRANCH)));
}
static void spoil_branch_key(struct buf *file)
{
    uint8_t *branch = find_page(file, DBFILE_BRANCH);
    element(branch, 1)[get_le32(element(branch, 1)) + 3] += 1; /* above its child's first key */
}
static void spoil_branch_key_low(struct buf *file)
{
    uint8_t *branch = find_page(file, DBFILE_BRANCH);
    element(branch, 1)[get_le32(element(branch, 1)) + 3] -= 1; /* the last key before it */
}
static void spoil_leaf_order(struct buf *file)
{
    uint8_t *leaf = find_page(file, DBFILE_LEAF);
    memcpy(key_of_leaf(leaf, 1), key_of_leaf(leaf, 0), 4);
}
static void spoil_key_empty(struct buf *file)
{
    put_le32(element(find_page(file, DBFILE_LEAF), 1) + 8, 0);
}
static void spoil_key_long(struct buf *file)
{
    put_le32(element(find_page(file, DBFILE_LEAF), 1) + 8, 32769);
}
static void spoil_value_size(struct buf *file)
{
    put_le32(element(find_page(file, DBFILE_LEAF), 1) + 12, UINT32_MAX);
}
static void spoil_position(struct buf *file)
{
    put_le32(element(find_page(file, DBFILE_LEAF), 1) + 4, UINT32_MAX);
}
static void spoil_position_low(struct buf *file)
{
    put_le32(element(find_page(file, DBFILE_LEAF), 1) + 4, 0); /* into the elements */
}
static void spoil_count(struct buf *file)
{
    put_le16(find_page(file, DBFILE_LEAF) + 10, UINT16_MAX);
}
static void spoil_count_low(struct buf *file)
{
    uint8_t *leaf = find_page(file, DBFILE_LEAF);
    put_le16(leaf + 10, (uint16_t)(get_le16(leaf + 10) - 1));
}
static void spoil_count_zero(struct buf *file)
{
    put_le16(find_page(file, DBFILE_LEAF) + 10, 0);
}
static void spoil_flags(struct buf *file)
{
    put_le16(find_page(file, DBFILE_LEAF) + 8, DBFILE_LEAF | DBFILE_BRANCH);
}
static void spoil_id(struct buf *file)
{
    put_le64(find_page(file, DBFILE_LEAF), 77);
}
static void spoil_overflow(struct buf *file)
{
    put_le32(find_page(file, DBFILE_LEAF) + 12, UINT32_MAX);
}
static void spoil_overflow_into_the_next(struct buf *file)
{
    put_le32(find_page(file, DBFILE_LEAF) + 12, 1);
}
static void spoil_bucket_in_bucket(struct buf *file)
{
    put_le32(element(find_page(file, DBFILE_LEAF), 1), DBFILE_LEAF_IS_BUCKET);
}
static void spoil_no_bucket(struct buf *file)
{
    put_le32(element(root_leaf(file), 0), 0);
}
static void spoil_bucket_without_head(struct buf *file)
{
    put_le32(element(root_leaf(file), 9) + 12, 15);
}
static void spoil_bucket_with_both(struct buf *file)
{
    put_le32(element(root_leaf(file), 9) + 12, 17);
}
static void spoil_inline_without_page(struct buf *file)
{
    uint8_t *value = key_of_leaf(root_leaf(file), 0) + strlen("alarm");
    put_le64(value, 0);
}

static void test_reader_names_what_is_wrong_and_where(void **state)
{
    (void)state;
    static const struct {
        void (*spoil)(struct buf *file);
        const char *word;
    } cases[] = {
        {spoil_same_child_twice, "used twice"},
        {spoil_child_past_the_end, "is referred to, but there are"},
        {spoil_child_is_a_meta, "is referred to, but there are"},
        {spoil_branch_leads_to_itself, "used twice"},
        {spoil_branch_key, "below that of the branch"},
        {spoil_branch_key_low, "not above the one before"},
        {spoil_leaf_order, "not above the one before"},
        {spoil_key_empty, "element 1 of"},
        {spoil_key_long, "no legal size"},
        {spoil_value_size, "ends outside"},
        {spoil_position, "does not begin where"},
        {spoil_position_low, "does not begin where"},
        {spoil_count_low, "does not begin where"},
        {spoil_count, "more elements"},
        {spoil_count_zero, "no element"},
        {spoil_flags, "neither branch nor leaf"},
        {spoil_id, "calls itself page 77"},
        {spoil_overflow, "past the last"},
        {spoil_overflow_into_the_next, "used twice"},
        {spoil_bucket_in_bucket, "bucket within a bucket"},
        {spoil_no_bucket, "outside of any bucket"},
        {spoil_bucket_without_head, "without its head"},
        {spoil_bucket_with_both, "page and content"},
        {spoil_inline_without_page, "more elements"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf file;
        make_file(&file);
        cases[i].spoil(&file);
        expect_damage(buf_slice(&file), cases[i].word);
        buf_deinit(&file);
    }
}

/* ---- metas ---- */

static void test_reader_takes_the_newer_meta(void **state)
{
    (void)state;
    struct buf file;
    make_file(&file);
    struct dbfile_meta meta;
    assert_int_equal(dbfile_meta_decode(file.data, &meta), ST_OK);
    meta.transaction += 5;
    meta.root = 1; /* wrong: it must not be looked at while it is the older one */
    dbfile_meta_encode(&meta, 1, file.data + PAGE);
    expect_damage(buf_slice(&file), "page 1 is referred to");
    meta.transaction = 1;
    dbfile_meta_encode(&meta, 1, file.data + PAGE);
    assert_true(count_items(buf_slice(&file)) > 0);
    buf_deinit(&file);
}

static void test_reader_refuses_another_version(void **state)
{
    (void)state;
    struct buf file;
    make_file(&file);
    for (size_t page = 0; page < DBFILE_METAS_COUNT; page++) {
        uint8_t *meta = file.data + page * PAGE;
        put_le32(meta + 20, 3);
        uint64_t hash = 0xcbf29ce484222325U;
        for (size_t i = 16; i < 72; i++)
            hash = (hash ^ meta[i]) * 0x100000001b3U;
        put_le64(meta + 72, hash);
    }
    struct db_open open;
    uint64_t items;
    db_open(&open, buf_slice(&file));
    assert_int_equal(db_read(&open, &items), ST_UNSUPPORTED);
    db_open_deinit(&open);
    buf_deinit(&file);
}

static void test_reader_refuses_a_file_of_something_else(void **state)
{
    (void)state;
    expect_damage(SLICE("SQLite format 3"), "foreign");
    expect_damage(SLICE_EMPTY, "foreign");
}

/* ---- inline buckets, which bbolt writes and we do not ---- */

static void test_reader_reads_inline_buckets(void **state)
{
    (void)state;
    uint8_t file[4 * PAGE] = {0};
    struct dbfile_meta meta = {
        .page_bytes = PAGE, .root = 3, .free_list = 2, .pages_count = 4, .transaction = 9};
    dbfile_meta_encode(&meta, 0, file);
    dbfile_meta_encode(&meta, 1, file + PAGE);
    struct dbfile_page_head head = {.id = 2, .flags = DBFILE_FREE_LIST};
    dbfile_page_head_encode(&head, file + 2 * PAGE);
    uint8_t *p = file + 3 * PAGE;
    head = (struct dbfile_page_head){.id = 3, .flags = DBFILE_LEAF, .count = 1};
    dbfile_page_head_encode(&head, p);
    struct dbfile_element bucket = {.flags = DBFILE_LEAF_IS_BUCKET,
                                    .position = 16,
                                    .key_bytes = 3,
                                    .value_bytes = 16 + 16 + 16 + 2};
    dbfile_leaf_element_encode(&bucket, p + 16);
    memcpy(p + 32, "key", 3);
    uint8_t *inside = p + 35 + 16;
    head = (struct dbfile_page_head){.flags = DBFILE_LEAF, .count = 1};
    dbfile_page_head_encode(&head, inside);
    struct dbfile_element record = {.position = 16, .key_bytes = 1, .value_bytes = 1};
    dbfile_leaf_element_encode(&record, inside + 16);
    memcpy(inside + 32, "kv", 2);

    struct db_open open;
    db_open(&open, slice_make(file, sizeof(file)));
    struct dbfile_reader *reader;
    struct dbfile_item item;
    assert_int_equal(dbfile_reader_open(open.file, &open.why, &reader), ST_OK);
    assert_int_equal(dbfile_reader_next(reader, &item), ST_OK);
    assert_int_equal(item.kind, DBFILE_ITEM_BUCKET);
    assert_int_equal(dbfile_reader_next(reader, &item), ST_OK);
    assert_true(slice_eq(item.key, SLICE("k")) && slice_eq(item.value, SLICE("v")));
    assert_int_equal(dbfile_reader_next(reader, &item), ST_NOT_FOUND);
    assert_int_equal(dbfile_reader_next(reader, &item), ST_NOT_FOUND);
    dbfile_reader_close(reader);
    db_open_deinit(&open);

    put_le32(inside + 16 + 12, 2); /* a value that ends outside of the bucket, within the page */
    expect_damage(slice_make(file, sizeof(file)), "inline bucket, element 0 of 1");
    put_le32(inside + 16 + 12, 1);
    put_le16(file + 2 * PAGE + 8, DBFILE_LEAF);
    expect_damage(slice_make(file, sizeof(file)), "free list");
}

/* Each page is used once, so only the depth tells that this is no tree of bbolt's. */
static void test_reader_refuses_a_tree_that_is_too_deep(void **state)
{
    (void)state;
    enum { DEEP = 200 };
    static uint8_t file[DEEP * PAGE];
    struct dbfile_meta meta = {.page_bytes = PAGE,
                               .root = 2,
                               .free_list = DBFILE_NO_FREE_LIST,
                               .pages_count = DEEP,
                               .transaction = 2};
    dbfile_meta_encode(&meta, 0, file);
    dbfile_meta_encode(&meta, 1, file + PAGE);
    for (uint64_t page = 2; page < DEEP; page++) {
        struct dbfile_page_head head = {.id = page, .flags = DBFILE_BRANCH, .count = 1};
        struct dbfile_element only = {.position = 16, .key_bytes = 1, .child = page + 1};
        dbfile_page_head_encode(&head, file + page * PAGE);
        dbfile_branch_element_encode(&only, file + page * PAGE + 16);
        file[page * PAGE + 32] = 'a';
    }
    expect_damage(slice_make(file, sizeof(file)), "too deep");
}

/* ---- digests ---- */

static void test_digest_is_compared(void **state)
{
    (void)state;
    struct buf file;
    make_file(&file);
    struct db_open open;
    db_open(&open, buf_slice(&file));
    assert_int_equal(dbfile_check_digest(open.file, &open.why), ST_NOT_FOUND);
    db_open_deinit(&open);
    uint8_t digest[SHA256_BYTES];
    assert_int_equal(sha256(buf_slice(&file), digest), ST_OK);
    assert_int_equal(buf_append(&file, slice_make(digest, sizeof(digest))), ST_OK);
    assert_true(count_items(buf_slice(&file)) > 0);
    for (size_t at = 0; at <= file.len; at += file.len / 16) {
        bool spoil = at > 0;
        if (spoil)
            file.data[at - 1] ^= 1;
        db_open(&open, buf_slice(&file));
        assert_int_equal(dbfile_check_digest(open.file, &open.why), spoil ? ST_CORRUPT : ST_OK);
        struct slice why = buf_slice(&open.why);
        assert_true(!spoil || memmem(why.data, why.len, "expected sha256 ", 16) != NULL);
        db_open_deinit(&open);
        if (spoil)
            file.data[at - 1] ^= 1;
    }
    buf_deinit(&file);
}

/* One read that fails: the error is passed on, or, where nobody had asked for all of it yet, what
 * was asked for is read by itself, and nothing is missing. */
static void test_reader_passes_on_a_failing_disk(void **state)
{
    (void)state;
    struct buf file;
    make_file(&file);
    uint64_t whole = count_items(buf_slice(&file)), passed_on = 0;
    bool fired = true;
    for (uint64_t at = 0; fired; at++) {
        struct db_open open;
        uint64_t items = 0;
        db_open(&open, buf_slice(&file));
        fake_disk_fail_at(open.disk, at, ST_IO);
        enum status st = db_read(&open, &items);
        fired = fake_disk_fault_fired(open.disk);
        assert_true(st == ST_OK || (fired && st == ST_IO));
        assert_true(st != ST_OK || items == whole);
        passed_on += st == ST_IO;
        db_open_deinit(&open);
    }
    assert_true(passed_on > 3);
    buf_deinit(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader_finds_every_page_that_is_gone),
        cmocka_unit_test(test_reader_finds_every_cut),
        cmocka_unit_test(test_reader_survives_every_flipped_bit),
        cmocka_unit_test(test_reader_names_what_is_wrong_and_where),
        cmocka_unit_test(test_reader_takes_the_newer_meta),
        cmocka_unit_test(test_reader_refuses_another_version),
        cmocka_unit_test(test_reader_refuses_a_file_of_something_else),
        cmocka_unit_test(test_reader_reads_inline_buckets),
        cmocka_unit_test(test_reader_refuses_a_tree_that_is_too_deep),
        cmocka_unit_test(test_digest_is_compared),
        cmocka_unit_test(test_reader_passes_on_a_failing_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
