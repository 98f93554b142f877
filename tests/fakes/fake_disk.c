#include "tests/fakes/fake_disk.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "base/rng.h"

#define SECTOR_BYTES 512U
#define FAKE_PATH_BYTES 128U

/* A change to a file that is not durable yet; len 0 and a size: a truncation. */
struct change {
    struct change *next;
    uint64_t offset;
    size_t len;
    uint8_t *data; /* owned */
    uint64_t size;
};

struct image {
    uint8_t *data; /* owned */
    size_t len, capacity;
};

struct inode {
    uint32_t references; /* names (of both views) and open files */
    bool is_dir;
    struct image now, durable;
    struct change *changes, **changes_end; /* from durable to now, oldest first */
};

struct name {
    char path[FAKE_PATH_BYTES];
    struct inode *inode; /* one reference */
};

struct names {
    struct name *names; /* owned */
    size_t count, capacity;
};

/* A change of names not durable yet: path is put to inode, or taken away when inode is NULL. A
 * rename is both at once. */
struct name_change {
    struct name_change *next;
    char gone[FAKE_PATH_BYTES], came[FAKE_PATH_BYTES];
    struct inode *inode; /* one reference; of came */
};

struct fake_file {
    struct disk_file base;
    struct inode *inode;
    uint64_t power_cuts; /* when it was opened */
};

struct fake_disk {
    struct disk base;
    struct rng rng;
    struct names now, durable;
    struct name_change *name_changes, **name_changes_end;
    struct disk_write *submitted, **submitted_end;
    struct disk_write *completed, **completed_end;
    bool automatic;
    uint64_t power_cuts, capacity, fault_in; /* UINT64_MAX: no fault to come */
    enum status fault;
    bool fired;
    struct fake_disk_stat stat;
};

/* ---- memory ---- */

static void *must_alloc(size_t bytes)
{
    void *p = calloc(1, bytes == 0 ? 1 : bytes);
    ASSERT(p != NULL);
    return p;
}

static void image_resize(struct image *image, size_t len)
{
    if (len > image->capacity) {
        image->capacity = max_size(len, image->capacity * 2);
        image->data = realloc(image->data, image->capacity);
        ASSERT(image->data != NULL);
    }
    if (len > image->len)
        memset(image->data + image->len, 0, len - image->len);
    image->len = len;
}

static void image_write(struct image *image, uint64_t offset, const uint8_t *data, size_t len)
{
    if (len == 0)
        return;
    if (offset + len > image->len)
        image_resize(image, (size_t)(offset + len));
    memcpy(image->data + offset, data, len);
}

static void image_copy(struct image *to, const struct image *from)
{
    image_resize(to, from->len);
    if (from->len > 0)
        memcpy(to->data, from->data, from->len);
}

static struct inode *inode_new(bool is_dir)
{
    struct inode *inode = must_alloc(sizeof(*inode));
    inode->is_dir = is_dir;
    inode->changes_end = &inode->changes;
    return inode;
}

static void changes_drop(struct inode *inode)
{
    while (inode->changes != NULL) {
        struct change *change = inode->changes;
        inode->changes = change->next;
        free(change->data);
        free(change);
    }
    inode->changes_end = &inode->changes;
}

static struct inode *inode_ref(struct inode *inode)
{
    inode->references++;
    return inode;
}

static void inode_unref(struct inode *inode)
{
    if (inode == NULL || --inode->references > 0)
        return;
    changes_drop(inode);
    free(inode->now.data);
    free(inode->durable.data);
    free(inode);
}

/* ---- changes of a file ---- */

static void inode_change(struct inode *inode, uint64_t offset, const uint8_t *data, size_t len,
                         uint64_t size)
{
    struct change *change = must_alloc(sizeof(*change));
    *change = (struct change){.offset = offset, .len = len, .size = size};
    if (len > 0) {
        change->data = must_alloc(len);
        memcpy(change->data, data, len);
    }
    *inode->changes_end = change;
    inode->changes_end = &change->next;
}

