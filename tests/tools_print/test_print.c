#include "proto/rpc.pb-c.h"
#include "tools/print/json.h"
#include "tools/print/log_line.h"
#include "tools/print/message.h"
#include "tools/print/progress.h"
#include "tools/print/table.h"
#include "tools/print/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* What is printed between capture_begin() and captured(). */
static char *captured_text;
static size_t captured_size;
static FILE *captured_file;

static FILE *capture_begin(void)
{
    captured_file = open_memstream(&captured_text, &captured_size);
    assert_non_null(captured_file);
    return captured_file;
}

static void assert_captured(const char *expected)
{
    fclose(captured_file);
    assert_string_equal(captured_text, expected);
    free(captured_text);
}

static void test_print_quoted_escapes_as_go_does(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *text;
    } table[] = {
        {"", "\"\""},
        {"foo", "\"foo\""},
        {"a\"b\\c", "\"a\\\"b\\\\c\""},
        {"\a\b\f\n\r\t\v\x01\x7f", "\"\\a\\b\\f\\n\\r\\t\\v\\x01\\x7f\""},
        {"gr\xc3\xbc\xc3\x9f \xe4\xb8\x96 \xf0\x9f\x98\x80", "\"grüß 世 😀\""},
        {"\xff\xc3(\xe2\x82", "\"\\xff\\xc3(\\xe2\\x82\""},
        {"\xed\xa0\x80", "\"\\xed\\xa0\\x80\""},
        {"\xc0\x80", "\"\\xc0\\x80\""},
        {"\xc2\xa0\xe2\x80\xa8\xf4\x8f\xbf\xbf", "\"\\u00a0\\u2028\\U0010ffff\""},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct slice bytes = slice_from_str(table[i].bytes);
        print_quoted(capture_begin(), bytes);
        assert_captured(table[i].text);
        char text[128];
        assert_int_equal(print_quoted_size(bytes), strlen(table[i].text));
        print_quoted_write(bytes, text);
        assert_string_equal(text, table[i].text);
    }
}

static void test_print_quoted_shows_a_zero_byte(void **state)
{
    (void)state;
    print_quoted(capture_begin(), SLICE("a\0b"));
    assert_captured("\"a\\x00b\"");
}

static void test_print_escaped_shows_every_byte(void **state)
{
    (void)state;
    print_escaped(capture_begin(), SLICE("fo\xff"));
    assert_captured("\\x66\\x6f\\xff");
}

static void test_print_size_counts_in_thousands(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } table[] = {
        {0, "0 B"},          {9, "9 B"},          {10, "10 B"},           {999, "999 B"},
        {1000, "1.0 kB"},    {1024, "1.0 kB"},    {20480, "20 kB"},       {36864, "37 kB"},
        {2105344, "2.1 MB"}, {9949999, "9.9 MB"}, {9950000, "10 MB"},     {16000000, "16 MB"},
        {999949, "1000 kB"}, {999999, "1000 kB"}, {1500000000, "1.5 GB"}, {UINT64_MAX, "18 EB"},
    };
    char text[PRINT_SIZE_TEXT_MAX];
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        assert_string_equal(print_size(table[i].bytes, text), table[i].text);
}

static void test_print_fields_are_lines(void **state)
{
    (void)state;
    FILE *out = capture_begin();
    print_field_u64(out, "ClusterID", UINT64_MAX);
    print_field_i64(out, "Lease", -1);
    print_field_bool(out, "More", false);
    print_field_quoted(out, "Key", SLICE("k\n"));
    print_field_bare(out, "Type", "PUT");
    assert_captured("\"ClusterID\" : 18446744073709551615\n\"Lease\" : -1\n\"More\" : false\n"
                    "\"Key\" : \"k\\n\"\n\"Type\" : PUT\n");
}

