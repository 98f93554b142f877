/* Plays steps on streams of Watch and prints what each stream gets after each step, so that the
 * same steps on two servers can be compared line by line.
 *
 *     watch_steps --endpoint HOST:PORT < steps
 *
 *     open S [hasleader]              streams are numbers from 0
 *     create S [key=K] [end=E] [start=R] [id=I] [prev] [fragment] [progress] [noput] [nodelete]
 *     cancel S ID | progress S | finish S | drop S | raw S HEX | twice S ID ID
 *     put K V | fill PREFIX COUNT BYTES | delete K [E] | txn K V K V ... | compact R
 *     quiet MS                        how long nothing may come before a step is over; 120 at first
 *
 * "\0" stands for a byte 0 in keys and ends. */
#include "base/assert.h"
#include "base/buf.h"
#include "base/clock.h"
#include "proto/rpc.pb-c.h"
#include "tests/e2e/message_text.h"
#include "tools/client/client.h"

#include <stdlib.h>
#include <time.h>

#define STREAMS_MAX 16U
#define WORDS_MAX 64U
#define LINE_BYTES 4096U
#define CALL_TIMEOUT_MS 10000U

struct stream {
    struct client_stream *stream;
    struct buf heard; /* in this step, as lines */
    uint32_t number;
};

static struct {
    struct client *client;
    struct stream streams[STREAMS_MAX];
    uint64_t heard_ns;
    uint64_t quiet_ms;
} player = {.quiet_ms = 120};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void check(enum status st)
{
    ASSERT(st == ST_OK);
}

/* ---- what is heard ---- */

static void on_message(void *context, struct slice body)
{
    struct stream *stream = context;
    ProtobufCMessage *message = protobuf_c_message_unpack(&etcdserverpb__watch_response__descriptor,
                                                          NULL, body.len, body.data);
    ASSERT(message != NULL);
    check(buf_printf(&stream->heard, "%u: ", stream->number));
    check(message_text(message, &stream->heard));
    check(buf_printf(&stream->heard, "\n"));
    protobuf_c_message_free_unpacked(message, NULL);
    player.heard_ns = now_ns();
}

static void on_end(void *context, const struct client_reply *reply)
{
    struct stream *stream = context;
    stream->stream = NULL;
    check(buf_printf(&stream->heard, "%u: ended %s %.*s\n", stream->number,
                     client_code_name(reply->code), (int)reply->text.len,
                     (const char *)reply->text.data));
    player.heard_ns = now_ns();
}

static void wait_until_quiet(void)
{
    player.heard_ns = now_ns();
    uint64_t quiet_ns = player.quiet_ms * NS_PER_MS;
    while (now_ns() - player.heard_ns < quiet_ns)
        client_wait(player.client, 10);
    for (uint32_t i = 0; i < STREAMS_MAX; i++) {
        fwrite(player.streams[i].heard.data, 1, player.streams[i].heard.len, stdout);
        buf_reset(&player.streams[i].heard);
    }
}

/* ---- calls ---- */

static void call(const char *method, const ProtobufCMessage *message,
                 const ProtobufCMessageDescriptor *answer)
{
    struct arena arena;
    struct client_reply reply;
    struct buf text;
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *body = malloc(size + 1);
    ASSERT(body != NULL);
    protobuf_c_message_pack(message, body);
    arena_init(&arena, 64U << 20);
    buf_init(&text, 64U << 20);
    const struct client_request request = {
        .method = method, .body = slice_make(body, size), .timeout_ms = CALL_TIMEOUT_MS};
    check(client_call(player.client, &request, &arena, &reply));
    if (reply.code == CLIENT_OK) {
        ProtobufCMessage *got =
            protobuf_c_message_unpack(answer, NULL, reply.body.len, reply.body.data);
        ASSERT(got != NULL);
        check(message_text(got, &text));
        protobuf_c_message_free_unpacked(got, NULL);
    } else {
        check(buf_printf(&text, "%s %.*s", client_code_name(reply.code), (int)reply.text.len,
                         (const char *)reply.text.data));
    }
    printf("= %.*s\n", (int)text.len, (const char *)text.data);
    buf_deinit(&text);
    arena_deinit(&arena);
    free(body);
}

static ProtobufCBinaryData bytes_of(char *word)
{
    if (strcmp(word, "\\0") == 0)
        return (ProtobufCBinaryData){1, (uint8_t *)"\0"};
    return (ProtobufCBinaryData){strlen(word), (uint8_t *)word};
}