static void change_apply(struct image *image, const struct change *change)
{
    if (change->len > 0)
        image_write(image, change->offset, change->data, change->len);
    else
        image_resize(image, (size_t)change->size);
}

static void inode_sync(struct inode *inode)
{
    for (const struct change *change = inode->changes; change != NULL; change = change->next)
        change_apply(&inode->durable, change);
    changes_drop(inode);
}

/* All of it, nothing, or some of its sectors. */
static void apply_by_chance(struct fake_disk *disk, struct image *image, uint64_t offset,
                            const uint8_t *data, size_t len)
{
    uint64_t fate = rng_below(&disk->rng, 3);
    if (fate == 0)
        return;
    for (size_t at = 0; at < len; at += SECTOR_BYTES) {
        if (fate == 1 || rng_below(&disk->rng, 2) == 0)
            image_write(image, offset + at, data + at, min_size(SECTOR_BYTES, len - at));
    }
}

static void inode_power_cut(struct fake_disk *disk, struct inode *inode)
{
    for (const struct change *change = inode->changes; change != NULL; change = change->next) {
        if (change->len > 0)
            apply_by_chance(disk, &inode->durable, change->offset, change->data, change->len);
        else if (rng_below(&disk->rng, 2) == 0)
            change_apply(&inode->durable, change);
    }
    changes_drop(inode);
    image_copy(&inode->now, &inode->durable);
}

/* ---- names ---- */

static struct name *names_find(const struct names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->names[i].path, path) == 0)
            return &names->names[i];
    }
    return NULL;
}

static void names_take(struct names *names, const char *path)
{
    struct name *name = names_find(names, path);
    if (name == NULL)
        return;
    inode_unref(name->inode);
    *name = names->names[--names->count];
}

static void names_put(struct names *names, const char *path, struct inode *inode)
{
    inode_ref(inode);
    names_take(names, path);
    if (names->count == names->capacity) {
        names->capacity = max_size(16, names->capacity * 2);
        names->names = realloc(names->names, names->capacity * sizeof(names->names[0]));
        ASSERT(names->names != NULL);
    }
    struct name *name = &names->names[names->count++];
    int len = snprintf(name->path, sizeof(name->path), "%s", path);
    ASSERT(len > 0 && (size_t)len < sizeof(name->path));
    name->inode = inode;
}

static void names_deinit(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        inode_unref(names->names[i].inode);
    free(names->names);
    memset(names, 0, sizeof(*names));
}

static bool lies_in(const char *path, const char *dir)
{
    size_t len = strcmp(dir, "/") == 0 ? 0 : strlen(dir);
    return strncmp(path, dir, len) == 0 && path[len] == '/' && path[len + 1] != '\0' &&
           strchr(path + len + 1, '/') == NULL;
}

static void name_change_apply(struct names *names, const struct name_change *change)
{
    if (change->gone[0] != '\0')
        names_take(names, change->gone);
    if (change->inode != NULL)
        names_put(names, change->came, change->inode);
}

/* A directory itself reaches the disk with the names in it. */
static void change_names(struct fake_disk *disk, const char *gone, const char *came,
                         struct inode *inode)
{
    struct name_change *change = must_alloc(sizeof(*change));
    snprintf(change->gone, sizeof(change->gone), "%s", gone == NULL ? "" : gone);
    snprintf(change->came, sizeof(change->came), "%s", came == NULL ? "" : came);
    change->inode = inode == NULL ? NULL : inode_ref(inode);
    name_change_apply(&disk->now, change);
    *disk->name_changes_end = change;
    disk->name_changes_end = &change->next;
}

static void name_change_free(struct name_change *change)
{
    inode_unref(change->inode);
    free(change);
}

static bool touches(const struct name_change *change, const char *dir)
{
    return lies_in(change->gone, dir) || lies_in(change->came, dir);
}

