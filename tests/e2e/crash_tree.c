#include "tests/e2e/crash_tree.h"

#include "base/assert.h"
#include "base/minmax.h"

static void *grow(void *memory, size_t *capacity, size_t wanted, size_t item_bytes)
{
    if (wanted <= *capacity)
        return memory;
    size_t next = *capacity == 0 ? 16 : *capacity * 2;
    if (next < wanted)
        next = wanted;
    memory = realloc(memory, next * item_bytes);
    ASSERT(memory != NULL);
    memset((uint8_t *)memory + *capacity * item_bytes, 0, (next - *capacity) * item_bytes);
    *capacity = next;
    return memory;
}

void tree_init(struct tree *tree)
{
    *tree = (struct tree){.count = TREE_ROOT};
    struct tree_inode *root = tree_new(tree, S_IFDIR | 0700);
    ASSERT(root->number == TREE_ROOT);
}

struct tree_inode *tree_get(const struct tree *tree, uint64_t number)
{
    return number < tree->count && tree->inodes != NULL ? tree->inodes[number] : NULL;
}

struct tree_inode *tree_new(struct tree *tree, mode_t mode)
{
    tree->inodes = grow(tree->inodes, &tree->capacity, tree->count + 1, sizeof(*tree->inodes));
    struct tree_inode *inode = calloc(1, sizeof(*inode));
    ASSERT(inode != NULL);
    inode->mode = mode;
    inode->number = tree->count;
    tree->inodes[tree->count++] = inode;
    return inode;
}

/* ---- directories ---- */

static size_t name_index(const struct tree_names *names, const char *text)
{
    size_t i = 0;
    while (i < names->count && strcmp(names->names[i].text, text) != 0)
        i++;
    return i;
}

static void set_name(struct tree_names *names, const struct tree_name *name)
{
    size_t i = name_index(names, name->text);
    if (name->inode == 0) {
        if (i < names->count)
            names->names[i] = names->names[--names->count];
        return;
    }
    if (i == names->count) {
        names->names =
            grow(names->names, &names->capacity, names->count + 1, sizeof(*names->names));
        names->count++;
    }
    names->names[i] = *name;
}

static void apply_change(struct tree_names *names, const struct tree_change *change)
{
    for (size_t i = 0; i < 2; i++)
        if (change->set[i].text[0] != '\0')
            set_name(names, &change->set[i]);
}

uint64_t tree_lookup(const struct tree_inode *directory, const char *name)
{
    size_t i = name_index(&directory->names, name);
    return i < directory->names.count ? directory->names.names[i].inode : 0;
}

void tree_change(struct tree_inode *directory, const struct tree_change *change)
{
    directory->changes = grow(directory->changes, &directory->changes_capacity,
                              directory->changes_count + 1, sizeof(*directory->changes));
    directory->changes[directory->changes_count++] = *change;
    apply_change(&directory->names, change);
}

static void keep_changes(struct tree_inode *directory, size_t count)
{
    for (size_t i = 0; i < count; i++)
        apply_change(&directory->durable_names, &directory->changes[i]);
    directory->changes_count = 0;
}

void tree_sync_directory(struct tree_inode *directory)
{
    keep_changes(directory, directory->changes_count);
}

static void cut_directory(struct tree_inode *directory, enum tree_mood mood, struct rng *rng,
                          struct tree_cut_report *out)
{
    size_t changes = directory->changes_count, kept = changes;
    if (mood != TREE_KEEP)
        kept = mood == TREE_DROP ? 0 : (size_t)rng_below(rng, changes + 1);
    out->changes_kept += kept;
    out->changes_dropped += changes - kept;
    keep_changes(directory, kept);
    directory->names.count = 0;
    for (size_t i = 0; i < directory->durable_names.count; i++)
        set_name(&directory->names, &directory->durable_names.names[i]);
}

/* ---- files ---- */

static void free_page(struct tree_page *page)
{
    if (page->now != page->durable)
        free(page->now);
    free(page->durable);
    *page = (struct tree_page){0};
}

/* The page's newest bytes, to be written to; the durable ones are kept apart from now on. */
static uint8_t *page_for_writing(struct tree_inode *file, uint64_t index)
{
    file->pages = grow(file->pages, &file->pages_count, index + 1, sizeof(*file->pages));
    struct tree_page *page = &file->pages[index];
    if (!page->dirty) {
        uint8_t *copy = malloc(TREE_PAGE_BYTES);
        ASSERT(copy != NULL);
        if (page->durable != NULL)
            memcpy(copy, page->durable, TREE_PAGE_BYTES);
        else
            memset(copy, 0, TREE_PAGE_BYTES);
        page->now = copy;
        page->dirty = true;
    }
    return page->now;
}

size_t tree_read(const struct tree_inode *file, uint64_t offset, size_t size, uint8_t *out)
{
    if (offset >= file->size)
        return 0;
    size = (size_t)min_u64(size, file->size - offset);
    for (size_t done = 0; done < size;) {
        uint64_t index = (offset + done) / TREE_PAGE_BYTES;
        size_t from = (size_t)((offset + done) % TREE_PAGE_BYTES);
        size_t part = (size_t)min_u64(size - done, TREE_PAGE_BYTES - from);
        const uint8_t *page = index < file->pages_count ? file->pages[index].now : NULL;
        if (page != NULL)
            memcpy(out + done, page + from, part);
        else
            memset(out + done, 0, part);
        done += part;
    }
    return size;
}

