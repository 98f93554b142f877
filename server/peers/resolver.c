#include "server/peers/resolver.h"

void resolver_init(struct resolver *resolver)
{
    *resolver = (struct resolver){0};
    pthread_mutex_init(&resolver->lock, NULL);
    pthread_cond_init(&resolver->changed, NULL);
    list_init(&resolver->queue);
}

static void *resolver_main(void *context)
{
    struct resolver *r = context;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        struct list_node *node = list_pop_front(&r->queue);
        if (node == NULL && r->is_stopping)
            break;
        if (node == NULL) {
            pthread_cond_wait(&r->changed, &r->lock);
            continue;
        }
        struct resolving *resolving = CONTAINER_OF(node, struct resolving, link);
        bool is_stopping = r->is_stopping;
        pthread_mutex_unlock(&r->lock);
        resolving->status = is_stopping ? ST_CANCELED
                                        : peer_url_resolve(&resolving->url, /* numeric= */ false,
                                                           &resolving->addresses);
        resolving->done(resolving);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

enum status resolver_ask(struct resolver *resolver, struct resolving *resolving)
{
    enum status st = ST_OK;
    pthread_mutex_lock(&resolver->lock);
    if (!resolver->is_running) {
        if (pthread_create(&resolver->thread, NULL, resolver_main, resolver) == 0)
            resolver->is_running = true;
        else
            st = ST_NO_MEMORY;
    }
    if (st == ST_OK) {
        list_push_back(&resolver->queue, &resolving->link);
        pthread_cond_signal(&resolver->changed);
    }
    pthread_mutex_unlock(&resolver->lock);
    return st;
}

void resolver_deinit(struct resolver *resolver)
{
    pthread_mutex_lock(&resolver->lock);
    resolver->is_stopping = true;
    pthread_cond_signal(&resolver->changed);
    pthread_mutex_unlock(&resolver->lock);
    if (resolver->is_running)
        pthread_join(resolver->thread, NULL);
    pthread_cond_destroy(&resolver->changed);
    pthread_mutex_destroy(&resolver->lock);
}