static void put(char *key, char *value)
{
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    put.key = bytes_of(key);
    put.value = bytes_of(value);
    call("/etcdserverpb.KV/Put", &put.base, &etcdserverpb__put_response__descriptor);
}

static void fill(char **words)
{
    uint64_t count = strtoull(words[2], NULL, 10), bytes = strtoull(words[3], NULL, 10);
    char *value = malloc(bytes + 1);
    ASSERT(value != NULL);
    memset(value, 'v', bytes);
    value[bytes] = '\0';
    for (uint64_t i = 0; i < count; i++) {
        char key[64];
        snprintf(key, sizeof(key), "%s%05llu", words[1], (unsigned long long)i);
        put(key, value);
    }
    free(value);
}

static void delete (char **words, uint32_t count)
{
    Etcdserverpb__DeleteRangeRequest gone = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    gone.key = bytes_of(words[1]);
    if (count > 2)
        gone.range_end = bytes_of(words[2]);
    call("/etcdserverpb.KV/DeleteRange", &gone.base,
         &etcdserverpb__delete_range_response__descriptor);
}

static void txn(char **words, uint32_t count)
{
    Etcdserverpb__TxnRequest txn = ETCDSERVERPB__TXN_REQUEST__INIT;
    Etcdserverpb__RequestOp ops[WORDS_MAX / 2], *list[WORDS_MAX / 2];
    Etcdserverpb__PutRequest puts[WORDS_MAX / 2];
    txn.success = list;
    for (uint32_t i = 1; i + 1 < count; i += 2) {
        size_t n = txn.n_success++;
        puts[n] = (Etcdserverpb__PutRequest)ETCDSERVERPB__PUT_REQUEST__INIT;
        ops[n] = (Etcdserverpb__RequestOp)ETCDSERVERPB__REQUEST_OP__INIT;
        puts[n].key = bytes_of(words[i]);
        puts[n].value = bytes_of(words[i + 1]);
        ops[n].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
        ops[n].request_put = &puts[n];
        list[n] = &ops[n];
    }
    call("/etcdserverpb.KV/Txn", &txn.base, &etcdserverpb__txn_response__descriptor);
}

static void compact(char *revision)
{
    Etcdserverpb__CompactionRequest compaction = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    compaction.revision = strtoll(revision, NULL, 10);
    compaction.physical = true;
    call("/etcdserverpb.KV/Compact", &compaction.base,
         &etcdserverpb__compaction_response__descriptor);
}

/* ---- streams ---- */

static struct stream *stream_of(const char *word)
{
    uint64_t number = strtoull(word, NULL, 10);
    ASSERT(number < STREAMS_MAX);
    return &player.streams[number];
}

static void open_stream(char **words, uint32_t count)
{
    struct stream *stream = stream_of(words[1]);
    const struct client_metadata leader = {SLICE("hasleader"), SLICE("true")};
    const struct client_request request = {
        .method = "/etcdserverpb.Watch/Watch", .metadata = &leader, .metadata_count = count > 2};
    const struct client_stream_events events = {
        .message = on_message, .ended = on_end, .context = stream};
    check(client_stream_open(player.client, &request, &events, &stream->stream));
}

static void send_bytes(const struct stream *stream, struct slice bytes)
{
    if (stream->stream != NULL)
        check(client_stream_send(stream->stream, bytes));
}

static void send_request(const struct stream *stream, const Etcdserverpb__WatchRequest *request)
{
    uint8_t body[LINE_BYTES];
    ASSERT(protobuf_c_message_get_packed_size(&request->base) <= sizeof(body));
    send_bytes(stream, slice_make(body, protobuf_c_message_pack(&request->base, body)));
}

static void set_create(Etcdserverpb__WatchCreateRequest *create, char *word)
{
    static Etcdserverpb__WatchCreateRequest__FilterType filters[2];
    if (strncmp(word, "key=", 4) == 0)
        create->key = bytes_of(word + 4);
    else if (strncmp(word, "end=", 4) == 0)
        create->range_end = bytes_of(word + 4);
    else if (strncmp(word, "start=", 6) == 0)
        create->start_revision = strtoll(word + 6, NULL, 10);
    else if (strncmp(word, "id=", 3) == 0)
        create->watch_id = strtoll(word + 3, NULL, 10);
    else if (strcmp(word, "prev") == 0)
        create->prev_kv = true;
    else if (strcmp(word, "fragment") == 0)
        create->fragment = true;
    else if (strcmp(word, "progress") == 0)
        create->progress_notify = true;
    else {
        create->filters = filters;
        filters[create->n_filters++] =
            strcmp(word, "noput") == 0 ? ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NOPUT
                                       : ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NODELETE;
    }
}