static void test_print_json_escapes_as_go_does(void **state)
{
    (void)state;
    struct print_json json = print_json_to(capture_begin());
    print_json_object(&json, NULL);
    print_json_text(&json, "a", "<b> & \"c\" \\ \n\r\t\x01\x7f \xe2\x80\xa8 \xff \xc3\xbc");
    print_json_array(&json, "b");
    print_json_bytes(&json, NULL, SLICE_EMPTY);
    print_json_bytes(&json, NULL, SLICE("f"));
    print_json_bytes(&json, NULL, SLICE("fo"));
    print_json_bytes(&json, NULL, SLICE("\xff\xfe\xfd"));
    print_json_array_end(&json);
    print_json_array(&json, "c");
    print_json_array_end(&json);
    print_json_object(&json, "d");
    print_json_object_end(&json);
    print_json_u64(&json, "e", UINT64_MAX);
    print_json_i64(&json, "f", INT64_MIN);
    print_json_bool(&json, "g", true);
    print_json_null(&json, "h");
    print_json_hex(&json, "i", 0x8e9e05c52164694dU);
    print_json_object_end(&json);
    assert_captured("{\"a\":\"\\u003cb\\u003e \\u0026 \\\"c\\\" \\\\ \\n\\r\\t\\u0001\x7f \\u2028 "
                    "\\ufffd \xc3\xbc\",\"b\":[\"\",\"Zg==\",\"Zm8=\",\"//79\"],\"c\":[],\"d\":{},"
                    "\"e\":18446744073709551615,\"f\":-9223372036854775808,\"g\":true,\"h\":null,"
                    "\"i\":\"8e9e05c52164694d\"}");
}

static void test_print_message_leaves_out_defaults_and_wraps_a_choice(void **state)
{
    (void)state;
    Etcdserverpb__ResponseHeader header = ETCDSERVERPB__RESPONSE_HEADER__INIT;
    header.revision = 3;
    Etcdserverpb__PutResponse put = ETCDSERVERPB__PUT_RESPONSE__INIT;
    put.header = &header;
    Mvccpb__KeyValue kv = MVCCPB__KEY_VALUE__INIT;
    kv.key = (ProtobufCBinaryData){.len = 3, .data = (uint8_t *)"foo"};
    kv.lease = -2;
    Mvccpb__KeyValue *kvs[] = {&kv};
    Etcdserverpb__RangeResponse range = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    range.kvs = kvs;
    range.n_kvs = 1;
    range.more = true;
    Etcdserverpb__ResponseOp ops[2] = {ETCDSERVERPB__RESPONSE_OP__INIT,
                                       ETCDSERVERPB__RESPONSE_OP__INIT};
    ops[0].response_case = ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT;
    ops[0].response_put = &put;
    ops[1].response_case = ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE;
    ops[1].response_range = &range;
    Etcdserverpb__ResponseOp *responses[] = {&ops[0], &ops[1]};
    Etcdserverpb__TxnResponse txn = ETCDSERVERPB__TXN_RESPONSE__INIT;
    txn.responses = responses;
    txn.n_responses = 2;
    struct print_json json = print_json_to(capture_begin());
    print_json_message(&json, NULL, &txn.base);
    assert_captured(
        "{\"responses\":[{\"Response\":{\"response_put\":{\"header\":{\"revision\":3}}}},"
        "{\"Response\":{\"response_range\":{\"kvs\":[{\"key\":\"Zm9v\",\"lease\":-2}],"
        "\"more\":true}}}]}");
}

static void test_print_message_shows_enums_and_strings(void **state)
{
    (void)state;
    Etcdserverpb__AlarmMember alarm = ETCDSERVERPB__ALARM_MEMBER__INIT;
    alarm.memberid = UINT64_MAX;
    alarm.alarm = ETCDSERVERPB__ALARM_TYPE__CORRUPT;
    struct print_json json = print_json_to(capture_begin());
    print_json_message(&json, NULL, &alarm.base);
    assert_captured("{\"memberID\":18446744073709551615,\"alarm\":2}");

    char *urls[] = {(char *)"http://a", (char *)"http://b"};
    Etcdserverpb__Member member = ETCDSERVERPB__MEMBER__INIT;
    member.peerurls = urls;
    member.n_peerurls = 2;
    member.islearner = 1;
    json = print_json_to(capture_begin());
    print_json_message(&json, NULL, &member.base);
    assert_captured("{\"peerURLs\":[\"http://a\",\"http://b\"],\"isLearner\":true}");
}