static void sync_names(struct fake_disk *disk, const char *dir)
{
    struct name_change **link = &disk->name_changes;
    while (*link != NULL) {
        struct name_change *change = *link;
        if (!touches(change, dir)) {
            link = &change->next;
            continue;
        }
        name_change_apply(&disk->durable, change);
        *link = change->next;
        name_change_free(change);
    }
    disk->name_changes_end = link;
}

/* ---- faults ---- */

static enum status call(struct fake_disk *disk)
{
    disk->stat.calls_count++;
    if (disk->fault_in == UINT64_MAX)
        return ST_OK;
    if (disk->fault_in-- > 0)
        return ST_OK;
    disk->fault_in = UINT64_MAX;
    disk->fired = true;
    return disk->fault;
}

static enum status file_call(struct disk_file *base, struct fake_disk **disk_out,
                             struct inode **inode_out)
{
    struct fake_file *file = (struct fake_file *)base;
    *disk_out = (struct fake_disk *)base->disk;
    *inode_out = file->inode;
    return file->power_cuts == (*disk_out)->power_cuts ? ST_OK : ST_IO;
}

/* ---- the operations ---- */

static enum status fake_open(struct disk *base, const char *path, unsigned flags,
                             struct disk_file **out)
{
    struct fake_disk *disk = (struct fake_disk *)base;
    *out = NULL;
    enum status st = call(disk);
    if (st != ST_OK)
        return st;
    struct name *name = names_find(&disk->now, path);
    struct inode *inode = name == NULL ? NULL : name->inode;
    if (inode != NULL && (flags & DISK_CREATE) && (flags & DISK_EXCLUSIVE))
        return ST_EXISTS;
    if (inode == NULL && !(flags & DISK_CREATE))
        return ST_NOT_FOUND;
    if (inode == NULL) {
        inode = inode_new(/* is_dir= */ false);
        change_names(disk, NULL, path, inode);
    }
    struct fake_file *file = must_alloc(sizeof(*file));
    file->base.disk = base;
    file->inode = inode_ref(inode);
    file->power_cuts = disk->power_cuts;
    *out = &file->base;
    return ST_OK;
}

static void fake_close(struct disk_file *base)
{
    struct fake_file *file = (struct fake_file *)base;
    inode_unref(file->inode);
    free(file);
}

static enum status fake_read(struct disk_file *base, uint64_t offset, uint8_t *data, size_t len,
                             size_t *got_out)
{
    struct fake_disk *disk;
    struct inode *inode;
    enum status st = file_call(base, &disk, &inode);
    if (st == ST_OK)
        st = call(disk);
    if (st != ST_OK)
        return st;
    size_t got = offset >= inode->now.len ? 0 : min_size(len, inode->now.len - (size_t)offset);
    if (got > 0)
        memcpy(data, inode->now.data + offset, got);
    *got_out = got;
    return ST_OK;
}

static uint64_t bytes_used(const struct fake_disk *disk)
{
    uint64_t used = 0;
    for (size_t i = 0; i < disk->now.count; i++)
        used += disk->now.names[i].inode->now.len;
    return used;
}

static enum status check_room(const struct fake_disk *disk, const struct inode *inode, uint64_t end)
{
    if (end <= inode->now.len || disk->capacity == UINT64_MAX)
        return ST_OK;
    return bytes_used(disk) + (end - inode->now.len) > disk->capacity ? ST_NO_SPACE : ST_OK;
}

static enum status fake_write(struct disk_file *base, uint64_t offset, const uint8_t *data,
                              size_t len)
{
    struct fake_disk *disk;
    struct inode *inode;
    enum status st = file_call(base, &disk, &inode);
    if (st == ST_OK)
        st = check_room(disk, inode, offset + len);
    if (st != ST_OK)
        return st;
    disk->stat.writes_count++;
    st = call(disk);
    if (st != ST_OK) {
        apply_by_chance(disk, &inode->durable, offset, data, len);
        return st;
    }
    image_write(&inode->now, offset, data, len);
    inode_change(inode, offset, data, len, 0);
    return ST_OK;
}

