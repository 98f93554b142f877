#include "server/metrics/metrics.h"

#include "server/metrics/process.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>

#define SHARDS_COUNT 8U    /* threads that count at once without meeting */
#define SLOTS_MAX 4096U    /* numbers of a shard */
#define CHILDREN_MAX 2048U /* label sets: 50 methods times 20, and room */
#define BUCKETS_MAX 24U

/* A number lives in one slot of every shard; its value is their sum. A histogram takes a run of
 * slots: its buckets (not yet cumulative), the overflow, the sum in nanoseconds. One without labels
 * has as many as the largest would take. */
#define HISTOGRAM_SLOTS (BUCKETS_MAX + 2)

enum kind { COUNTER, GAUGE };
enum steps { BY_TWO, BY_FIVES };

struct scalar_info {
    enum kind kind;
    const char *name, *help;
};

struct histogram_info {
    uint64_t unit_ns, first_ns;
    enum steps steps; /* from the bound of one bucket to the next */
    uint32_t buckets;
    const char *name, *help;
};

#define SCALAR_INFO(id, kind, name, help) {kind, name, help},
#define HISTOGRAM_INFO(id, unit_ns, first_ns, steps, buckets, name, help) \
    {unit_ns, first_ns, steps, buckets, name, help},
static const struct scalar_info scalars[] = {METRICS_SCALARS(SCALAR_INFO)};
static const struct scalar_info families[] = {METRICS_FAMILIES(SCALAR_INFO)};
static const struct histogram_info histograms[] = {METRICS_HISTOGRAMS(HISTOGRAM_INFO)};
static const struct histogram_info histogram_families[] = {
    METRICS_HISTOGRAM_FAMILIES(HISTOGRAM_INFO)};

#define BUCKETS_FIT(id, unit_ns, first_ns, steps, buckets, name, help) \
    _Static_assert((buckets) <= BUCKETS_MAX, "slots of a histogram");
METRICS_HISTOGRAMS(BUCKETS_FIT)
METRICS_HISTOGRAM_FAMILIES(BUCKETS_FIT)

/* Slot 0 swallows what finds no room; then the scalars, the histograms, the children as made. */
#define FIRST_SCALAR 1U
#define FIRST_HISTOGRAM (FIRST_SCALAR + METRICS_SCALARS_COUNT)
#define FIRST_CHILD (FIRST_HISTOGRAM + METRICS_HISTOGRAMS_COUNT * HISTOGRAM_SLOTS)
_Static_assert(FIRST_CHILD + 1024 < SLOTS_MAX, "room for children");

struct child {
    uint32_t family; /* histogram families count on after the others */
    uint32_t slot;
    char *labels; /* name="value",... ; owned */
};

struct callback {
    int64_t (*value)(void *context);
    void *context;
};

static struct {
    _Atomic int64_t shards[SHARDS_COUNT][SLOTS_MAX]; /* relaxed: numbers stand for themselves */
    atomic_uint threads_seen;
    pthread_mutex_t mutex; /* guards what follows */
    struct callback callbacks[METRICS_SCALARS_COUNT];
    struct child children[CHILDREN_MAX];
    uint32_t children_count, slots_used;
} registry = {.mutex = PTHREAD_MUTEX_INITIALIZER, .slots_used = FIRST_CHILD};

static _Thread_local unsigned shard_of_thread; /* one more than its number; 0: none yet */

static void add(uint32_t slot, int64_t delta)
{
    if (shard_of_thread == 0)
        shard_of_thread = atomic_fetch_add(&registry.threads_seen, 1) % SHARDS_COUNT + 1;
    atomic_fetch_add_explicit(&registry.shards[shard_of_thread - 1][slot], delta,
                              memory_order_relaxed);
}

static void set(uint32_t slot, int64_t value)
{
    atomic_store_explicit(&registry.shards[0][slot], value, memory_order_relaxed);
}

static int64_t sum(uint32_t slot)
{
    int64_t total = 0;
    for (uint32_t i = 0; i < SHARDS_COUNT; i++)
        total += atomic_load_explicit(&registry.shards[i][slot], memory_order_relaxed);
    return total;
}

/* The bound after that of bucket number i. */
static uint64_t bound_after(const struct histogram_info *info, uint64_t bound, uint32_t i)
{
    return info->steps == BY_FIVES && i % 3 == 1 ? bound / 2 * 5 : bound * 2;
}

