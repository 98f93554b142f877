/* The order of a role's permissions: by key. etcd leaves permissions with the same key (a key
 * itself and a prefix that begins with it, say) in whatever order its sort brings them to, and that
 * order is stored, shown, and decides which of them a later grant replaces. So this is that sort,
 * Go's pattern-defeating quicksort (Orson Peters), swap by swap. Up to 12 permissions it is an
 * insertion sort, which keeps equals in order. Beyond, an etcd built with Go 1.19 to 1.23 may
 * differ from this, as it does from one that was built with a later Go: they draw other numbers in
 * break_patterns(). */
#include "server/state/auth_private.h"

#define INSERTION_MAX 12 /* elements that are sorted by insertion */
#define NINTHER_MIN 50   /* elements from which the pivot is a median of medians */
#define SHIFTING_MIN 50  /* elements from which strays are moved instead of partitioned */
#define STRAYS_MAX 5
#define SWAPS_MAX 12 /* of the pivot's choice: all of its comparisons */

enum hint { HINT_NONE, HINT_INCREASING, HINT_DECREASING };

struct sorter {
    struct auth_permission *items;
};

static bool less(const struct sorter *s, int64_t a, int64_t b)
{
    return slice_cmp(s->items[a].key, s->items[b].key) < 0;
}

static void swap(const struct sorter *s, int64_t a, int64_t b)
{
    struct auth_permission kept = s->items[a];
    s->items[a] = s->items[b];
    s->items[b] = kept;
}

/* Position of the highest bit, from 1; 0 of 0. */
static uint32_t bits_of(uint64_t n)
{
    return n == 0 ? 0 : 64 - (uint32_t)__builtin_clzll(n);
}

static void insertion_sort(const struct sorter *s, int64_t a, int64_t b)
{
    for (int64_t i = a + 1; i < b; i++) {
        for (int64_t j = i; j > a && less(s, j, j - 1); j--)
            swap(s, j, j - 1);
    }
}

static void sift_down(const struct sorter *s, int64_t low, int64_t high, int64_t first)
{
    for (int64_t root = low;;) {
        int64_t child = 2 * root + 1;
        if (child >= high)
            return;
        if (child + 1 < high && less(s, first + child, first + child + 1))
            child++;
        if (!less(s, first + root, first + child))
            return;
        swap(s, first + root, first + child);
        root = child;
    }
}

static void heap_sort(const struct sorter *s, int64_t a, int64_t b)
{
    int64_t high = b - a;
    for (int64_t i = (high - 1) / 2; i >= 0; i--)
        sift_down(s, i, high, a);
    for (int64_t i = high - 1; i >= 0; i--) {
        swap(s, a, a + i);
        sift_down(s, 0, i, a);
    }
}

/* Scatters some elements, by numbers that depend on the length alone. */
static void break_patterns(const struct sorter *s, int64_t a, int64_t b)
{
    int64_t length = b - a;
    if (length < 8)
        return;
    uint64_t random = (uint64_t)length;
    uint64_t modulus = 1ULL << bits_of((uint64_t)length);
    int64_t index = a + length / 4 * 2;
    for (int64_t i = 0; i < 3; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        int64_t other = (int64_t)(random & (modulus - 1));
        if (other >= length)
            other -= length;
        swap(s, index - 1 + i, a + other);
    }
}

static void order(const struct sorter *s, int64_t *a, int64_t *b, uint32_t *swaps)
{
    if (!less(s, *b, *a))
        return;
    int64_t kept = *a;
    *a = *b;
    *b = kept;
    (*swaps)++;
}

static int64_t median(const struct sorter *s, int64_t a, int64_t b, int64_t c, uint32_t *swaps)
{
    order(s, &a, &b, swaps);
    order(s, &b, &c, swaps);
    order(s, &a, &b, swaps);
    return b;
}