static enum status fake_sync(struct disk_file *base)
{
    struct fake_disk *disk;
    struct inode *inode;
    enum status st = file_call(base, &disk, &inode);
    if (st != ST_OK)
        return st;
    disk->stat.syncs_count++;
    st = call(disk);
    if (st == ST_OK) {
        inode_sync(inode);
        return ST_OK;
    }
    /* The pages are marked clean all the same: no later sync writes them. */
    struct image shown = {0};
    image_copy(&shown, &inode->now);
    inode_power_cut(disk, inode);
    image_copy(&inode->now, &shown);
    free(shown.data);
    return st;
}

static enum status fake_truncate(struct disk_file *base, uint64_t size)
{
    struct fake_disk *disk;
    struct inode *inode;
    enum status st = file_call(base, &disk, &inode);
    if (st == ST_OK)
        st = check_room(disk, inode, size);
    if (st == ST_OK)
        st = call(disk);
    if (st != ST_OK)
        return st;
    image_resize(&inode->now, (size_t)size);
    inode_change(inode, 0, NULL, 0, size);
    return ST_OK;
}

static enum status fake_size(struct disk_file *base, uint64_t *out)
{
    struct fake_disk *disk;
    struct inode *inode;
    enum status st = file_call(base, &disk, &inode);
    if (st == ST_OK)
        *out = inode->now.len;
    return st;
}

static enum status fake_rename(struct disk *base, const char *from, const char *to)
{
    struct fake_disk *disk = (struct fake_disk *)base;
    enum status st = call(disk);
    if (st != ST_OK)
        return st;
    struct name *name = names_find(&disk->now, from);
    if (name == NULL)
        return ST_NOT_FOUND;
    change_names(disk, from, to, name->inode);
    return ST_OK;
}

static enum status fake_remove(struct disk *base, const char *path)
{
    struct fake_disk *disk = (struct fake_disk *)base;
    enum status st = call(disk);
    if (st != ST_OK)
        return st;
    if (names_find(&disk->now, path) == NULL)
        return ST_NOT_FOUND;
    change_names(disk, path, NULL, NULL);
    return ST_OK;
}

static enum status fake_make_dir(struct disk *base, const char *path)
{
    struct fake_disk *disk = (struct fake_disk *)base;
    enum status st = call(disk);
    if (st != ST_OK)
        return st;
    if (names_find(&disk->now, path) != NULL)
        return ST_EXISTS;
    change_names(disk, NULL, path, inode_new(/* is_dir= */ true));
    return ST_OK;
}

static bool dir_exists(const struct fake_disk *disk, const char *path)
{
    const struct name *name = names_find(&disk->now, path);
    return strcmp(path, "/") == 0 || (name != NULL && name->inode->is_dir);
}

static enum status fake_sync_dir(struct disk *base, const char *path)
{
    struct fake_disk *disk = (struct fake_disk *)base;
    disk->stat.dir_syncs_count++;
    enum status st = call(disk);
    if (st != ST_OK)
        return st;
    if (!dir_exists(disk, path))
        return ST_NOT_FOUND;
    sync_names(disk, path);
    return ST_OK;
}

static enum status fake_list(struct disk *base, const char *path, disk_list_fn fn, void *context)
{
    struct fake_disk *disk = (struct fake_disk *)base;
    enum status st = call(disk);
    if (st != ST_OK)
        return st;
    if (!dir_exists(disk, path))
        return ST_NOT_FOUND;
    for (size_t i = 0; i < disk->now.count; i++) {
        const char *full = disk->now.names[i].path;
        if (lies_in(full, path))
            fn(context, strrchr(full, '/') + 1);
    }
    return ST_OK;
}

static enum status fake_space(struct disk *base, const char *path, uint64_t *free_bytes_out)
{
    (void)path;
    struct fake_disk *disk = (struct fake_disk *)base;
    enum status st = call(disk);
    if (st != ST_OK)
        return st;
    uint64_t used = bytes_used(disk);
    *free_bytes_out = disk->capacity == UINT64_MAX ? UINT64_MAX
                      : used >= disk->capacity     ? 0
                                                   : disk->capacity - used;
    return ST_OK;
}

