/* tests/e2e/crashfs.c - a disk in memory, mounted through FUSE, whose power can be cut.
 *
 *   crashfs MOUNTPOINT [--sync-us N] [--lie]
 *
 * Honours fsync, fdatasync, O_DSYNC, RWF_DSYNC (with O_DIRECT too) and the fsync of directories,
 * one after the other, each in N microseconds (2000). --lie answers them all and makes nothing
 * durable: a disk that no program survives, to show that the test notices. Lines on standard input,
 * each answered by one:
 *
 *   freeze           from now on nothing changes: writes and syncs fail, those under way too
 *   cut MOOD SEED    freezes, then the power comes back; MOOD is mix, drop or keep
 *   stall MS         no sync ends for so long
 *   count            how many syncs ended so far
 *
 * The end of standard input unmounts. Programs that use the disk must be gone before the cut. */
#define FUSE_USE_VERSION 312
#include "base/assert.h"
#include "base/list.h"
#include "base/minmax.h"
#include "base/rng.h"
#include "tests/e2e/crash_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DISK_BYTES (16ULL << 30) /* what statfs tells */

/* A sync that was asked for and is not done yet. */
struct sync {
    struct list_node node;
    fuse_req_t request;
    uint64_t inode, offset, size;
    size_t written; /* of a synchronous write: the answer */
    bool is_write;
    uint64_t due_ns;
};

static struct {
    pthread_mutex_t lock; /* of everything here */
    pthread_cond_t changed;
    struct tree tree;
    struct list_node syncs; /* oldest first */
    bool frozen, lies;
    uint64_t sync_us, due_last_ns; /* when the last sync asked for will be done */
    uint64_t syncs_ended;
    struct fuse_session *session;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .sync_us = 2000};

/* ---- attributes and names ---- */

static struct stat stat_of(const struct tree_inode *inode)
{
    return (struct stat){.st_ino = inode->number,
                         .st_mode = inode->mode,
                         .st_nlink = S_ISDIR(inode->mode) ? 2 : 1,
                         .st_size = (off_t)inode->size,
                         .st_blksize = TREE_PAGE_BYTES,
                         .st_blocks = (blkcnt_t)(inode->size / TREE_SECTOR_BYTES),
                         .st_mtim = inode->changed,
                         .st_ctim = inode->changed,
                         .st_atim = inode->changed};
}

static struct fuse_entry_param entry_of(const struct tree_inode *inode)
{
    /* No timeouts: after a cut the kernel must ask again. */
    return (struct fuse_entry_param){.ino = inode->number, .attr = stat_of(inode)};
}

static void on_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    pthread_mutex_lock(&disk.lock);
    const struct tree_inode *directory = tree_get(&disk.tree, parent), *inode = NULL;
    if (directory != NULL)
        inode = tree_get(&disk.tree, tree_lookup(directory, name));
    struct fuse_entry_param entry;
    if (inode != NULL)
        entry = entry_of(inode);
    pthread_mutex_unlock(&disk.lock);
    if (inode != NULL)
        fuse_reply_entry(request, &entry);
    else
        fuse_reply_err(request, directory != NULL ? ENOENT : ESTALE);
}

static void on_getattr(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
    (void)info;
    pthread_mutex_lock(&disk.lock);
    const struct tree_inode *inode = tree_get(&disk.tree, number);
    struct stat attributes = {0};
    if (inode != NULL)
        attributes = stat_of(inode);
    pthread_mutex_unlock(&disk.lock);
    if (inode != NULL)
        fuse_reply_attr(request, &attributes, 0);
    else
        fuse_reply_err(request, ESTALE);
}

