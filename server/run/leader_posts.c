#include "server/run/leader_posts.h"

#include "base/minmax.h"
#include "server/loops/loops.h"
#include "server/peers/fetch.h"
#include "base/clock_real.h"
#include "server/services/services.h"
#include "server/state/machine.h"

#include <stdio.h>

#define AGAIN_NS (50 * NS_PER_MS) /* between two tries; etcd's */

static struct leader_post *post_of(struct inbox_node *node)
{
    return CONTAINER_OF(node, struct leader_post, node);
}

/* ---- one try ---- */

static bool ask(struct leader_poster *poster, struct leader_post *post, struct slice url,
                uint64_t now_ns)
{
    char text[MEMBER_TEXT_MAX + 1];
    snprintf(text, sizeof(text), "%.*s", (int)url.len, (const char *)url.data);
    const struct peer_fetch fetch = {.url = text,
                                     .method = "POST",
                                     .path = post->path,
                                     .content_type = "application/protobuf",
                                     .body = post->body,
                                     .timeout_ms =
                                         (uint32_t)((post->deadline_ns - now_ns) / NS_PER_MS) + 1};
    struct peer_fetched fetched;
    if (peer_line_fetch(poster->line, &fetch, &fetched) != ST_OK)
        return false;
    bool answered = post->judge(post, fetched.status, buf_slice(&fetched.body));
    buf_deinit(&fetched.body);
    return answered;
}

static bool ask_leader(struct leader_poster *poster, struct leader_post *post)
{
    struct loops_status status;
    loops_get_status(poster->posts->loops, &status);
    post->error = status.leader == 0 ? API_NO_LEADER : API_TIMEOUT; /* unless it answers */
    struct members *members = machine_members(poster->posts->machine);
    const struct member_row *leader = members_find(members, status.leader);
    bool answered = false;
    for (uint32_t i = 0; leader != NULL && i < leader->peer_urls_count && !answered; i++) {
        uint64_t now_ns = clock_monotonic_ns(clock_real());
        if (now_ns >= post->deadline_ns)
            break;
        answered = ask(poster, post, leader->peer_urls[i], now_ns);
    }
    members_unref(members);
    return answered;
}

/* ---- a thread ---- */

static void wait_for_another_try(struct leader_poster *poster, struct leader_post *post)
{
    post->node.next = NULL;
    *poster->waiting_end = &post->node;
    poster->waiting_end = &post->node.next;
}

static void carry(struct leader_poster *poster, struct inbox_node *chain)
{
    for (struct inbox_node *node = chain, *next; node != NULL; node = next) {
        next = node->next;
        struct leader_post *post = post_of(node);
        bool is_over = atomic_load(&poster->thread.stop) || ask_leader(poster, post) ||
                       clock_monotonic_ns(clock_real()) >= post->deadline_ns;
        if (!is_over) {
            wait_for_another_try(poster, post);
            continue;
        }
        if (atomic_load(&poster->thread.stop))
            post->error = API_STOPPED;
        post->done(post);
    }
}

static uint64_t step(void *context, uint64_t now_ns)
{
    struct leader_poster *poster = context;
    (void)now_ns;
    struct inbox_node *again = poster->waiting;
    poster->waiting = NULL;
    poster->waiting_end = &poster->waiting;
    carry(poster, again);
    carry(poster, inbox_take(&poster->inbox));
    return poster->waiting == NULL ? UINT64_MAX : clock_monotonic_ns(clock_real()) + AGAIN_NS;
}

static void wake(void *context)
{
    struct leader_poster *poster = context;
    thread_wake(&poster->thread);
}

static enum status start_poster(struct leader_posts *posts, struct leader_poster *poster,
                                uint32_t number)
{
    char name[16];
    snprintf(name, sizeof(name), "post-%u", number);
    poster->posts = posts;
    poster->waiting_end = &poster->waiting;
    inbox_init(&poster->inbox, wake, poster);
    enum status st = peer_line_new(&poster->line);
    if (st == ST_OK)
        st = thread_init(&poster->thread, name, clock_real(), step, poster);
    poster->is_started = st == ST_OK;
    return st == ST_OK ? thread_start(&poster->thread) : st;
}

/* ---- all of them ---- */

enum status leader_posts_start(struct leader_posts *posts, struct loops *loops,
                               struct machine *machine)
{
    posts->loops = loops;
    posts->machine = machine;
    enum status st = ST_OK;
    for (uint32_t i = 0; i < LEADER_POSTERS_COUNT && st == ST_OK; i++)
        st = start_poster(posts, &posts->posters[i], i);
    return st;
}

void leader_posts_give(struct leader_posts *posts, struct leader_post *post)
{
    uint32_t turn = atomic_fetch_add_explicit(&posts->next, 1, memory_order_relaxed);
    inbox_push(&posts->posters[turn % LEADER_POSTERS_COUNT].inbox, &post->node);
}

void leader_posts_stop(struct leader_posts *posts)
{
    for (uint32_t i = 0; i < LEADER_POSTERS_COUNT; i++) {
        struct leader_poster *poster = &posts->posters[i];
        if (poster->is_started) {
            thread_stop(&poster->thread);
            atomic_store(&poster->thread.stop, true);
            step(poster, 0);
            thread_deinit(&poster->thread);
        }
        peer_line_free(poster->line);
        poster->line = NULL;
    }
}