void tree_write(struct tree_inode *file, uint64_t offset, const uint8_t *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        size_t from = (size_t)((offset + done) % TREE_PAGE_BYTES);
        size_t part = (size_t)min_u64(size - done, TREE_PAGE_BYTES - from);
        uint8_t *page = page_for_writing(file, (offset + done) / TREE_PAGE_BYTES);
        if (data != NULL)
            memcpy(page + from, data + done, part);
        else
            memset(page + from, 0, part);
        done += part;
    }
    file->size = max_u64(file->size, offset + size);
    clock_gettime(CLOCK_REALTIME, &file->changed);
}

/* Bytes behind the end read as zeros when the file grows again. */
static void clear_behind_end(struct tree_inode *file)
{
    for (uint64_t index = file->size / TREE_PAGE_BYTES; index < file->pages_count; index++) {
        if (file->pages[index].now == NULL)
            continue;
        size_t from =
            index == file->size / TREE_PAGE_BYTES ? (size_t)(file->size % TREE_PAGE_BYTES) : 0;
        memset(page_for_writing(file, index) + from, 0, TREE_PAGE_BYTES - from);
    }
}

void tree_resize(struct tree_inode *file, uint64_t size)
{
    bool shrinks = size < file->size;
    file->size = size;
    if (shrinks)
        clear_behind_end(file);
    clock_gettime(CLOCK_REALTIME, &file->changed);
}

static void settle_page(struct tree_page *page)
{
    if (!page->dirty)
        return;
    free(page->durable);
    page->durable = page->now;
    page->dirty = false;
}

void tree_sync_range(struct tree_inode *file, uint64_t offset, uint64_t size)
{
    uint64_t end =
        min_u64(file->pages_count, offset / TREE_PAGE_BYTES + size / TREE_PAGE_BYTES + 2);
    for (uint64_t index = offset / TREE_PAGE_BYTES; index < end; index++)
        settle_page(&file->pages[index]);
    file->durable_size = file->size;
}

bool tree_is_synced(const struct tree_inode *inode)
{
    for (size_t i = 0; i < inode->pages_count; i++) {
        if (inode->pages[i].dirty)
            return false;
    }
    return inode->size == inode->durable_size && inode->changes_count == 0;
}

/* Some sectors of the page reached the disk, some did not. */
static void tear_page(struct tree_page *page, struct rng *rng)
{
    uint64_t kept = rng_next(rng);
    for (size_t sector = 0; sector < TREE_PAGE_BYTES / TREE_SECTOR_BYTES; sector++) {
        uint8_t *now = page->now + sector * TREE_SECTOR_BYTES;
        if ((kept >> sector & 1) != 0)
            continue;
        if (page->durable != NULL)
            memcpy(now, page->durable + sector * TREE_SECTOR_BYTES, TREE_SECTOR_BYTES);
        else
            memset(now, 0, TREE_SECTOR_BYTES);
    }
}

static void cut_page(struct tree_page *page, enum tree_mood mood, struct rng *rng,
                     struct tree_cut_report *out)
{
    uint64_t fate = rng_below(rng, 3);
    if (mood == TREE_DROP || (mood == TREE_MIX && fate == 0)) {
        free(page->now);
        page->now = page->durable;
        page->dirty = false;
        out->pages_dropped++;
        return;
    }
    if (mood == TREE_MIX && fate == 1) {
        tear_page(page, rng);
        out->pages_torn++;
    } else {
        out->pages_kept++;
    }
    settle_page(page);
}

static void cut_file(struct tree_inode *file, enum tree_mood mood, struct rng *rng,
                     struct tree_cut_report *out)
{
    for (size_t i = 0; i < file->pages_count; i++)
        if (file->pages[i].dirty)
            cut_page(&file->pages[i], mood, rng, out);
    if (mood == TREE_DROP || (mood == TREE_MIX && rng_below(rng, 2) == 0))
        file->size = file->durable_size;
    clear_behind_end(file);
    tree_sync_range(file, 0, (uint64_t)file->pages_count * TREE_PAGE_BYTES);
}

/* ---- the cut ---- */

static void mark(const struct tree *tree, uint64_t number, bool *reached)
{
    const struct tree_inode *inode = tree_get(tree, number);
    ASSERT(inode != NULL);
    reached[number] = true;
    for (size_t i = 0; i < inode->names.count; i++)
        mark(tree, inode->names.names[i].inode, reached);
}

static void free_inode(struct tree_inode *inode)
{
    for (size_t i = 0; i < inode->pages_count; i++)
        free_page(&inode->pages[i]);
    free(inode->pages);
    free(inode->names.names);
    free(inode->durable_names.names);
    free(inode->changes);
    free(inode);
}

void tree_cut(struct tree *tree, enum tree_mood mood, struct rng *rng, struct tree_cut_report *out)
{
    *out = (struct tree_cut_report){0};
    for (uint64_t number = TREE_ROOT; number < tree->count; number++) {
        struct tree_inode *inode = tree->inodes[number];
        if (inode != NULL && S_ISDIR(inode->mode))
            cut_directory(inode, mood, rng, out);
        else if (inode != NULL)
            cut_file(inode, mood, rng, out);
    }
    bool *reached = calloc(tree->count, sizeof(*reached));
    ASSERT(reached != NULL);
    mark(tree, TREE_ROOT, reached);
    for (uint64_t number = TREE_ROOT; number < tree->count; number++) {
        if (tree->inodes[number] == NULL || reached[number])
            continue;
        free_inode(tree->inodes[number]);
        tree->inodes[number] = NULL;
    }
    free(reached);
}