static void on_setattr(fuse_req_t request, fuse_ino_t number, struct stat *wanted, int fields,
                       struct fuse_file_info *info)
{
    (void)info;
    pthread_mutex_lock(&disk.lock);
    struct tree_inode *inode = tree_get(&disk.tree, number);
    int error = inode == NULL ? ESTALE : disk.frozen ? EIO : 0;
    struct stat attributes = {0};
    if (error == 0) {
        if ((fields & FUSE_SET_ATTR_SIZE) != 0)
            tree_resize(inode, (uint64_t)wanted->st_size);
        if ((fields & FUSE_SET_ATTR_MODE) != 0)
            inode->mode = (inode->mode & S_IFMT) | (wanted->st_mode & 07777);
        attributes = stat_of(inode);
    }
    pthread_mutex_unlock(&disk.lock);
    if (error == 0)
        fuse_reply_attr(request, &attributes, 0);
    else
        fuse_reply_err(request, error);
}

static void set_change(struct tree_change *change, size_t at, const char *name, uint64_t inode)
{
    snprintf(change->set[at].text, sizeof(change->set[at].text), "%s", name);
    change->set[at].inode = inode;
}

/* Under the lock: a new inode under the name, or an error number. */
static int make(fuse_ino_t parent, const char *name, mode_t mode, struct fuse_entry_param *out)
{
    struct tree_inode *directory = tree_get(&disk.tree, parent);
    if (directory == NULL)
        return ESTALE;
    if (disk.frozen)
        return EIO;
    if (strlen(name) > TREE_NAME_BYTES_MAX)
        return ENAMETOOLONG;
    if (tree_lookup(directory, name) != 0)
        return EEXIST;
    struct tree_inode *inode = tree_new(&disk.tree, mode);
    clock_gettime(CLOCK_REALTIME, &inode->changed);
    struct tree_change change = {0};
    set_change(&change, 0, name, inode->number);
    tree_change(directory, &change);
    *out = entry_of(inode);
    return 0;
}

static void on_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct fuse_entry_param entry;
    pthread_mutex_lock(&disk.lock);
    int error = make(parent, name, S_IFDIR | (mode & 07777), &entry);
    pthread_mutex_unlock(&disk.lock);
    if (error == 0)
        fuse_reply_entry(request, &entry);
    else
        fuse_reply_err(request, error);
}

static void on_create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *info)
{
    struct fuse_entry_param entry;
    pthread_mutex_lock(&disk.lock);
    int error = make(parent, name, S_IFREG | (mode & 07777), &entry);
    pthread_mutex_unlock(&disk.lock);
    if (error == 0)
        fuse_reply_create(request, &entry, info);
    else
        fuse_reply_err(request, error);
}

static void remove_name(fuse_req_t request, fuse_ino_t parent, const char *name,
                        bool wants_directory)
{
    pthread_mutex_lock(&disk.lock);
    struct tree_inode *directory = tree_get(&disk.tree, parent);
    const struct tree_inode *inode =
        directory == NULL ? NULL : tree_get(&disk.tree, tree_lookup(directory, name));
    int error = disk.frozen ? EIO : 0;
    if (inode == NULL)
        error = ENOENT;
    else if (wants_directory != S_ISDIR(inode->mode))
        error = wants_directory ? ENOTDIR : EISDIR;
    else if (inode->names.count > 0)
        error = ENOTEMPTY;
    if (error == 0) {
        struct tree_change change = {0};
        set_change(&change, 0, name, 0);
        tree_change(directory, &change);
    }
    pthread_mutex_unlock(&disk.lock);
    fuse_reply_err(request, error);
}

static void on_unlink(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    remove_name(request, parent, name, /* wants_directory= */ false);
}

static void on_rmdir(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    remove_name(request, parent, name, /* wants_directory= */ true);
}

/* Within one directory only, so that a rename is one change. */
static void on_rename(fuse_req_t request, fuse_ino_t parent, const char *name,
                      fuse_ino_t new_parent, const char *new_name, unsigned int flags)
{
    pthread_mutex_lock(&disk.lock);
    struct tree_inode *directory = tree_get(&disk.tree, parent);
    uint64_t inode = directory == NULL ? 0 : tree_lookup(directory, name);
    int error = disk.frozen ? EIO : 0;
    if (inode == 0)
        error = ENOENT;
    else if (parent != new_parent)
        error = EXDEV;
    else if (flags != 0)
        error = EINVAL;
    if (error == 0) {
        struct tree_change change = {0};
        set_change(&change, 0, name, 0);
        set_change(&change, 1, new_name, inode);
        tree_change(directory, &change);
    }
    pthread_mutex_unlock(&disk.lock);
    fuse_reply_err(request, error);
}