static enum status fake_submit(struct disk *base, struct disk_write *write)
{
    struct fake_disk *disk = (struct fake_disk *)base;
    ASSERT(write->offset % DISK_BLOCK_BYTES == 0 && write->len % DISK_BLOCK_BYTES == 0);
    ASSERT((uintptr_t)write->data % DISK_BLOCK_BYTES == 0);
    write->next = NULL;
    *disk->submitted_end = write;
    disk->submitted_end = &write->next;
    return ST_OK;
}

static struct disk_write *pop_submitted(struct fake_disk *disk)
{
    struct disk_write *write = disk->submitted;
    if (write == NULL)
        return NULL;
    disk->submitted = write->next;
    if (disk->submitted == NULL)
        disk->submitted_end = &disk->submitted;
    write->next = NULL;
    *disk->completed_end = write;
    disk->completed_end = &write->next;
    return write;
}

bool fake_disk_is_writing(const struct fake_disk *disk)
{
    return disk->submitted != NULL;
}

bool fake_disk_complete(struct fake_disk *disk)
{
    struct disk_write *write = pop_submitted(disk);
    if (write == NULL)
        return false;
    struct inode *inode;
    write->status = file_call(write->file, &disk, &inode);
    if (write->status != ST_OK)
        return true; /* submitted after a power cut */
    write->status = check_room(disk, inode, write->offset + write->len);
    if (write->status == ST_OK)
        write->status = call(disk);
    if (write->status != ST_OK) {
        apply_by_chance(disk, &inode->durable, write->offset, write->data, write->len);
        return true;
    }
    disk->stat.durable_writes_count++;
    /* What waited for the same blocks is older. */
    for (const struct change *change = inode->changes; change != NULL; change = change->next) {
        if (change->len == 0 || (change->offset < write->offset + write->len &&
                                 write->offset < change->offset + change->len)) {
            inode_sync(inode);
            break;
        }
    }
    image_write(&inode->now, write->offset, write->data, write->len);
    image_write(&inode->durable, write->offset, write->data, write->len);
    return true;
}

static struct disk_write *fake_poll(struct disk *base)
{
    struct fake_disk *disk = (struct fake_disk *)base;
    if (disk->automatic && disk->completed == NULL)
        fake_disk_complete(disk);
    struct disk_write *write = disk->completed;
    if (write == NULL)
        return NULL;
    disk->completed = write->next;
    if (disk->completed == NULL)
        disk->completed_end = &disk->completed;
    return write;
}

static void fake_wait(struct disk *base)
{
    struct fake_disk *disk = (struct fake_disk *)base;
    if (disk->completed == NULL)
        fake_disk_complete(disk);
}

static enum status fake_set_event_fd(struct disk *base, int fd)
{
    (void)base;
    (void)fd;
    return ST_UNSUPPORTED;
}

static const char *fake_name(const struct disk *base)
{
    (void)base;
    return "fake";
}

static void fake_free(struct disk *base)
{
    (void)base; /* the test's: it outlives what runs on it */
}

static const struct disk_ops fake_ops = {
    .open = fake_open,
    .close = fake_close,
    .read = fake_read,
    .write = fake_write,
    .sync = fake_sync,
    .truncate = fake_truncate,
    .size = fake_size,
    .rename = fake_rename,
    .remove = fake_remove,
    .make_dir = fake_make_dir,
    .sync_dir = fake_sync_dir,
    .list = fake_list,
    .space = fake_space,
    .submit = fake_submit,
    .poll = fake_poll,
    .wait = fake_wait,
    .set_event_fd = fake_set_event_fd,
    .name = fake_name,
    .free = fake_free,
};

/* ---- the test's side ---- */