static void create(char **words, uint32_t count)
{
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    Etcdserverpb__WatchCreateRequest create = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
    for (uint32_t i = 2; i < count; i++)
        set_create(&create, words[i]);
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    request.create_request = &create;
    send_request(stream_of(words[1]), &request);
}

static void cancel(const struct stream *stream, const char *id)
{
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    Etcdserverpb__WatchCancelRequest cancel = ETCDSERVERPB__WATCH_CANCEL_REQUEST__INIT;
    cancel.watch_id = strtoll(id, NULL, 10);
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST;
    request.cancel_request = &cancel;
    send_request(stream, &request);
}

static void ask_progress(const struct stream *stream)
{
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    Etcdserverpb__WatchProgressRequest progress = ETCDSERVERPB__WATCH_PROGRESS_REQUEST__INIT;
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_PROGRESS_REQUEST;
    request.progress_request = &progress;
    send_request(stream, &request);
}

static void send_raw(const struct stream *stream, const char *hex)
{
    uint8_t bytes[LINE_BYTES / 2];
    size_t len = strlen(hex) / 2;
    for (size_t i = 0; i < len; i++) {
        char digits[3] = {hex[2 * i], hex[2 * i + 1], 0};
        bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    send_bytes(stream, slice_make(bytes, len));
}

/* ---- steps ---- */

static void play_on_stream(char **words, uint32_t count)
{
    struct stream *stream = stream_of(words[1]);
    if (strcmp(words[0], "open") == 0)
        open_stream(words, count);
    else if (strcmp(words[0], "create") == 0)
        create(words, count);
    else if (strcmp(words[0], "cancel") == 0)
        cancel(stream, words[2]);
    else if (strcmp(words[0], "progress") == 0)
        ask_progress(stream);
    else if (strcmp(words[0], "raw") == 0)
        send_raw(stream, count > 2 ? words[2] : "");
    else if (strcmp(words[0], "finish") == 0 && stream->stream != NULL)
        client_stream_finish(stream->stream);
    else if (strcmp(words[0], "drop") == 0 && stream->stream != NULL)
        client_stream_cancel(stream->stream);
}

static void play(char **words, uint32_t count)
{
    if (strcmp(words[0], "put") == 0)
        put(words[1], words[2]);
    else if (strcmp(words[0], "fill") == 0)
        fill(words);
    else if (strcmp(words[0], "delete") == 0)
        delete (words, count);
    else if (strcmp(words[0], "txn") == 0)
        txn(words, count);
    else if (strcmp(words[0], "compact") == 0)
        compact(words[1]);
    else if (strcmp(words[0], "quiet") == 0)
        player.quiet_ms = strtoull(words[1], NULL, 10);
    else
        play_on_stream(words, count);
}

/* Cuts line in place. */
static uint32_t split(char *line, char **words)
{
    uint32_t count = 0;
    for (char *at = line + strspn(line, " \n"); *at != '\0' && count < WORDS_MAX;) {
        words[count++] = at;
        at += strcspn(at, " \n");
        if (*at != '\0')
            *at++ = '\0';
        at += strspn(at, " \n");
    }
    words[count] = NULL;
    return count;
}

int main(int argc, char **argv)
{
    if (argc != 3 || strcmp(argv[1], "--endpoint") != 0) {
        fputs("watch_steps --endpoint HOST:PORT < steps\n", stderr);
        return 2;
    }
    const struct client_options options = {.endpoints = argv[2], .wait_for_ready = true};
    check(client_open(&options, &player.client));
    for (uint32_t i = 0; i < STREAMS_MAX; i++) {
        player.streams[i].number = i;
        buf_init(&player.streams[i].heard, 256U << 20);
    }
    char line[LINE_BYTES];
    while (fgets(line, sizeof(line), stdin) != NULL) {
        char *words[WORDS_MAX + 1];
        printf("> %s", line);
        uint32_t count = split(line, words);
        if (count > 0)
            play(words, count);
        wait_until_quiet();
        fflush(stdout);
    }
    client_close(player.client);
    for (uint32_t i = 0; i < STREAMS_MAX; i++)
        buf_deinit(&player.streams[i].heard);
    return 0;
}