static void on_readdir(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset,
                       struct fuse_file_info *info)
{
    (void)info;
    char *text = malloc(size);
    ASSERT(text != NULL);
    size_t used = 0;
    pthread_mutex_lock(&disk.lock);
    const struct tree_inode *directory = tree_get(&disk.tree, number);
    for (size_t i = (size_t)offset; directory != NULL && i < directory->names.count; i++) {
        const struct tree_name *name = &directory->names.names[i];
        struct stat attributes = stat_of(tree_get(&disk.tree, name->inode));
        size_t needed = fuse_add_direntry(request, text + used, size - used, name->text,
                                          &attributes, (off_t)i + 1);
        if (needed > size - used)
            break;
        used += needed;
    }
    pthread_mutex_unlock(&disk.lock);
    fuse_reply_buf(request, text, used);
    free(text);
}

/* ---- bytes ---- */

static void on_open(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
    pthread_mutex_lock(&disk.lock);
    struct tree_inode *inode = tree_get(&disk.tree, number);
    int error = inode == NULL ? ESTALE : 0;
    if (error == 0 && (info->flags & O_TRUNC) != 0) {
        if (disk.frozen)
            error = EIO;
        else
            tree_resize(inode, 0);
    }
    pthread_mutex_unlock(&disk.lock);
    if (error == 0)
        fuse_reply_open(request, info); /* without keep_cache: the kernel drops what it holds */
    else
        fuse_reply_err(request, error);
}

static void on_read(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    (void)info;
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    ASSERT(bytes != NULL);
    pthread_mutex_lock(&disk.lock);
    const struct tree_inode *inode = tree_get(&disk.tree, number);
    size_t got = inode == NULL ? 0 : tree_read(inode, (uint64_t)offset, size, bytes);
    pthread_mutex_unlock(&disk.lock);
    if (inode != NULL)
        fuse_reply_buf(request, (const char *)bytes, got);
    else
        fuse_reply_err(request, ESTALE);
    free(bytes);
}