/* A bucket holds what is at most its bound. */
static void observe(const struct histogram_info *info, uint32_t slot, uint64_t ns)
{
    uint32_t bucket = 0;
    for (uint64_t bound = info->first_ns; bucket < info->buckets && ns > bound; bucket++)
        bound = bound_after(info, bound, bucket);
    add(slot + bucket, 1);
    add(slot + info->buckets + 1, (int64_t)ns);
}

void metrics_add(enum metric metric, int64_t delta)
{
    add(FIRST_SCALAR + metric, delta);
}

void metrics_set(enum metric metric, int64_t value)
{
    set(FIRST_SCALAR + metric, value);
}

void metrics_set_callback(enum metric metric, int64_t (*value)(void *context), void *context)
{
    pthread_mutex_lock(&registry.mutex);
    registry.callbacks[metric] = (struct callback){.value = value, .context = context};
    pthread_mutex_unlock(&registry.mutex);
}

void metrics_observe(enum metric_histogram histogram, uint64_t ns)
{
    observe(&histograms[histogram], FIRST_HISTOGRAM + histogram * HISTOGRAM_SLOTS, ns);
}

void metrics_child_add(struct metric_child child, int64_t delta)
{
    add(child.slot, delta);
}

void metrics_child_set(struct metric_child child, int64_t value)
{
    set(child.slot, value);
}

void metrics_child_observe(struct metric_child child, uint64_t ns)
{
    if (child.slot != 0)
        observe(&histogram_families[child.histogram], child.slot, ns);
}

/* name="value",... with the format's escapes. */
static enum status format_labels(struct buf *out, const char *const *pairs)
{
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && pairs[i] != NULL; i += 2) {
        st = buf_printf(out, "%s%s=\"", i == 0 ? "" : ",", pairs[i]);
        for (const char *c = pairs[i + 1]; st == ST_OK && *c != '\0'; c++) {
            if (*c == '\n')
                st = buf_append(out, SLICE("\\n"));
            else
                st = buf_printf(out, "%s%c", *c == '"' || *c == '\\' ? "\\" : "", *c);
        }
        if (st == ST_OK)
            st = buf_append(out, SLICE("\""));
    }
    if (st == ST_OK)
        st = buf_append(out, slice_make("", 1)); /* the NUL */
    return st;
}

/* Called with the mutex held. */
static uint32_t find_or_add(uint32_t family, uint32_t slots, char *labels)
{
    for (uint32_t i = 0; i < registry.children_count; i++) {
        const struct child *child = &registry.children[i];
        if (child->family == family && strcmp(child->labels, labels) == 0) {
            free(labels);
            return child->slot;
        }
    }
    if (registry.children_count == CHILDREN_MAX || SLOTS_MAX - registry.slots_used < slots) {
        free(labels);
        return 0;
    }
    registry.children[registry.children_count++] =
        (struct child){.family = family, .slot = registry.slots_used, .labels = labels};
    registry.slots_used += slots;
    return registry.slots_used - slots;
}

static struct metric_child child_of(uint32_t family, uint32_t slots, const char *const *pairs)
{
    struct buf labels;
    buf_init(&labels, 1024);
    struct metric_child child = {.slot = 0};
    if (format_labels(&labels, pairs) != ST_OK) {
        buf_deinit(&labels);
        return child;
    }
    pthread_mutex_lock(&registry.mutex);
    child.slot = find_or_add(family, slots, (char *)labels.data); /* takes the buffer */
    pthread_mutex_unlock(&registry.mutex);
    return child;
}

struct metric_child metrics_child(enum metric_family family, const char *const *pairs)
{
    return child_of(family, 1, pairs);
}

struct metric_child metrics_histogram_child(enum metric_histogram_family family,
                                            const char *const *pairs)
{
    uint32_t slots = histogram_families[family].buckets + 2;
    struct metric_child child = child_of(METRICS_FAMILIES_COUNT + family, slots, pairs);
    child.histogram = family;
    return child;
}