static void test_print_table_centres_headers_and_aligns_cells_right(void **state)
{
    (void)state;
    static const char *const header[] = {"ENDPOINT", "HEALTH", "TOOK", "ERROR"};
    static const char *const first[] = {"http://127.0.0.1:32212", "true", "3.876458ms", ""};
    static const char *const second[] = {"127.0.0.1:32213", "true", "796.506µs", ""};
    struct print_table table;
    print_table_init(&table, header, 4);
    assert_int_equal(print_table_add(&table, first), ST_OK);
    assert_int_equal(print_table_add(&table, second), ST_OK);
    print_table_print(&table, capture_begin());
    print_table_deinit(&table);
    assert_captured("+------------------------+--------+------------+-------+\n"
                    "|        ENDPOINT        | HEALTH |    TOOK    | ERROR |\n"
                    "+------------------------+--------+------------+-------+\n"
                    "| http://127.0.0.1:32212 |   true | 3.876458ms |       |\n"
                    "|        127.0.0.1:32213 |   true |  796.506µs |       |\n"
                    "+------------------------+--------+------------+-------+\n");
}

static void test_print_table_counts_the_columns_of_a_terminal(void **state)
{
    (void)state;
    static const char *const header[] = {"NAME"};
    static const char *const names[] = {"\u4e16\u754c", "e\u0301", "na\u00efve"};
    struct print_table table;
    print_table_init(&table, header, 1);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(print_table_add(&table, &names[i]), ST_OK);
    print_table_print(&table, capture_begin());
    print_table_deinit(&table);
    assert_captured("+-------+\n| NAME  |\n+-------+\n"
                    "|  \u4e16\u754c |\n|     e\u0301 |\n| na\u00efve |\n+-------+\n");
}

static void test_print_log_line_is_in_etcds_shape(void **state)
{
    (void)state;
    struct print_json json;
    FILE *out = capture_begin();
    print_log_begin(&json, out, "warn", "client", "client/retry.c", "call failed");
    print_json_i64(&json, "attempt", 0);
    print_log_end(&json);
    fclose(out);
    const char *ts = strstr(captured_text, "\"ts\":\"");
    assert_non_null(ts);
    assert_int_equal(strlen("2024-07-19T10:00:00.000000Z"), strcspn(ts + 6, "\""));
    memset(captured_text + (ts - captured_text) + 6, '0', 27);
    assert_string_equal(captured_text,
                        "{\"level\":\"warn\",\"ts\":\"000000000000000000000000000\",\"logger\":"
                        "\"client\",\"caller\":\"client/retry.c\",\"msg\":\"call failed\","
                        "\"attempt\":0}\n");
    free(captured_text);
}

#define SECOND UINT64_C(1000000000)

static void test_print_progress_draws_five_times_a_second(void **state)
{
    (void)state;
    struct print_progress progress;
    print_progress_begin(&progress, capture_begin(), 200, 0);
    progress.width = 40; /* the first drawing was as wide as whatever terminal there is */
    fflush(captured_file);
    size_t begun = captured_size;
    print_progress_turn(&progress, 10, SECOND / 10); /* too early */
    print_progress_turn(&progress, 50, SECOND);
    print_progress_turn(&progress, 50, 2 * SECOND);
    print_progress_turn(&progress, 199, 3 * SECOND);
    progress.width = 0;
    print_progress_turn(&progress, 199, 4 * SECOND);
    print_progress_end(&progress, 200, 61 * SECOND);
    fclose(captured_file);
    assert_string_equal(captured_text + begun, "\r 50 / 200 Booom         !  25.00% 00m03s"
                                               "\r 50 / 200 Booom         !  25.00% 00m02s"
                                               "\r 199 / 200 Booooooooooooooooooo!  99.50%"
                                               "\r 199 / 200   99.50%"
                                               "\r 200 / 200  100.00% 1m1s\n");
    free(captured_text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_print_quoted_escapes_as_go_does),
        cmocka_unit_test(test_print_quoted_shows_a_zero_byte),
        cmocka_unit_test(test_print_escaped_shows_every_byte),
        cmocka_unit_test(test_print_size_counts_in_thousands),
        cmocka_unit_test(test_print_fields_are_lines),
        cmocka_unit_test(test_print_json_escapes_as_go_does),
        cmocka_unit_test(test_print_message_leaves_out_defaults_and_wraps_a_choice),
        cmocka_unit_test(test_print_message_shows_enums_and_strings),
        cmocka_unit_test(test_print_table_centres_headers_and_aligns_cells_right),
        cmocka_unit_test(test_print_table_counts_the_columns_of_a_terminal),
        cmocka_unit_test(test_print_log_line_is_in_etcds_shape),
        cmocka_unit_test(test_print_progress_draws_five_times_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