static int64_t choose_pivot(const struct sorter *s, int64_t a, int64_t b, enum hint *hint_out)
{
    int64_t length = b - a;
    uint32_t swaps = 0;
    int64_t i = a + length / 4, j = a + length / 4 * 2, k = a + length / 4 * 3;
    if (length >= 8) {
        if (length >= NINTHER_MIN) {
            i = median(s, i - 1, i, i + 1, &swaps);
            j = median(s, j - 1, j, j + 1, &swaps);
            k = median(s, k - 1, k, k + 1, &swaps);
        }
        j = median(s, i, j, k, &swaps);
    }
    *hint_out = swaps == 0 ? HINT_INCREASING : swaps == SWAPS_MAX ? HINT_DECREASING : HINT_NONE;
    return j;
}

static void reverse(const struct sorter *s, int64_t a, int64_t b)
{
    for (int64_t i = a, j = b - 1; i < j; i++, j--)
        swap(s, i, j);
}

/* Moves a few strays to where they belong; true when all is in order then. */
static bool sort_strays(const struct sorter *s, int64_t a, int64_t b)
{
    int64_t i = a + 1;
    for (int n = 0; n < STRAYS_MAX; n++) {
        while (i < b && !less(s, i, i - 1))
            i++;
        if (i == b)
            return true;
        if (b - a < SHIFTING_MIN)
            return false;
        swap(s, i, i - 1);
        if (i - a >= 2) {
            for (int64_t j = i - 1; j >= 1 && less(s, j, j - 1); j--)
                swap(s, j, j - 1);
        }
        if (b - i >= 2) {
            for (int64_t j = i + 1; j < b && less(s, j, j - 1); j++)
                swap(s, j, j - 1);
        }
    }
    return false;
}

/* What is equal to the pivot to the left, what is greater to the right; nothing is less. */
static int64_t partition_equal(const struct sorter *s, int64_t a, int64_t b, int64_t pivot)
{
    swap(s, a, pivot);
    int64_t i = a + 1, j = b - 1;
    for (;;) {
        while (i <= j && !less(s, a, i))
            i++;
        while (i <= j && less(s, a, j))
            j--;
        if (i > j)
            return i;
        swap(s, i++, j--);
    }
}

static int64_t partition(const struct sorter *s, int64_t a, int64_t b, int64_t pivot,
                         bool *was_partitioned)
{
    swap(s, a, pivot);
    int64_t i = a + 1, j = b - 1;
    *was_partitioned = true;
    for (;;) {
        while (i <= j && less(s, i, a))
            i++;
        while (i <= j && !less(s, j, a))
            j--;
        if (i > j)
            break;
        *was_partitioned = false;
        swap(s, i++, j--);
    }
    swap(s, j, a);
    return j;
}

/* It goes into the shorter part and on with the longer one: the depth is a logarithm. */
static void sort(const struct sorter *s, int64_t a, int64_t b, uint32_t limit)
{
    bool was_balanced = true, was_partitioned = true;
    while (b - a > INSERTION_MAX) {
        int64_t length = b - a;
        if (limit == 0) {
            heap_sort(s, a, b);
            return;
        }
        if (!was_balanced) {
            break_patterns(s, a, b);
            limit--;
        }
        enum hint hint;
        int64_t pivot = choose_pivot(s, a, b, &hint);
        if (hint == HINT_DECREASING) {
            reverse(s, a, b);
            pivot = b - 1 - (pivot - a);
            hint = HINT_INCREASING;
        }
        if (was_balanced && was_partitioned && hint == HINT_INCREASING && sort_strays(s, a, b))
            return;
        if (a > 0 && !less(s, a - 1, pivot)) {
            a = partition_equal(s, a, b, pivot);
            continue;
        }
        int64_t middle = partition(s, a, b, pivot, &was_partitioned);
        int64_t left = middle - a, right = b - middle, threshold = length / 8;
        if (left < right) {
            was_balanced = left >= threshold;
            sort(s, a, middle, limit);
            a = middle + 1;
        } else {
            was_balanced = right >= threshold;
            sort(s, middle + 1, b, limit);
            b = middle;
        }
    }
    insertion_sort(s, a, b);
}

void auth_sort_permissions(struct auth_permission *permissions, uint32_t count)
{
    const struct sorter sorter = {.items = permissions};
    if (count > 1)
        sort(&sorter, 0, count, bits_of(count));
}