static enum status render_head(struct buf *out, const char *name, const char *help,
                               const char *type)
{
    return buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static const char *type_of(enum kind kind)
{
    return kind == COUNTER ? "counter" : "gauge";
}

static enum status render_scalar(struct buf *out, uint32_t metric)
{
    const struct scalar_info *info = &scalars[metric];
    enum status st = render_head(out, info->name, info->help, type_of(info->kind));
    if (st != ST_OK)
        return st;
    const struct callback *callback = &registry.callbacks[metric];
    int64_t value =
        callback->value != NULL ? callback->value(callback->context) : sum(FIRST_SCALAR + metric);
    return buf_printf(out, "%s %" PRId64 "\n", info->name, value);
}

static enum status render_buckets(struct buf *out, const struct histogram_info *info, uint32_t slot,
                                  const char *labels)
{
    const char *comma = labels[0] == '\0' ? "" : ",";
    int64_t count = 0;
    enum status st = ST_OK;
    uint64_t bound = info->first_ns;
    for (uint32_t i = 0; st == ST_OK && i < info->buckets; i++) {
        count += sum(slot + i);
        st = buf_printf(out, "%s_bucket{%s%sle=\"%.10g\"} %" PRId64 "\n", info->name, labels, comma,
                        (double)bound / (double)info->unit_ns, count);
        bound = bound_after(info, bound, i);
    }
    if (st != ST_OK)
        return st;
    count += sum(slot + info->buckets);
    double total = (double)sum(slot + info->buckets + 1) / (double)info->unit_ns;
    const char *open = labels[0] == '\0' ? "" : "{";
    const char *close = labels[0] == '\0' ? "" : "}";
    return buf_printf(out,
                      "%s_bucket{%s%sle=\"+Inf\"} %" PRId64 "\n%s_sum%s%s%s %.17g\n%s_count%s%s%s "
                      "%" PRId64 "\n",
                      info->name, labels, comma, count, info->name, open, labels, close, total,
                      info->name, open, labels, close, count);
}

static enum status render_histogram(struct buf *out, uint32_t histogram)
{
    const struct histogram_info *info = &histograms[histogram];
    enum status st = render_head(out, info->name, info->help, "histogram");
    if (st != ST_OK)
        return st;
    return render_buckets(out, info, FIRST_HISTOGRAM + histogram * HISTOGRAM_SLOTS, "");
}

static enum status render_child(struct buf *out, const struct child *child)
{
    if (child->family >= METRICS_FAMILIES_COUNT)
        return render_buckets(out, &histogram_families[child->family - METRICS_FAMILIES_COUNT],
                              child->slot, child->labels);
    return buf_printf(out, "%s{%s} %" PRId64 "\n", families[child->family].name, child->labels,
                      sum(child->slot));
}

static enum status render_family(struct buf *out, uint32_t family)
{
    enum status st = ST_OK;
    bool is_first = true;
    for (uint32_t i = 0; st == ST_OK && i < registry.children_count; i++) {
        if (registry.children[i].family != family)
            continue;
        if (is_first && family < METRICS_FAMILIES_COUNT)
            st = render_head(out, families[family].name, families[family].help,
                             type_of(families[family].kind));
        else if (is_first)
            st = render_head(out, histogram_families[family - METRICS_FAMILIES_COUNT].name,
                             histogram_families[family - METRICS_FAMILIES_COUNT].help, "histogram");
        is_first = false;
        if (st == ST_OK)
            st = render_child(out, &registry.children[i]);
    }
    return st;
}

enum status metrics_render(struct buf *out)
{
    enum status st = ST_OK;
    pthread_mutex_lock(&registry.mutex);
    for (uint32_t i = 0; st == ST_OK && i < METRICS_SCALARS_COUNT; i++)
        st = render_scalar(out, i);
    for (uint32_t i = 0; st == ST_OK && i < METRICS_HISTOGRAMS_COUNT; i++)
        st = render_histogram(out, i);
    uint32_t families_count =
        (uint32_t)METRICS_FAMILIES_COUNT + (uint32_t)METRICS_HISTOGRAM_FAMILIES_COUNT;
    for (uint32_t i = 0; st == ST_OK && i < families_count; i++)
        st = render_family(out, i);
    pthread_mutex_unlock(&registry.mutex);
    return st == ST_OK ? process_render(out) : st;
}

void metrics_reset(void)
{
    pthread_mutex_lock(&registry.mutex);
    for (uint32_t i = 0; i < registry.children_count; i++)
        free(registry.children[i].labels);
    registry.children_count = 0;
    registry.slots_used = FIRST_CHILD;
    memset(registry.callbacks, 0, sizeof(registry.callbacks));
    for (uint32_t i = 0; i < SHARDS_COUNT; i++) {
        for (uint32_t slot = 0; slot < SLOTS_MAX; slot++)
            atomic_store_explicit(&registry.shards[i][slot], 0, memory_order_relaxed);
    }
    pthread_mutex_unlock(&registry.mutex);
}
