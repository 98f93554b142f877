#include "base/minmax.h"
#include "server/loops/loops_private.h"

#define READS_PER_READER 16U /* a chain is cut in pieces of this size, one reader each */

/* The last two are apart, if there are as many beside one for the short reads. */
static uint32_t short_readers_count(const struct loops *loops)
{
    return loops->options.readers_count > 2 ? loops->options.readers_count - 2 : 1;
}

static uint32_t whole_reader(const struct loops *loops)
{
    return loops->options.readers_count - 1;
}

static uint32_t long_reader(const struct loops *loops)
{
    return min_u32(short_readers_count(loops), whole_reader(loops));
}

static void give_to(struct loops *loops, uint32_t reader, struct read_request *read)
{
    read->request.kind = REQUEST_READ;
    read->request.node.next = NULL;
    inbox_push_chain(&loops->readers[reader].inbox, &read->request.node);
}

bool loops_is_for_long_reads(const struct loops *loops, uint32_t reader)
{
    return reader == loops->readers[long_reader(loops)].slot;
}

void loops_read_long(struct loops *loops, struct read_request *read)
{
    give_to(loops, long_reader(loops), read);
}

void loops_read_whole(struct loops *loops, struct read_request *read)
{
    give_to(loops, whole_reader(loops), read);
}

uint64_t reader_step(struct reader *reader)
{
    for (struct inbox_node *node = inbox_take(&reader->inbox), *next; node != NULL; node = next) {
        next = node->next;
        struct read_request *read = CONTAINER_OF(node, struct read_request, request.node);
        read->request.times.began_ns = clock_monotonic_ns(reader->loops->options.clock);
        read->ready(read, API_OK, reader->slot);
    }
    return UINT64_MAX;
}

void readers_give(struct loops *loops, struct inbox_node *chain)
{
    while (chain != NULL) {
        struct inbox_node *first = chain, *last = chain;
        for (uint32_t i = 1; i < READS_PER_READER && last->next != NULL; i++)
            last = last->next;
        chain = last->next;
        last->next = NULL;
        uint32_t turn = atomic_fetch_add_explicit(&loops->next_reader, 1, memory_order_relaxed);
        inbox_push_chain(&loops->readers[turn % short_readers_count(loops)].inbox, first);
    }
}