struct fake_disk *fake_disk_new(uint64_t seed)
{
    struct fake_disk *disk = must_alloc(sizeof(*disk));
    disk->base.ops = &fake_ops;
    rng_seed(&disk->rng, seed);
    disk->name_changes_end = &disk->name_changes;
    disk->submitted_end = &disk->submitted;
    disk->completed_end = &disk->completed;
    disk->automatic = true;
    disk->capacity = UINT64_MAX;
    disk->fault_in = UINT64_MAX;
    return disk;
}

struct fake_disk *fake_disk_clone(const struct fake_disk *disk, uint64_t seed)
{
    struct fake_disk *copy = fake_disk_new(seed);
    copy->capacity = disk->capacity;
    for (size_t i = 0; i < disk->now.count; i++) {
        const struct name *name = &disk->now.names[i];
        struct inode *inode = inode_new(name->inode->is_dir);
        image_copy(&inode->now, &name->inode->now);
        image_copy(&inode->durable, &name->inode->now);
        names_put(&copy->now, name->path, inode);
        names_put(&copy->durable, name->path, inode);
    }
    return copy;
}

static void drop_name_changes(struct fake_disk *disk)
{
    while (disk->name_changes != NULL) {
        struct name_change *change = disk->name_changes;
        disk->name_changes = change->next;
        name_change_free(change);
    }
    disk->name_changes_end = &disk->name_changes;
}

void fake_disk_free(struct fake_disk *disk)
{
    if (disk == NULL)
        return;
    drop_name_changes(disk);
    names_deinit(&disk->now);
    names_deinit(&disk->durable);
    free(disk);
}

struct disk *fake_disk_base(struct fake_disk *disk)
{
    return &disk->base;
}

void fake_disk_set_auto(struct fake_disk *disk, bool automatic)
{
    disk->automatic = automatic;
}

void fake_disk_fail_at(struct fake_disk *disk, uint64_t call_at, enum status status)
{
    disk->fault_in = call_at;
    disk->fault = status;
    disk->fired = false;
}

bool fake_disk_fault_fired(const struct fake_disk *disk)
{
    return disk->fired;
}

void fake_disk_set_capacity(struct fake_disk *disk, uint64_t bytes)
{
    disk->capacity = bytes;
}

void fake_disk_power_cut(struct fake_disk *disk)
{
    for (struct disk_write *write = pop_submitted(disk); write != NULL;
         write = pop_submitted(disk)) {
        struct inode *inode = ((struct fake_file *)write->file)->inode;
        apply_by_chance(disk, &inode->durable, write->offset, write->data, write->len);
        write->status = ST_IO;
    }
    uint64_t kept = 0;
    for (const struct name_change *c = disk->name_changes; c != NULL; c = c->next)
        kept++;
    kept = rng_below(&disk->rng, kept + 1); /* file systems keep the order of such changes */
    for (const struct name_change *c = disk->name_changes; kept > 0; c = c->next, kept--)
        name_change_apply(&disk->durable, c);
    drop_name_changes(disk);
    names_deinit(&disk->now);
    for (size_t i = 0; i < disk->durable.count; i++) {
        struct name *name = &disk->durable.names[i];
        inode_power_cut(disk, name->inode);
        names_put(&disk->now, name->path, name->inode);
    }
    disk->power_cuts++;
    disk->fault_in = UINT64_MAX;
}

void fake_disk_get_stat(const struct fake_disk *disk, struct fake_disk_stat *out)
{
    *out = disk->stat;
}

uint8_t *fake_disk_bytes(struct fake_disk *disk, const char *path, size_t *len_out)
{
    struct name *name = names_find(&disk->now, path);
    if (name == NULL)
        return NULL;
    inode_sync(name->inode);
    *len_out = name->inode->now.len;
    return name->inode->now.data;
}

void fake_disk_put(struct fake_disk *disk, const char *path, struct slice bytes)
{
    struct inode *inode = inode_new(/* is_dir= */ false);
    image_write(&inode->now, 0, bytes.data, bytes.len);
    image_copy(&inode->durable, &inode->now);
    names_put(&disk->now, path, inode);
    names_put(&disk->durable, path, inode);
}