static uint64_t now_ns(void)
{
    struct timespec now; /* of the clock that pthread_cond_timedwait() waits by */
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* Under the lock. */
static void add_sync(struct sync sync)
{
    struct sync *copy = malloc(sizeof(*copy));
    ASSERT(copy != NULL);
    *copy = sync;
    copy->due_ns = max_u64(now_ns(), disk.due_last_ns) + disk.sync_us * 1000;
    disk.due_last_ns = copy->due_ns;
    list_push_back(&disk.syncs, &copy->node);
    pthread_cond_signal(&disk.changed);
}

static void on_write(fuse_req_t request, fuse_ino_t number, const char *bytes, size_t size,
                     off_t offset, struct fuse_file_info *info)
{
    pthread_mutex_lock(&disk.lock);
    struct tree_inode *inode = tree_get(&disk.tree, number);
    int error = inode == NULL ? ESTALE : disk.frozen ? EIO : 0;
    bool is_synchronous = (info->flags & O_DSYNC) != 0;
    if (error == 0) {
        tree_write(inode, (uint64_t)offset, (const uint8_t *)bytes, size);
        if (is_synchronous)
            add_sync((struct sync){.request = request,
                                   .inode = number,
                                   .offset = (uint64_t)offset,
                                   .size = size,
                                   .written = size,
                                   .is_write = true});
    }
    pthread_mutex_unlock(&disk.lock);
    if (error != 0)
        fuse_reply_err(request, error);
    else if (!is_synchronous)
        fuse_reply_write(request, size);
}

static void on_fallocate(fuse_req_t request, fuse_ino_t number, int mode, off_t offset,
                         off_t length, struct fuse_file_info *info)
{
    (void)info;
    pthread_mutex_lock(&disk.lock);
    struct tree_inode *inode = tree_get(&disk.tree, number);
    int error = inode == NULL ? ESTALE : disk.frozen ? EIO : 0;
    if (error == 0 && mode != 0)
        error = EOPNOTSUPP;
    if (error == 0)
        tree_resize(inode, max_u64(inode->size, (uint64_t)(offset + length)));
    pthread_mutex_unlock(&disk.lock);
    fuse_reply_err(request, error);
}

/* With nothing to flush the disk is not asked: the kernel sends a sync after each write that was
 * synchronous by itself, and that would count twice. */
static void sync_inode(fuse_req_t request, fuse_ino_t number)
{
    pthread_mutex_lock(&disk.lock);
    const struct tree_inode *inode = tree_get(&disk.tree, number);
    int error = inode == NULL ? ESTALE : disk.frozen ? EIO : 0;
    bool clean = error == 0 && tree_is_synced(inode);
    if (error == 0 && !clean)
        add_sync((struct sync){.request = request,
                               .inode = number,
                               .size = (uint64_t)inode->pages_count * TREE_PAGE_BYTES});
    pthread_mutex_unlock(&disk.lock);
    if (error != 0 || clean)
        fuse_reply_err(request, error);
}

static void on_fsync(fuse_req_t request, fuse_ino_t number, int data_only,
                     struct fuse_file_info *info)
{
    (void)data_only;
    (void)info;
    sync_inode(request, number);
}

static void on_statfs(fuse_req_t request, fuse_ino_t number)
{
    (void)number;
    struct statvfs answer = {.f_bsize = TREE_PAGE_BYTES,
                             .f_frsize = TREE_PAGE_BYTES,
                             .f_blocks = DISK_BYTES / TREE_PAGE_BYTES,
                             .f_bfree = DISK_BYTES / TREE_PAGE_BYTES,
                             .f_bavail = DISK_BYTES / TREE_PAGE_BYTES,
                             .f_namemax = TREE_NAME_BYTES_MAX};
    fuse_reply_statfs(request, &answer);
}

static const struct fuse_lowlevel_ops operations = {
    .lookup = on_lookup,
    .getattr = on_getattr,
    .setattr = on_setattr,
    .mkdir = on_mkdir,
    .create = on_create,
    .unlink = on_unlink,
    .rmdir = on_rmdir,
    .rename = on_rename,
    .readdir = on_readdir,
    .open = on_open,
    .read = on_read,
    .write = on_write,
    .fallocate = on_fallocate,
    .fsync = on_fsync,
    .fsyncdir = on_fsync,
    .statfs = on_statfs,
};

/* ---- syncs take time ---- */

/* Under the lock: does the sync, or does not when the power is gone, and answers. */
static void end_sync(struct sync *sync, int error)
{
    struct tree_inode *inode = tree_get(&disk.tree, sync->inode);
    if (error == 0 && inode != NULL && !disk.lies) {
        if (S_ISDIR(inode->mode))
            tree_sync_directory(inode);
        else
            tree_sync_range(inode, sync->offset, sync->size);
    }
    if (error == 0 && sync->is_write)
        fuse_reply_write(sync->request, sync->written);
    else
        fuse_reply_err(sync->request, error);
    disk.syncs_ended++;
    list_remove(&sync->node);
    free(sync);
}

static void *run_syncs(void *context)
{
    (void)context;
    pthread_mutex_lock(&disk.lock);
    for (;;) {
        if (list_is_empty(&disk.syncs)) {
            pthread_cond_wait(&disk.changed, &disk.lock);
            continue;
        }
        struct sync *oldest = CONTAINER_OF(disk.syncs.next, struct sync, node);
        uint64_t due_ns = oldest->due_ns; /* a cut may end it while we wait */
        struct timespec due = {.tv_sec = (time_t)(due_ns / 1000000000U),
                               .tv_nsec = (long)(due_ns % 1000000000U)};
        if (now_ns() >= due_ns)
            end_sync(oldest, 0);
        else
            pthread_cond_timedwait(&disk.changed, &disk.lock, &due);
    }
    return NULL;
}

/* ---- control ---- */

static void freeze(void)
{
    pthread_mutex_lock(&disk.lock);
    disk.frozen = true;
    while (!list_is_empty(&disk.syncs))
        end_sync(CONTAINER_OF(disk.syncs.next, struct sync, node), EIO);
    pthread_mutex_unlock(&disk.lock);
}

static void cut(const char *mood, uint64_t seed)
{
    struct rng rng;
    struct tree_cut_report report;
    rng_seed(&rng, seed);
    freeze();
    pthread_mutex_lock(&disk.lock);
    tree_cut(&disk.tree,
             strcmp(mood, "drop") == 0   ? TREE_DROP
             : strcmp(mood, "keep") == 0 ? TREE_KEEP
                                         : TREE_MIX,
             &rng, &report);
    disk.frozen = false;
    pthread_mutex_unlock(&disk.lock);
    printf("pages: %" PRIu64 " dropped, %" PRIu64 " torn, %" PRIu64 " kept; names: %" PRIu64
           " dropped, %" PRIu64 " kept\n",
           report.pages_dropped, report.pages_torn, report.pages_kept, report.changes_dropped,
           report.changes_kept);
}

/* Every sync under way, and every later one, ends so much later. */
static void stall(uint64_t ms)
{
    pthread_mutex_lock(&disk.lock);
    uint64_t delay_ns = ms * 1000000U;
    for (struct list_node *n = disk.syncs.next; n != &disk.syncs; n = n->next)
        CONTAINER_OF(n, struct sync, node)->due_ns += delay_ns;
    disk.due_last_ns = max_u64(now_ns(), disk.due_last_ns) + delay_ns;
    pthread_mutex_unlock(&disk.lock);
}

static void *run_control(void *context)
{
    (void)context;
    char line[128], mood[16];
    uint64_t number;
    while (fgets(line, sizeof(line), stdin) != NULL) {
        if (strcmp(line, "freeze\n") == 0) {
            freeze();
            printf("frozen\n");
        } else if (sscanf(line, "cut %15s %" SCNu64, mood, &number) == 2) {
            cut(mood, number);
        } else if (sscanf(line, "stall %" SCNu64, &number) == 1) {
            stall(number);
            printf("stalled\n");
        } else if (strcmp(line, "count\n") == 0) {
            pthread_mutex_lock(&disk.lock);
            printf("%" PRIu64 "\n", disk.syncs_ended);
            pthread_mutex_unlock(&disk.lock);
        } else {
            printf("unknown command\n");
        }
        fflush(stdout);
    }
    fuse_session_unmount(disk.session);
    _exit(0); /* the loop does not wake while somebody has a file open */
}

static bool parse(int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--lie") == 0)
            disk.lies = true;
        else if (strcmp(argv[i], "--sync-us") == 0 && i + 1 < argc)
            disk.sync_us = strtoull(argv[++i], NULL, 10);
        else
            return false;
    }
    return argc >= 2;
}

int main(int argc, char **argv)
{
    if (!parse(argc, argv)) {
        fprintf(stderr, "usage: crashfs MOUNTPOINT [--sync-us N] [--lie]\n");
        return 2;
    }
    tree_init(&disk.tree);
    list_init(&disk.syncs);
    char *options[] = {argv[0], "-ofsname=crashfs,default_permissions"};
    struct fuse_args args = FUSE_ARGS_INIT(2, options);
    disk.session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
    if (disk.session == NULL || fuse_session_mount(disk.session, argv[1]) != 0) {
        fprintf(stderr, "cannot mount on '%s'\n", argv[1]);
        return 1;
    }
    pthread_t syncs, control;
    if (pthread_create(&syncs, NULL, run_syncs, NULL) != 0 ||
        pthread_create(&control, NULL, run_control, NULL) != 0)
        return 1;
    printf("mounted\n");
    fflush(stdout);
    return fuse_session_loop(disk.session) == 0 ? 0 : 1; /* somebody else unmounted */
}
