/* The segment decoder on foreign bytes. The first byte chooses: the rest is a segment file as it
 * is, or the records and headers of batches whose hashes are made right, so that what lies behind
 * them is reached too. Opening must end in a status, and what it accepts must read back. */
#include "base/bytes.h"
#include "base/minmax.h"
#include "tests/fakes/fake_disk.h"
#include "wal/format.h"
#include "wal/wal.h"

#define SEGMENT_BYTES_MAX (64U << 10)
#define SEED 5
#define LIFE 7
#define ENTRIES_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t fuzz_now(void *context)
{
    (void)context;
    return NS_PER_S;
}

static uint8_t take_byte(struct slice *in)
{
    if (in->len == 0)
        return 0;
    uint8_t byte = in->data[0];
    *in = slice_make(in->data + 1, in->len - 1);
    return byte;
}

/* One record: type, flags, index, term, a length and that many bytes. */
static size_t make_record(struct slice *in, uint8_t *out, size_t room)
{
    uint8_t type = take_byte(in);
    struct wal_record record = {.type = (enum wal_record_type)(type % 4),
                                .flags = (uint8_t)(take_byte(in) % 4)};
    record.id.index = take_byte(in) % 32;
    record.id.term = take_byte(in) % 8;
    size_t len = min_size(take_byte(in), in->len);
    if (wal_record_bytes(len) > room)
        return 0;
    record.payload = slice_make(in->data, len);
    *in = slice_make(in->data + len, in->len - len);
    wal_record_encode(&record, out);
    return (size_t)wal_record_bytes(len);
}

/* Whole batches, each with its place in the chain right unless the input says otherwise. */
static size_t make_segment(struct slice in, uint8_t *out)
{
    struct wal_segment_header head = {.life_id = LIFE, .seq = 1, .seed = SEED};
    wal_segment_header_encode(&head, out);
    size_t at = WAL_BLOCK_BYTES;
    struct wal_position previous = {0};
    while (in.len > 0 && at + WAL_BLOCK_BYTES <= SEGMENT_BYTES_MAX) {
        uint8_t twist = take_byte(&in);
        uint8_t *bytes = out + at;
        size_t len = WAL_BATCH_HEADER_BYTES;
        for (uint8_t records = take_byte(&in) % 6; records > 0; records--)
            len += make_record(&in, bytes + len, WAL_BLOCK_BYTES - len);
        struct wal_batch_header header = {
            .life_id = LIFE,
            .len = (uint32_t)len,
            .batch_no = previous.batch_no + 1,
            .durable_no = previous.batch_no,
            .first_index = take_byte(&in) % 32,
            .hard_state = {take_byte(&in), take_byte(&in), take_byte(&in)},
            .previous = previous,
        };
        if (twist == 1)
            header.previous.offset ^= take_byte(&in);
        if (twist == 2)
            header.previous.seq ^= take_byte(&in);
        wal_batch_seal(&header, SEED, bytes);
        if (twist == 3)
            bytes[take_byte(&in)] ^= 1;
        previous = (struct wal_position){1, at + WAL_BLOCK_BYTES, header.batch_no, header.chain};
        at += WAL_BLOCK_BYTES;
    }
    return at;
}

static void read_back(struct wal *wal, const struct wal_recovered *recovered)
{
    struct raft_entry entries[ENTRIES_MAX];
    raft_index last = recovered->last_index;
    if (last < recovered->first_index)
        return;
    last = min_u64(last, recovered->first_index + ENTRIES_MAX - 1);
    uint32_t count = 0;
    enum status st = wal_read(wal, recovered->first_index, last, UINT64_MAX, entries, &count);
    if (st != ST_OK)
        abort();
    for (uint32_t i = 0; i < count; i++)
        raft_payload_unref(entries[i].payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t segment[SEGMENT_BYTES_MAX];
    struct slice in = slice_make(data, size);
    bool as_it_is = take_byte(&in) % 2 == 0;
    if (!as_it_is)
        in = slice_make(segment, make_segment(in, segment));
    struct fake_disk *disk = fake_disk_new(/* seed= */ 1);
    if (disk_make_dir(fake_disk_base(disk), "/wal") != ST_OK)
        abort();
    fake_disk_put(disk, "/wal/0000000000000001.wal", in);
    struct clock clock = {fuzz_now, fuzz_now, NULL};
    struct rng rng;
    rng_seed(&rng, 1);
    struct wal_options options = {.disk = fake_disk_base(disk),
                                  .clock = &clock,
                                  .rng = &rng,
                                  .dir = "/wal",
                                  .life_id = LIFE,
                                  .segment_bytes_first = 16 << 10,
                                  .segment_bytes_max = 16 << 10};
    struct wal *wal;
    struct wal_recovered recovered;
    struct wal_report report;
    enum status st = wal_open(&options, &wal, &recovered, &report);
    if (st == ST_OK)
        read_back(wal, &recovered);
    else if (report.text[0] == '\0')
        abort(); /* a refusal always says why */
    wal_close(wal);
    fake_disk_free(disk);
    return 0;
}
